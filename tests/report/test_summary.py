"""The three sentences that open the page, in every case that they can meet."""

import pytest
from helpers import fake_workdir

from fetal_jax.report import comparisons, summary
from fetal_jax.report import run as run_lib


def _results(planned=None, evaluation=None, **more):
  return {
    'data': None, 'rounds': [], 'runs': [], 'evaluation': evaluation,
    'comparisons': {'planned': planned, 'models': {}, 'groups': {}}, **more,
  }  # fmt: skip


def _planned(value, low, high, *, models=('resnet50', 'vit_b_32'), seeds=(0, 1, 2), why=''):
  return {
    'baseline': 'real', 'regime': 'synth_r12_then_real', 'models': dict.fromkeys(models, value), 'seeds': list(seeds),
    'images': 400, 'patients': 90, 'metric': 'accuracy', 'value': value, 'low': low, 'high': high, 'why': why,
  }  # fmt: skip


def _memorisation(copied, *, near=True, n=300):
  figures = {
    'rate': 0.01,
    'share': 0.05 if copied else 0.012,
    'interval': [0.03, 0.08],
    'copied': bool(copied),
  }
  space = {'near': figures if near else None, 'nearer': 0.374}
  found = {'copied': copied, 'n_synthetic': n, 'n_heldout': 40, 'spaces': {'pixel': space, 'feature': None}}
  return {'memorisation': found}


def test_it_helped():
  text = summary.did_it_help(_results(_planned(0.021, 0.004, 0.038)))
  assert text == (
    'Synthetic data helped: starting from synthetic images of both rounds and fine-tuning on real ones changed the test '
    'accuracy by +2.1 points against real images alone (95 % interval over patients +0.4 to +3.8; mean over 2 models, '
    'better in 2 of them, 3 seeds each; 400 images of 90 patients).'
  )


@pytest.mark.parametrize(
  ('value', 'low', 'high', 'said'),
  [
    (-0.021, -0.038, -0.004, 'Synthetic data hurt: '),
    (0.01, -0.004, 0.024, 'No difference by synthetic data could be shown: '),
    (0.01, 0.0, 0.024, 'No difference by synthetic data could be shown: '),
  ],
)
def test_it_hurt_or_made_no_difference(value, low, high, said):
  text = summary.did_it_help(_results(_planned(value, low, high)))
  assert text.startswith(said)
  assert f'{summary.signed(low)} to {summary.signed(high)}' in text


def test_without_an_interval_nothing_is_claimed():
  planned = _planned(0.02, None, None, models=('resnet50',), seeds=(0,), why='one patient only')
  text = summary.did_it_help(_results(planned))
  assert text.startswith('Whether synthetic data helped cannot be said: ')
  assert '(no interval: one patient only; ResNet50, one seed; ' in text


def test_without_both_kinds_of_runs_nothing_is_claimed():
  assert 'cannot be said: no model has' in summary.did_it_help(_results())


def test_nobody_has_looked_for_copies():
  text = summary.was_it_copied(_results())
  assert text == 'Whether anything was copied has not been examined: run --stage=evaluate.'


def test_copies_and_none():
  copied = summary.was_it_copied(_results(evaluation=_memorisation(True)))
  assert copied.startswith(
    'Training images were copied, or nearly: of 300 synthetic images 5.0 % (95 % interval 3.0 to'
  )
  fresh = summary.was_it_copied(_results(evaluation=_memorisation(False)))
  assert fresh.startswith('No sign of copying was found: of 300 synthetic images 1.2 % ')
  assert (
    'nearer to a training image than 99.0 % of fresh real images are, where 1.0 % would be by chance' in fresh
  )


def test_too_few_held_out_images_to_know():
  text = summary.was_it_copied(_results(evaluation=_memorisation(None, near=False)))
  assert text.startswith('Whether anything was copied cannot be said: 40 held-out images are too few')
  assert 'the nearer one with a chance of 37 % in pixels, where 50 % would say nothing' in text


