"""The report's tables as plain cells, so that HTML and Markdown show the same ones; and the CSV of all runs."""

import csv
import dataclasses
import io
from typing import Any

from fetal_jax.report import paper, summary
from fetal_jax.report.run import model_title, order
from fetal_jax.runtime import units
from fetal_jax.train.regimes import REGIMES

DASH = '–'


@dataclasses.dataclass(frozen=True)
class Cell:
  """One value: `text`, what stands small beneath it, and whether it is the best of its column."""

  text: str
  small: str = ''
  best: bool = False


@dataclasses.dataclass(frozen=True)
class Table:
  """A table whose first column heads its rows.

  Attributes:
    id: anchor on the page.
    title: the caption.
    columns: headings, one for each cell of a row.
    rows: cells.
    notes: sentences beneath it.
    text_columns: how many columns from the left hold text rather than numbers.
  """

  id: str
  title: str
  columns: list[str]
  rows: list[list[Cell]]
  notes: list[str] = dataclasses.field(default_factory=list)
  text_columns: int = 1


def percent(found: tuple[float, float | None] | None, digits: int = 1) -> str:
  """`mean_and_sd` of fractions as percent: '92.1', '92.1 ± 0.3' or a dash."""
  if found is None:
    return DASH
  mean, sd = found
  return f'{100 * mean:.{digits}f}' + (f' ± {100 * sd:.{digits}f}' if sd is not None else '')


def split_counts(results: dict[str, Any]) -> Table | None:
  """Table 1: images by class on each side, with the paper's."""
  data = results['data']
  if data is None:
    return None
  sides = [side for side, n in data['totals'].items() if n]
  rows = []
  for name in data['class_names']:
    known = paper.TABLE_1.get(name)
    theirs = [f'{n:,}' for n in known] if known else [DASH, DASH]
    rows.append([Cell(t) for t in (name, *(f'{data["images"][side][name]:,}' for side in sides), *theirs)])
  totals = [f'{data["totals"][side]:,}' for side in sides]
  theirs = [f'{sum(pair[i] for pair in paper.TABLE_1.values()):,}' for i in (0, 1)]
  rows.append([Cell(t) for t in ('all', *totals, *theirs)])
  patients = ', '.join(f'{side} {data["patients"][side]:,}' for side in sides)
  notes = [
    f'Patients: {patients}; {data["shared_patients"]:,} of those in test are also on the training side.'
  ]
  if set(data['class_names']) != set(paper.TABLE_1):
    notes.append('The classes of this run are not (all) those of the paper.')
  columns = ['Class', *(f'This run: {side}' for side in sides), 'Paper: train', 'Paper: test']
  return Table('table-1', 'Table 1 · Real images', columns, rows, notes)


def synthetic_counts(results: dict[str, Any]) -> Table | None:
  """Table 2: synthetic images by class and round, with the paper's."""
  rounds = results['rounds']
  if not rounds:
    return None
  names = list(dict.fromkeys(name for r in rounds for name in (r['counts'] or {})))
  each = [f'{paper.TABLE_2_PER_CLASS:,}'] * paper.TABLE_2_ROUNDS
  rows = []
  for name in names:
    ours = [f'{(r["counts"] or {}).get(name, 0):,}' for r in rounds]
    theirs = each if name in paper.TABLE_1 else [DASH] * paper.TABLE_2_ROUNDS
    rows.append([Cell(t) for t in (name, *ours, *theirs)])
  totals = [f'{sum((r["counts"] or {}).values()):,}' for r in rounds]
  whole = [f'{paper.TABLE_2_PER_CLASS * len(paper.TABLE_1):,}'] * paper.TABLE_2_ROUNDS
  rows.append([Cell(t) for t in ('all', *totals, *whole)])
  columns = [
    'Class',
    *(f'This run: round {r["round"]}' for r in rounds),
    *(f'Paper: round {k + 1}' for k in range(paper.TABLE_2_ROUNDS)),
  ]
  return Table('table-2', 'Table 2 · Synthetic images', columns, rows)


def overview(results: dict[str, Any]) -> Table | None:
  """Test accuracy of every model in every regime, with the paper's beneath; the paper's alone where not run."""
  grouped = summary.groups(results['runs'])
  if not grouped:
    return None
  families = {paper.MODELS[model].table for model in grouped if model in paper.MODELS}
  lacking = [
    m for m in paper.MODELS if paper.MODELS[m].table not in families and m not in ('medmamba_s', 'medmamba_b')
  ]
  models = sorted([*grouped, *lacking], key=lambda model: order(model, ''))
  regimes = [*REGIMES, *sorted({r for by in grouped.values() for r in by} - set(REGIMES))]
  rows = []
  for model in models:
    ours = grouped.get(model, {})
    best = summary.best_regime(ours)
    row = [Cell(model_title(model), small='' if ours else 'not run here')]
    for regime in regimes:
      value = percent(summary.mean_and_sd([summary.SCORES['accuracy'](run) for run in ours.get(regime, [])]))
      theirs = _paper_accuracy(model, regime)
      row.append(Cell(value, small='' if theirs == DASH else f'paper {theirs}', best=regime == best))
    rows.append(row)
  seeds = max(len(runs) for by in grouped.values() for runs in by.values())
  notes = [
    f'Test accuracy in percent{f", mean ± standard deviation over {seeds} seeds" if seeds > 1 else ", one seed"}; '
    f'bold: the best of the row. {protocol(results)}'
  ]
  columns = ['Model', *(summary.regime_title(regime, results['rounds']) for regime in regimes)]
  return Table('overview', 'Test accuracy of all models', columns, rows, notes)


