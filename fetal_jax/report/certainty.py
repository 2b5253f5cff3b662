"""Tables of how sure one can be: differences with intervals, tests, scores, subgroups, calibration."""

import statistics
from typing import Any

from fetal_jax.report import comparisons, summary
from fetal_jax.report.run import model_title, order
from fetal_jax.report.tables import DASH, Cell, Table

_GROUPINGS = {'machine': 'US machine', 'operator': 'Operator', 'brain_plane': 'Brain plane'}


def differences(results: dict[str, Any]) -> Table | None:
  """Change in test accuracy from real images alone: a row a model, a column a regime; None without any."""
  models = _with_baseline(results)
  regimes = _regimes(models)
  if not regimes:
    return None
  rows = []
  for model, compared in models.items():
    real = compared['regimes'][comparisons.BASELINE]['scores']['accuracy']
    row = [Cell(model_title(model), small=f'real images: {100 * real["value"]:.1f} %')]
    for regime in regimes:
      found = compared['regimes'].get(regime)
      row.append(difference_cell(found['difference']['accuracy'], found['p_value']) if found else Cell(DASH))
    rows.append(row)
  first = next(iter(models.values()))
  notes = [
    f'Percentage points, with {100 * first["level"]:.0f} % intervals ({first["resamples"]:,} resamples of '
    f'{first["patients"]:,} patients, {first["images"]:,} images) and p of the exchange test. '
    'Highlighted: the interval leaves out 0.',
    *first['notes'],
  ]
  columns = ['Model', *(summary.regime_title(regime, results['rounds']) for regime in regimes)]
  return Table('differences', 'Difference in test accuracy to real images only', columns, rows, notes)


def mcnemar(results: dict[str, Any]) -> Table | None:
  """Images that only one of both has right, and McNemar's p, by pairs of seeds."""
  models = _with_baseline(results)
  regimes = _regimes(models)
  if not regimes:
    return None
  rows = []
  for model, compared in models.items():
    row = [Cell(model_title(model))]
    for regime in regimes:
      row.append(mcnemar_cell((compared['regimes'].get(regime) or {}).get('mcnemar')))
    rows.append(row)
  columns = ['Model', *(summary.regime_title(regime, results['rounds']) for regime in regimes)]
  note = 'Test images that only the classifier of real images has right : that only the other has right, seed by seed.'
  return Table('mcnemar', "McNemar's test against real images only", columns, rows, [note])


_SCORES = {
  'accuracy': ('Accuracy', 100, 1),
  'balanced_accuracy': ('Balanced accuracy', 100, 1),
  'macro_f1': ('Macro F1', 100, 1),
  'auroc': ('AUROC', 1, 3),
  'brier': ('Brier score', 1, 3),
}


def scores(results: dict[str, Any]) -> Table | None:
  """Every score of every model and regime with its interval."""
  rows = []
  for model, compared in results['comparisons']['models'].items():
    for regime, found in compared['regimes'].items():
      title = Cell(model_title(model), small=summary.regime_title(regime, results['rounds']))
      cells = []
      for metric, (_, scale, digits) in _SCORES.items():
        cells.append(score_cell(found['scores'][metric], scale, digits))
      rows.append([title, *cells])
  if not rows:
    return None
  note = (
    'In brackets: 95 % intervals by bootstrap over patients; ±: standard deviation over seeds. Accuracy, balanced '
    'accuracy and macro F1 in percent; the Brier score runs from 0, perfect, to 2.'
  )
  columns = ['Model and regime', *(title for title, _, _ in _SCORES.values())]
  return Table('scores', 'All scores with their intervals', columns, rows, [note])


def subgroups(results: dict[str, Any]) -> list[Table]:
  """For each model: accuracy by US machine, operator and brain plane, on real images alone and in its best regime."""
  tables = []
  for model, by_regime in results['comparisons']['groups'].items():
    regimes, rows = list(by_regime), []
    for by, title in _GROUPINGS.items():
      found = {regime: {row['name']: row for row in by_regime[regime][by]} for regime in regimes}
      names = list(found[regimes[0]])
      if not any(names):
        continue  # known of no image
      for name in names:
        first = found[regimes[0]][name]
        cells = [Cell(f'{first["n"]:,}'), Cell(f'{first["patients"]:,}')]
        for regime in regimes:
          row = found[regime][name]
          cells.append(Cell(f'{100 * row["accuracy"]:.1f}', small=interval(row, 100, 1) or row['why']))
        rows.append([Cell(f'{title}: {name or "unknown"}'), *cells])
    if rows:
      columns = [
        'Group',
        'Images',
        'Patients',
        *(summary.regime_title(r, results['rounds']) for r in regimes),
      ]
      note = 'Accuracy in percent, mean over seeds; 95 % intervals of few patients are too narrow.'
      title = f'{model_title(model)}: accuracy by group of images'
      tables.append(Table(f'groups-{model}', title, columns, rows, [note]))
  return tables


