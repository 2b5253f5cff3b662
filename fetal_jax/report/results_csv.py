"""results.csv: one row for each model, regime and seed."""

import csv
import io

from fetal_jax.report import paper
from fetal_jax.report.run import Run
from fetal_jax.report.sections.classifiers import classes

_RUN = (
  'model', 'regime', 'seed', 'protocol', 'real_images', 'synthetic_images', 'initialised_from',
  'parameters', 'batch_size', 'epochs', 'selected_epoch', 'steps', 'seconds',
  'train_accuracy', 'validation_accuracy', 'test_accuracy', 'test_accuracy_last',
)  # fmt: skip
_SCORES = ('n', 'accuracy', 'balanced_accuracy', 'macro_f1', 'auroc', 'brier', 'ece')


def text(run: Run) -> str:
  """Returns the table as CSV; rates are fractions in [0, 1], the paper's accuracies too."""
  names = list(dict.fromkeys(name for one in run.runs for name in classes(one)))
  out = io.StringIO()
  writer = csv.writer(out, lineterminator='\n')
  scored = ('test_images', *(f'scored_{key}' for key in _SCORES[1:]))
  writer.writerow([*_RUN, *scored, *(f'recall_{name}' for name in names), 'paper_accuracy'])
  for one in run.runs:
    recall = {found.name: found.recall for found in one.scores.per_class} if one.scores else {}
    known = paper.MODELS[one.model].accuracy.get(one.regime) if one.model in paper.MODELS else None
    writer.writerow(
      [
        *(getattr(one, key) for key in _RUN),
        *(getattr(one.scores, key) if one.scores else None for key in _SCORES),
        *(recall.get(name) for name in names),
        None if known is None else round(known / 100, 4),
      ]
    )
  return out.getvalue()
