"""How sure a score is: intervals by bootstrap over patients, by group of images, and the spread over seeds.

Images of one patient resemble each other, so a score's uncertainty comes from which patients were seen: a resample draws
patients with replacement and takes all their images (cluster bootstrap; Field and Welsh, 2007,
doi:10.1111/j.1467-9868.2007.00593.x). Intervals are percentiles of the resampled scores. They speak of other patients from
the same source judged by the same weights; the spread over seeds speaks of training again.

`scipy.stats.bootstrap` resamples single observations; here an image's weight is how often its patient was drawn, and
all resamples of a score are a few array operations on weights [n, r].
"""

import dataclasses
import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from fetal_jax.evaluate import calibration
from fetal_jax.evaluate.scores import Predictions
from fetal_jax.runtime.errors import UserError

RESAMPLES = 2000
_CHUNK = 100  # resamples at a time: 40 MB of weights for 50,000 images

Weights = Float[np.ndarray, 'n r']
Scores = Float[np.ndarray, ' r']


@dataclasses.dataclass(frozen=True)
class Estimate:
  """A value and its interval.

  Attributes:
    value: the score of the images as they are; None where it is undefined.
    low, high: the interval's ends, None if there is none.
    why: why there is no interval; '' if there is.
  """

  value: float | None
  low: float | None = None
  high: float | None = None
  why: str = ''


def accuracy(predictions: Predictions, weights: Weights) -> Scores:
  """The share of images whose most probable class is the true one."""
  right = predictions.probabilities.argmax(axis=1) == predictions.labels
  return right @ weights / weights.sum(axis=0)


def balanced_accuracy(predictions: Predictions, weights: Weights) -> Scores:
  """The mean recall of the classes that are there."""
  confusion = _confusion(predictions, weights)
  support = confusion.sum(axis=1)
  recall = np.einsum('kkr->kr', confusion) / np.maximum(support, 1)
  return recall.sum(axis=0) / (support > 0).sum(axis=0)


def macro_f1(predictions: Predictions, weights: Weights) -> Scores:
  """The mean F1 of the classes that are there."""
  confusion = _confusion(predictions, weights)
  support, predicted = confusion.sum(axis=1), confusion.sum(axis=0)
  f1 = 2 * np.einsum('kkr->kr', confusion) / np.maximum(support + predicted, 1)
  return f1.sum(axis=0) / (support > 0).sum(axis=0)


def auroc(predictions: Predictions, weights: Weights) -> Scores:
  """The mean over classes of the one-against-the-rest area under the ROC curve; NaN where there is one class only.

  The area is the chance that an image of the class scores higher than one of the rest, ties counting half.
  """
  areas = []
  for k in range(len(predictions.class_names)):
    scores, of_class = predictions.probabilities[:, k], predictions.labels == k
    rest = np.flatnonzero(~of_class)
    rest = rest[np.argsort(scores[rest])]
    below = np.zeros((len(rest) + 1, weights.shape[1]))  # weight of the i lowest scores of the rest
    np.cumsum(weights[rest], axis=0, out=below[1:])
    lower = np.searchsorted(scores[rest], scores[of_class], 'left')
    not_higher = np.searchsorted(scores[rest], scores[of_class], 'right')
    wins = np.einsum('nr,nr->r', weights[of_class], below[lower] + below[not_higher]) / 2
    pairs = weights[of_class].sum(axis=0) * below[-1]
    areas.append(np.where(pairs > 0, wins / np.maximum(pairs, 1), np.nan))
  defined = np.isfinite(areas)
  total = np.nansum(areas, axis=0)
  return np.where(defined.any(axis=0), total / np.maximum(defined.sum(axis=0), 1), np.nan)


def brier(predictions: Predictions, weights: Weights) -> Scores:
  """Brier's score over all classes; less is better."""
  return (
    calibration.squared_errors(predictions.labels, predictions.probabilities) @ weights / weights.sum(axis=0)
  )


# ECE is not among them: bins add up absolute differences, so resamples have a larger one than the images themselves.
METRICS: dict[str, Callable[[Predictions, Weights], Scores]] = {
  'accuracy': accuracy,
  'balanced_accuracy': balanced_accuracy,
  'macro_f1': macro_f1,
  'auroc': auroc,
  'brier': brier,
}


