"""Estimates and comparisons in words and cells."""

import msgspec
import pytest
from helpers import fake_run

from fetal_jax.evaluate.intervals import Estimate
from fetal_jax.evaluate.paired import McNemar, RegimeScore
from fetal_jax.report import estimates


def test_a_comparison_in_words():
  found = fake_run.difference(0.021, 0.004, 0.038)
  assert estimates.changed(found, 'real images alone') == (
    'changed the test accuracy by +2.1 points against real images alone (95 % interval over patients +0.4 to +3.8; '
    'mean over 2 models, better in 2 of them, 3 seeds each; 400 images of 90 patients)'
  )


def test_of_unknown_patients_the_interval_is_over_images():
  found = msgspec.structs.replace(fake_run.difference(0.021, 0.004, 0.038), patients=None)
  assert estimates.changed(found, 'real images alone') == (
    'changed the test accuracy by +2.1 points against real images alone (95 % interval over images +0.4 to +3.8, too narrow '
    'if several show one patient; mean over 2 models, better in 2 of them, 3 seeds each; 400 images of unknown patients)'
  )
  assert estimates.resampled(90, 400) == '90 patients, 400 images'
  assert estimates.resampled(None, 400) == '400 images'


@pytest.mark.parametrize(
  ('models', 'seeds', 'said'),
  [
    (('resnet50',), (0,), 'ResNet50, one seed'),
    (('resnet50',), (0, 1), 'ResNet50, 2 seeds each'),
    (('resnet50', 'swin_t'), (0,), 'mean over 2 models, better in 2 of them, one seed each'),
  ],
)
def test_models_and_seeds_in_words(models, seeds, said):
  assert estimates.over(fake_run.difference(0.01, 0.0, 0.02, models=models, seeds=seeds)) == said


@pytest.mark.parametrize(
  ('low', 'high', 'small', 'best'),
  [
    (0.004, 0.038, '[+0.4,\xa0+3.8] · p\xa00.030', True),
    (-0.038, -0.004, '[−3.8,\xa0−0.4] · p\xa00.030', True),
    (-0.004, 0.038, '[−0.4,\xa0+3.8] · p\xa00.030', False),
    (None, None, 'one patient only · p\xa00.030', False),
  ],
)
def test_differences_that_leave_out_0_are_highlighted(low, high, small, best):
  cell = estimates.difference_cell(Estimate(0.021, low, high, '' if low else 'one patient only'), 0.03)
  assert (cell.text, cell.small, cell.best) == ('+2.1', small, best)


def test_mcnemar_seed_by_seed():
  cell = estimates.mcnemar_cell([McNemar(3, 12, 0.0352), McNemar(0, 20, 0.0001)])
  assert (cell.text, cell.small) == ('3 : 12, 0 : 20', 'p 0.035, <\xa00.001')
  assert estimates.mcnemar_cell(None).text == '–'


def test_a_score_has_its_interval_and_its_spread():
  score = RegimeScore(value=0.9214, low=0.9, high=0.9404, why='', by_seed=[0.92, 0.923], sd=0.002)
  cell = estimates.score_cell(score)
  assert (cell.text, cell.small) == ('92.1', '[90.0,\xa094.0] · ±\xa00.2')
  assert estimates.score_cell(score, 1, 3).small == '[0.900,\xa00.940] · ±\xa00.002'


def test_a_score_that_is_undefined_says_why():
  score = RegimeScore(
    value=None, low=None, high=None, why='undefined for these images', by_seed=[None], sd=None
  )
  assert (estimates.score_cell(score).text, estimates.score_cell(score).small) == (
    '–',
    'undefined for these images',
  )
