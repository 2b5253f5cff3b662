"""The six regimes of the paper."""

from fetal_jax.train.regimes import REGIMES, rounds_needed, with_starts


def test_pretraining_comes_before_what_starts_from_it_and_only_once():
  order = with_starts(['synth_r12_then_real', 'real', 'synth_r1_then_real'])
  assert sorted(order) == ['real', 'synth_r1', 'synth_r12', 'synth_r12_then_real', 'synth_r1_then_real']
  assert order.index('synth_r1') < order.index('synth_r1_then_real')
  assert order.index('synth_r12') < order.index('synth_r12_then_real')


def test_rounds_needed():
  assert rounds_needed(['real']) == 0
  assert rounds_needed(['synth_r1_then_real']) == 1
  assert rounds_needed(list(REGIMES)) == 2


def test_only_real_regimes_see_real_images():
  assert {name for name, regime in REGIMES.items() if regime.real} == {
    'real',
    'synth_r1_then_real',
    'synth_r1_plus_real',
    'synth_r12_then_real',
  }
