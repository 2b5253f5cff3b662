"""Classifier by classifier: a table, confusion matrices and training curves of each (the paper's Tables 3 to 7)."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from fetal_jax.data.rounds import Manifest
from fetal_jax.data.spellings import short
from fetal_jax.evaluate.paired import ComparedRegime
from fetal_jax.report import paper, pixel_rows, sizes
from fetal_jax.report.charts import OTHER_STYLE, REGIME_STYLES, Theme, chart, finish, new_axes, thin
from fetal_jax.report.classifier_runs import ClassifierRun
from fetal_jax.report.format import brackets, percent, signed
from fetal_jax.report.groups import SCORES, best_regime, groups, mean_accuracy, mean_and_sd
from fetal_jax.report.names import lower_first, model_title, order, regime_title
from fetal_jax.report.page import DASH, Block, Cell, Fold, Heading, Picture, Pictures, Section, Table, Text
from fetal_jax.report.run import Run
from fetal_jax.report.sections.accuracy import ByRegime, paper_accuracy
from fetal_jax.report.sizes import Standing

if TYPE_CHECKING:
  from matplotlib.figure import Figure

_BESIDE_HEAD = 'Paper: accuracy'
_ACCURACY = 'This run: accuracy'
_TRAINING = {  # by protocol
  'honest': 'Training accuracy: of the chosen epoch, over its augmented batches.',
  'paper': "Training accuracy: the best of all epochs, over their augmented batches (the paper's rule).",
}
_CURVES = {
  'train_loss': 'training loss',
  'validation_accuracy': 'validation accuracy',
  'test_accuracy': 'test accuracy',
}


def section(run: Run) -> Section | None:
  """Shows every model of the main regimes; None without any."""
  grouped = groups(run.runs)
  if not grouped:
    return None
  blocks: list[Block] = [
    Text(
      'Of the test images: accuracy, balanced accuracy, macro F1 and recall in percent, changes in percentage points, '
      'AUROC (one class against the rest) from 0 to 1, means over seeds ± standard deviation; in brackets 95 % '
      f'intervals. Highlighted: the best regime. A dash: not known, or not run.{_numbering(run)}'
    )
  ]
  for model, by_regime in grouped.items():
    blocks.append(table(run, model, by_regime))
    if matrices := confusions(run, model, by_regime):
      blocks += [Heading('Confusion matrices', level=4), Pictures(matrices)]
    if drawn := curves(run, model, by_regime):
      blocks.append(Fold('Training curves', [Pictures(drawn)]))
  return Section('classifiers', 'Classifier by classifier', blocks, nav='Classifiers')


# MARK: Table


def table(run: Run, model: str, by_regime: ByRegime) -> Table:
  """Returns one classifier's scores, a row a regime, and those of raw pixels; the paper's as `sizes.standing` says."""
  standing = sizes.standing(run, model)
  regimes = sorted(
    {*by_regime, *(paper.REGIMES if standing is Standing.BESIDE else ())}, key=lambda r: order(model, r)
  )
  names = next((classes(one) for runs in by_regime.values() for one in runs if one.scores), [])
  columns = _columns(names, standing)
  cells = [_cells(run, model, by_regime, regime, names) for regime in regimes]
  rows = [[known.get(column, Cell(DASH)) for column in columns] for known in cells]
  rows += pixel_rows.rows(run, columns, {_ACCURACY: 'accuracy', 'Balanced accuracy': 'balanced_accuracy'})
  number = '' if standing is Standing.NOWHERE else f'Table {paper.MODELS[model].table} · '
  return Table(
    f'table-{model}', f'{number}{sizes.titled(run, model)}', columns, rows, _notes(run, model, by_regime)
  )


def _numbering(run: Run) -> str:
  """Returns how tables are numbered, after a blank; '' where none has a number."""
  numbered = any(sizes.standing(run, model) is not Standing.NOWHERE for model in groups(run.runs))
  return f' {paper.NUMBERING}' if numbered else ''


def _columns(names: Sequence[str], standing: Standing) -> list[str]:
  """Returns the headings: the paper's accuracy comes before this run's, or last under a heading that says why it differs."""
  return [
    'Regime',
    *([_BESIDE_HEAD] if standing is Standing.BESIDE else []),
    _ACCURACY,
    'Training accuracy',
    'Change from real',
    'Balanced accuracy',
    'Macro F1',
    'AUROC',
    *(f'Recall: {name}' for name in names),
    'Epoch chosen',
    'Accuracy, last epoch',
    *([sizes.APART_HEAD] if standing is Standing.APART else []),
  ]


def _notes(run: Run, model: str, by_regime: ByRegime) -> list[str]:
  """Returns what stands beneath a classifier's table."""
  protocols = sorted({one.protocol for runs in by_regime.values() for one in runs})
  published = sizes.standing(run, model) is not Standing.NOWHERE and paper.MODELS[model].note
  notes = [published] if published else []
  if len(protocols) > 1:
    notes.append('The runs of this table follow different protocols: do not compare them.')
  return notes + [_TRAINING[one] for one in protocols if one in _TRAINING] + pixel_rows.note(run)


