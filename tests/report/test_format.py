"""Numbers as the page writes them."""

import pytest

from fetal_jax.evaluate.intervals import Estimate
from fetal_jax.report import format as formats


@pytest.mark.parametrize(
  ('found', 'text'), [(None, '–'), ((0.9214, None), '92.1'), ((0.9214, 0.0031), '92.1 ± 0.3')]
)
def test_percent(found, text):
  assert formats.percent(found) == text


def test_points_have_their_sign():
  assert formats.points(0.0124) == '+1.2 points'
  assert formats.signed(-0.0036) == '−0.4'


def test_intervals():
  found = Estimate(0.01, -0.004, 0.0296)
  assert formats.interval(found) == '−0.4 to +3.0'
  assert formats.interval(Estimate(0.01, why='one patient only')) == 'no interval: one patient only'
  assert formats.brackets(Estimate(0.92, 0.901, 0.94)) == '[90.1,\xa094.0]'
  assert formats.brackets(Estimate(0.92, 0.9014, 0.94), 1, 3) == '[0.901,\xa00.940]'
  assert formats.brackets(Estimate(0.92)) == ''


@pytest.mark.parametrize(('p', 'text'), [(0.0004, '<\xa00.001'), (0.0123, '0.012'), (0.5, '0.50')])
def test_p_values(p, text):
  assert formats.p_value(p) == text


@pytest.mark.parametrize(
  ('value', 'text'), [(None, '–'), (12345.6, '12,346'), (0.01234, '0.0123'), (-0.5, '−0.5')]
)
def test_digits(value, text):
  assert formats.digits(value) == text
