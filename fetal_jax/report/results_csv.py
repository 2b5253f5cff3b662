"""results.csv: one row for each model, regime and seed, and one for each classifier of raw pixels."""

import csv
import io

from fetal_jax.report import paper, pixel_rows, sizes
from fetal_jax.report.classifier_runs import ClassifierRun
from fetal_jax.report.run import Run
from fetal_jax.report.sections.classifiers import classes
from fetal_jax.report.sizes import Standing

_RUN = (
  'model', 'regime', 'seed', 'protocol', 'real_images', 'synthetic_images', 'initialised_from',
  'parameters', 'batch_size', 'epochs', 'selected_epoch', 'steps', 'seconds',
  'train_accuracy', 'validation_accuracy', 'test_accuracy', 'test_accuracy_last',
)  # fmt: skip
_SCORES = ('n', 'accuracy', 'balanced_accuracy', 'macro_f1', 'auroc', 'brier', 'ece')


def text(run: Run) -> str:
  """Returns the table as CSV; rates are fractions in [0, 1], the paper's accuracies too.

  `paper_accuracy` has those that compare with the run's, `paper_accuracy_full_size` those that do not because the networks
  are reduced or the images are not 128 px (see `sizes.standing`); for other data than the paper's there is neither column.
  """
  names = list(dict.fromkeys(name for one in run.runs for name in classes(one)))
  scored = ('test_images', *(f'scored_{key}' for key in _SCORES[1:]))
  columns = [*_RUN, *scored, *(f'recall_{name}' for name in names), 'kind', 'reduced']
  columns += _paper_columns(run)
  rows = [_network(run, one) for one in run.runs] + _pixels(run)
  out = io.StringIO()
  writer = csv.DictWriter(out, columns, lineterminator='\n', extrasaction='ignore')
  writer.writeheader()
  writer.writerows(rows)
  return out.getvalue()


def _paper_columns(run: Run) -> list[str]:
  """Returns the columns of the paper's accuracies that the run's data ask for."""
  in_paper = any(sizes.standing(run, one.model) is not Standing.NOWHERE for one in run.runs)
  return ['paper_accuracy', 'paper_accuracy_full_size'] if in_paper else []


def _network(run: Run, one: ClassifierRun) -> dict[str, object]:
  """Returns the row of a network."""
  known = paper.MODELS[one.model].accuracy.get(one.regime) if one.model in paper.MODELS else None
  theirs = None if known is None else round(known / 100, 4)
  beside = sizes.standing(run, one.model) is Standing.BESIDE
  row: dict[str, object] = {key: getattr(one, key) for key in _RUN}
  if one.scores:
    row |= {'test_images': one.scores.n, **{f'scored_{key}': getattr(one.scores, key) for key in _SCORES[1:]}}
    row |= {f'recall_{found.name}': found.recall for found in one.scores.per_class}
  row |= {'kind': 'network', 'reduced': int(one.reduced)}
  return row | {'paper_accuracy' if beside else 'paper_accuracy_full_size': theirs}


def _pixels(run: Run) -> list[dict[str, object]]:
  """Returns the rows of the classifiers of raw pixels."""
  return [
    {
      'model': one.name,
      'regime': 'real',
      'test_images': run.data.totals['test'] if run.data else None,
      'test_accuracy': one.accuracy,
      'scored_accuracy': one.accuracy,
      'scored_balanced_accuracy': one.balanced_accuracy,
      'kind': pixel_rows.NO_NETWORK,
    }
    for one in run.pixel_baselines or ()
  ]