def classes(run: ClassifierRun) -> list[str]:
  """Returns the class names of a run with scores."""
  return [one.name for one in run.scores.per_class] if run.scores else []


def _cells(run: Run, model: str, by_regime: ByRegime, regime: str, names: Sequence[str]) -> dict[str, Cell]:
  """Returns a regime's cells by heading; those that are not known are left out."""
  title = regime_title(regime, run.rounds)
  theirs = Cell(paper_accuracy(model, regime))
  paper_cells = {_BESIDE_HEAD: theirs, sizes.APART_HEAD: theirs}
  runs = by_regime.get(regime)
  if not runs:
    return {'Regime': Cell(title, small='not run'), **paper_cells}
  found = {key: mean_and_sd(score(one) for one in runs) for key, score in SCORES.items()}
  compared = run.comparisons.models.get(model)
  change = DASH
  if 'real' in by_regime and found['accuracy'] and regime != 'real':
    change = signed(found['accuracy'][0] - mean_accuracy(by_regime['real']))
  accuracy = _percent(found['accuracy'], best=regime == best_regime(by_regime))
  auroc, full_size = found['auroc'], sizes.standing(run, model) is Standing.BESIDE
  recalls = {
    f'Recall: {name}': _recall(model if full_size else '', regime, runs, k, name)
    for k, name in enumerate(names)
  }
  return {
    'Regime': Cell(title, small=_trained_on(runs[0])),
    **paper_cells,
    _ACCURACY: _with_interval(accuracy, compared.regimes.get(regime) if compared else None),
    'Training accuracy': _percent(found['train']),
    'Change from real': Cell(change),
    'Balanced accuracy': _percent(found['balanced_accuracy']),
    'Macro F1': _percent(found['macro_f1']),
    'AUROC': Cell(DASH if auroc is None else f'{auroc[0]:.3f}', small=_sd(auroc, 1, 3)),
    **recalls,
    'Epoch chosen': _epochs(runs),
    'Accuracy, last epoch': _percent(found['last']),
  }


def _recall(model: str, regime: str, runs: Sequence[ClassifierRun], k: int, name: str) -> Cell:
  """Returns the recall of class `k`, with the paper's for `model` beneath it where it is known ('' for no model)."""
  recall = mean_and_sd(one.scores.per_class[k].recall if one.scores else None for one in runs)
  known = paper.MODELS[model].recall.get(regime, {}).get(name) if model in paper.MODELS else None
  return Cell(percent(recall and (recall[0], None)), small=f'paper {known}' if known is not None else '')


def _epochs(runs: Sequence[ClassifierRun]) -> Cell:
  """Returns the first and the last of the chosen epochs."""
  chosen = sorted(one.selected_epoch for one in runs if one.selected_epoch is not None)
  if not chosen:
    return Cell(DASH)
  text = '–'.join(str(epoch) for epoch in dict.fromkeys([chosen[0], chosen[-1]]))
  return Cell(text, small=f'of {runs[0].epochs}' if runs[0].epochs else '')


def _percent(found: tuple[float, float | None] | None, *, best: bool = False) -> Cell:
  return Cell(percent(found and (found[0], None)), small=_sd(found, 100, 1), best=best)


def _sd(found: tuple[float, float | None] | None, scale: float, digits: int) -> str:
  return '' if found is None or found[1] is None else f'±\u00a0{scale * found[1]:.{digits}f}'


def _with_interval(cell: Cell, compared: ComparedRegime | None) -> Cell:
  """Returns an accuracy with its interval beside its standard deviation."""
  ends = brackets(compared.scores['accuracy']) if compared else ''
  return dataclasses.replace(cell, small=f'{ends} {cell.small}'.strip()) if ends else cell


def _trained_on(run: ClassifierRun) -> str:
  counts = {'real': run.real_images, 'synthetic': run.synthetic_images}
  return ' + '.join(f'{count:,} {kind}' for kind, count in counts.items() if count)


# MARK: Confusion matrices


