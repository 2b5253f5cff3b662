"""Runs by model and regime, and their means."""

import math

import pytest
from helpers.fake_run import classifier, scored

from fetal_jax.report import groups
from fetal_jax.train.results import EpochRow


def test_mean_and_sd():
  assert groups.mean_and_sd([0.9, None, 0.92]) == pytest.approx((0.91, 0.01 * 2**0.5))
  assert groups.mean_and_sd([0.9]) == (0.9, None)
  assert groups.mean_and_sd([None]) is None


def test_only_main_regimes_are_grouped():
  runs = [classifier('real'), classifier('synth_12'), classifier('synth_r1_kept'), classifier('mine')]
  assert groups.groups([*runs, classifier('real', seed=1)]) == {
    'a': {'real': [runs[0], classifier('real', seed=1)], 'mine': [runs[3]]}
  }


def test_training_accuracy_follows_the_protocol():
  history = [
    EpochRow(epoch=epoch, step=epoch, train_loss=1.0, train_accuracy=accuracy, score=0.5)
    for epoch, accuracy in enumerate((0.6, 0.95, 0.9), start=1)
  ]
  known = {'history': history, 'train_accuracy': 0.6}
  assert groups.train_accuracy(classifier('real', **known)) == 0.6
  assert groups.train_accuracy(classifier('real', protocol='paper', **known)) == 0.95
  assert groups.train_accuracy(classifier('real', protocol='paper')) is None


def test_an_unknown_accuracy_is_never_the_best():
  assert groups.mean_accuracy([classifier('real')]) == -math.inf
  runs = {'real': [classifier('real')], 'synth_r1': [classifier('synth_r1', test_accuracy=0.1)]}
  assert groups.best_regime(runs) == 'synth_r1'
  assert groups.best_regime({}) is None


def test_scores_are_those_of_the_predictions():
  run = classifier('real', test_accuracy=0.5, scores=scored(0.9))
  assert groups.mean_accuracy([run]) == 0.9
  assert groups.mean_accuracy([classifier('real', test_accuracy=0.5)]) == 0.5


def test_the_control_is_no_regime_with_synthetic_images():
  runs = {
    name: [classifier(name, test_accuracy=accuracy)]
    for name, accuracy in (('real', 0.5), ('real_then_real', 0.9), ('synth_r1', 0.4))
  }
  assert groups.best_regime(runs) == 'real_then_real'
  assert groups.best_regime(runs, synthetic_only=True) == 'synth_r1'


def test_what_a_run_starts_from_is_added():
  runs = [
    classifier('x', steps=5),
    classifier('y', steps=7, initialised_from='x'),
    classifier('y', seed=1, initialised_from='x'),
  ]
  assert groups.with_start(runs, 'steps') == {('a', 'x', 0): 5, ('a', 'y', 0): 12, ('a', 'y', 1): 0}
