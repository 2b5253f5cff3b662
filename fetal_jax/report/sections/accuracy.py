"""Test accuracy of all models in all regimes, beside that of raw pixels, and the paper's where it compares."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fetal_jax.report import paper, pixel_rows, sizes
from fetal_jax.report.charts import OTHER_STYLE, REGIME_STYLES, Theme, chart, new_axes
from fetal_jax.report.classifier_runs import ClassifierRun
from fetal_jax.report.format import percent, points
from fetal_jax.report.groups import SCORES, best_regime, groups, mean_accuracy, mean_and_sd
from fetal_jax.report.names import lower_first, model_title, order, regime_title
from fetal_jax.report.page import (
  DASH,
  Beside,
  Block,
  Cell,
  Heading,
  Picture,
  Pictures,
  Section,
  Table,
  Terms,
  Text,
)
from fetal_jax.report.run import Run
from fetal_jax.report.sections.summary import best_of_all
from fetal_jax.report.sizes import Standing
from fetal_jax.train.regimes import CONTROL, REGIMES

if TYPE_CHECKING:
  from matplotlib.figure import Figure

# {regime: a run a seed}
ByRegime = Mapping[str, Sequence[ClassifierRun]]

_WHAT_REGIMES_ARE = {
  'real': 'The real training images, rotated and flipped at random. What everything else is measured against.',
  'synth_r1': 'No real image at all: the synthetic images of round 1. How much of the task the generator has caught.',
  'synth_r1_then_real': 'Starts from the weights of the regime on round 1 alone, then trains on the real images.',
  'synth_r1_plus_real': 'Real images and those of round 1 in one training set.',
  'synth_r12': 'The synthetic images of both rounds, no real one.',
  'synth_r12_then_real': 'Starts from the weights of the regime on both rounds, then trains on the real images.',
  CONTROL: 'A control that the paper does not have: goes on from the weights of the regime on real images, for as many '
  'optimiser steps as the pretraining on the synthetic images of both rounds takes.',
}
_PROTOCOLS = {
  'honest': 'The epoch was chosen on validation patients held out of training, never on the test set.',
  'paper': 'The epoch was chosen on the test set, as in the paper, which flatters every accuracy.',
}


def section(run: Run) -> Section | None:
  """Shows the accuracy of every model in every regime; None without runs of the main regimes."""
  if not groups(run.runs):
    return None
  said: list[Block] = [Text(sentence) for sentence in best_of_many(run)]
  blocks: list[Block] = [
    Beside([Pictures([picture(run)], style='wide'), *said]),
    overview(run),
    Heading('What each regime is'),
    Terms(_regimes(run), style='regimes'),
  ]
  return Section('accuracy', 'Accuracy', blocks, nav='Accuracy')


def best_of_many(run: Run) -> list[str]:
  """Returns the best accuracy and each model's best synthetic regime, and why such a choice flatters."""
  best, rows = best_of_all(run), gains(run)
  if best is None:
    return []
  model, regime, value = best
  n = max((one.scores.n for one in run.runs if one.scores), default=0)
  runs = groups(run.runs)[model][regime]
  seeds = f'mean of {len(runs)} seeds' if len(runs) > 1 else 'one seed'
  sentences = [
    f'The best test accuracy is {100 * value:.1f} %{f" of {n:,} test images" if n else ""} ({seeds}): '
    f'{sizes.titled(run, model)}, {lower_first(regime_title(regime, run.rounds))}.'
  ]
  sentences += pixel_rows.sentence(run)
  if rows:
    better = sum(after > before for _, before, after in rows)
    listed = '; '.join(
      f'{model_title(name)} {100 * before:.1f} → {100 * after:.1f} % ({points(after - before)})'
      for name, before, after in rows
    )
    sentences.append(
      f'Against real images alone, the best regime with synthetic images was better for {better} of {len(rows)} '
      f'model{"s" * (len(rows) > 1)}: {listed}. It was picked after the fact, which flatters it: the comparison that '
      'opens this page was fixed beforehand.'
    )
  return sentences


