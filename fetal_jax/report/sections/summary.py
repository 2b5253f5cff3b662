"""The page's opening: what was done, did it help, how good the images are, was anything copied; and the main figures."""

import math
from collections.abc import Sequence

from fetal_jax.report.estimates import changed
from fetal_jax.report.format import interval, points
from fetal_jax.report.groups import groups, mean_accuracy
from fetal_jax.report.names import model_title
from fetal_jax.report.page import Answers, Block, Section, Text, Tiles
from fetal_jax.report.run import Run, num_images
from fetal_jax.report.sections import copies, quality

_QUESTIONS = ('What was done', 'Did synthetic data help?', quality.QUESTION, 'Was anything copied?')
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
    found.append((f'{100 * best[2]:.1f} %', f'best test accuracy ({model_title(best[0])})'))
  if planned := run.comparisons.planned:
    label = f'from synthetic data, mean over models; 95 %: {interval(planned)}'
    found.append((points(planned.value), label))
  if drawn := sum(map(num_images, run.rounds)):
    found.append((f'{drawn:,}', 'synthetic images drawn'))
  if run.data:
    share = f'{100 * run.data.test_patient_overlap:.0f} %'
    found.append((share, 'of test images show a patient who is also in training'))
  return found


def best_of_all(run: Run) -> tuple[str, str, float] | None:
  """Returns model, regime and mean test accuracy of the best of all; None without any accuracy."""
  found = [
    (model, regime, mean_accuracy(runs))
    for model, by_regime in groups(run.runs).items()
    for regime, runs in by_regime.items()
  ]
  return max((row for row in found if math.isfinite(row[2])), key=lambda row: row[2], default=None)


def did_it_help(run: Run) -> str:
  """Says what the comparison that was fixed beforehand found, with its interval."""
  planned, control = run.comparisons.planned, run.comparisons.control
  if planned is None:
    return (
      'Whether synthetic data helped cannot be said: no model has predictions on real images alone and in one of the '
      'regimes that use synthetic and real ones.'
    )
  change = f'{_WAYS[planned.regime]} {changed(planned, "real images alone")}'
  if control is not None:
    change += f', and by {points(control.value)} ({interval(control)}) against training twice on real images'
  if planned.low is None or planned.high is None:
    return f'Whether synthetic data helped cannot be said: {change}.'
  if planned.low > 0 and control is not None and (control.low is None or control.low <= 0):
    return f'That synthetic data helped more than longer training does could not be shown: {change}.'
  if planned.low > 0:
    return f'Synthetic data helped: {change}.'
  if planned.high < 0:
    return f'Synthetic data hurt: {change}.'
  return f'No difference by synthetic data could be shown: {change}.'


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
    trained = f'{models} classifier{"s" * (models > 1)} {"were" if models > 1 else "was"} trained'
    if regimes > 1:
      trained += f' in {regimes} regimes, with and without the synthetic images'
    parts.append(trained)
  text = '; '.join(parts) or 'nothing has been done in this folder yet'
  return f'{text[0].upper()}{text[1:]}.'
