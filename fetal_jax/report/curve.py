"""Accuracy against the number of synthetic images: a sentence, a table and a chart for each use of them."""

from typing import TYPE_CHECKING, Any

import numpy as np

from fetal_jax.report import certainty, kinds, paper, summary, tables
from fetal_jax.report.charts import GREEN, ORANGE, PURPLE, SKY, VERMILION, Theme, new_axes
from fetal_jax.report.pictures import Picture, chart
from fetal_jax.report.run import model_title
from fetal_jax.report.tables import DASH, Cell, Table

if TYPE_CHECKING:
  from matplotlib.figure import Figure

_TITLES = {
  'synthetic': 'Synthetic images alone',
  'then_real': 'Pretrained on synthetic images, fine-tuned on real ones',
  'plus_real': 'Synthetic images mixed into real ones',
}
_WITH = {
  'synthetic': 'with synthetic images alone',
  'then_real': 'with pretraining on synthetic images and fine-tuning on real ones',
  'plus_real': 'with synthetic images mixed into real ones',
}

Points = list[dict[str, Any]]


def section(results: dict[str, Any]) -> dict[str, Any] | None:
  """What the page shows: `sentence`, `longer_training` (or ''), `tables`, `pictures`; None without a curve."""
  if not results['curve']:
    return None
  return {
    'sentence': sentence(results),
    'longer_training': longer_training(results),
    'tables': [table(results, use) for use in results['curve']],
    'pictures': [picture(results, use) for use in results['curve']],
  }


def sentence(results: dict[str, Any]) -> str:
  """Whether accuracy rises with the number of images, from the fewest to the most that all models have."""
  clauses = []
  for use, found in results['curve'].items():
    change = found['overall']['more']
    if change is not None:
      low, high = change['low'], change['high']
      verdict = (
        'cannot be said to change'
        if low is None
        else 'rises'
        if low > 0
        else 'falls'
        if high < 0
        else 'was not shown to change'
      )
      clauses.append(
        f'{_WITH[use]}, test accuracy {verdict} with their number: {summary.points(change["value"])} from '
        f'{change["start"]:,} to {change["end"]:,} images ({"95 % interval over patients " if low is not None else ""}'
        f'{summary.interval(change)}; {_models(change)})'
      )
      if some := found['overall']['some']:
        clauses[-1] += f', and {summary.points(some["value"])} from none ({summary.interval(some)})'
  if not clauses:
    return 'Whether more synthetic images help cannot be said for all models together: they share no two numbers or no seed.'
  text = '; '.join(clauses)
  return f'{text[0].upper()}{text[1:]}.'


def _models(change: dict[str, Any]) -> str:
  names = list(change['models'])
  return f'mean over {len(names)} models' if len(names) > 1 else model_title(names[0])


def longer_training(results: dict[str, Any]) -> str:
  """Said where more images also meant more optimiser steps."""
  steps = summary.with_start(results['runs'], 'steps')
  ratios = []
  for found in results['curve'].values():
    for model, about in found['models'].items():
      first, last = (
        max(n for (m, regime, _), n in steps.items() if (m, regime) == (model, point['regime']))
        for point in _ends(about['points'])
      )
      if first:
        ratios.append(last / first)
  if max(ratios, default=1) < 1.1:
    return ''
  return (
    f'The most images took up to {max(ratios):.1f} times the optimiser steps of the fewest: part of a rise may be that of '
    'longer training.'
  )


def _ends(points: Points) -> tuple[dict[str, Any], dict[str, Any]]:
  """The points of the fewest images that are any, and of the most."""
  some = [point for point in points if point['images']]
  return some[0], some[-1]


def table(results: dict[str, Any], use: str) -> Table:
  """A row a model, a column a number, and the changes between the ends."""
  found = results['curve'][use]['models']
  numbers = sorted({point['images'] for about in found.values() for point in about['points']})
  from_none = 0 in numbers
  rows = []
  for model, about in found.items():
    points = {point['images']: point for point in about['points']}
    theirs = papers(model, about['points'])
    row = [Cell(model_title(model), small=_seeds(about['points']))]
    for n in numbers:
      cell = certainty.score_cell(points[n]) if n in points else Cell(DASH)
      row.append(Cell(cell.text, f'{cell.small} paper\u00a0{theirs[n]:.1f}') if n in theirs else cell)
    for kind in ('more', 'some')[: 1 + from_none]:
      change = about['changes'][kind]
      row.append(certainty.difference_cell(change) if change else Cell(DASH))
    rows.append(row)
  regimes = {point['regime'] for about in found.values() for point in about['points']}
  notes = [
    'Test accuracy in percent by number of synthetic images, mean over seeds, with 95 % intervals by bootstrap over '
    'patients; changes in percentage points, the same patients drawn for both. Highlighted: the interval leaves out 0.',
  ]
  for model in found:
    # Those of the main regimes stand under their own tables.
    mine = [r for r in results['runs'] if r['model'] == model and kinds.count(r['regime'])]
    notes += tables.mismatches(summary.by_regime([r for r in mine if r['regime'] in regimes]))
  columns = ['Model', *(f'{n:,}' if n else '0: real images only' for n in numbers)]
  columns += ['From the fewest to the most', 'From none to the most'][: 1 + from_none]
  return Table(f'curve-{use.replace("_", "-")}', _TITLES[use], columns, rows, notes)


