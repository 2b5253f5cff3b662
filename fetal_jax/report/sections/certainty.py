"""How sure one can be: verdicts, differences with intervals, tests, calibration, all scores, and accuracy by group of images."""

from fetal_jax.evaluate.comparisons import BASELINE
from fetal_jax.evaluate.paired import RegimeComparison
from fetal_jax.evaluate.verdict import Verdict
from fetal_jax.report import pixel_rows, sizes, verdicts
from fetal_jax.report.estimates import (
  difference_cell,
  mcnemar_cell,
  resampled,
  score_cell,
  too_narrow,
  unit_of_run,
)
from fetal_jax.report.format import brackets, interval, percent, points
from fetal_jax.report.groups import SCORES, mean_and_sd, with_start
from fetal_jax.report.names import lower_first, model_title, order, regime_title
from fetal_jax.report.page import DASH, Block, Cell, Fold, Section, Table, Text
from fetal_jax.report.run import Run
from fetal_jax.report.sections import calibration
from fetal_jax.train.regimes import CONTROL

_SCORES = {
  'accuracy': ('Accuracy', 100, 1),
  'balanced_accuracy': ('Balanced accuracy', 100, 1),
  'macro_f1': ('Macro F1', 100, 1),
  'auroc': ('AUROC', 1, 3),
  'brier': ('Brier score', 1, 3),
}
_FLAT = {True: 'converged', False: 'still rising', None: 'too few epochs'}
_VERDICT_NOTE = (
  'Percentage points with 95 % intervals, one model at a time and not corrected for their number. A verdict other than '
  '"cannot be said" needs a control that took as many optimiser steps on real images alone, a training on real images '
  'alone that has converged and beats every classifier of raw pixels, known patients, and three seeds (docs/verdicts.md).'
)
_GROUPINGS = {'machine': 'US machine', 'operator': 'Operator', 'brain_plane': 'Brain plane'}


def section(run: Run) -> Section | None:
  """Tells how sure the differences and the scores are; None without predictions."""
  every_score = scores(run)
  if every_score is None:
    return None
  blocks: list[Block] = []
  if table := verdict_table(run):
    blocks.append(table)
  changes = differences(run)
  if changes is None:
    blocks.append(
      Text('No model has both real images alone and another regime: there is nothing to compare.')
    )
  else:
    if longer := longer_training(run):
      blocks.append(Text(longer, callout=True))
    blocks.append(changes)
  blocks += calibration.blocks(run)
  blocks.append(Fold('All scores with their intervals', [every_score]))
  if tests := mcnemar(run):
    blocks.append(Fold("McNemar's test", [tests]))
  if groups := subgroups(run):
    blocks.append(Fold('By US machine, operator and brain plane', groups))
  return Section('certainty', 'How sure', blocks, nav='How sure')


def longer_training(run: Run) -> str:
  """Says where runs with synthetic images took more optimiser steps than those without; '' where none did.

  The steps of the run that a run starts from count too.
  """
  steps = with_start(run.runs, 'steps')
  ratios = []
  for one in run.runs:
    real = steps.get((one.model, BASELINE, one.seed))
    if real and one.regime not in (BASELINE, CONTROL) and one.real_images:
      ratios.append(steps[one.model, one.regime, one.seed] / real)
  if max(ratios, default=1) < 1.1:
    return ''
  said = (
    f'Regimes with synthetic and real images took up to {max(ratios):.1f} times the optimiser steps of real images alone, '
    'their pretraining included: part of a gain may be that of longer training.'
  )
  control = run.comparisons.control
  if control is None:
    return f'{said} The regime {CONTROL} would tell.'
  title = lower_first(regime_title(control.regime, run.rounds))
  models = len(control.models)
  return (
    f'{said} Against the control, which trains on real images alone instead of pretraining, "{title}" is '
    f'{points(control.value)} (95 % interval {interval(control)}), the mean over {models} model{"s" * (models > 1)}.'
  )


def verdict_table(run: Run) -> Table | None:
  """Shows the verdict on each model and on all, and what each rests on; None without a comparison."""
  evidence, best = verdicts.evidence(run), verdicts.best_of_pixels(run)
  if not evidence:
    return None
  pixels = f'raw pixels: {100 * best.accuracy:.1f} ({best.name})' if best else 'raw pixels: not known'
  rows = []
  for model, known in evidence.items():
    control = run.comparisons.controls.get(model)
    real = [one for one in run.runs if (one.model, one.regime) == (model, BASELINE)]
    rows.append(
      [
        Cell(model_title(model)),
        _verdict_cell(verdicts.of_model(run, model)),
        difference_cell(control) if control else Cell(DASH, small='no control'),
        Cell(DASH if known.steps is None else f'{known.steps:.2f}'),
        Cell(percent(mean_and_sd(SCORES['accuracy'](one) for one in real)), small=pixels),
        Cell(_FLAT[known.converged]),
        Cell(str(known.seeds)),
      ]
    )
  if len(evidence) > 1:
    control = run.comparisons.control
    mean = difference_cell(control) if control else Cell(DASH, small='no control')
    rows.append([Cell('All, mean'), _verdict_cell(verdicts.of_all(run)), mean, *[Cell(DASH)] * 4])
  columns = ['Model', 'Verdict', 'Against the control', 'Steps: control over regime']
  columns += ['Real images only (%)', 'Its training', 'Seeds']
  title = 'Verdict on synthetic data by model'
  return Table('verdicts', title, columns, rows, [_VERDICT_NOTE], text_columns=2)


