"""The classifier two-sample test: can real and synthetic images be told apart? (Lopez-Paz and Oquab, 2017, arXiv:1610.06545)

A small classifier is trained to tell images of two sets apart, and asked about others of the same sets. If both are draws of
one distribution, it is right half of the time, whatever it learns. Above that, the sets differ; near 50 % it only says
that this classifier finds no difference. What two sets of real images give in the same way is the control.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8
from scipy import stats
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fetal_jax.evaluate import intervals, scores
from fetal_jax.evaluate.results import TwoSampleScore

FEWEST = 30  # images of each set, and FOLDS patients
MOST = 1000  # images of each set
FOLDS = 5
# Answers of one fold come from one classifier, and folds share most of their training images: of equal sets the accuracy
# scatters about this much more than a bootstrap of the answers says (measured on made-up sets, see the tests).
WIDER = 2**0.5
_LARGEST_SIDE = 64  # larger images are averaged down: more pixels cost time

# By space: the classifier in words, and how it is made from a seed.
CLASSIFIERS: Mapping[str, tuple[str, Callable[[int], Any]]] = {
  'features': (
    'logistic regression on the features',
    lambda seed: make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=500)),
  ),
  'pixels': (
    'random forest on the pixels',
    lambda seed: RandomForestClassifier(100, random_state=seed, n_jobs=-1),
  ),
}


class Sample(NamedTuple):
  """One of the two sets.

  Attributes:
    values: what the classifier sees of each image.
    labels: class of each image.
    groups: text [n], of each image; images of one group (a patient) are never on both sides of a fold.
  """

  values: Float[np.ndarray, 'n d']
  labels: Int[np.ndarray, ' n']
  groups: np.ndarray

  def take(self, indices: Int[np.ndarray, ' m']) -> 'Sample':
    """Returns some of the images."""
    return Sample(self.values[indices], self.labels[indices], self.groups[indices])


def tell_apart(a: Sample, b: Sample, space: str, *, seed: int = 0) -> TwoSampleScore:
  """Measures how well the classifier of a space tells two sets apart.

  Both sets are thinned to equally many images of every class, so that classes give nothing away. Each image is predicted by
  a classifier that was trained on the other four of five folds.

  Args:
    a: one set.
    b: the other; a group that is in both sets, a patient, counts as one.
    space: a key of `CLASSIFIERS`.
    seed: of the choice of images, of the folds and of the forest.

  Returns:
    The balanced accuracy with a 95 % interval by bootstrap over groups, widened by `WIDER`, because the classifier is not
    trained again for it. No accuracy where there are fewer than `FEWEST` images of a set, or too few groups for the folds.
  """
  a, b = thinned(a, b, seed)
  number = len(a.labels)
  groups = min(len(np.unique(one.groups)) for one in (a, b))
  if number < FEWEST or groups < FOLDS:
    why = f'needs {FEWEST} images of {FOLDS} patients in each set, with the same classes; there are {number} of {groups}'
    return TwoSampleScore(images=number, why=why)
  values = np.concatenate([a.values, b.values])
  sides = np.repeat(np.arange(2), number)
  grouped = np.concatenate([a.groups, b.groups])
  predicted = _predicted(values, sides, grouped, CLASSIFIERS[space][1], seed)
  value, low, high = _interval(sides, predicted, grouped, seed)
  return TwoSampleScore(images=number, accuracy=value, low=low, high=high)


def thinned(a: Sample, b: Sample, seed: int = 0) -> tuple[Sample, Sample]:
  """Returns as many images of every class from both sets, at random, and at most `MOST` in all."""
  rng = np.random.default_rng([seed, 0])
  classes = np.union1d(a.labels, b.labels)
  counts = np.array([min(np.equal(one.labels, k).sum() for one in (a, b)) for k in classes], int)
  counts = counts * MOST // max(MOST, int(counts.sum()))

  def draw(one: Sample) -> Sample:
    drawn = [
      rng.choice(np.flatnonzero(one.labels == k), n, replace=False)
      for k, n in zip(classes, counts, strict=True)
    ]
    return one.take(np.concatenate([np.empty(0, int), *drawn]))

  return draw(a), draw(b)


def _predicted(
  values: Float[np.ndarray, 'n d'],
  sides: Int[np.ndarray, ' n'],
  groups: np.ndarray,
  make: Callable[[int], Any],
  seed: int,
) -> Int[np.ndarray, ' n']:
  """Predicts the side of every image by a classifier that has seen nothing of its group."""
  predicted = np.empty(len(sides), int)
  for train, rest in StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed).split(
    values, sides, groups
  ):
    predicted[rest] = make(seed).fit(values[train], sides[train]).predict(values[rest])
  return predicted


def _interval(
  sides: Int[np.ndarray, ' n'], predicted: Int[np.ndarray, ' n'], groups: np.ndarray, seed: int
) -> tuple[float, float, float]:
  """Computes the balanced accuracy and its interval.

  Where every image is told right (or wrong) no resample differs: then the exact interval of so many independent groups.
  """
  answers = np.eye(2)[predicted]
  value = float(scores.balanced_accuracy(sides, answers)[0])
  weights = intervals.patient_weights(groups, intervals.RESAMPLES, seed)
  resampled = np.concatenate([scores.balanced_accuracy(sides, answers, one) for one in weights])
  if np.ptp(resampled) < 1e-12:
    fewest = min(len(np.unique(groups[sides == side])) for side in (0, 1))
    exact = stats.binomtest(round(value * fewest), fewest).proportion_ci(0.95)
    return value, float(exact.low), float(exact.high)
  low, high = value + WIDER * (np.quantile(resampled, [0.025, 0.975]) - value)
  return value, max(0.0, float(low)), min(1.0, float(high))


def pixels(images: UInt8[np.ndarray, 'n h w c']) -> Float[np.ndarray, 'n d']:
  """Returns images as rows of numbers in [0, 1], averaged over blocks to 64 pixels a side at most."""
  number, height, width, channels = images.shape
  factor = -(-max(height, width) // _LARGEST_SIDE)
  rows, columns = height // factor, width // factor
  cut = images[:, : rows * factor, : columns * factor].reshape(
    number, rows, factor, columns, factor, channels
  )
  return cut.mean((2, 4), dtype=np.float32).reshape(number, rows * columns * channels) / 255
