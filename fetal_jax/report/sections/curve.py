"""How many synthetic images: test accuracy against their number, a table and a chart for each use of them."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fetal_jax.evaluate.curve import Change, CurvePoint
from fetal_jax.evaluate.verdict import Lack, Verdict, Word
from fetal_jax.report import paper, pixel_rows, sizes, verdicts
from fetal_jax.report.charts import GREEN, ORANGE, PURPLE, SKY, VERMILION, Theme, chart, new_axes
from fetal_jax.report.estimates import difference_cell, score_cell, too_narrow, unit, unit_of_run
from fetal_jax.report.format import interval, points
from fetal_jax.report.groups import with_start
from fetal_jax.report.names import model_title
from fetal_jax.report.page import DASH, Block, Cell, Picture, Pictures, Section, Table, Text
from fetal_jax.report.run import Run
from fetal_jax.report.sizes import Standing
from fetal_jax.train import regimes as regimes_lib

if TYPE_CHECKING:
  from matplotlib.figure import Figure

_TITLES = {
  'synthetic': 'Synthetic images alone',
  'then_real': 'Pretrained on synthetic images, fine-tuned on real ones',
  'plus_real': 'Synthetic images mixed into real ones',
}
_WORDS = {
  Word.HELPED: 'test accuracy rises with their number:',
  Word.HURT: 'test accuracy falls with their number:',
  Word.NO_DIFFERENCE: 'test accuracy was not shown to change with their number:',
  Word.CANNOT_SAY: 'whether test accuracy changes with their number cannot be said; measured:',
}
_WITH = {
  'synthetic': 'with synthetic images alone',
  'then_real': 'with pretraining on synthetic images and fine-tuning on real ones',
  'plus_real': 'with synthetic images mixed into real ones',
}


def section(run: Run) -> Section | None:
  """Tells what the number of synthetic images changes; None without a curve."""
  if not run.curve:
    return None
  blocks: list[Block] = [Text(sentence(run))]
  if longer := longer_training(run):
    blocks.append(Text(longer, callout=True))
  blocks.append(Pictures([picture(run, use) for use in run.curve]))
  blocks += [table(run, use) for use in run.curve]
  return Section('curve', 'How many synthetic images', blocks, nav='How many')


# MARK: Sentences


def sentence(run: Run) -> str:
  """Says whether accuracy rises with the number of images, from the fewest to the most that all models have."""
  clauses, lacks = [], dict[Lack, None]()
  for use, found in (run.curve or {}).items():
    if change := found.overall.more:
      known = f'95 % interval over {unit(change.patients)} ' if change.low is not None else ''
      judged = verdicts.of_curve(run, use)
      lacks |= dict.fromkeys(judged.lacks)
      clause = (
        f'{_WITH[use]}, {_WORDS[judged.word]} {points(change.value)} from '
        f'{change.start:,} to {change.end:,} images ({known}{interval(change)}; {_models(change)})'
      )
      if some := found.overall.some:
        clause += f', and {points(some.value)} from none ({interval(some)})'
      clauses.append(clause)
  if not clauses:
    return 'Whether more synthetic images help cannot be said for all models together: they share no two numbers or no seed.'
  text = '; '.join(clauses)
  text = f'{text[0].upper()}{text[1:]}.'
  if not lacks:
    return text
  return f'{text} Missing for a verdict: {verdicts.missing(Verdict(Word.CANNOT_SAY, tuple(lacks)), "the fewest images")}.'


def _models(change: Change) -> str:
  names = list(change.models)
  return f'mean over {len(names)} models' if len(names) > 1 else model_title(names[0])


def longer_training(run: Run) -> str:
  """Says where more images also meant more optimiser steps; '' where they did not."""
  steps = with_start(run.runs, 'steps')

  def most_steps(model: str, point: CurvePoint) -> int:
    return max(n for (m, regime, _), n in steps.items() if (m, regime) == (model, point.regime))

  ratios = []
  for found in (run.curve or {}).values():
    for model, curve in found.models.items():
      with_images = [point for point in curve.points if point.images]
      first, last = (most_steps(model, point) for point in (with_images[0], with_images[-1]))
      if first:
        ratios.append(last / first)
  if max(ratios, default=1) < 1.1:
    return ''
  return (
    f'The most images took up to {max(ratios):.1f} times the optimiser steps of the fewest: part of a rise may be that of '
    'longer training.'
  )


# MARK: Table


def table(run: Run, use: str) -> Table:
  """Shows a row a model, a column a number of images, and the changes between the ends."""
  found = (run.curve or {})[use].models
  numbers = sorted({point.images for curve in found.values() for point in curve.points})
  from_none = 0 in numbers
  rows = []
  for model, curve in found.items():
    at = {point.images: point for point in curve.points}
    theirs = papers(run, model, curve.points)
    row = [sizes.title_cell(run, model, _seeds(curve.points))]
    for n in numbers:
      cell = score_cell(at[n]) if n in at else Cell(DASH)
      row.append(Cell(cell.text, f'{cell.small} paper\u00a0{theirs[n]:.1f}') if n in theirs else cell)
    for change in (curve.changes.more, curve.changes.some)[: 1 + from_none]:
      row.append(difference_cell(change) if change else Cell(DASH))
    rows.append(row)
  notes = [
    'Test accuracy in percent by number of synthetic images, mean over seeds, with 95 % intervals by bootstrap over '
    f'{unit_of_run(run)}; changes in percentage points, the same drawn for both. Highlighted: the interval leaves out 0.'
    f'{too_narrow(run)}',
    *pixel_rows.sentence(run),
  ]
  columns = ['Model', *(f'{n:,}' if n else '0: real images only' for n in numbers)]
  columns += ['From the fewest to the most', 'From none to the most'][: 1 + from_none]
  return Table(f'curve-{use.replace("_", "-")}', _TITLES[use], columns, rows, notes)


def _seeds(curve: Sequence[CurvePoint]) -> str:
  seeds = sorted({point.seeds for point in curve})
  return f'{"–".join(map(str, dict.fromkeys((seeds[0], seeds[-1]))))} seed{"s" * (seeds[-1] > 1)}'


def papers(run: Run, model: str, curve: Sequence[CurvePoint]) -> dict[int, float]:
  """Returns the paper's accuracies (percent) by number of images, where a run's numbers, networks and images are as there."""
  if sizes.standing(run, model) is not Standing.BESIDE:
    return {}
  known = paper.MODELS[model].accuracy
  per_round = paper.TABLE_2_PER_CLASS * len(paper.TABLE_1)
  rounds = dict.fromkeys(range(1, paper.TABLE_2_ROUNDS + 1), per_round)
  found = {
    point.images: known[point.regime]
    for point in curve
    if point.regime in known and point.images == regimes_lib.images(point.regime, rounds)
  }
  return found if any(found) else {}


# MARK: Chart


def picture(run: Run, use: str) -> Picture:
  """Draws the chart of one use."""
  curves = run.curve or {}
  found = {model: curve.points for model, curve in curves[use].models.items()}
  theirs = {model: papers(run, model, curve) for model, curve in found.items()}
  said = '; '.join(
    f'{model_title(model)}: '
    + ', '.join(f'{100 * p.value:.1f} % at {p.images:,}' for p in curve if p.value is not None)
    for model, curve in found.items()
  )
  zero = ' 0: real images only.' if any(curve[0].images == 0 for curve in found.values()) else ''
  hollow = ' Hollow: the paper.' if any(theirs.values()) else ''
  lines = (
    ' Lines across: classifiers of raw pixels of the real images, no network.' if run.pixel_baselines else ''
  )
  everyone = list(dict.fromkeys(model for of_use in curves.values() for model in of_use.models))
  return chart(
    f'curve_{use}',
    f'Test accuracy against the number of synthetic images. {_TITLES[use]}. {said}.',
    f'{_TITLES[use]}: mean over seeds with 95 % intervals over {unit_of_run(run)}.{zero}{hollow}{lines}',
    figure,
    run,
    found,
    theirs,
    everyone,
  )


# Colour (None: the theme's ink), line, marker; a model has the same in every chart.
_STYLES: tuple[tuple[str | None, str, str], ...] = (
  (None, '-', 'o'),
  (ORANGE, '--', 's'),
  (SKY, '-', '^'),
  (GREEN, '-.', 'D'),
  (PURPLE, '--', 'v'),
  (VERMILION, '-', 'P'),
)


def figure(
  run: Run,
  lines: Mapping[str, Sequence[CurvePoint]],
  theirs: Mapping[str, Mapping[int, float]],
  models: Sequence[str],
  theme: Theme,
) -> 'Figure':
  """Draws accuracy against the number of synthetic images on a logarithmic scale, 0 one doubling left of the fewest.

  Args:
    run: whose classifiers of raw pixels are drawn across.
    lines: points by model.
    theirs: the paper's accuracies in percent by model and number.
    models: all of the page's curves, which decides their styles.
    theme: colours.
  """
  drawing, axes = new_axes(4.8, 3.6)
  numbers = sorted({point.images for curve in lines.values() for point in curve})
  fewest = min(n for n in numbers if n)
  place = {n: 1 + float(np.log2(n / fewest)) if n else 0.0 for n in numbers}
  span = max(place.values()) - min(place.values())
  for i, (model, curve) in enumerate(lines.items()):
    colour, line, marker = _STYLES[models.index(model) % len(_STYLES)]
    style: dict[str, Any] = {'color': colour or theme.ink, 'marker': marker}
    aside = 0.012 * span * (i - (len(lines) - 1) / 2)  # so that intervals do not hide each other
    known = [(place[p.images] + aside, 100 * p.value) for p in curve if p.value is not None]
    label = model_title(model)
    axes.plot(
      [x for x, _ in known], [y for _, y in known], line, linewidth=1.3, markersize=4.5, label=label, **style
    )
    sure = [(p, p.low, p.high) for p in curve if p.low is not None and p.high is not None]
    axes.vlines(
      [place[p.images] + aside for p, _, _ in sure],
      [100 * low for _, low, _ in sure],
      [100 * high for _, _, high in sure],
      color=style['color'],
      linewidth=1,
      alpha=0.7,
    )
    if paper_points := theirs.get(model):
      xs = [place[n] + aside for n in paper_points]
      hollow: dict[str, Any] = {'markerfacecolor': 'none', 'markersize': 6, 'alpha': 0.8}
      axes.plot(xs, list(paper_points.values()), linestyle='', **style, **hollow)
  pixel_rows.lines(run, axes, theme, across=True)
  if any(theirs.values()):
    axes.plot([], [], 'o', color=theme.muted, markerfacecolor='none', label='hollow: the paper')
  labels = _readable(numbers, place, span / 9)
  axes.set_xticks([place[n] for n in numbers], labels, rotation=30, ha='right', rotation_mode='anchor')
  axes.set_xlabel('number of synthetic images (log scale)')
  axes.set_ylabel('test accuracy (%)')
  drawing.legend(loc='outside lower center', ncols=2, labelcolor=theme.ink)
  return drawing


def _readable(numbers: Sequence[int], place: Mapping[int, float], apart: float) -> list[str]:
  """Returns the labels of the ticks, '' for those too near to one that has a label; the last one has."""
  labels, last = [''] * len(numbers), np.inf
  for i, n in reversed(list(enumerate(numbers))):
    if last - place[n] >= apart:
      labels[i], last = f'{n:,}', place[n]
  return labels