def _verdict_cell(found: Verdict) -> Cell:
  lacks = ', '.join(dict.fromkeys(verdicts.SHORT[lack] for lack in found.lacks))
  return Cell(found.word.value, small=f'lacks: {lacks}' if lacks else '', best=not lacks)


def differences(run: Run) -> Table | None:
  """Shows the change in test accuracy from real images alone: a row a model, a column a regime; None without any."""
  models = _with_baseline(run)
  regimes = _regimes(models)
  if not regimes:
    return None
  rows = []
  for model, compared in models.items():
    real = compared.regimes[BASELINE].scores['accuracy']
    row = [sizes.title_cell(run, model, f'real images: {100 * (real.value or 0):.1f} %')]
    for regime in regimes:
      found = compared.regimes.get(regime)
      known = found and found.difference
      row.append(difference_cell(known['accuracy'], found.p_value) if found and known else Cell(DASH))
    rows.append(row)
  first = next(iter(models.values()))
  notes = [
    f'Percentage points, with {100 * first.level:.0f} % intervals ({first.resamples:,} resamples of '
    f'{resampled(first.patients, first.images)}) and p of the exchange test. '
    'Highlighted: the interval leaves out 0.',
    *first.notes,
  ]
  title = 'Difference in test accuracy to real images only'
  return Table('differences', title, _columns(run, regimes), rows, notes)


def mcnemar(run: Run) -> Table | None:
  """Shows how many images only one of two classifiers has right, and McNemar's p; None without any to compare."""
  models = _with_baseline(run)
  regimes = _regimes(models)
  if not regimes:
    return None
  rows = []
  for model, compared in models.items():
    found = [compared.regimes.get(regime) for regime in regimes]
    rows.append(
      [sizes.title_cell(run, model), *(mcnemar_cell(one.mcnemar if one else None) for one in found)]
    )
  note = 'Test images that only the classifier of real images has right : that only the other has right, seed by seed.'
  title = "McNemar's test against real images only"
  return Table('mcnemar', title, _columns(run, regimes), rows, [note])


def scores(run: Run) -> Table | None:
  """Shows every score of every model and regime with its interval; None without predictions."""
  rows = []
  for model, compared in run.comparisons.models.items():
    for regime, found in compared.regimes.items():
      title = sizes.title_cell(run, model, regime_title(regime, run.rounds))
      cells = [score_cell(found.scores[name], scale, digits) for name, (_, scale, digits) in _SCORES.items()]
      rows.append([title, *cells])
  if not rows:
    return None
  note = (
    f'In brackets: 95 % intervals by bootstrap over {unit_of_run(run)}; ±: standard deviation over seeds. Accuracy, balanced '
    f'accuracy and macro F1 in percent; the Brier score runs from 0, perfect, to 2.{too_narrow(run)}'
  )
  columns = ['Model and regime', *(title for title, _, _ in _SCORES.values())]
  rows += pixel_rows.rows(run, columns, {_SCORES[key][0]: key for key in ('accuracy', 'balanced_accuracy')})
  return Table('scores', 'All scores with their intervals', columns, rows, [note, *pixel_rows.note(run)])


def subgroups(run: Run) -> list[Table]:
  """Shows a table a model: accuracy by US machine, operator and brain plane, for real images alone and the best regime."""
  tables = []
  for model, by_regime in run.comparisons.groups.items():
    regimes, rows = list(by_regime), []
    for by, title in _GROUPINGS.items():
      found = {regime: {row.name: row for row in by_regime[regime][by]} for regime in regimes}
      first = found[regimes[0]]
      if not any(first):
        continue  # known of no image
      for name, about in first.items():
        cells = [
          Cell(f'{title}: {name or "unknown"}'),
          Cell(f'{about.n:,}'),
          Cell(DASH if about.patients is None else f'{about.patients:,}'),
        ]
        for row in (found[regime][name] for regime in regimes):
          cells.append(Cell(f'{100 * (row.accuracy or 0):.1f}', small=brackets(row, 100, 1) or row.why))
        rows.append(cells)
    if rows:
      columns = ['Group', 'Images', 'Patients', *(regime_title(r, run.rounds) for r in regimes)]
      note = 'Accuracy in percent, mean over seeds; 95 % intervals of few patients are too narrow.'
      title = f'{sizes.titled(run, model)}: accuracy by group of images'
      tables.append(Table(f'groups-{model}', title, columns, rows, [note]))
  return tables


def _with_baseline(run: Run) -> dict[str, RegimeComparison]:
  return {model: found for model, found in run.comparisons.models.items() if found.baseline}


def _regimes(models: dict[str, RegimeComparison]) -> list[str]:
  """Returns the regimes that are compared with the baseline, in the page's order."""
  regimes = {regime for compared in models.values() for regime in compared.regimes} - {BASELINE}
  return sorted(regimes, key=lambda regime: order('', regime))


def _columns(run: Run, regimes: list[str]) -> list[str]:
  return ['Model', *(regime_title(regime, run.rounds) for regime in regimes)]
