"""How good a classifier is: the usual scores of one set of predictions, computed by scikit-learn."""

import csv
import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from fetal_jax.evaluate import calibration
from fetal_jax.runtime.errors import UserError
from fetal_jax.runtime.files import PathLike

_COLUMNS = ('image', 'patient', 'machine', 'operator', 'brain_plane', 'label', 'predicted')
# Files of earlier versions have no operators and brain planes: unknown.
_FORMER_COLUMNS = ('image', 'patient', 'machine', 'label', 'predicted')
_AGAIN = 'delete its folder and run the classify stage again'


@dataclasses.dataclass(frozen=True)
class Predictions:
  """The rows of a `predictions.csv`: one classifier's answers for N test images.

  Attributes:
    images: [N] str, image names.
    patients: [N] str, the unit that a bootstrap resamples.
    machines, operators, brain_planes: [N] str, '' where unknown.
    labels: [N] int32, true classes.
    probabilities: [N, K] float64, softmax outputs.
    class_names: the K classes, in the order of the probabilities' columns.
  """

  images: np.ndarray
  patients: np.ndarray
  machines: np.ndarray
  operators: np.ndarray
  brain_planes: np.ndarray
  labels: np.ndarray
  probabilities: np.ndarray
  class_names: tuple[str, ...]

  def __len__(self) -> int:
    return len(self.images)

  def take(self, indices: np.ndarray) -> 'Predictions':
    """The rows at `indices` (integers or a mask [N]), in that order."""
    columns = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
    taken = {name: column[indices] for name, column in columns.items() if isinstance(column, np.ndarray)}
    return dataclasses.replace(self, **taken)


def read_predictions(path: PathLike) -> Predictions:
  """Reads `classify/<model>/<regime>/seed_<k>/predictions.csv`.

  Raises:
    UserError: a column is missing, a row is cut off or holds no probabilities, a label is no class, or no row
      at all.
  """
  with open(path, newline='', encoding='utf-8') as f:
    header, *rows = list(csv.reader(f)) or [[]]
  columns = _COLUMNS if tuple(header[: len(_COLUMNS)]) == _COLUMNS else _FORMER_COLUMNS
  class_names = tuple(name[2:] for name in header if name.startswith('p_'))
  if tuple(header) != (*columns, *(f'p_{name}' for name in class_names)) or not class_names:
    raise UserError(f'{path}: the header must be {",".join(_COLUMNS)},p_<class>,…; {_AGAIN}')
  if not rows:
    raise UserError(f'{path}: no predictions; {_AGAIN}')
  index = {name: k for k, name in enumerate(class_names)}
  probabilities = np.empty((len(rows), len(class_names)))
  for i, row in enumerate(rows):
    try:
      values = [float(p) for p in row[len(columns) :]]
      if len(values) != len(class_names) or row[columns.index('label')] not in index:
        raise ValueError
      if not all(0 <= p <= 1 for p in values):
        raise ValueError
      probabilities[i] = values
    except ValueError:
      raise UserError(f'{path}: row {i + 2} is damaged; {_AGAIN}') from None

  def column(name: str) -> list[str]:
    return [row[columns.index(name)] if name in columns else '' for row in rows]

  return Predictions(
    images=np.array(column('image')),
    patients=np.array(column('patient')),
    machines=np.array(column('machine')),
    operators=np.array(column('operator')),
    brain_planes=np.array(column('brain_plane')),
    labels=np.array([index[label] for label in column('label')], np.int32),
    probabilities=probabilities,
    class_names=class_names,
  )


def evaluate(
  labels: Int[np.ndarray, ' n'], probabilities: Float[np.ndarray, 'n k'], class_names: tuple[str, ...]
) -> dict[str, Any]:
  """Scores predictions; every rate is a fraction in [0, 1].

  A class that the labels do not contain has no recall and no AUROC (None), and the averages over classes
  (balanced accuracy, macro F1, macro AUROC) leave it out. The predicted class is the most probable one.

  Args:
    labels: true classes.
    probabilities: of each class.
    class_names: K names.

  Returns:
    A dict that JSON can hold: `n`, `accuracy`, `balanced_accuracy`, `macro_f1`, `auroc` (one against the
    rest, macro), `per_class` (a dict each: `name`, `support`, `precision`, `recall`, `f1`, `auroc`),
    `confusion` (K lists of K counts: rows true, columns predicted), `brier`, `ece` and the `reliability` diagram
    that it sums up (see `calibration`).

  Raises:
    ValueError: no images, shapes that do not fit, labels outside 0..K-1, or probabilities outside [0, 1].
  """
  from sklearn import metrics

  num_classes = len(class_names)
  if not len(labels) or probabilities.shape != (len(labels), num_classes):
    raise ValueError(f'{labels.shape} labels, {probabilities.shape} probabilities, {num_classes} classes')
  if labels.min() < 0 or labels.max() >= num_classes:
    raise ValueError(f'labels span {labels.min()}..{labels.max()}, but there are {num_classes} classes')
  if not ((probabilities >= 0) & (probabilities <= 1)).all():
    raise ValueError('probabilities are not all within [0, 1]')

  predicted = probabilities.argmax(axis=1)
  classes = np.arange(num_classes)
  precision, recall, f1, support = metrics.precision_recall_fscore_support(
    labels, predicted, labels=classes, zero_division=np.nan
  )
  auroc = np.full(num_classes, np.nan)
  for k in classes:
    if 0 < support[k] < len(labels):
      auroc[k] = metrics.roc_auc_score(labels == k, probabilities[:, k])
  present = support > 0
  # A class that is there but was never predicted has F1 = 0, however undefined its precision.
  f1 = np.where(present, np.nan_to_num(f1), np.nan)
  reliability = calibration.reliability(labels, probabilities)
  return {
    'n': len(labels),
    'accuracy': float(metrics.accuracy_score(labels, predicted)),
    'balanced_accuracy': float(recall[present].mean()),
    'macro_f1': float(f1[present].mean()),
    'auroc': float(np.nanmean(auroc)) if np.isfinite(auroc).any() else None,
    'per_class': [
      {
        'name': class_names[k],
        'support': int(support[k]),
        'precision': _or_none(precision[k]),
        'recall': _or_none(recall[k] if present[k] else np.nan),
        'f1': _or_none(f1[k]),
        'auroc': _or_none(auroc[k]),
      }
      for k in classes
    ],
    'confusion': metrics.confusion_matrix(labels, predicted, labels=classes).tolist(),
    'brier': calibration.brier_score(labels, probabilities),
    'ece': calibration.expected_calibration_error(reliability),
    'reliability': [dataclasses.asdict(b) for b in reliability],
  }


def _or_none(value: float) -> float | None:
  return float(value) if np.isfinite(value) else None