def _confusion(predictions: Predictions, weights: Weights) -> Float[np.ndarray, 'k k r']:
  """Confusion matrices (rows true, columns predicted) of all resamples."""
  k = len(predictions.class_names)
  cells = np.eye(k * k)[predictions.labels * k + predictions.probabilities.argmax(axis=1)]
  return (cells.T @ weights).reshape(k, k, -1)


def bootstrap_interval(
  predictions: Predictions | Sequence[Predictions],
  metric: str = 'accuracy',
  *,
  resamples: int = RESAMPLES,
  seed: int = 0,
  level: float = 0.95,
) -> Estimate:
  """A score and its interval by bootstrap over patients.

  Args:
    predictions: of one run, or of several seeds on the same images: then the score is their mean, and a
      resample draws the same patients for all.
    metric: a key of `METRICS`.
    resamples: how many.
    seed: of the draws. Equal seeds draw equal patients, whatever the order of the rows.
    level: the interval's coverage.

  Returns:
    The score and its interval. There is none if there is but one patient, or if all resamples score the same
    (say, every image is right): then the images do not tell how the score varies. A class that a resample lacks is
    left out of its mean, as in `classification.evaluate`.

  Raises:
    UserError: several runs that were not tested on the same images.
    ValueError: no such metric, no resamples, or a level not within (0, 1).
  """
  runs = as_runs(predictions)
  value, scores = resampled(runs, [metric], resamples, seed)[metric]
  return interval(value, scores, runs[0], level)


def score(predictions: Predictions, metric: str = 'accuracy') -> float | None:
  """The score of the images as they are (a key of `METRICS`), None where it is undefined."""
  _check_metric(metric)
  value = float(METRICS[metric](predictions, np.ones((len(predictions), 1)))[0])
  return value if math.isfinite(value) else None


def _check_metric(metric: str) -> None:
  if metric not in METRICS:
    raise ValueError(f'no metric {metric!r}; there are: {", ".join(METRICS)}')


def resampled(
  runs: Sequence[Predictions], metrics: Sequence[str], resamples: int, seed: int
) -> dict[str, tuple[float, Scores]]:
  """{metric: (score, scores of the resamples)}, means over `runs`, whose rows are those of the same images."""
  for metric in metrics:
    _check_metric(metric)
  if resamples < 1:
    raise ValueError(f'resamples={resamples}; must be at least 1')
  whole = np.ones((len(runs[0]), 1))
  parts: dict[str, list[Scores]] = {metric: [_mean_score(runs, metric, whole)] for metric in metrics}
  for weights in patient_weights(runs[0].patients, resamples, seed):
    for metric in metrics:
      parts[metric].append(_mean_score(runs, metric, weights))
  return {metric: (float(first[0]), np.concatenate(rest)) for metric, (first, *rest) in parts.items()}


def _mean_score(runs: Sequence[Predictions], metric: str, weights: Weights) -> Scores:
  return np.mean([METRICS[metric](run, weights) for run in runs], axis=0)


def patient_weights(patients: np.ndarray, resamples: int, seed: int) -> Iterator[Weights]:
  """How often each image is in each resample, a few resamples at a time: as often as its patient was drawn."""
  distinct, index = np.unique(patients, return_inverse=True)
  rng = np.random.default_rng(seed)
  shares = np.full(len(distinct), 1 / len(distinct))
  for start in range(0, resamples, _CHUNK):
    drawn = rng.multinomial(len(distinct), shares, size=min(_CHUNK, resamples - start))
    yield drawn.T[index].astype(np.float64)


def interval(
  value: float, scores: Scores, predictions: Predictions, level: float, *, of_difference: bool = False
) -> Estimate:
  """Percentiles of resampled scores (NaN left out). Only a difference may be the same in all resamples."""
  if not 0 < level < 1:
    raise ValueError(f'level={level}; must be within (0, 1)')
  scores = scores[np.isfinite(scores)]
  if not math.isfinite(value) or not len(scores):
    return Estimate(None, why='undefined for these images')
  if len(np.unique(predictions.patients)) < 2:
    return Estimate(value, why='one patient only')
  if not of_difference and np.ptp(scores) < 1e-12:
    return Estimate(value, why='every resample has the same score')
  low, high = np.quantile(scores, [(1 - level) / 2, (1 + level) / 2])
  return Estimate(value, float(low), float(high))