def confusions(run: Run, model: str, by_regime: ByRegime) -> list[Picture]:
  """Draws the confusion matrices of real images alone and of the best regime with synthetic ones, summed over seeds."""
  pictures = []
  for regime in dict.fromkeys(['real', best_regime(by_regime, synthetic_only=True)]):
    scores = [one.scores for one in by_regime.get(regime or '', []) if one.scores]
    if not scores:
      continue
    names = [one.name for one in scores[0].per_class]
    counts = np.sum([one.confusion for one in scores], axis=0).tolist()
    title = regime_title(str(regime), run.rounds)
    diagonal = ', '.join(
      f'{name} {100 * row[k] / max(sum(row), 1):.0f} %'
      for k, (name, row) in enumerate(zip(names, counts, strict=True))
    )
    alt = f'Confusion matrix of {model_title(model)}, {lower_first(title)}. Right by class: {diagonal}.'
    seeds = f', counts over {len(scores)} seeds' if len(scores) > 1 else ''
    pictures.append(chart(f'confusion_{model}_{regime}', alt, f'{title}{seeds}', confusion, counts, names))
  return pictures


def confusion(counts: list[list[int]], class_names: list[str], theme: Theme) -> 'Figure':
  """Draws a confusion matrix: each row in percent of its true class, with the counts beneath."""
  from matplotlib.patches import Rectangle

  table = np.asarray(counts)
  share = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
  k = len(class_names)
  figure, axes = new_axes(max(3.4, 0.62 * k + 1.0), max(3.0, 0.56 * k + 0.8))
  axes.grid(visible=False)
  axes.set(xlim=(-0.5, k - 0.5), ylim=(k - 0.5, -0.5), aspect='equal')
  for i, j in np.ndindex(k, k):
    if table[i, j]:
      axes.add_patch(Rectangle((j - 0.5, i - 0.5), 1, 1, color=theme.fill, alpha=share[i, j], linewidth=0))
      colour = theme.on_fill if share[i, j] > 0.55 else theme.ink
      axes.text(j, i - 0.12, f'{100 * share[i, j]:.0f} %', ha='center', va='center', color=colour)
      axes.text(
        j, i + 0.26, f'{table[i, j]:,}', ha='center', va='center', color=colour, fontsize=7, alpha=0.9
      )
  labels = [short(name) for name in class_names]
  axes.set_xticks(range(k), labels, rotation=35, ha='right', rotation_mode='anchor', parse_math=False)
  axes.set_yticks(range(k), labels, parse_math=False)
  axes.set_xticks(np.arange(k + 1) - 0.5, minor=True)
  axes.set_yticks(np.arange(k + 1) - 0.5, minor=True)
  axes.grid(which='minor', color=theme.grid, linewidth=0.8)
  axes.tick_params(which='both', length=0)
  axes.set_xlabel('predicted class')
  axes.set_ylabel('true class')
  for spine in axes.spines.values():
    spine.set_visible(False)
  return figure


# MARK: Curves


def curves(run: Run, model: str, by_regime: ByRegime) -> list[Picture]:
  """Draws loss and accuracies of one model's runs against epochs, those that its history has."""
  rows = [row for runs in by_regime.values() for one in runs for row in one.history]
  title = model_title(model)
  return [
    chart(
      f'curves_{model}_{key}',
      f'{title}: {what} against epochs, a line a regime.',
      f'{what[0].upper()}{what[1:]}',
      curve_figure,
      by_regime,
      run.rounds,
      key,
    )
    for key, what in _CURVES.items()
    if any(getattr(row, key) is not None for row in rows)
  ]


def curve_figure(by_regime: ByRegime, rounds: Sequence[Manifest], key: str, theme: Theme) -> 'Figure':
  """Draws one number of the classifiers' history against epochs: a line a regime (mean over seeds).

  Args:
    by_regime: runs of one model, by regime.
    rounds: manifests, for the regimes' titles.
    key: `validation_accuracy`, `test_accuracy`, `train_accuracy` or `train_loss`.
  """
  figure, axes = new_axes(4.8, 3.4)
  scale = 100 if key.endswith('accuracy') else 1
  for regime, runs in by_regime.items():
    colour, line, _ = REGIME_STYLES.get(regime, OTHER_STYLE)
    by_epoch: dict[float, list[float]] = {}
    for run in runs:
      for row in run.history:
        if (value := getattr(row, key)) is not None:
          by_epoch.setdefault(row.epoch, []).append(scale * value)
    if by_epoch:
      epochs = sorted(by_epoch)
      means = [sum(by_epoch[e]) / len(by_epoch[e]) for e in epochs]
      label = regime_title(regime, rounds)
      marker = 'o' if len(epochs) == 1 else ''
      axes.plot(
        *thin(epochs, means), line, marker=marker, color=colour or theme.ink, linewidth=1.3, label=label
      )
  what = {'train_loss': 'training loss', 'train_accuracy': 'training accuracy (%)'}
  finish(
    axes, 'epoch', what.get(key, f'{key.removesuffix("_accuracy")} accuracy (%)'), theme, long_labels=True
  )
  return figure
