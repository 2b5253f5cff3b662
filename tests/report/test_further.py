"""The curve over numbers of images and the filter, measured on predictions whose answers are known."""

import numpy as np
import pytest
from helpers import fake_predictions

from fetal_jax.evaluate import intervals, paired
from fetal_jax.report import comparisons, further, kinds

PATIENTS = np.repeat(np.arange(20), 2)
SIZES = {1: 48, 2: 48}


def _right(n, seed=0):
  """Predictions of 40 images of which `n` are right, the same first ones for every `n` of a seed."""
  right = np.zeros(40, bool)
  right[np.random.default_rng(seed).permutation(40)[:n]] = True
  return fake_predictions.right_or_wrong(right, PATIENTS)


def _runs(**right):
  return {regime: {0: _right(n)} for regime, n in right.items()}


@pytest.mark.parametrize(
  ('name', 'main', 'kept', 'count', 'use', 'images'),
  [
    ('real', True, False, None, None, 0),
    ('synth_r12', True, False, None, 'synthetic', 96),
    ('synth_r1_then_real', True, False, None, 'then_real', 48),
    ('synth_r1_plus_real', True, False, None, 'plus_real', 48),
    ('synth_1000', False, False, 1000, 'synthetic', 1000),
    ('synth_1000_then_real', False, False, 1000, 'then_real', 1000),
    ('synth_1000_plus_real', False, False, 1000, 'plus_real', 1000),
    ('synth_r12_kept', False, True, None, 'synthetic', None),
    ('synth_r1_kept_then_real', False, True, None, 'then_real', None),
    ('mine', True, False, None, None, None),
  ],
)
def test_where_a_regime_belongs(name, main, kept, count, use, images):
  found = kinds.is_main(name), kinds.is_kept(name), kinds.count(name), kinds.use(name)
  assert found == (main, kept, count, use)
  assert kinds.images(name, SIZES) == images


def test_a_round_that_is_not_there_has_no_number():
  assert kinds.images('synth_r12', {1: 48}) is None


def test_points_are_in_order_and_rounds_are_among_them():
  predictions = {'a': _runs(real=30, synth_r1=20, synth_r12=24, synth_12=10, synth_48=20, synth_100=25)}
  found = further.curve(predictions, SIZES, problems := [])
  assert problems == []
  points = found['synthetic']['models']['a']['points']
  # As many images as a round has are that round; real images alone are no synthetic ones.
  assert [(p['images'], p['regime']) for p in points] == [
    (12, 'synth_12'), (48, 'synth_r1'), (96, 'synth_r12'), (100, 'synth_100'),
  ]  # fmt: skip
  assert [p['value'] for p in points] == [10 / 40, 20 / 40, 24 / 40, 25 / 40]
  expected = intervals.bootstrap_interval(_right(10))
  assert (points[0]['low'], points[0]['high'], points[0]['seeds']) == (expected.low, expected.high, 1)
  assert list(found) == ['synthetic']


def test_no_synthetic_images_are_a_point_before_real_ones():
  predictions = {'a': _runs(real=30, synth_r1_then_real=32, synth_r12_then_real=36)}
  found = further.curve(predictions, SIZES, [])
  about = found['then_real']['models']['a']
  assert [(p['images'], p['regime']) for p in about['points']] == [
    (0, 'real'), (48, 'synth_r1_then_real'), (96, 'synth_r12_then_real'),
  ]  # fmt: skip
  more, some = about['changes']['more'], about['changes']['some']
  assert (more['start'], more['end'], more['value']) == (48, 96, pytest.approx(0.1))
  assert (some['start'], some['end'], some['value']) == (0, 96, pytest.approx(0.15))
  expected = paired.paired_difference(_right(32), _right(36))
  assert (more['low'], more['high']) == (expected.low, expected.high)


def test_two_points_are_no_curve():
  assert further.curve({'a': _runs(synth_r1=20, synth_r12=24)}, SIZES, problems := []) is None
  assert problems == []
  assert further.curve({'a': _runs(real=30, synth_12_then_real=31)}, SIZES, problems) is None
  assert 'no model has predictions for 3 numbers' in problems[0]