def test_a_copying_generator_is_called_one(tmp_path):
  fake_workdir.make(tmp_path, models=(), evaluated=True, copies=12)
  head = summary.headline(run_lib.read_results(tmp_path))
  assert len(head['sentences']) == 3
  assert head['sentences'][2].startswith('Training images were copied: of 96 synthetic images 12 in pixels')


def test_the_comparison_is_fixed_beforehand(tmp_path):
  """The first regime of the list that ran is taken, though another did better."""
  fake_workdir.make(
    tmp_path, models=('resnet50',), regimes=('real', 'synth_r1', 'synth_r1_then_real', 'synth_r1_plus_real')
  )
  results = run_lib.read_results(tmp_path)
  planned = results['comparisons']['planned']
  assert planned['regime'] == 'synth_r1_then_real'
  by = {run['regime']: run['scores']['accuracy'] for run in results['runs']}
  assert planned['value'] == pytest.approx(by['synth_r1_then_real'] - by['real'])
  assert comparisons.PLANNED[0] == 'synth_r12_then_real'


def test_longer_training_is_said():
  def run(regime, steps, start=None):
    return {
      'model': 'a', 'regime': regime, 'seed': 0, 'steps': steps, 'real_images': 9, 'initialised_from': start
    }  # fmt: skip

  runs = [
    run('real', 100),
    run('synth_r1_then_real', 100, 'synth_r1'),
    run('synth_r1', 50) | {'real_images': 0},
  ]
  assert 'up to 1.5 times the optimiser steps' in summary.longer_training(_results(runs=runs))
  assert summary.longer_training(_results(runs=[run('real', 100), run('synth_r1_plus_real', 100)])) == ''
  assert 'The regime real_then_real would tell.' in summary.longer_training(_results(runs=runs))


def test_the_control_tells_longer_training_from_synthetic_data():
  run = {'model': 'a', 'seed': 0, 'real_images': 9, 'initialised_from': None}
  results = _results(
    runs=[
      run | {'regime': 'real', 'steps': 100},
      run | {'regime': 'real_then_real', 'steps': 100, 'initialised_from': 'real'},
      run | {'regime': 'synth_r12_then_real', 'steps': 200},
    ]
  )
  results['comparisons']['control'] = _planned(0.012, -0.004, 0.03) | {'baseline': 'real_then_real'}
  said = summary.longer_training(results)
  assert 'is +1.2 points (95 % interval −0.4 to +3.0), the mean over 2 models.' in said
  assert 'would tell' not in said


@pytest.mark.parametrize(
  ('low', 'said'),
  [
    (0.002, 'Synthetic data helped: '),
    (-0.002, 'That synthetic data helped more than longer training does could not'),
  ],
)
def test_the_control_has_a_say_in_the_verdict(low, said):
  results = _results(_planned(0.05, 0.02, 0.08))
  results['comparisons']['control'] = _planned(0.01, low, 0.03) | {'baseline': 'real_then_real'}
  text = summary.did_it_help(results)
  assert text.startswith(said)
  assert f'and by +1.0 points ({summary.signed(low)} to +3.0) against training twice on real images.' in text


def test_the_control_is_no_regime_with_synthetic_images():
  runs = {
    name: [{'test_accuracy': a, 'scores': None}]
    for name, a in (('real', 0.5), ('real_then_real', 0.9), ('synth_r1', 0.4))
  }
  assert summary.best_regime(runs, synthetic_only=True) == 'synth_r1'
  compared = {
    'regimes': {n: {'scores': {'accuracy': {'value': r[0]['test_accuracy']}}} for n, r in runs.items()}
  }
  assert comparisons.best(compared) == 'synth_r1'


def test_what_a_run_starts_from_is_added():
  runs = [
    {'model': 'a', 'regime': 'x', 'seed': 0, 'steps': 5, 'initialised_from': None},
    {'model': 'a', 'regime': 'y', 'seed': 0, 'steps': 7, 'initialised_from': 'x'},
    {'model': 'a', 'regime': 'y', 'seed': 1, 'initialised_from': 'x'},
  ]
  assert summary.with_start(runs, 'steps') == {('a', 'x', 0): 5, ('a', 'y', 0): 12, ('a', 'y', 1): 0}
