"""The scores of one set of predictions: accuracy, balanced accuracy, macro F1, AUROC, Brier's score, calibration.

Every score has one function, with optional weights of the images, which `evaluate.intervals` resamples.
"""

from collections.abc import Callable, Sequence

import msgspec
import numpy as np
from jaxtyping import Float, Int

Labels = Int[np.ndarray, ' n']
Probabilities = Float[np.ndarray, 'n k']
Weights = Float[np.ndarray, 'n r']
Values = Float[np.ndarray, ' r']


class ClassScores(msgspec.Struct, frozen=True, kw_only=True):
  """The scores of one class; None where it is undefined.

  Attributes:
    name: of the class.
    support: number of its images.
    precision, recall, f1, auroc: one class against the rest.
  """

  name: str
  support: int
  precision: float | None
  recall: float | None
  f1: float | None
  auroc: float | None


class Bin(msgspec.Struct, frozen=True, kw_only=True):
  """The images whose confidence lies in (low, high]; the first bin holds 0 too.

  Attributes:
    low, high: the bin's edges.
    count: number of images.
    confidence: their mean confidence, None if there are none.
    accuracy: the share of them that is right, None if there are none.
  """

  low: float
  high: float
  count: int
  confidence: float | None
  accuracy: float | None


class Scores(msgspec.Struct, frozen=True, kw_only=True):
  """The scores of one set of predictions; every rate is a fraction in [0, 1].

  Attributes:
    n: number of images.
    accuracy, balanced_accuracy, macro_f1, brier: see the functions of these names.
    auroc: likewise; None where there is one class only.
    per_class: in the order of the classes.
    confusion: K lists of K counts: rows true, columns predicted.
    ece: the expected calibration error of `reliability`.
    reliability: the reliability diagram.
  """

  n: int
  accuracy: float
  balanced_accuracy: float
  macro_f1: float
  auroc: float | None
  per_class: list[ClassScores]
  confusion: list[list[int]]
  brier: float
  ece: float
  reliability: list[Bin]


def evaluate(labels: Labels, probabilities: Probabilities, class_names: Sequence[str]) -> Scores:
  """Scores predictions; the predicted class is the most probable one.

  A class that the labels do not contain has no recall and no AUROC (None), and the averages over classes
  (balanced accuracy, macro F1, AUROC) leave it out.

  Args:
    labels: true classes.
    probabilities: of each class.
    class_names: K names.

  Raises:
    ValueError: no images, shapes that do not fit, labels outside 0..K-1, or probabilities outside [0, 1].
  """
  num_classes = len(class_names)
  if not len(labels) or probabilities.shape != (len(labels), num_classes):
    raise ValueError(f'{labels.shape} labels, {probabilities.shape} probabilities, {num_classes} classes')
  if labels.min() < 0 or labels.max() >= num_classes:
    raise ValueError(f'labels span {labels.min()}..{labels.max()}, but there are {num_classes} classes')
  if not ((probabilities >= 0) & (probabilities <= 1)).all():
    raise ValueError('probabilities are not all within [0, 1]')

  scores = {name: float(metric(labels, probabilities)[0]) for name, metric in METRICS.items()}
  diagram = reliability(labels, probabilities)
  return Scores(
    n=len(labels),
    accuracy=scores['accuracy'],
    balanced_accuracy=scores['balanced_accuracy'],
    macro_f1=scores['macro_f1'],
    auroc=_or_none(scores['auroc']),
    per_class=_per_class(labels, probabilities, class_names),
    confusion=confusion(labels, probabilities)[..., 0].astype(int).tolist(),
    brier=scores['brier'],
    ece=expected_calibration_error(diagram),
    reliability=diagram,
  )


def _per_class(labels: Labels, probabilities: Probabilities, class_names: Sequence[str]) -> list[ClassScores]:
  counts = confusion(labels, probabilities)
  support, predicted, right = (x[:, 0] for x in (counts.sum(axis=1), counts.sum(axis=0), _diagonal(counts)))
  areas = auroc_by_class(labels, probabilities)[:, 0]
  return [
    ClassScores(
      name=name,
      support=int(support[k]),
      precision=float(right[k] / predicted[k]) if predicted[k] else None,
      recall=float(right[k] / support[k]) if support[k] else None,
      # A class that is there but was never predicted has F1 = 0, however undefined its precision.
      f1=float(2 * right[k] / (support[k] + predicted[k])) if support[k] else None,
      auroc=_or_none(areas[k]),
    )
    for k, name in enumerate(class_names)
  ]


def _or_none(value: float) -> float | None:
  return float(value) if np.isfinite(value) else None


# MARK: Scores of weighted images
#
# Each takes labels [n], probabilities [n, k] and weights [n, r] (None: one for each image) and returns r scores, one for
# each column of weights: a weight says how often an image is in a resample.


def accuracy(labels: Labels, probabilities: Probabilities, weights: Weights | None = None) -> Values:
  """Computes the share of images whose most probable class is the true one."""
  return _weighted_mean(probabilities.argmax(axis=1) == labels, weights)


def balanced_accuracy(labels: Labels, probabilities: Probabilities, weights: Weights | None = None) -> Values:
  """Computes the mean recall of the classes that are present."""
  counts = confusion(labels, probabilities, weights)
  support = counts.sum(axis=1)
  recall = _diagonal(counts) / np.maximum(support, 1)
  return recall.sum(axis=0) / (support > 0).sum(axis=0)


