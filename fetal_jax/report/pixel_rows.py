"""Classifiers of raw pixels on the page: as rows of tables of accuracy, in a sentence beneath one, and as lines of a chart."""

from typing import TYPE_CHECKING

from fetal_jax.evaluate.pixel_baselines import PixelBaseline
from fetal_jax.report.charts import Theme
from fetal_jax.report.format import brackets
from fetal_jax.report.page import DASH, Cell
from fetal_jax.report.run import Run

if TYPE_CHECKING:
  from matplotlib.axes import Axes
  from matplotlib.lines import Line2D

NO_NETWORK = 'raw pixels, no network'
_DASHES = ((0, (1, 4)), (0, (2, 2)), (0, (6, 2)), (0, (8, 2, 1, 2)))  # of the lines of a chart, one each


def rows(run: Run, columns: list[str], shown: dict[str, str]) -> list[list[Cell]]:
  """Returns a row a classifier for a table of accuracy.

  Args:
    run: whose table it is.
    columns: of the table; the first one has the title, those that are not in `shown` a dash.
    shown: {column: 'accuracy' or 'balanced_accuracy'}.
  """
  found = []
  for one in run.pixel_baselines or ():
    cells = {column: cell(one, shown[column]) for column in columns if column in shown}
    found.append([title_cell(one), *(cells.get(column, Cell(DASH)) for column in columns[1:])])
  return found


def title_cell(one: PixelBaseline) -> Cell:
  """Returns the first cell of its row."""
  return Cell(one.name.capitalize(), small=f'{NO_NETWORK}, {one.side} px')


def cell(one: PixelBaseline, metric: str) -> Cell:
  """Returns a score in percent, with its interval."""
  ends = one.intervals.get(metric)
  return Cell(f'{100 * getattr(one, metric):.1f}', small=brackets(ends) if ends else '')


def note(run: Run) -> list[str]:
  """Says what the rows of a table are; [] without any."""
  if not run.pixel_baselines:
    return []
  return [
    'Raw pixels, no network: classifiers of scikit-learn, trained on the same real images without augmentation; in '
    'brackets 95 % intervals, made as those of the networks. A network that is no better has learned little.'
  ]


def sentence(run: Run) -> list[str]:
  """Says what they reach, for beneath a table without a place for them; [] without any."""
  if not run.pixel_baselines:
    return []
  said = ', '.join(f'{one.name} {100 * one.accuracy:.1f} %' for one in run.pixel_baselines)
  return [f'Trained on raw pixels of the real images, no network: {said}.']


def lines(run: Run, axes: 'Axes', theme: Theme, *, across: bool = False) -> list['Line2D']:
  """Draws a line a classifier at its accuracy in percent, down the chart or `across` it; returns them for the legend."""
  drawn = []
  for one, dashes in zip(run.pixel_baselines or (), _DASHES, strict=False):
    draw = axes.axhline if across else axes.axvline
    label = f'{one.name} (raw pixels)'
    drawn.append(
      draw(100 * one.accuracy, color=theme.muted, linestyle=dashes, linewidth=1.2, label=label, zorder=1)
    )
  return drawn