def by_model(results: dict[str, Any]) -> list[Table]:
  """Tables 3 to 7: one a classifier, a row a regime."""
  return [_model_table(results, model, by) for model, by in summary.groups(results['runs']).items()]


def _model_table(results: dict[str, Any], model: str, by_regime: dict[str, list[dict[str, Any]]]) -> Table:
  regimes = sorted(
    {*by_regime, *(paper.REGIMES if model in paper.MODELS else ())}, key=lambda r: order(model, r)
  )
  names = next((classes(run) for runs in by_regime.values() for run in runs if run['scores']), [])
  real = summary.mean_accuracy(by_regime['real']) if 'real' in by_regime else None
  best = summary.best_regime(by_regime)
  compared = results['comparisons']['models'].get(model, {}).get('regimes', {})
  rows = []
  for regime in regimes:
    runs = by_regime.get(regime, [])
    found = {key: summary.mean_and_sd([score(run) for run in runs]) for key, score in summary.SCORES.items()}
    title = Cell(
      summary.regime_title(regime, results['rounds']), small=_trained_on(runs[0]) if runs else 'not run'
    )
    if not runs:
      rows.append([title, Cell(_paper_accuracy(model, regime)), *[Cell(DASH)] * (7 + len(names))])
      continue
    change = DASH
    if real is not None and found['accuracy'] and regime != 'real':
      change = summary.points(found['accuracy'][0] - real).removesuffix(' points')
    row = [
      title,
      Cell(_paper_accuracy(model, regime)),
      _with_interval(_percent_cell(found['accuracy'], best=regime == best), compared.get(regime)),
      Cell(change),
      _percent_cell(found['balanced_accuracy']),
      _percent_cell(found['macro_f1']),
      Cell(DASH if found['auroc'] is None else f'{found["auroc"][0]:.3f}', small=_sd(found['auroc'], 1, 3)),
    ]
    for k, name in enumerate(names):
      recall = summary.mean_and_sd(
        [run['scores'] and run['scores']['per_class'][k]['recall'] for run in runs]
      )
      known = paper.MODELS[model].recall.get(regime, {}).get(name) if model in paper.MODELS else None
      row.append(
        Cell(percent(recall and (recall[0], None)), small=f'paper {known}' if known is not None else '')
      )
    epochs = sorted(run['selected_epoch'] for run in runs if run.get('selected_epoch') is not None)
    chosen = '–'.join(str(epoch) for epoch in dict.fromkeys((epochs or [DASH])[:: max(len(epochs) - 1, 1)]))
    of = f'of {runs[0]["epochs"]}' if epochs and runs[0].get('epochs') else ''
    rows.append([*row, Cell(chosen, small=of), _percent_cell(found['last'])])
  columns = [
    'Regime',
    'Paper: accuracy',
    'This run: accuracy',
    'Change from real',
    'Balanced accuracy',
    'Macro F1',
  ]
  columns += ['AUROC', *(f'Recall: {name}' for name in names), 'Epoch chosen', 'Accuracy, last epoch']
  published = paper.MODELS.get(model)
  number = f'Table {published.table} · ' if published else ''
  notes = [published.note] if published and published.note else []
  if len({run['protocol'] for runs in by_regime.values() for run in runs}) > 1:
    notes.append('The runs of this table follow different protocols: do not compare them.')
  notes += mismatches(by_regime)
  return Table(f'table-{model}', f'{number}{model_title(model)}', columns, rows, notes)


def mismatches(by_regime: dict[str, list[dict[str, Any]]]) -> list[str]:
  """Runs whose stated test accuracy is not that of their predictions: one of the two files is stale."""
  return [
    f'{regime}, seed {run["seed"]}: metrics.json says {100 * run["test_accuracy"]:.2f} %, but its predictions '
    f'give {100 * run["scores"]["accuracy"]:.2f} %, which is what this table shows.'
    for regime, runs in by_regime.items()
    for run in runs
    if run['scores']
    and run.get('test_accuracy') is not None
    and abs(run['scores']['accuracy'] - run['test_accuracy']) > 0.5 / run['scores']['n']
  ]


