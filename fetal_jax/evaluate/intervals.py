"""The uncertainty of a score: intervals by bootstrap over patients, by group of images, and the spread over seeds.

Images of one patient resemble each other, so a score's uncertainty comes from which patients were seen: a resample draws
patients with replacement and takes all their images (cluster bootstrap; Field and Welsh, 2007,
doi:10.1111/j.1467-9868.2007.00593.x). Intervals are percentiles of the resampled scores. They are about other patients from
the same source, judged by the same weights; the spread over seeds is about training again. An image whose patient is unknown counts as a
patient of its own (see `data.patients`): such intervals are over images, and too narrow if several show one patient.

`scipy.stats.bootstrap` resamples single observations; here an image's weight is how often its patient was drawn, and
all resamples of a score are a few array operations on weights [n, r].
"""

import math
import statistics
from collections.abc import Iterator, Sequence

import msgspec
import numpy as np

from fetal_jax.data import patients as patients_lib
from fetal_jax.evaluate.scores import METRICS, Values, Weights
from fetal_jax.runtime.errors import UserError
from fetal_jax.train.predictions import Predictions

RESAMPLES = 2000
_CHUNK = 100  # resamples at a time: 40 MB of weights for 50,000 images


class Estimate(msgspec.Struct, frozen=True):
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


class GroupRow(msgspec.Struct, frozen=True, kw_only=True):
  """The accuracy of one group of images and its interval.

  Attributes:
    name: of the group; '' for unknown.
    n, patients: number of its images and patients; None where the patients are unknown.
    accuracy, low, high, why: as `Estimate`.
  """

  name: str
  n: int
  patients: int | None
  accuracy: float | None
  low: float | None
  high: float | None
  why: str


class Spread(msgspec.Struct, frozen=True):
  """A score's spread over seeds.

  Attributes:
    values: the score of each seed.
    mean: of those that are defined; None if none is.
    sd: their standard deviation (n - 1); None for a single seed.
  """

  values: list[float | None]
  mean: float | None
  sd: float | None


def bootstrap_interval(
  predictions: Predictions | Sequence[Predictions],
  metric: str = 'accuracy',
  *,
  resamples: int = RESAMPLES,
  seed: int = 0,
  level: float = 0.95,
) -> Estimate:
  """Computes a score and its interval by bootstrap over patients.

  Args:
    predictions: of one run, or of several seeds on the same images: then the score is their mean, and a
      resample draws the same patients for all.
    metric: a key of `scores.METRICS`.
    resamples: how many.
    seed: of the draws. Equal seeds draw equal patients, whatever the order of the rows.
    level: the interval's coverage.

  Returns:
    The score and its interval. There is none if there is but one patient, or if all resamples score the same
    (say, every image is right): then the images do not tell how the score varies. A class that a resample lacks is
    left out of its mean, as in `scores.evaluate`.

  Raises:
    UserError: several runs that were not tested on the same images.
    ValueError: no such metric, no resamples, or a level not within (0, 1).
  """
  runs = as_runs(predictions)
  value, scores = resampled(runs, [metric], resamples, seed)[metric]
  return interval(value, scores, runs[0], level)


def score(predictions: Predictions, metric: str = 'accuracy') -> float | None:
  """Computes the score of the images as they are (a key of `scores.METRICS`), None where it is undefined."""
  _check_metric(metric)
  value = float(METRICS[metric](predictions.labels, predictions.probabilities)[0])
  return value if math.isfinite(value) else None


def _check_metric(metric: str) -> None:
  if metric not in METRICS:
    raise ValueError(f'no metric {metric!r}; there are: {", ".join(METRICS)}')


def resampled(
  runs: Sequence[Predictions], metrics: Sequence[str], resamples: int, seed: int
) -> dict[str, tuple[float, Values]]:
  """Computes {metric: (score, scores of the resamples)}, means over `runs`, whose rows are those of the same images."""
  for metric in metrics:
    _check_metric(metric)
  if resamples < 1:
    raise ValueError(f'resamples={resamples}; must be at least 1')
  parts: dict[str, list[Values]] = {metric: [_mean_score(runs, metric)] for metric in metrics}
  for weights in patient_weights(runs[0].patients, resamples, seed):
    for metric in metrics:
      parts[metric].append(_mean_score(runs, metric, weights))
  return {metric: (float(first[0]), np.concatenate(rest)) for metric, (first, *rest) in parts.items()}


def _mean_score(runs: Sequence[Predictions], metric: str, weights: Weights | None = None) -> Values:
  return np.mean([METRICS[metric](run.labels, run.probabilities, weights) for run in runs], axis=0)


def patient_weights(patients: np.ndarray, resamples: int, seed: int) -> Iterator[Weights]:
  """Yields how often each image is in each resample, a few resamples at a time: as often as its patient was drawn."""
  distinct, index = np.unique(patients, return_inverse=True)
  rng = np.random.default_rng(seed)
  shares = np.full(len(distinct), 1 / len(distinct))
  for start in range(0, resamples, _CHUNK):
    drawn = rng.multinomial(len(distinct), shares, size=min(_CHUNK, resamples - start))
    yield drawn.T[index].astype(np.float64)


def interval(
  value: float, scores: Values, predictions: Predictions, level: float, *, of_difference: bool = False
) -> Estimate:
  """Takes percentiles of resampled scores (NaN left out). Only a difference may be the same in all resamples."""
  if not 0 < level < 1:
    raise ValueError(f'level={level}; must be within (0, 1)')
  scores = scores[np.isfinite(scores)]
  if not math.isfinite(value) or not len(scores):
    return Estimate(None, why='undefined for these images')
  if len(np.unique(predictions.patients)) < 2:
    why = 'one patient only' if patients_lib.known(predictions.patients).all() else 'one image only'
    return Estimate(value, why=why)
  if not of_difference and np.ptp(scores) < 1e-12:
    return Estimate(value, why='every resample has the same score')
  low, high = np.quantile(scores, [(1 - level) / 2, (1 + level) / 2])
  return Estimate(value, float(low), float(high))


def as_runs(
  predictions: Predictions | Sequence[Predictions], names: Sequence[str] | None = None
) -> list[Predictions]:
  """Returns one or several runs as a list, every one's rows in the order of the image names.

  Args:
    predictions: of one run or several.
    names: what an error calls each; by default 'run 0', 'run 1', …

  Raises:
    UserError: no run, an image that is listed twice, or the runs' images, patients, labels or classes differ.
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
      raise UserError(f'{name}: image {str(twice[0])!r} is listed twice; run the classify stage again')
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
) -> list[GroupRow]:
  """Computes accuracy by US machine, operator or brain plane, with intervals by bootstrap over the group's patients.

  Args:
    predictions: of one run, or of several seeds (means).
    by: 'machine', 'operator' or 'brain_plane'.
    resamples, seed, level: as for `bootstrap_interval`.

  Returns:
    A row for each group that has images, in the order of the names and the unknown last. Percentile intervals of few
    patients are too narrow.
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
      GroupRow(
        name=name,
        n=len(members[0]),
        patients=patients_lib.count(members[0].patients),
        accuracy=found.value,
        low=found.low,
        high=found.high,
        why=found.why,
      )
    )
  return rows


def over_seeds(predictions: Sequence[Predictions], metric: str = 'accuracy') -> Spread:
  """Computes a score's spread over seeds."""
  runs = as_runs(predictions)
  scores = [score(run, metric) for run in runs]
  known = [value for value in scores if value is not None]
  return Spread(
    values=scores,
    mean=statistics.fmean(known) if known else None,
    sd=statistics.stdev(known) if len(known) > 1 else None,
  )