def macro_f1(labels: Labels, probabilities: Probabilities, weights: Weights | None = None) -> Values:
  """Computes the mean F1 of the classes that are present."""
  counts = confusion(labels, probabilities, weights)
  support, predicted = counts.sum(axis=1), counts.sum(axis=0)
  f1 = 2 * _diagonal(counts) / np.maximum(support + predicted, 1)
  return f1.sum(axis=0) / (support > 0).sum(axis=0)


def auroc(labels: Labels, probabilities: Probabilities, weights: Weights | None = None) -> Values:
  """Computes the mean over classes of `auroc_by_class`; NaN where there is one class only."""
  areas = auroc_by_class(labels, probabilities, weights)
  defined = np.isfinite(areas)
  total = np.nansum(areas, axis=0)
  return np.where(defined.any(axis=0), total / np.maximum(defined.sum(axis=0), 1), np.nan)


def auroc_by_class(
  labels: Labels, probabilities: Probabilities, weights: Weights | None = None
) -> Float[np.ndarray, 'k r']:
  """Computes each class's area under the ROC curve, one against the rest; NaN without images of the class or of the rest.

  The area is the chance that an image of the class scores higher than one of the rest, ties counting half.
  """
  weights = _ones(labels) if weights is None else weights
  areas = []
  for k in range(probabilities.shape[1]):
    scores, of_class = probabilities[:, k], labels == k
    rest = np.flatnonzero(~of_class)
    rest = rest[np.argsort(scores[rest])]
    below = np.zeros((len(rest) + 1, weights.shape[1]))  # weight of the i lowest scores of the rest
    np.cumsum(weights[rest], axis=0, out=below[1:])
    lower = np.searchsorted(scores[rest], scores[of_class], 'left')
    not_higher = np.searchsorted(scores[rest], scores[of_class], 'right')
    wins = np.einsum('nr,nr->r', weights[of_class], below[lower] + below[not_higher]) / 2
    pairs = weights[of_class].sum(axis=0) * below[-1]
    areas.append(np.where(pairs > 0, wins / np.maximum(pairs, 1), np.nan))
  return np.array(areas)


def brier(labels: Labels, probabilities: Probabilities, weights: Weights | None = None) -> Values:
  """Computes Brier's score over all classes, the mean of Σ_k (p_k - y_k)²: 0 is perfect, 2 the worst (Brier, 1950)."""
  errors = np.square(probabilities - np.eye(probabilities.shape[1])[labels]).sum(axis=1)
  return _weighted_mean(errors, weights)


# ECE is not among them: bins add up absolute differences, so that resamples have a larger one than the images themselves.
METRICS: dict[str, Callable[..., Values]] = {
  'accuracy': accuracy,
  'balanced_accuracy': balanced_accuracy,
  'macro_f1': macro_f1,
  'auroc': auroc,
  'brier': brier,
}


def confusion(
  labels: Labels, probabilities: Probabilities, weights: Weights | None = None
) -> Float[np.ndarray, 'k k r']:
  """Computes confusion matrices: rows true, columns predicted."""
  k = probabilities.shape[1]
  cells = np.eye(k * k)[labels * k + probabilities.argmax(axis=1)]
  return (cells.T @ (_ones(labels) if weights is None else weights)).reshape(k, k, -1)


def _diagonal(counts: Float[np.ndarray, 'k k r']) -> Float[np.ndarray, 'k r']:
  return np.einsum('kkr->kr', counts)


def _weighted_mean(values: np.ndarray, weights: Weights | None) -> Values:
  weights = _ones(values) if weights is None else weights
  return values @ weights / weights.sum(axis=0)


def _ones(rows: np.ndarray) -> Weights:
  return np.ones((len(rows), 1))


# MARK: Calibration


def reliability(labels: Labels, probabilities: Probabilities, bins: int = 15) -> list[Bin]:
  """Computes the reliability diagram: accuracy against confidence in `bins` bins of equal width over [0, 1].

  An image's confidence is the probability of its most probable class, which is also the class predicted.
  """
  from sklearn.calibration import calibration_curve

  confidence = probabilities.max(axis=1)
  right = probabilities.argmax(axis=1) == labels
  edges = np.linspace(0, 1, bins + 1)
  counts = np.bincount(np.searchsorted(edges[1:-1], confidence), minlength=bins)
  means = zip(*calibration_curve(right, confidence, n_bins=bins), strict=True)  # of the bins that hold images
  diagram = []
  for m, count in enumerate(counts.tolist()):
    of_right, of_confidence = map(float, next(means)) if count else (None, None)
    diagram.append(
      Bin(
        low=float(edges[m]),
        high=float(edges[m + 1]),
        count=count,
        confidence=of_confidence,
        accuracy=of_right,
      )
    )
  return diagram


def expected_calibration_error(diagram: Sequence[Bin]) -> float:
  """Computes ECE = Σ_m n_m / n |accuracy_m - confidence_m| (Guo et al., 2017, arXiv:1706.04599, equation 3).

  It is about the predicted class alone. Chance differences within bins add up: with few images it is above 0 even for a
  perfectly calibrated classifier.
  """
  gaps = [
    b.count * abs(b.accuracy - b.confidence)
    for b in diagram
    if b.accuracy is not None and b.confidence is not None
  ]
  return sum(gaps) / sum(b.count for b in diagram)
