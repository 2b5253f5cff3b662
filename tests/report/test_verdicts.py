"""From predictions on disk to the sentence of the page, in cases whose right verdict is known."""

import functools

import msgspec
import pytest
from helpers import fake_run, fake_workdir

from fetal_jax.evaluate import comparisons, paired
from fetal_jax.evaluate.pixel_baselines import PixelBaseline
from fetal_jax.evaluate.verdict import Lack, Verdict, Word
from fetal_jax.report import run as run_lib
from fetal_jax.report import verdicts
from fetal_jax.report.sections import summary
from fetal_jax.train import results

MODELS = ('resnet50', 'swin_t')
REGIMES = ('real', 'synth_r12', 'synth_r12_then_real', 'real_then_real')
GAIN = {'real': 0.70, 'real_then_real': 0.71, 'synth_r12_then_real': 0.95}
HELPED = Verdict(Word.HELPED)


def read(folder, *, pixels=0.5, skills=None, **asked):
  """Makes a workdir whose classifiers are as often right as `skills` say, and reads it."""
  known = {'models': MODELS, 'regimes': REGIMES, 'num_seeds': 3, 'learning_epochs': 2.0, 'split': 'patient'}
  fake_workdir.make(folder, skills=GAIN if skills is None else skills, **(known | asked))
  run = run_lib.read(folder)
  forest = PixelBaseline(name='random forest', side=16, accuracy=pixels, balanced_accuracy=pixels)
  return msgspec.structs.replace(run, pixel_baselines=[forest])


@pytest.fixture(scope='module', autouse=True)
def few_scores():
  """What no verdict rests on takes most of the time of `read`: it is left out."""
  with pytest.MonkeyPatch.context() as patch:
    few = functools.partial(paired.compare_regimes, metrics=['accuracy'], resamples=10)
    patch.setattr(comparisons.paired, 'compare_regimes', few)
    fewer = functools.partial(paired.paired_difference, resamples=500)
    patch.setattr(comparisons.paired, 'paired_difference', fewer)
    patch.setattr(comparisons, 'GROUPINGS', ())
    yield


@pytest.fixture(scope='module')
def gain(tmp_path_factory):
  """A run in which nothing is missing and synthetic data helped."""
  return read(tmp_path_factory.mktemp('gain'))


def cannot(run, *lacks):
  """Returns the sentence of the page; checks that nothing is claimed of any model, and what is missing."""
  unsaid = Verdict(Word.CANNOT_SAY, lacks)
  assert verdicts.of_all(run) == unsaid
  assert [verdicts.of_model(run, model) for model in MODELS] == [unsaid, unsaid]
  text = summary.did_it_help(run)
  head, _, rest = text.partition(': ')
  assert head == 'Whether synthetic data helped cannot be said'
  return rest


def test_a_true_gain(gain):
  assert verdicts.of_all(gain) == HELPED
  assert [verdicts.of_model(gain, model) for model in MODELS] == [HELPED, HELPED]
  text = summary.did_it_help(gain)
  assert text.startswith(
    'Synthetic data helped: starting from synthetic images of both rounds and fine-tuning'
  )
  assert 'against as many optimiser steps on real images alone (95 % interval over patients +' in text
  assert 'mean over 2 models, better in 2 of them, 3 seeds each' in text


def test_a_true_loss(tmp_path):
  run = read(tmp_path, skills={'real': 0.9, 'real_then_real': 0.9, 'synth_r12_then_real': 0.6})
  assert verdicts.of_all(run) == Verdict(Word.HURT)
  assert summary.did_it_help(run).startswith('Synthetic data hurt: ')


def test_a_true_null(tmp_path):
  run = read(tmp_path, skills=dict.fromkeys(GAIN, 0.8))
  assert verdicts.of_all(run) == Verdict(Word.NO_DIFFERENCE)
  assert summary.did_it_help(run).startswith('No difference by synthetic data was shown: ')


def test_a_gain_against_real_images_alone_that_the_control_takes_away(tmp_path):
  run = read(tmp_path, skills={'real': 0.6, 'real_then_real': 0.85, 'synth_r12_then_real': 0.85})
  assert run.comparisons.planned.low > 0
  assert verdicts.of_all(run) == Verdict(Word.NO_DIFFERENCE)
  assert {verdicts.of_model(run, model) for model in MODELS} == {Verdict(Word.NO_DIFFERENCE)}
  assert {model: list(one.models) for model, one in run.comparisons.controls.items()} == {
    m: [m] for m in MODELS
  }
  assert summary.did_it_help(run).startswith('No difference by synthetic data was shown: ')


def test_without_a_control(tmp_path):
  text = cannot(read(tmp_path, regimes=REGIMES[:3]), Lack.CONTROL)
  assert text.startswith('nothing took as many optimiser steps on real images alone. Measured: ')
  assert 'against real images alone (95 % interval' in text


