"""Test accuracy of all models in all regimes, beside the paper's."""

import math
from typing import TYPE_CHECKING, Any

from fetal_jax.report import paper
from fetal_jax.report.charts import OTHER_STYLE, REGIME_STYLES, Theme, chart, new_axes
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
from fetal_jax.train.regimes import CONTROL, REGIMES

if TYPE_CHECKING:
  from matplotlib.figure import Figure

_WHAT_REGIMES_ARE = {
  'real': 'The real training images, rotated and flipped at random. What everything else is measured against.',
  'synth_r1': 'No real image at all: the synthetic images of round 1. How much of the task the generator has caught.',
  'synth_r1_then_real': 'Starts from the weights of the regime on round 1 alone, then trains on the real images.',
  'synth_r1_plus_real': 'Real images and those of round 1 in one training set.',
  'synth_r12': 'The synthetic images of both rounds, no real one.',
  'synth_r12_then_real': 'Starts from the weights of the regime on both rounds, then trains on the real images.',
  CONTROL: 'A control that the paper does not have: starts from the weights of the regime on real images, and trains on '
  'them again. What of a gain is longer training.',
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
    f'{model_title(model)}, {lower_first(regime_title(regime, run.rounds))}.'
  ]
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
  """Returns the accuracies of every model in every regime, with the paper's beneath; its own alone where not run."""
  grouped = groups(run.runs)
  families = {paper.MODELS[model].table for model in grouped if model in paper.MODELS}
  lacking = [
    m for m in paper.MODELS if paper.MODELS[m].table not in families and m not in ('medmamba_s', 'medmamba_b')
  ]
  models = sorted([*grouped, *lacking], key=lambda model: order(model, ''))
  regimes = [*REGIMES, *sorted({r for by_regime in grouped.values() for r in by_regime} - set(REGIMES))]
  rows = []
  for model in models:
    ours = grouped.get(model, {})
    best = best_regime(ours)
    row = [Cell(model_title(model), small='' if ours else 'not run here')]
    for regime in regimes:
      value = percent(mean_and_sd(SCORES['accuracy'](one) for one in ours.get(regime, [])))
      theirs = paper_accuracy(model, regime)
      row.append(Cell(value, small='' if theirs == DASH else f'paper {theirs}', best=regime == best))
    rows.append(row)
  seeds = max(len(runs) for by_regime in grouped.values() for runs in by_regime.values())
  notes = [
    f'Test accuracy in percent{f", mean ± standard deviation over {seeds} seeds" if seeds > 1 else ", one seed"}; '
    f'bold: the best of the row. {protocol(run)}'
  ]
  columns = ['Model', *(regime_title(regime, run.rounds) for regime in regimes)]
  return Table('overview', 'Test accuracy of all models', columns, rows, notes)


def paper_accuracy(model: str, regime: str) -> str:
  """Returns the paper's test accuracy in percent, or a dash."""
  value = paper.MODELS[model].accuracy.get(regime) if model in paper.MODELS else None
  return DASH if value is None else f'{value:.1f}'


def _regimes(run: Run) -> list[tuple[str, str, str]]:
  """Returns title, the paper's words and meaning of the regimes that were run."""
  ran = {one.regime for one in run.runs}
  return [
    (
      regime_title(regime, run.rounds),
      f'paper: {paper.REGIMES[regime]}' if regime in paper.REGIMES else '',
      _WHAT_REGIMES_ARE[regime],
    )
    for regime in (*REGIMES, CONTROL)
    if regime in ran
  ]


def picture(run: Run) -> Picture:
  """Draws test accuracy by model and regime beside the paper's."""
  said = [
    f'{model_title(model)}: '
    + ', '.join(
      f'{regime} {percent(mean_and_sd(SCORES["accuracy"](one) for one in runs))} %'
      for regime, runs in by_regime.items()
    )
    for model, by_regime in groups(run.runs).items()
  ]
  alt = f'Test accuracy by model and regime. {"; ".join(said)}.'
  caption = 'Test accuracy by model and regime. Filled: this run, bars one standard deviation over seeds. Hollow: the paper.'
  return chart('accuracy', alt, caption, figure, run)


def figure(run: Run, theme: Theme) -> 'Figure':
  """Draws this run's means by model and regime (bars: ± one standard deviation) over the paper's."""
  grouped = groups(run.runs)
  regimes = sorted({r for by in grouped.values() for r in by}, key=lambda regime: order('', regime))
  figure, axes = new_axes(4.8, 0.9 + 0.55 * len(grouped) + 0.19 * (len(regimes) + 1))
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
      theirs = paper.MODELS[model].accuracy.get(regime) if model in paper.MODELS else None
      if theirs is not None:
        axes.plot(theirs, row + 0.2, **style, **hollow)
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
