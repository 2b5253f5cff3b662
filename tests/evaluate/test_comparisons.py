"""The comparisons of a run, of predictions whose answers are known."""

import numpy as np
import pytest
from helpers.fake_predictions import make, right, runs

from fetal_jax.evaluate import comparisons


def test_the_planned_comparison_is_the_mean_over_models():
  predictions = {'a': runs(real=20, synth_r12_then_real=26), 'b': runs(real=30, synth_r12_then_real=32)}
  found = comparisons.compare(predictions, problems := [])
  assert problems == []
  assert (found.planned.baseline, found.planned.regime) == ('real', 'synth_r12_then_real')
  assert found.planned.models == {'a': pytest.approx(6 / 40), 'b': pytest.approx(2 / 40)}
  assert found.planned.value == pytest.approx(4 / 40)
  assert 0 < found.planned.low < 4 / 40 < found.planned.high  # nothing was lost
  assert (found.planned.images, found.planned.patients, found.planned.metric) == (40, 20, 'accuracy')
  assert found.control is None
  assert list(found.models) == ['a', 'b']
  difference = found.models['a'].regimes['synth_r12_then_real'].difference['accuracy']
  assert difference.value == pytest.approx(6 / 40)


def test_the_planned_comparison_is_fixed_whatever_the_results():
  assert comparisons.PLANNED == ('synth_r12_then_real', 'synth_r1_then_real', 'synth_r1_plus_real')
  found = comparisons.planned({'a': runs(real=20, synth_r1_then_real=10, synth_r1_plus_real=40)})
  assert (found.regime, found.value) == ('synth_r1_then_real', pytest.approx(-10 / 40))
  assert comparisons.planned({'a': runs(real=20, synth_r1=30)}) is None


def test_the_control_is_compared_with_the_same_regime():
  predictions = {'a': runs(real=20, real_then_real=24, synth_r1_then_real=25)}
  found = comparisons.compare(predictions, [])
  assert (found.control.baseline, found.control.regime) == ('real_then_real', 'synth_r1_then_real')
  assert found.control.value == pytest.approx(1 / 40)


def test_only_seeds_that_all_models_have_are_taken():
  one = {'real': {0: right(20), 1: right(10)}, 'synth_r1': {0: right(24), 1: right(40)}}
  two = {'real': {0: right(30), 1: right(10)}, 'synth_r1': {0: right(32)}}
  found = comparisons.difference({'a': one, 'b': two}, 'real', 'synth_r1')
  assert found.seeds == [0]
  assert found.value == pytest.approx((4 / 40 + 2 / 40) / 2)


def test_the_best_regime_has_synthetic_images():
  compared = comparisons.compare(
    {'a': runs(real=39, real_then_real=40, synth_r1=20, synth_r1_plus_real=30)}, []
  ).models['a']
  assert comparisons.best(compared) == 'synth_r1_plus_real'
  alone = comparisons.compare({'a': runs(real=39)}, []).models['a']
  assert comparisons.best(alone) is None


def test_groups_are_of_real_images_and_of_the_best_regime():
  machines = ['E6'] * 30 + [''] * 10
  run = make(np.zeros(40, int), np.eye(2)[np.arange(40) % 4 // 3], np.arange(40) // 2, machines=machines)
  found = comparisons.compare({'a': {'real': {0: run}, 'synth_r1': {0: run}, 'synth_r12': {0: run}}}, [])
  assert list(found.groups['a']) == ['real', 'synth_r1']
  rows = found.groups['a']['real']['machine']
  assert [(row.name, row.n, row.patients, row.accuracy) for row in rows] == [
    ('E6', 30, 15, pytest.approx(23 / 30)),
    ('', 10, 5, 0.7),
  ]
  assert list(found.groups['a']['real']) == ['machine', 'operator', 'brain_plane']


def test_what_cannot_be_compared_is_named():
  one, two = runs(real=20, synth_r1_then_real=22), runs(real=20, synth_r1_then_real=22)
  two['synth_r1_then_real'][0] = right(22).take(np.arange(39))
  found = comparisons.compare({'a': one, 'b': two}, problems := [])
  assert list(found.models) == ['a']
  assert problems[0].startswith('Intervals and differences of b: real and synth_r1_then_real: not tested on')
  assert problems[1].startswith('Whether synthetic data helped: ')
  assert found.planned is found.control is None


@pytest.mark.parametrize('k', [1, 6])
def test_the_filter_puts_exactly_k_images_right(k):
  predictions = {'a': runs(real=30, synth_r12_then_real=20, synth_r12_kept_then_real=20 + k)}
  found = comparisons.filtered(predictions, problems := [])
  assert problems == []
  compared = found.models['a']['synth_r12_kept_then_real']
  assert compared.baseline == 'synth_r12_then_real'
  after = compared.regimes['synth_r12_kept_then_real']
  assert after.difference['accuracy'].value == pytest.approx(k / 40)
  (test,) = after.mcnemar
  assert (test.only_baseline, test.only_regime) == (0, k)
  assert test.p_value == pytest.approx(2 * 0.5**k)
  assert after.scores['accuracy'].value == (20 + k) / 40
  assert found.planned.value == pytest.approx(k / 40)


def test_without_the_same_regime_unfiltered_there_is_no_difference():
  found = comparisons.filtered({'a': runs(synth_r12_kept=20)}, [])
  assert found.planned is None
  compared = found.models['a']['synth_r12_kept']
  assert compared.baseline is None
  assert compared.regimes['synth_r12_kept'].scores['accuracy'].value == 0.5


def test_only_seeds_that_both_have_show_what_the_filter_changed():
  by_regime = {'synth_r1': {0: right(20), 1: right(10)}, 'synth_r1_kept': {1: right(12), 2: right(40)}}
  found = comparisons.filtered({'a': by_regime}, [])
  after = found.models['a']['synth_r1_kept'].regimes['synth_r1_kept']
  assert after.difference['accuracy'].value == pytest.approx(2 / 40)
  assert found.planned.seeds == [1]


def test_the_filters_comparison_is_fixed_beforehand():
  predictions = runs(
    synth_r12=10, synth_r12_kept=30, synth_r1_then_real=30, synth_r1_kept_then_real=29, synth_r1=9, synth_r1_kept=9
  )  # fmt: skip
  planned = comparisons.filtered({'a': predictions}, []).planned
  assert (planned.baseline, planned.regime) == ('synth_r1_then_real', 'synth_r1_kept_then_real')
  assert planned.value == pytest.approx(-1 / 40)


def test_no_filtered_regime_no_filter():
  assert comparisons.filtered({'a': runs(real=30, synth_r1=20)}, []) is None


def test_a_filtered_run_on_other_images_is_named():
  predictions = runs(synth_r1=20, synth_r1_kept=22)
  predictions['synth_r1_kept'][0] = predictions['synth_r1_kept'][0].take(np.arange(39))
  assert comparisons.filtered({'a': predictions}, problems := []) is None
  assert problems[0].startswith('What the filter changed for a: synth_r1 and synth_r1_kept: not tested on')


def test_the_first_pair_that_ran_is_taken():
  found = comparisons.first_pair(
    {'a': runs(real=30, synth_r1=20)}, [('real', 'x'), ('real', 'synth_r1'), ('synth_r1', 'real')]
  )
  assert (found.baseline, found.regime, found.value) == ('real', 'synth_r1', -0.25)
  assert comparisons.first_pair({}, [('real', 'x')]) is None