def as_runs(
  predictions: Predictions | Sequence[Predictions], names: Sequence[str] | None = None
) -> list[Predictions]:
  """One or several runs as a list, every one's rows in the order of the image names.

  Args:
    predictions: of one run or several.
    names: what an error calls each; by default 'run 0', 'run 1', …

  Raises:
    UserError: no run, an image is there twice, or the runs' images, patients, labels or classes differ.
  """
  given = [predictions] if isinstance(predictions, Predictions) else list(predictions)
  names = names or [f'run {i}' for i in range(len(given))]
  if not given:
    raise UserError('no predictions to judge; run the classify stage')
  runs: list[Predictions] = []
  for name, run in zip(names, given, strict=True):
    run = run.take(np.argsort(run.images, kind='stable'))
    twice = run.images[1:][run.images[1:] == run.images[:-1]]
    if len(twice):
      raise UserError(f'{name}: image {str(twice[0])!r} is there twice; run the classify stage again')
    if runs:
      _check_same(runs[0], run, f'{names[0]} and {name}')
    runs.append(run)
  return runs


def _check_same(a: Predictions, b: Predictions, pair: str) -> None:
  advice = 'compare runs on one split of one data set'
  if a.class_names != b.class_names:
    raise UserError(
      f'{pair}: different classes ({", ".join(a.class_names)}; {", ".join(b.class_names)}); {advice}'
    )
  only_a, only_b = np.setdiff1d(a.images, b.images), np.setdiff1d(b.images, a.images)
  if len(only_a) or len(only_b):
    example = str([*only_a, *only_b][0])
    raise UserError(
      f'{pair}: not tested on the same images ({len(only_a)} only in the former, {len(only_b)} only in the latter, '
      f'such as {example!r}); {advice}'
    )
  for what, x, y in (('patients', a.patients, b.patients), ('labels', a.labels, b.labels)):
    if (x != y).any():
      raise UserError(f'{pair}: different {what} for image {str(a.images[x != y][0])!r}; {advice}')


_GROUPS = {'machine': 'machines', 'operator': 'operators', 'brain_plane': 'brain_planes'}


def by_group(
  predictions: Predictions | Sequence[Predictions],
  by: str,
  *,
  resamples: int = RESAMPLES,
  seed: int = 0,
  level: float = 0.95,
) -> list[dict[str, Any]]:
  """Accuracy by US machine, operator or brain plane, with intervals by bootstrap over the group's patients.

  Args:
    predictions: of one run, or of several seeds (means).
    by: 'machine', 'operator' or 'brain_plane'.
    resamples, seed, level: as for `bootstrap_interval`.

  Returns:
    A dict for each group that has images, in the order of the names and the unknown last: `name` ('' for unknown),
    `n` images, `patients`, `accuracy`, `low`, `high`, `why`. Percentile intervals of few patients are too narrow.
  """
  if by not in _GROUPS:
    raise ValueError(f'no grouping by {by!r}; there are: {", ".join(_GROUPS)}')
  runs = as_runs(predictions)
  groups = getattr(runs[0], _GROUPS[by])
  rows = []
  for name in sorted({str(group) for group in groups}, key=lambda name: (not name, name)):
    members = [run.take(groups == name) for run in runs]
    found = bootstrap_interval(members, 'accuracy', resamples=resamples, seed=seed, level=level)
    rows.append(
      {
        'name': name,
        'n': len(members[0]),
        'patients': len(np.unique(members[0].patients)),
        'accuracy': found.value,
        'low': found.low,
        'high': found.high,
        'why': found.why,
      }
    )
  return rows


def over_seeds(predictions: Sequence[Predictions], metric: str = 'accuracy') -> dict[str, Any]:
  """A score's spread over seeds: `values` by seed, their `mean`, and `sd` (n - 1; None for a single seed)."""
  runs = as_runs(predictions)
  scores = [score(run, metric) for run in runs]
  known = [value for value in scores if value is not None]
  return {
    'values': scores,
    'mean': statistics.fmean(known) if known else None,
    'sd': statistics.stdev(known) if len(known) > 1 else None,
  }
