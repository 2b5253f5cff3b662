"""The page's opening: what was done, the verdict on synthetic data, how good it is, whether anything was copied, and the main figures."""

import math
from collections.abc import Sequence

from fetal_jax.evaluate.comparisons import PairedDifference
from fetal_jax.evaluate.verdict import Lack, Word
from fetal_jax.report import sizes, verdicts
from fetal_jax.report.estimates import changed
from fetal_jax.report.format import interval, points
from fetal_jax.report.groups import groups, mean_accuracy
from fetal_jax.report.page import Answers, Block, Section, Text, Tiles
from fetal_jax.report.run import Data, Run, num_images
from fetal_jax.report.sections import copies, quality

_QUESTIONS = ('What was done', 'Did synthetic data help?', quality.QUESTION, 'Was anything copied?')
_HEADS = {
  Word.HELPED: 'Synthetic data helped',
  Word.HURT: 'Synthetic data hurt',
  Word.NO_DIFFERENCE: 'No difference by synthetic data was shown',
  Word.CANNOT_SAY: 'Whether synthetic data helped cannot be said',
}
_WAYS = {
  'synth_r12_then_real': 'starting from synthetic images of both rounds and fine-tuning on real ones',
  'synth_r1_then_real': 'starting from synthetic images of round 1 and fine-tuning on real ones',
  'synth_r1_plus_real': 'mixing synthetic images of round 1 with the real ones',
}


def section(run: Run, images: Sequence[Block] = ()) -> Section:
  """Says the run in four answers and a few figures; `images` are shown after them."""
  blocks: list[Block] = [Answers(list(zip(_QUESTIONS, sentences(run), strict=True)))]
  if figures := tiles(run):
    blocks.append(Tiles(figures))
  blocks += images
  blocks.append(
    Text(
      'Neither the images nor the classifiers may inform care.', verdict='Not for medical use.', callout=True
    )
  )
  return Section('summary', 'In short', blocks)


def sentences(run: Run) -> list[str]:
  """Returns the answers to the opening's four questions."""
  return [what_was_done(run), did_it_help(run), quality.how_good(run), copies.was_it_copied(run)]


def tiles(run: Run) -> list[tuple[str, str]]:
  """Returns the main figures, (value, what it is)."""
  found = []
  if best := best_of_all(run):
    found.append((f'{100 * best[2]:.1f} %', f'best test accuracy ({sizes.titled(run, best[0])})'))
  if change := run.comparisons.control or run.comparisons.planned:
    label = f'with synthetic data, against {_against(run)}, mean over models; 95 %: {interval(change)}; '
    found.append((points(change.value), label + f'verdict: {verdicts.of_all(run).word.value}'))
  if drawn := sum(map(num_images, run.rounds)):
    found.append((f'{drawn:,}', 'synthetic images drawn'))
  if run.data:
    found.append(_who_is_in_both(run.data))
  return found


def _who_is_in_both(data: Data) -> tuple[str, str]:
  """Returns how many test images show a patient who is also in training, or that nobody knows."""
  if data.test_patient_overlap is None:
    return 'unknown', 'how many test images show a patient who is also in training'
  return f'{100 * data.test_patient_overlap:.0f} %', 'of test images show a patient who is also in training'


def best_of_all(run: Run) -> tuple[str, str, float] | None:
  """Returns model, regime and mean test accuracy of the best of all; None without any accuracy."""
  found = [
    (model, regime, mean_accuracy(runs))
    for model, by_regime in groups(run.runs).items()
    for regime, runs in by_regime.items()
  ]
  return max((row for row in found if math.isfinite(row[2])), key=lambda row: row[2], default=None)


def did_it_help(run: Run) -> str:
  """Gives the verdict of the comparison that was fixed beforehand, what it lacks, and what was measured."""
  planned, control = run.comparisons.planned, run.comparisons.control
  if planned is None:
    return (
      'Whether synthetic data helped cannot be said: no model has predictions on real images alone and in one of the '
      'regimes that use synthetic and real ones.'
    )
  found = verdicts.of_all(run)
  change = f'{_WAYS[planned.regime]} {changed(control or planned, _against(run))}'
  if control is not None:
    change += (
      f'; against real images alone, which take fewer steps, by {points(planned.value)} ({interval(planned)})'
    )
  about = _about(run, control or planned)
  if not found.lacks:
    return f'{_HEADS[found.word]}: {change}.{about}'
  each = {model: verdicts.of_model(run, model) for model in planned.models}
  lacks = verdicts.missing(found, 'the control', each)
  return f'{_HEADS[found.word]}: {lacks}. Measured: {change}.{about}'


def _against(run: Run) -> str:
  """Returns what the comparison that was fixed beforehand is against."""
  if run.comparisons.control is None:
    return 'real images alone'
  if {Lack.CONTROL, Lack.FEWER_STEPS} & set(verdicts.of_all(run).lacks):
    return 'longer training on real images alone'
  return 'as many optimiser steps on real images alone'


def _about(run: Run, found: PairedDifference) -> str:
  """Says what the interval of a comparison is about, and what it is not about; '' where there is none."""
  if found.low is None or found.high is None:
    return ''
  if run.data is None or not run.data.patients_known:
    said = ' The interval is about images like these: the patients are unknown.'
  elif overlap := run.data.test_patient_overlap:
    said = (
      f' The interval is about patients like these, and {100 * overlap:.0f} % of the test images show one who is also in '
      'training: it says little of new ones.'
    )
  else:
    said = ' The interval is about new patients like these.'
  if any(one.protocol == 'paper' for one in run.runs):
    said += ' Every epoch was chosen on the test images.'
  return f'{said} It is not about other models, or about training the generator again.'


def what_was_done(run: Run) -> str:
  """Says how many images there were, how many were drawn, and what was trained on them."""
  parts = []
  if run.data:
    parts.append(
      f'{run.data.totals["train"]:,} labelled images of {len(run.data.class_names)} classes '
      f'({run.data.source}) were used for training'
    )
  if run.rounds:
    drawn = sum(map(num_images, run.rounds))
    parts.append(f'a classifier-guided diffusion model drew {drawn:,} synthetic ones')
  if run.runs:
    models, regimes = len({one.model for one in run.runs}), len({one.regime for one in run.runs})
    size = f' ({said})' if (said := sizes.summed(run)) else ''
    trained = f'{models} classifier{"s" * (models > 1)}{size} {"were" if models > 1 else "was"} trained'
    if regimes > 1:
      trained += f' in {regimes} regimes, with and without the synthetic images'
    parts.append(trained)
  text = '; '.join(parts) or 'nothing has been done in this folder yet'
  return f'{text[0].upper()}{text[1:]}.'
