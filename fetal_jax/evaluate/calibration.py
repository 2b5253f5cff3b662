"""Whether a classifier is right as often as it says: the reliability diagram, and two numbers about it."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int


@dataclasses.dataclass(frozen=True)
class Bin:
  """The images whose confidence lies in (low, high]; the first bin holds 0 too.

  Attributes:
    low, high: the bin's edges.
    count: how many images.
    confidence: their mean confidence, None if there are none.
    accuracy: the share of them that is right, None if there are none.
  """

  low: float
  high: float
  count: int
  confidence: float | None
  accuracy: float | None


def reliability(
  labels: Int[np.ndarray, ' n'], probabilities: Float[np.ndarray, 'n k'], bins: int = 15
) -> list[Bin]:
  """The reliability diagram: accuracy against confidence in `bins` bins of equal width over [0, 1].

  An image's confidence is the probability of its most probable class, which is also the class predicted.
  """
  confidence = probabilities.max(axis=1)
  right = probabilities.argmax(axis=1) == labels
  edges = np.linspace(0, 1, bins + 1)
  of = np.searchsorted(edges[1:-1], confidence, side='left')
  diagram = []
  for m in range(bins):
    inside = of == m
    means = (float(confidence[inside].mean()), float(right[inside].mean())) if inside.any() else (None, None)
    diagram.append(Bin(float(edges[m]), float(edges[m + 1]), int(inside.sum()), *means))
  return diagram


def expected_calibration_error(diagram: Sequence[Bin]) -> float:
  """ECE = Σ_m n_m / n |accuracy_m - confidence_m| (Guo et al., 2017, arXiv:1706.04599, equation 3).

  Of the predicted class alone. Chance differences within bins add up: with few images it is above 0 even for a
  perfectly calibrated classifier.
  """
  gaps = [
    b.count * abs(b.accuracy - b.confidence)
    for b in diagram
    if b.accuracy is not None and b.confidence is not None
  ]
  return sum(gaps) / sum(b.count for b in diagram)


def brier_score(labels: Int[np.ndarray, ' n'], probabilities: Float[np.ndarray, 'n k']) -> float:
  """Brier's score over all classes, the mean of Σ_k (p_k - y_k)²: 0 is perfect, 2 is the worst (Brier, 1950)."""
  return float(squared_errors(labels, probabilities).mean())


def squared_errors(
  labels: Int[np.ndarray, ' n'], probabilities: Float[np.ndarray, 'n k']
) -> Float[np.ndarray, ' n']:
  """Σ_k (p_k - y_k)² of every image."""
  return np.square(probabilities - np.eye(probabilities.shape[1])[labels]).sum(axis=1)
