"""When a validation curve counts as flat."""

import pytest

from fetal_jax.evaluate import convergence


def test_a_curve_that_has_stopped_rising_is_flat():
  found = convergence.judge([[0.2, 0.4, 0.6, 0.7, 0.74, 0.75, 0.76, 0.74]])
  assert found.rise == pytest.approx((0.76 + 0.74) / 2 - (0.74 + 0.75) / 2)
  assert (found.epochs, found.flat) == (8, True)
  assert found.score == pytest.approx(0.75)


def test_a_curve_that_still_rises_is_not():
  found = convergence.judge([[0.2, 0.3, 0.4, 0.5, 0.60, 0.61, 0.63, 0.64]])
  assert found.rise == pytest.approx(0.03)
  assert not found.flat


def test_a_falling_curve_has_nothing_more_to_gain():
  assert convergence.judge([[0.5] * 6 + [0.4, 0.3]]).flat


def test_seeds_are_averaged():
  rising, falling = [0.0] * 6 + [0.3, 0.3], [0.3] * 6 + [0.0, 0.0]
  assert not convergence.judge([rising]).flat
  assert convergence.judge([rising, falling]).rise == pytest.approx(0)


@pytest.mark.parametrize('curves', [[], [[0.5] * 7], [[0.5] * 20, [0.5] * 7]])
def test_too_few_epochs_say_nothing(curves):
  found = convergence.judge(curves)
  assert (found.score, found.rise, found.flat) == (None, None, None)