def protocol(results: dict[str, Any]) -> str:
  """How the epoch was chosen, in a sentence."""
  said = {
    'honest': 'The epoch was chosen on validation patients held out of training, never on the test set.',
    'paper': 'The epoch was chosen on the test set, as in the paper, which flatters every accuracy.',
  }
  return ' '.join(said[p] for p in sorted({run['protocol'] for run in results['runs']}) if p in said)


def stages(results: dict[str, Any]) -> Table | None:
  """Wall time and peak memory by stage."""
  found = {name: s for name, s in results['stages'].items() if name != 'report'}
  if not found:
    return None
  rows = [
    [
      Cell(name),
      Cell(str(s.get('device') or DASH)),
      Cell(duration(s.get('seconds'))),
      Cell(f'{s["peak_memory_gib"]:.1f} GiB' if s.get('peak_memory_gib') is not None else DASH),
      Cell(str(s.get('finished') or DASH)[:16].replace('T', ' ')),
    ]
    for name, s in found.items()
  ]
  return Table(
    'stages',
    'Time and memory',
    ['Stage', 'Device', 'Wall time', 'Peak memory', 'Finished'],
    rows,
    text_columns=2,
  )


def duration(seconds: float | None) -> str:
  """Returns seconds in words, and a dash for None."""
  return DASH if seconds is None else units.duration(seconds)


def classes(run: dict[str, Any]) -> list[str]:
  """Class names of a run with scores."""
  return [c['name'] for c in run['scores']['per_class']]


def _percent_cell(found: tuple[float, float | None] | None, *, best: bool = False) -> Cell:
  return Cell(percent(found and (found[0], None)), small=_sd(found, 100, 1), best=best)


def _with_interval(cell: Cell, compared: dict[str, Any] | None) -> Cell:
  """An accuracy with its interval beside its standard deviation."""
  score = compared and compared['scores']['accuracy']
  if not score or score['low'] is None:
    return cell
  ends = f'[{100 * score["low"]:.1f},\u00a0{100 * score["high"]:.1f}]'
  return dataclasses.replace(cell, small=f'{ends} {cell.small}'.strip())


def _sd(found: tuple[float, float | None] | None, scale: float, digits: int) -> str:
  return '' if found is None or found[1] is None else f'±\u00a0{scale * found[1]:.{digits}f}'


def _paper_accuracy(model: str, regime: str) -> str:
  value = paper.MODELS[model].accuracy.get(regime) if model in paper.MODELS else None
  return DASH if value is None else f'{value:.1f}'


def _trained_on(run: dict[str, Any]) -> str:
  return ' + '.join(
    f'{run[f"{kind}_images"]:,} {kind}' for kind in ('real', 'synthetic') if run.get(f'{kind}_images')
  )


def markdown(table: Table) -> str:
  """The table in GitHub's Markdown."""

  def text(cell: Cell) -> str:
    main = escape_markdown(cell.text)
    main = f'**{main}**' if cell.best else main
    return f'{main} ({escape_markdown(cell.small)})' if cell.small else main

  align = ['---' if i < table.text_columns else '---:' for i in range(len(table.columns))]
  columns = [escape_markdown(column) for column in table.columns]
  lines = [columns, align, *([text(cell) for cell in row] for row in table.rows)]
  return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


def escape_markdown(text: str) -> str:
  """Class names are the user's: none may break a table's row or become markup."""
  escaped = ''.join(f'\\{c}' if c in '\\|[]*`' else c for c in text)
  return escaped.replace('<', '&lt;').replace('\n', ' ')


def runs_csv(results: dict[str, Any]) -> str:
  """One row for each model, regime and seed; fractions in [0, 1], the paper's accuracies too."""
  names = list(dict.fromkeys(name for run in results['runs'] if run['scores'] for name in classes(run)))
  plain = ['model', 'regime', 'seed', 'protocol', 'real_images', 'synthetic_images', 'initialised_from']
  plain += ['parameters', 'batch_size', 'epochs', 'selected_epoch', 'steps', 'seconds']
  plain += ['train_accuracy', 'validation_accuracy', 'test_accuracy', 'test_accuracy_last']
  scores = ['n', 'accuracy', 'balanced_accuracy', 'macro_f1', 'auroc', 'brier', 'ece']
  out = io.StringIO()
  writer = csv.writer(out, lineterminator='\n')
  header = [
    *plain,
    'test_images',
    *(f'scored_{key}' for key in scores[1:]),
    *(f'recall_{name}' for name in names),
  ]
  writer.writerow([*header, 'paper_accuracy'])
  for run in results['runs']:
    found = run['scores'] or {}
    recall = {c['name']: c['recall'] for c in found.get('per_class', [])}
    known = paper.MODELS[run['model']].accuracy.get(run['regime']) if run['model'] in paper.MODELS else None
    row = (
      [run.get(key) for key in plain]
      + [found.get(key) for key in scores]
      + [recall.get(name) for name in names]
    )
    writer.writerow([*row, None if known is None else round(known / 100, 4)])
  return out.getvalue()