def gains(run: Run) -> list[tuple[str, float, float]]:
  """Returns (model, accuracy on real images alone, accuracy in its best synthetic regime) of models that have both."""
  rows = []
  for model, regimes in groups(run.runs).items():
    best = best_regime(regimes, synthetic_only=True)
    if 'real' in regimes and best is not None:
      before, after = mean_accuracy(regimes['real']), mean_accuracy(regimes[best])
      if math.isfinite(before) and math.isfinite(after):
        rows.append((model, before, after))
  return rows


def protocol(run: Run) -> str:
  """Says how the epoch was chosen."""
  said = ' '.join(_PROTOCOLS[p] for p in sorted({one.protocol for one in run.runs}) if p in _PROTOCOLS)
  known = run.data is None or run.data.patients_known
  return said if known else said.replace('validation patients', 'validation images')


def overview(run: Run) -> Table:
  """Returns the accuracies of every model in every regime, and of raw pixels.

  The paper's stand beneath them, or in a last column, see `sizes.standing`.
  """
  grouped = groups(run.runs)
  regimes = [*REGIMES, *sorted({r for by_regime in grouped.values() for r in by_regime} - set(REGIMES))]
  columns = ['Model', *(regime_title(regime, run.rounds) for regime in regimes)]
  models = sorted([*grouped, *_lacking(run)], key=lambda model: order(model, ''))
  rows = [_overview_row(run, model, regimes, grouped.get(model, {})) for model in models]
  pixels = pixel_rows.rows(run, columns, {regime_title('real', run.rounds): 'accuracy'})
  if any(sizes.standing(run, model) is Standing.APART for model in models):
    columns.append(sizes.APART_HEAD)
    rows = [[*row, _apart(run, model)] for row, model in zip(rows, models, strict=True)]
    pixels = [[*row, Cell(DASH)] for row in pixels]
  seeds = max(len(runs) for by_regime in grouped.values() for runs in by_regime.values())
  notes = [
    f'Test accuracy in percent{f", mean ± standard deviation over {seeds} seeds" if seeds > 1 else ", one seed"}; '
    f'bold: the best of the row. {protocol(run)}',
    *pixel_rows.note(run),
  ]
  return Table('overview', 'Test accuracy of all models', columns, rows + pixels, notes)


def _lacking(run: Run) -> list[str]:
  """Returns models of the paper that were not run; none where its figures may not stand beside those of the run."""
  ran = groups(run.runs)
  if not all(sizes.standing(run, model) is Standing.BESIDE for model in ran if model in paper.MODELS):
    return []
  families = {paper.MODELS[model].table for model in ran if model in paper.MODELS}
  return [
    model
    for model, theirs in paper.MODELS.items()
    if theirs.table not in families
    and model not in ('medmamba_s', 'medmamba_b')
    and sizes.standing(run, model) is Standing.BESIDE
  ]


def _overview_row(run: Run, model: str, regimes: list[str], ours: ByRegime) -> list[Cell]:
  best = best_regime(ours)
  row = [sizes.title_cell(run, model, '' if ours else 'not run here')]
  for regime in regimes:
    value = percent(mean_and_sd(SCORES['accuracy'](one) for one in ours.get(regime, [])))
    theirs = paper_accuracy(model, regime) if sizes.standing(run, model) is Standing.BESIDE else DASH
    row.append(Cell(value, small='' if theirs == DASH else f'paper {theirs}', best=regime == best))
  return row


def _apart(run: Run, model: str) -> Cell:
  """Returns the paper's accuracies for a model that differs from its own: on real images, and at best."""
  if sizes.standing(run, model) is not Standing.APART:
    return Cell(DASH)
  best = max(paper.MODELS[model].accuracy.values())
  return Cell(paper_accuracy(model, 'real'), small=f'real images; best of its regimes {best:.1f}')


def paper_accuracy(model: str, regime: str) -> str:
  """Returns the paper's test accuracy in percent, or a dash."""
  value = paper.MODELS[model].accuracy.get(regime) if model in paper.MODELS else None
  return DASH if value is None else f'{value:.1f}'


