"""The six regimes of the paper, and those made from a name."""

import pytest

from fetal_jax import config as config_lib
from fetal_jax.runtime.errors import UserError
from fetal_jax.train import regimes
from fetal_jax.train.regimes import REGIMES, get, rounds_needed, synthetic, with_starts


def test_pretraining_comes_before_what_starts_from_it_and_only_once():
  order = with_starts(['synth_r12_then_real', 'real', 'synth_r1_then_real'])
  assert sorted(order) == ['real', 'synth_r1', 'synth_r12', 'synth_r12_then_real', 'synth_r1_then_real']
  assert order.index('synth_r1') < order.index('synth_r1_then_real')
  assert order.index('synth_r12') < order.index('synth_r12_then_real')


def test_rounds_needed():
  assert rounds_needed(['real'], 2) == 0
  assert rounds_needed(['synth_r1_then_real'], 2) == 1
  assert rounds_needed(list(REGIMES), 2) == 2
  assert rounds_needed(['synth_r1_kept_then_real'], 2) == 1
  assert rounds_needed(['synth_500'], 3) == 3


def test_only_real_regimes_see_real_images():
  assert {name for name, regime in REGIMES.items() if regime.real} == {
    'real',
    'synth_r1_then_real',
    'synth_r1_plus_real',
    'synth_r12_then_real',
  }


def test_a_name_makes_a_regime_of_so_many_images():
  assert get('synth_10000') == regimes.Regime('Synthetic only, 10,000', count=10_000)
  after = get('synth_10000_then_real')
  assert (after.real, after.start, after.count) == (True, 'synth_10000', None)
  assert synthetic('synth_10000_then_real') == get('synth_10000')
  mixed = get('synth_10000_plus_real')
  assert (mixed.real, mixed.start, mixed.count) == (True, None, 10_000)


def test_a_name_makes_a_regime_of_kept_images():
  assert (get('synth_r12_kept').rounds, get('synth_r12_kept').kept, get('synth_r12_kept').real) == (
    (1, 2),
    True,
    False,
  )
  assert get('synth_r1_kept_then_real').start == 'synth_r1_kept'
  assert '{r12}' in get('synth_r12_kept_then_real').title
  mixed = get('synth_r1_kept_plus_real')
  assert (mixed.real, mixed.start, mixed.rounds, mixed.kept) == (True, None, (1,), True)


@pytest.mark.parametrize(
  'name', ['', 'synth', 'synth_0', 'synth_-5', 'synth_r3_kept', 'real_kept', 'synth_5x']
)
def test_other_names_are_no_regimes(name):
  with pytest.raises(KeyError):
    get(name)


def test_the_curve_adds_its_points_to_its_models_alone():
  curve = ['real', 'synth_60', 'synth_120', 'synth_60_then_real', 'synth_120_then_real']
  assert regimes.of_model('resnet50', ('real',), (60, 120), ('swin_t',)) == ['real']
  assert regimes.of_model('swin_t', ('real',), (60, 120), ('swin_t',)) == curve
  assert regimes.of_model('resnet50', ('real',), (60, 120)) == curve


@pytest.mark.parametrize(
  ('values', 'words'),
  [
    ({'regimes': ('synth_r9',)}, "no regime named 'synth_r9'"),
    ({'curve': (0,)}, 'curve: 0 must be'),
    ({'curve_models': ('alexnet',)}, "curve_models: 'alexnet' is not one of"),
  ],
)
def test_what_cannot_run_is_refused(values, words):
  config = config_lib.default_config()
  with config.unlocked():
    config.classify.update(values)
  with pytest.raises(UserError, match=words):
    regimes.check(config)


@pytest.mark.parametrize(
  ('rounds', 'epochs', 'pretrain_epochs', 'calls', 'steps'),
  [
    (
      2,
      5,
      3,
      1,
      23,
    ),  # 3 epochs of 600 images in batches of 16: 3 x 38 = 114 steps, in 5 equal epochs of 22.8
    (3, 5, 3, 1, 23),  # pretraining is on the first two rounds
    (1, 5, 3, 1, 12),  # 3 x 19 = 57
    (2, 5, 0, 1, 38),  # 5 x 38 = 190
    (2, 5, 3, 10, 30),  # 3 x 40 = 120, in dispatches of 10
  ],
)
def test_the_control_takes_as_many_steps_as_the_pretraining_that_it_controls(
  rounds, epochs, pretrain_epochs, calls, steps
):
  assert steps == regimes.control_epoch_steps(
    rounds, 300, epochs=epochs, pretrain_epochs=pretrain_epochs, batch_size=16, steps_per_call=calls
  )


def test_the_control_goes_on_from_real_images_alone():
  assert (get(regimes.CONTROL).real, get(regimes.CONTROL).start) == (True, 'real')
  assert with_starts([regimes.CONTROL]) == ['real', regimes.CONTROL]
  assert rounds_needed([regimes.CONTROL], 2) == 0
  assert regimes.CONTROL not in REGIMES  # which are the paper's


SIZES = {1: 48, 2: 48}


@pytest.mark.parametrize(
  ('name', 'main', 'kept', 'count', 'use', 'images'),
  [
    ('real', True, False, None, None, 0),
    ('real_then_real', True, False, None, None, 0),
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
def test_a_name_says_what_kind_of_regime_it_is(name, main, kept, count, use, images):
  found = regimes.is_main(name), regimes.is_kept(name), regimes.count(name), regimes.use(name)
  assert found == (main, kept, count, use)
  assert regimes.images(name, SIZES) == images


def test_the_images_of_a_missing_round_have_no_number():
  assert regimes.images('synth_r12', {1: 48}) is None


def test_without_the_filter_another_regime_remains():
  assert regimes.without_filter('synth_r1_kept_then_real') == 'synth_r1_then_real'