def calibration(results: dict[str, Any]) -> Table | None:
  """Whether classifiers are right as often as they say: confidence, accuracy, ECE and Brier score."""
  rows = []
  for model, by_regime in summary.groups(results['runs']).items():
    for regime in shown_regimes(by_regime):
      runs = [run for run in by_regime[regime] if (run['scores'] or {}).get('reliability')]
      if not runs:
        continue
      means = {
        key: summary.mean_and_sd([run['scores'][key] for run in runs]) for key in ('accuracy', 'ece', 'brier')
      }
      confidence = statistics.fmean(mean_confidence(run['scores']['reliability']) for run in runs)
      known = results['comparisons']['models'].get(model, {}).get('regimes', {}).get(regime)
      brier = interval(known['scores']['brier'], 1, 3) if known else ''
      ece_sd = means['ece'] and means['ece'][1]
      rows.append(
        [
          Cell(model_title(model), small=summary.regime_title(regime, results['rounds'])),
          Cell(f'{100 * confidence:.1f}'),
          Cell(f'{100 * means["accuracy"][0]:.1f}' if means['accuracy'] else DASH),
          Cell(
            f'{100 * means["ece"][0]:.1f}' if means['ece'] else DASH,
            small=f'±\u00a0{100 * ece_sd:.1f}' if ece_sd is not None else '',
          ),
          Cell(f'{means["brier"][0]:.3f}' if means['brier'] else DASH, small=brier),
        ]
      )
  if not rows:
    return None
  note = (
    'Mean over seeds. Confidence is the mean probability of the predicted class; above the accuracy, a classifier is too '
    'sure. ECE (15 bins of equal width, percent) is above 0 by chance alone where images are few, hence no interval.'
  )
  columns = ['Model and regime', 'Confidence', 'Accuracy', 'ECE', 'Brier score']
  return Table('calibration', 'Calibration', columns, rows, [note])


def mean_confidence(reliability: list[dict[str, Any]]) -> float:
  """Of all images of a reliability diagram."""
  return sum(b['count'] * b['confidence'] for b in reliability if b['count']) / sum(
    b['count'] for b in reliability
  )


def shown_regimes(by_regime: dict[str, list[dict[str, Any]]]) -> list[str]:
  """Real images alone and the best regime with synthetic ones, those that ran."""
  wanted = ['real', summary.best_regime(by_regime, synthetic_only=True)]
  return [regime for regime in wanted if regime in by_regime]


def _with_baseline(results: dict[str, Any]) -> dict[str, dict[str, Any]]:
  return {m: found for m, found in results['comparisons']['models'].items() if found['baseline']}


def _regimes(models: dict[str, dict[str, Any]]) -> list[str]:
  regimes = {r for compared in models.values() for r in compared['regimes']} - {comparisons.BASELINE}
  return sorted(regimes, key=lambda regime: order('', regime))


def difference_cell(change: dict[str, Any], p: float | None = None) -> Cell:
  """A difference in percentage points with its interval and p; highlighted where the interval leaves out 0."""
  clear = change['low'] is not None and (change['low'] > 0 or change['high'] < 0)
  small = _signed_interval(change) + (f' · p\u00a0{p_value(p)}' if p is not None else '')
  return Cell(summary.signed(change['value']), small=small, best=clear)


def mcnemar_cell(tests: list[dict[str, Any]] | None) -> Cell:
  """The counts and p of McNemar's test, seed by seed."""
  if not tests:
    return Cell(DASH)
  counts = ', '.join(f'{t["only_baseline"]} : {t["only_regime"]}' for t in tests)
  return Cell(counts, small=f'p {", ".join(p_value(t["p_value"]) for t in tests)}')


def score_cell(score: dict[str, Any], scale: float = 100, digits: int = 1) -> Cell:
  """A score with its interval and its standard deviation over seeds."""
  if score['value'] is None:
    return Cell(DASH, small=score['why'])
  spread = f' · ±\u00a0{scale * score["sd"]:.{digits}f}' if score['sd'] is not None else ''
  return Cell(f'{scale * score["value"]:.{digits}f}', small=interval(score, scale, digits) + spread)


def interval(found: dict[str, Any], scale: float, digits: int) -> str:
  """The interval of a score in brackets; '' if there is none."""
  if found['low'] is None:
    return ''
  return f'[{scale * found["low"]:.{digits}f},\u00a0{scale * found["high"]:.{digits}f}]'


def _signed_interval(found: dict[str, Any]) -> str:
  if found['low'] is None:
    return found['why']
  return f'[{summary.signed(found["low"])},\u00a0{summary.signed(found["high"])}]'


def p_value(p: float) -> str:
  """A p as people read it."""
  return '<\u00a00.001' if p < 0.001 else f'{p:.3f}' if p < 0.1 else f'{p:.2f}'