def _seeds(points: Points) -> str:
  seeds = sorted({point['seeds'] for point in points})
  return f'{"–".join(map(str, dict.fromkeys((seeds[0], seeds[-1]))))} seed{"s" * (seeds[-1] > 1)}'


def papers(model: str, points: Points) -> dict[int, float]:
  """The paper's accuracies (percent) by number of images, where these are as many as the paper had; else {}."""
  known = paper.MODELS[model].accuracy if model in paper.MODELS else {}
  per_round = paper.TABLE_2_PER_CLASS * len(paper.TABLE_1)
  sizes = dict.fromkeys(range(1, paper.TABLE_2_ROUNDS + 1), per_round)
  found = {
    point['images']: known[point['regime']]
    for point in points
    if point['regime'] in known and point['images'] == kinds.images(point['regime'], sizes)
  }
  return found if any(found) else {}


def picture(results: dict[str, Any], use: str) -> Picture:
  """The chart of one use."""
  found = {model: about['points'] for model, about in results['curve'][use]['models'].items()}
  theirs = {model: papers(model, points) for model, points in found.items()}
  said = '; '.join(
    f'{model_title(model)}: '
    + ', '.join(f'{100 * p["value"]:.1f} % at {p["images"]:,}' for p in points if p['value'] is not None)
    for model, points in found.items()
  )
  zero = ' 0: real images only.' if any(points[0]['images'] == 0 for points in found.values()) else ''
  hollow = ' Hollow: the paper.' if any(theirs.values()) else ''
  everyone = [model for about in results['curve'].values() for model in about['models']]
  return chart(
    f'curve_{use}',
    f'Test accuracy against the number of synthetic images. {_TITLES[use]}. {said}.',
    f'{_TITLES[use]}: mean over seeds with 95 % intervals over patients.{zero}{hollow}',
    figure,
    found,
    theirs,
    sorted(set(everyone), key=everyone.index),
  )


# Colour (None being the theme's ink), line, marker; a model has the same in every chart.
_STYLES: tuple[tuple[str | None, str, str], ...] = (
  (None, '-', 'o'),
  (ORANGE, '--', 's'),
  (SKY, '-', '^'),
  (GREEN, '-.', 'D'),
  (PURPLE, '--', 'v'),
  (VERMILION, '-', 'P'),
)


def figure(
  lines: dict[str, Points], theirs: dict[str, dict[int, float]], models: list[str], theme: Theme
) -> 'Figure':
  """Accuracy against the number of synthetic images on a logarithmic scale, 0 one doubling left of the fewest.

  Args:
    lines: points by model.
    theirs: the paper's accuracies in percent by model and number.
    models: all of the page's curves, which decides their styles.
    theme: colours.
  """
  drawing, axes = new_axes(4.8, 3.6)
  numbers = sorted({point['images'] for points in lines.values() for point in points})
  fewest = min(n for n in numbers if n)
  place = {n: 1 + float(np.log2(n / fewest)) if n else 0.0 for n in numbers}
  span = max(place.values()) - min(place.values())
  for i, (model, points) in enumerate(lines.items()):
    colour, line, marker = _STYLES[models.index(model) % len(_STYLES)]
    style: dict[str, Any] = {'color': colour or theme.ink, 'marker': marker}
    aside = 0.012 * span * (i - (len(lines) - 1) / 2)  # so that intervals do not hide each other
    known = [p for p in points if p['value'] is not None]
    x, y = [place[p['images']] + aside for p in known], [100 * p['value'] for p in known]
    axes.plot(x, y, line, linewidth=1.3, markersize=4.5, label=model_title(model), **style)
    sure = [(at, p) for at, p in zip(x, known, strict=True) if p['low'] is not None]
    axes.vlines(
      [at for at, _ in sure],
      [100 * p['low'] for _, p in sure],
      [100 * p['high'] for _, p in sure],
      color=style['color'],
      linewidth=1,
      alpha=0.7,
    )
    if paper_points := theirs.get(model):
      xs = [place[n] + aside for n in paper_points]
      hollow: dict[str, Any] = {'markerfacecolor': 'none', 'markersize': 6, 'alpha': 0.8}
      axes.plot(xs, list(paper_points.values()), linestyle='', **style, **hollow)
  if any(theirs.values()):
    axes.plot([], [], 'o', color=theme.muted, markerfacecolor='none', label='hollow: the paper')
  labels = _readable(numbers, place, span / 9)
  axes.set_xticks([place[n] for n in numbers], labels, rotation=30, ha='right', rotation_mode='anchor')
  axes.set_xlabel('number of synthetic images (log scale)')
  axes.set_ylabel('test accuracy (%)')
  drawing.legend(loc='outside lower center', ncols=2, labelcolor=theme.ink)
  return drawing


def _readable(numbers: list[int], place: dict[int, float], apart: float) -> list[str]:
  """Labels of the ticks, '' for those too near to one that has a label; the last one has."""
  labels, last = [''] * len(numbers), np.inf
  for i, n in reversed(list(enumerate(numbers))):
    if last - place[n] >= apart:
      labels[i], last = f'{n:,}', place[n]
  return labels