def _regimes(run: Run) -> list[tuple[str, str, str]]:
  """Returns title, the paper's words (where the data are the paper's) and meaning of the regimes that were run."""
  ran = {one.regime for one in run.runs}
  in_paper = any(sizes.standing(run, one.model) is not Standing.NOWHERE for one in run.runs)
  return [
    (
      regime_title(regime, run.rounds),
      f'paper: {paper.REGIMES[regime]}' if in_paper and regime in paper.REGIMES else '',
      _WHAT_REGIMES_ARE[regime],
    )
    for regime in (*REGIMES, CONTROL)
    if regime in ran
  ]


def picture(run: Run) -> Picture:
  """Draws test accuracy by model and regime, over that of raw pixels and beside the paper's where this may be."""
  said = [
    f'{model_title(model)}: '
    + ', '.join(
      f'{regime} {percent(mean_and_sd(SCORES["accuracy"](one) for one in runs))} %'
      for regime, runs in by_regime.items()
    )
    for model, by_regime in groups(run.runs).items()
  ]
  said += [f'{one.name} on raw pixels: {100 * one.accuracy:.1f} %' for one in run.pixel_baselines or ()]
  alt = f'Test accuracy by model and regime. {"; ".join(said)}.'
  caption = 'Test accuracy by model and regime; bars: one standard deviation over seeds.'
  if run.pixel_baselines:
    caption += ' Lines: classifiers of raw pixels, no network.'
  if any(_in_figure(run, model) for model in groups(run.runs)):
    caption += ' Hollow: the paper.'
  if sizes.summed(run):
    caption += f' Networks are {sizes.summed(run)}.'
  return chart('accuracy', alt, caption, figure, run)


def _in_figure(run: Run, model: str) -> dict[str, float]:
  """Returns the paper's accuracies that are drawn beside those of a model."""
  return paper.MODELS[model].accuracy if sizes.standing(run, model) is Standing.BESIDE else {}


def figure(run: Run, theme: Theme) -> 'Figure':
  """Draws this run's means by model and regime (bars: ± one standard deviation), the paper's, and lines for raw pixels."""
  grouped = groups(run.runs)
  regimes = sorted({r for by in grouped.values() for r in by}, key=lambda regime: order('', regime))
  in_legend = len(regimes) + len(run.pixel_baselines or ()) + 1
  figure, axes = new_axes(4.8, 0.9 + 0.55 * len(grouped) + 0.19 * in_legend)
  axes.grid(axis='y', visible=False)
  axes.grid(axis='x')
  hollow: dict[str, Any] = {'linestyle': '', 'markersize': 5, 'markerfacecolor': 'none', 'alpha': 0.8}
  handles = []
  for regime in regimes:
    colour, _, marker = REGIME_STYLES.get(regime, OTHER_STYLE)
    style: dict[str, Any] = {'marker': marker, 'color': colour or theme.ink}
    handles += axes.plot([], [], linestyle='', label=regime_title(regime, run.rounds), **style)
    for row, (model, by_regime) in enumerate(grouped.items()):
      found = mean_and_sd(SCORES['accuracy'](one) for one in by_regime.get(regime, []))
      if found is not None:
        sd = 100 * found[1] if found[1] is not None else None
        axes.errorbar(100 * found[0], row - 0.12, xerr=sd, markersize=6.5, capsize=2, elinewidth=1, **style)
      if (theirs := _in_figure(run, model).get(regime)) is not None:
        axes.plot(theirs, row + 0.2, **style, **hollow)
  handles += pixel_rows.lines(run, axes, theme)
  if any(_in_figure(run, model) for model in grouped):
    handles += axes.plot([], [], marker='o', color=theme.muted, label='hollow: the paper', **hollow)
  for row in range(len(grouped)):
    axes.axhline(row, color=theme.grid, linewidth=0.8, zorder=0)
  axes.set_yticks(range(len(grouped)), [model_title(model) for model in grouped])
  axes.tick_params(axis='y', length=0, labelcolor=theme.ink)
  axes.set_ylim(len(grouped) - 0.5, -0.5)
  axes.set_xlabel('test accuracy (%)')
  axes.spines['left'].set_visible(False)
  figure.legend(handles=handles, loc='outside lower center', labelcolor=theme.ink)
  return figure