def test_models_are_compared_on_the_numbers_that_all_of_them_have():
  one = _runs(synth_12=10, synth_24=12, synth_r1=16, synth_r12=30)
  two = _runs(synth_24=20, synth_r1=22, synth_r12=28)
  found = further.curve({'a': one, 'b': two}, SIZES, [])['synthetic']
  overall = found['overall']['more']
  assert (overall['start'], overall['end']) == (24, 96)
  assert overall['models'] == {'a': pytest.approx(18 / 40), 'b': pytest.approx(8 / 40)}
  assert overall['value'] == pytest.approx(13 / 40)
  assert found['models']['a']['changes']['more']['start'] == 12
  assert found['overall']['some'] is None


def test_a_curve_over_other_test_images_is_none():
  predictions = {
    'a': _runs(synth_12=10, synth_24=12, synth_r1=16),
    'b': _runs(synth_12=1, synth_24=2, synth_r1=3),
  }
  predictions['b']['synth_24'][0] = predictions['b']['synth_24'][0].take(np.arange(39))
  found = further.curve(predictions, SIZES, problems := [])
  assert list(found['synthetic']['models']) == ['a']
  assert problems[0].startswith('Accuracy of b by number of synthetic images: synth_')
  assert 'not tested on the same images' in problems[0]


@pytest.mark.parametrize('k', [1, 6])
def test_the_filter_puts_exactly_k_images_right(k):
  predictions = {'a': _runs(real=30, synth_r12_then_real=20, synth_r12_kept_then_real=20 + k)}
  found = further.filtered(predictions, problems := [])
  assert problems == []
  compared = found['models']['a']['synth_r12_kept_then_real']
  assert compared['baseline'] == 'synth_r12_then_real'
  after = compared['regimes']['synth_r12_kept_then_real']
  assert after['difference']['accuracy']['value'] == pytest.approx(k / 40)
  assert after['mcnemar'] == [{'only_baseline': 0, 'only_regime': k, 'p_value': pytest.approx(2 * 0.5**k)}]
  assert after['scores']['accuracy']['value'] == (20 + k) / 40
  planned = found['planned']
  expected = paired.paired_difference(_right(20), _right(20 + k))
  assert (planned['value'], planned['low'], planned['high']) == (expected.value, expected.low, expected.high)


def test_without_the_same_regime_unfiltered_there_is_no_difference():
  found = further.filtered({'a': _runs(synth_r12_kept=20)}, [])
  assert found['planned'] is None
  compared = found['models']['a']['synth_r12_kept']
  assert compared['baseline'] is None
  assert compared['regimes']['synth_r12_kept']['scores']['accuracy']['value'] == 0.5


def test_only_seeds_that_both_have_are_compared():
  by_regime = {'synth_r1': {0: _right(20), 1: _right(10)}, 'synth_r1_kept': {1: _right(12), 2: _right(40)}}
  found = further.filtered({'a': by_regime}, [])
  after = found['models']['a']['synth_r1_kept']['regimes']['synth_r1_kept']
  assert after['difference']['accuracy']['value'] == pytest.approx(2 / 40)
  assert found['planned']['seeds'] == [1]


def test_the_filters_comparison_is_fixed_beforehand():
  runs = _runs(
    synth_r12=10, synth_r12_kept=30, synth_r1_then_real=30, synth_r1_kept_then_real=29, synth_r1=9, synth_r1_kept=9
  )  # fmt: skip
  planned = further.filtered({'a': runs}, [])['planned']
  assert (planned['baseline'], planned['regime']) == ('synth_r1_then_real', 'synth_r1_kept_then_real')
  assert planned['value'] == pytest.approx(-1 / 40)


def test_no_filtered_regime_no_filter():
  assert further.filtered({'a': _runs(real=30, synth_r1=20)}, []) is None


def test_a_filtered_run_on_other_images_is_named():
  runs = _runs(synth_r1=20, synth_r1_kept=22)
  runs['synth_r1_kept'][0] = runs['synth_r1_kept'][0].take(np.arange(39))
  assert further.filtered({'a': runs}, problems := []) is None
  assert problems[0].startswith('What the filter changed for a: synth_r1 and synth_r1_kept: not tested on')


def test_the_first_pair_that_ran_is_taken():
  found = comparisons.first_pair(
    {'a': _runs(real=30, synth_r1=20)}, [('real', 'x'), ('real', 'synth_r1'), ('synth_r1', 'real')]
  )
  assert (found['baseline'], found['regime'], found['value']) == ('real', 'synth_r1', -0.25)
  assert comparisons.first_pair({}, [('real', 'x')]) is None
