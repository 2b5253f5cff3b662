"""Calibration, a part of the section on certainty: is a classifier right as often as it says?"""

import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from fetal_jax.evaluate.scores import Bin
from fetal_jax.report import pixel_rows, sizes
from fetal_jax.report.charts import OTHER_STYLE, REGIME_STYLES, Theme, chart, new_axes
from fetal_jax.report.classifier_runs import ClassifierRun
from fetal_jax.report.format import brackets
from fetal_jax.report.groups import best_regime, groups
from fetal_jax.report.names import model_title, regime_title
from fetal_jax.report.page import Block, Cell, Heading, Picture, Pictures, Table
from fetal_jax.report.run import Run

if TYPE_CHECKING:
  from matplotlib.figure import Figure


def blocks(run: Run) -> list[Block]:
  """Returns heading, table and reliability diagrams; [] without predictions."""
  found = table(run)
  if found is None:
    return []
  return [
    Heading('Is a classifier right as often as it says?'),
    found,
    Pictures([picture for model in groups(run.runs) if (picture := reliability(run, model))]),
  ]


def table(run: Run) -> Table | None:
  """Shows confidence beside accuracy, with ECE and Brier score; None without predictions."""
  rows = []
  for model in groups(run.runs):
    for regime, runs in _shown(run, model).items():
      found = [one.scores for one in runs if one.scores]
      confidence = statistics.fmean(mean(scores.reliability, 'confidence') for scores in found)
      accuracy, brier = (
        statistics.fmean(getattr(scores, key) for scores in found) for key in ('accuracy', 'brier')
      )
      ece = [100 * scores.ece for scores in found]
      spread = f'±\u00a0{statistics.stdev(ece):.1f}' if len(ece) > 1 else ''
      rows.append(
        [
          sizes.title_cell(run, model, regime_title(regime, run.rounds)),
          Cell(f'{100 * confidence:.1f}'),
          Cell(f'{100 * accuracy:.1f}'),
          Cell(f'{statistics.fmean(ece):.1f}', small=spread),
          Cell(f'{brier:.3f}', small=_brier_interval(run, model, regime)),
        ]
      )
  if not rows:
    return None
  note = (
    'Mean over seeds. Confidence is the mean probability of the predicted class; above the accuracy, a classifier is too '
    'sure. ECE (15 bins of equal width, percent) is above 0 by chance alone where images are few, hence no interval.'
  )
  columns = ['Model and regime', 'Confidence', 'Accuracy', 'ECE', 'Brier score']
  return Table('calibration', 'Calibration', columns, rows, [note, *pixel_rows.sentence(run)])


def _shown(run: Run, model: str) -> dict[str, list[ClassifierRun]]:
  """Returns the runs with predictions on real images alone, and those of the best regime with synthetic ones."""
  by_regime = groups(run.runs)[model]
  wanted = ['real', best_regime(by_regime, synthetic_only=True)]
  runs = {
    regime: [one for one in by_regime[regime] if one.scores]
    for regime in wanted
    if regime and regime in by_regime
  }
  return {regime: found for regime, found in runs.items() if found}


def _brier_interval(run: Run, model: str, regime: str) -> str:
  compared = run.comparisons.models.get(model)
  known = compared and compared.regimes.get(regime)
  return brackets(known.scores['brier'], 1, 3) if known else ''


def mean(bins: Sequence[Bin], key: str) -> float:
  """Returns the mean `confidence` or `accuracy` of all images of a reliability diagram."""
  known = [b for b in bins if b.count]
  return sum(b.count * getattr(b, key) for b in known) / sum(b.count for b in known)


def pooled(diagrams: Sequence[Sequence[Bin]]) -> list[Bin]:
  """Makes one reliability diagram of several seeds: their bins' images together."""
  bins = []
  for same in zip(*diagrams, strict=True):
    count = sum(b.count for b in same)
    confidence, accuracy = (mean(same, key) if count else None for key in ('confidence', 'accuracy'))
    bins.append(msgspec.structs.replace(same[0], count=count, confidence=confidence, accuracy=accuracy))
  return bins


def reliability(run: Run, model: str) -> Picture | None:
  """Draws one model's reliability diagram, all seeds' images together; None without predictions."""
  diagrams = {
    regime: pooled([one.scores.reliability for one in runs if one.scores])
    for regime, runs in _shown(run, model).items()
  }
  if not diagrams:
    return None
  said = ', '.join(
    f'{regime}: confidence {100 * mean(bins, "confidence"):.0f} %, accuracy {100 * mean(bins, "accuracy"):.0f} %'
    for regime, bins in diagrams.items()
  )
  title = model_title(model)
  return chart(
    f'reliability_{model}',
    f'Reliability diagram of {title}: accuracy against confidence. On average, {said}.',
    f'{title}: is it right as often as it says? On the dotted line it is; below, it is too sure.',
    figure,
    diagrams,
    {regime: regime_title(regime, run.rounds) for regime in diagrams},
  )


def figure(diagrams: Mapping[str, Sequence[Bin]], titles: Mapping[str, str], theme: Theme) -> 'Figure':
  """Draws accuracy against confidence, a line a regime; a marker's area is its bin's share of the images."""
  drawing, axes = new_axes(4.8, 4.2)
  axes.plot([0, 100], [0, 100], color=theme.muted, linewidth=0.8, linestyle=(0, (1, 3)), label='calibrated')
  for regime, bins in diagrams.items():
    colour, line, marker = REGIME_STYLES.get(regime, OTHER_STYLE)
    known = [b for b in bins if b.count]
    share = np.array([b.count for b in known]) / sum(b.count for b in known)
    x, y = ([100 * getattr(b, key) for b in known] for key in ('confidence', 'accuracy'))
    ink = colour or theme.ink
    axes.plot(x, y, line, color=ink, linewidth=1.2, alpha=0.6, label=titles[regime])
    axes.scatter(x, y, s=12 + 160 * share, marker=marker, color=ink, alpha=0.75, linewidths=0)
  axes.set_xlim(0, 102)
  axes.set_ylim(0, 102)
  axes.set_xlabel('confidence, the probability of the predicted class (%)')
  axes.set_ylabel('accuracy (%)')
  drawing.legend(loc='outside lower center', ncols=1, labelcolor=theme.ink)
  return drawing
