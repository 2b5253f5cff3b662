"""Charts of certainty and of the search for copies; see `figures` for what a chart is."""

from typing import TYPE_CHECKING, Any

import numpy as np

from fetal_jax.report import summary
from fetal_jax.report.charts import OTHER_STYLE, REGIME_STYLES, SKY, VERMILION, Theme, new_axes

if TYPE_CHECKING:
  from matplotlib.figure import Figure


def reliability(
  diagrams: dict[str, list[dict[str, Any]]], rounds: list[dict[str, Any]], theme: Theme
) -> 'Figure':
  """Accuracy against confidence, a line a regime; a marker's area is its bin's share of the images."""
  figure, axes = new_axes(4.8, 4.2)
  axes.plot([0, 100], [0, 100], color=theme.muted, linewidth=0.8, linestyle=(0, (1, 3)), label='calibrated')
  for regime, bins in diagrams.items():
    colour, line, marker = REGIME_STYLES.get(regime, OTHER_STYLE)
    known = [b for b in bins if b['count']]
    share = np.array([b['count'] for b in known]) / sum(b['count'] for b in known)
    x, y = ([100 * b[key] for b in known] for key in ('confidence', 'accuracy'))
    axes.plot(
      x,
      y,
      line,
      color=colour or theme.ink,
      linewidth=1.2,
      alpha=0.6,
      label=summary.regime_title(regime, rounds),
    )
    axes.scatter(x, y, s=12 + 160 * share, marker=marker, color=colour or theme.ink, alpha=0.75, linewidths=0)
  axes.set_xlim(0, 102)
  axes.set_ylim(0, 102)
  axes.set_xlabel('confidence, the probability of the predicted class (%)')
  axes.set_ylabel('accuracy (%)')
  figure.legend(loc='outside lower center', ncols=1, labelcolor=theme.ink)
  return figure


def pooled(diagrams: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
  """One reliability diagram of several seeds: their bins' images together."""
  bins = []
  for same in zip(*diagrams, strict=True):
    known = [b for b in same if b['count']]
    count = sum(b['count'] for b in known)
    means = {
      key: sum(b['count'] * b[key] for b in known) / count if count else None
      for key in ('confidence', 'accuracy')
    }
    bins.append({**same[0], 'count': count, **means})
  return bins


def ratios(histogram: dict[str, Any], threshold: float | None, theme: Theme) -> 'Figure':
  """How near images come to the training images: shares of synthetic and of held-out ones by distance ratio.

  Args:
    histogram: `edges`, and counts of `synthetic` and `heldout`.
    threshold: the ratio under which an image counts as near, None if there is none.
    theme: colours.
  """
  figure, axes = new_axes(4.8, 3.2)
  edges = np.asarray(histogram['edges'])
  kinds = (('heldout', 'held-out real images', SKY, '-'), ('synthetic', 'synthetic images', VERMILION, '--'))
  for kind, label, colour, line in kinds:
    counts = np.asarray(histogram[kind], np.float64)
    share = 100 * counts / max(counts.sum(), 1)
    fill = 0.35 if kind == 'heldout' else None
    axes.stairs(share, edges, color=colour, linewidth=1.5, linestyle=line, label=label)
    if fill:
      axes.stairs(share, edges, color=colour, fill=True, alpha=fill)
  if threshold is not None:
    axes.axvline(
      threshold, color=theme.ink, linewidth=1, linestyle=(0, (1, 2)), label='nearest 1 % of held-out images'
    )
  axes.set_xlim(0, edges[-1])
  axes.set_ylim(bottom=0)
  axes.set_xlabel('distance to the nearest training image / median of held-out images')
  axes.set_ylabel('share of the images (%)')
  figure.legend(loc='outside lower center', ncols=2, labelcolor=theme.ink)
  return figure