def test_a_control_that_took_fewer_steps(gain):
  runs = [
    msgspec.structs.replace(one, steps=150) if one.regime == 'real_then_real' else one for one in gain.runs
  ]
  text = cannot(msgspec.structs.replace(gain, runs=runs), Lack.FEWER_STEPS)
  assert text.startswith('the control took fewer optimiser steps. Measured: ')
  assert 'against longer training on real images alone (95 % interval' in text


def test_a_start_whose_steps_are_unknown(gain):
  runs = [one for one in gain.runs if one.regime != 'synth_r12']
  cannot(msgspec.structs.replace(gain, runs=runs), Lack.CONTROL)


def test_an_undertrained_baseline(tmp_path):
  text = cannot(read(tmp_path, learning_epochs=5.0), Lack.CONVERGED)
  assert text.startswith('the accuracy of the training on real images alone was still rising at its end. ')


def test_the_baseline_of_one_model_is_named(gain):
  def rising(one):
    history = [msgspec.structs.replace(row, score=row.epoch / 20) for row in one.history]
    return msgspec.structs.replace(one, history=history)

  runs = [rising(one) if (one.model, one.regime) == ('swin_t', 'real') else one for one in gain.runs]
  run = msgspec.structs.replace(gain, runs=runs)
  assert verdicts.of_model(run, 'resnet50') == HELPED
  assert verdicts.of_all(run) == Verdict(Word.CANNOT_SAY, (Lack.CONVERGED,))
  assert 'was still rising at its end (Swin-T). Measured: ' in summary.did_it_help(run)


def test_too_few_epochs_to_tell(gain):
  runs = [msgspec.structs.replace(one, history=one.history[:7]) for one in gain.runs]
  text = cannot(msgspec.structs.replace(gain, runs=runs), Lack.CURVE)
  assert text.startswith(
    'the training on real images alone has too few epochs to tell whether it converged. '
  )


def test_a_baseline_below_raw_pixels(gain):
  best = PixelBaseline(name='random forest', side=16, accuracy=0.95, balanced_accuracy=0.9)
  both = [*gain.pixel_baselines, best]
  text = cannot(msgspec.structs.replace(gain, pixel_baselines=both), Lack.PIXELS)
  assert text.startswith('the training on real images alone did not beat the best classifier of raw pixels. ')


@pytest.mark.parametrize('none', [None, []])
def test_without_a_classifier_of_raw_pixels(gain, none):
  text = cannot(msgspec.structs.replace(gain, pixel_baselines=none), Lack.NO_PIXELS)
  assert text.startswith('there is no classifier of raw pixels to compare with. ')


def test_unknown_patients(gain):
  data = msgspec.structs.replace(gain.data, patients_known=False)
  text = cannot(msgspec.structs.replace(gain, data=data), Lack.PATIENTS)
  assert text.startswith('the patients are unknown, so that nothing can be said of new ones. ')
  assert 'about images like these: the patients are unknown.' in text


@pytest.mark.parametrize(('seeds', 'said'), [(1, 'one seed'), (2, '2 seeds')])
def test_fewer_than_three_seeds(tmp_path, seeds, said):
  text = cannot(read(tmp_path, num_seeds=seeds), Lack.SEEDS)
  assert text.startswith('there are fewer than 3 seeds. Measured: ')
  assert f'{said} each' in text


def test_under_the_protocol_of_the_paper_the_test_curve_is_judged(tmp_path):
  run = read(tmp_path, protocol='paper')
  assert verdicts.of_all(run) == HELPED
  assert 'Every epoch was chosen on the test images.' in summary.did_it_help(run)


def test_a_model_without_the_control_keeps_all_from_a_verdict(gain, tmp_path):
  run = read(tmp_path)
  for folder in (tmp_path / 'classify' / 'swin_t' / 'real_then_real').iterdir():
    for name in (results.NAME, 'predictions.csv'):
      (folder / name).unlink()
  run = msgspec.structs.replace(run_lib.read(tmp_path), pixel_baselines=gain.pixel_baselines)
  assert verdicts.of_model(run, 'resnet50') == HELPED
  assert verdicts.of_model(run, 'swin_t').lacks == (Lack.CONTROL,)
  assert verdicts.of_all(run).lacks == (Lack.CONTROL,)


def test_what_was_not_compared_has_no_verdict():
  assert verdicts.of_all(fake_run.make()) == Verdict(Word.CANNOT_SAY, (Lack.COMPARISON,))
  assert verdicts.of_model(fake_run.make(), 'resnet50').lacks == (Lack.COMPARISON,)
  assert verdicts.of_filter(fake_run.make()).lacks == (Lack.COMPARISON,)
  assert verdicts.of_curve(fake_run.make(), 'synthetic').lacks == (Lack.COMPARISON,)


def test_results_json_has_every_verdict(gain):
  helped = {'verdict': 'helped', 'lacks': []}
  assert verdicts.to_json(gain) == {'all': helped, 'resnet50': helped, 'swin_t': helped}
  run = msgspec.structs.replace(gain, pixel_baselines=None)
  assert verdicts.to_json(run)['all'] == {'verdict': 'cannot be said', 'lacks': ['no_pixels']}
