"""Comparison of classifiers on the same images: paired differences, tests, and one model's regimes beside each other.

Both saw the same patients, so a difference is much surer than either score: every resample draws the same patients for both.
"""

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
from jaxtyping import Bool, Float

from fetal_jax.data import patients as patients_lib
from fetal_jax.evaluate.intervals import RESAMPLES, Estimate, as_runs, interval, over_seeds, resampled
from fetal_jax.evaluate.scores import METRICS
from fetal_jax.train.predictions import Predictions

_AS_TRAINED = (
  'They hold for the classifiers as trained; ± is the sd over seeds (n - 1), which is about training again.'
)
_MCNEMAR = (
  "McNemar's exact test compares pairs of seeds image by image; it ignores that images of one patient depend on each "
  'other, so its p is too small where patients have several images.'
)
_UNCORRECTED = 'No p is corrected for the number of comparisons.'
NOTES = (
  'Scores are means over seeds; their intervals are percentiles of a bootstrap over patients (all images of a drawn '
  f'patient), the same patients for every seed and regime. {_AS_TRAINED}',
  'A difference is the regime minus the baseline, over the same resamples. Its p exchanges the two classifiers patient '
  'by patient (two-sided), so images of one patient count as what they are.',
  _MCNEMAR,
  _UNCORRECTED,
)
NOTES_OF_UNKNOWN_PATIENTS = (
  'Scores are means over seeds; their intervals are percentiles of a bootstrap over images, because the patients are '
  f'unknown, the same images for every seed and regime: too narrow if several show one patient. {_AS_TRAINED}',
  'A difference is the regime minus the baseline, over the same resamples. Its p exchanges the two classifiers image by '
  'image (two-sided): too small if several images show one patient.',
  _MCNEMAR,
  _UNCORRECTED,
)


class McNemar(msgspec.Struct, frozen=True):
  """The images that only one of two classifiers has right, and the exact two-sided p that chance splits them so."""

  only_baseline: int
  only_regime: int
  p_value: float


class RegimeScore(msgspec.Struct, frozen=True, kw_only=True):
  """A score of a regime, the mean over its seeds.

  Attributes:
    value, low, high, why: as `Estimate`.
    by_seed: the score of each seed.
    sd: their standard deviation (n - 1); None for a single seed.
  """

  value: float | None
  low: float | None
  high: float | None
  why: str
  by_seed: list[float | None]
  sd: float | None


class ComparedRegime(msgspec.Struct, frozen=True, kw_only=True):
  """One regime beside the baseline; without a baseline, and of the baseline itself, only the scores.

  Attributes:
    seeds: how many.
    scores: {metric: score}.
    difference: {metric: the regime minus the baseline}.
    p_value: of the difference in accuracy, by `exchange_test`.
    mcnemar: for each pair of seeds.
  """

  seeds: int
  scores: dict[str, RegimeScore]
  difference: dict[str, Estimate] | None = None
  p_value: float | None = None
  mcnemar: list[McNemar] | None = None


class RegimeComparison(msgspec.Struct, frozen=True, kw_only=True):
  """One model's regimes beside each other.

  Attributes:
    baseline: the regime that the others are compared with; None if it did not run.
    images, patients: number of them in the test set; `patients` is None where they are unknown.
    level, resamples: of the intervals.
    regimes: {regime: its scores and differences}.
    notes: sentences that belong beneath a table.
  """

  baseline: str | None
  images: int
  patients: int | None
  level: float
  resamples: int
  regimes: dict[str, ComparedRegime]
  notes: list[str]


def paired_difference(
  a: Predictions | Sequence[Predictions],
  b: Predictions | Sequence[Predictions],
  metric: str = 'accuracy',
  *,
  names: tuple[str, str] = ('a', 'b'),
  resamples: int = RESAMPLES,
  seed: int = 0,
  level: float = 0.95,
) -> Estimate:
  """Computes the score of `b` minus that of `a`, with its interval by paired bootstrap over patients.

  Args:
    a, b: predictions of one run each, or of several seeds each (means; the numbers of seeds may differ).
    metric: a key of `scores.METRICS`.
    names: what an error calls `a` and `b`.
    resamples, seed, level: as for `intervals.bootstrap_interval`.

  Raises:
    UserError: not all runs were tested on the same images; it names what differs.
  """
  runs_a, runs_b = _pair(a, b, names)
  value_a, scores_a = resampled(runs_a, [metric], resamples, seed)[metric]
  value_b, scores_b = resampled(runs_b, [metric], resamples, seed)[metric]
  return interval(value_b - value_a, scores_b - scores_a, runs_a[0], level, of_difference=True)


def mcnemar(baseline: Predictions, regime: Predictions, *, names: tuple[str, str] = ('a', 'b')) -> McNemar:
  """Runs McNemar's exact test: are the images that only one classifier has right split evenly?

  Under the null hypothesis their split is binomial with 1/2 (McNemar, 1947, doi:10.1007/BF02295996). It takes images
  for independent: where patients have several, p is too small, and `exchange_test` is the one to trust.

  Raises:
    UserError: the two were not tested on the same images; it names what differs.
  """
  from scipy import stats

  (a,), (b,) = _pair(baseline, regime, names)
  right_a, right_b = _right(a), _right(b)
  only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
  p_value = stats.binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1.0
  return McNemar(only_a, only_b, float(p_value))


def exchange_test(
  a: Predictions | Sequence[Predictions],
  b: Predictions | Sequence[Predictions],
  *,
  names: tuple[str, str] = ('a', 'b'),
  resamples: int = RESAMPLES,
  seed: int = 0,
) -> float:
  """Computes the two-sided p of the difference in accuracy, by exchanging the classifiers patient by patient.

  If both are equally good, a patient's images might as well have come out the other way round: the sign of each
  patient's difference is random (a permutation test of pairs, all images of a patient together).

  Returns:
    p, exact if there are at most `resamples` exchanges, else (1 + the number at least as extreme) / (1 + `resamples`).

  Raises:
    UserError: not all runs were tested on the same images; it names what differs.
  """
  from scipy import stats

  runs_a, runs_b = _pair(a, b, names)
  gain = np.mean([_right(run) for run in runs_b], axis=0) - np.mean([_right(run) for run in runs_a], axis=0)
  _, index = np.unique(runs_a[0].patients, return_inverse=True)
  by_patient = np.bincount(index, gain)
  by_patient = by_patient[np.abs(by_patient) > 1e-9]  # the others stay the same whatever their sign
  if len(by_patient) < 2:
    return 1.0  # either sign is as extreme as the other

  def total(gains: Float[np.ndarray, '*r p'], axis: int = -1) -> Float[np.ndarray, '*r']:
    return gains.sum(axis=axis)

  found = stats.permutation_test(
    (by_patient,),
    total,
    permutation_type='samples',
    vectorized=True,
    n_resamples=resamples,
    batch=250,
    rng=np.random.default_rng(seed),
  )
  return float(found.pvalue)


def compare_regimes(
  runs: Mapping[str, Sequence[Predictions]],
  baseline: str = 'real',
  *,
  metrics: Sequence[str] = tuple(METRICS),
  resamples: int = RESAMPLES,
  seed: int = 0,
  level: float = 0.95,
) -> RegimeComparison:
  """Compares one model's regimes with each other, and each with `baseline`.

  Args:
    runs: {regime: predictions by seed}, all on the same images.
    baseline: the regime that the others are compared with; without it in `runs` there are no differences.
    metrics: keys of `scores.METRICS`.
    resamples, seed, level: as for `intervals.bootstrap_interval`.

  Raises:
    UserError: there are no runs, or not all were tested on the same images; it names the regimes and what differs.
  """
  groups = _aligned(runs)
  first = next(iter(groups.values()))[0]
  patients = patients_lib.count(first.patients)
  drawn = {regime: resampled(group, metrics, resamples, seed) for regime, group in groups.items()}

  def scores(regime: str) -> dict[str, RegimeScore]:
    found = {}
    for metric, (value, resamples_of) in drawn[regime].items():
      spread = over_seeds(groups[regime], metric)
      estimate = interval(value, resamples_of, first, level)
      found[metric] = RegimeScore(**msgspec.structs.asdict(estimate), by_seed=spread.values, sd=spread.sd)
    return found

  def difference(regime: str) -> dict[str, Estimate]:
    found = {}
    for metric, (value, resamples_of) in drawn[regime].items():
      base_value, base_resamples = drawn[baseline][metric]
      change = resamples_of - base_resamples
      found[metric] = interval(value - base_value, change, first, level, of_difference=True)
    return found

  def compared(regime: str) -> ComparedRegime:
    seeds = len(groups[regime])
    if baseline not in groups or regime == baseline:
      return ComparedRegime(seeds=seeds, scores=scores(regime))
    base, group = groups[baseline], groups[regime]
    return ComparedRegime(
      seeds=seeds,
      scores=scores(regime),
      difference=difference(regime),
      p_value=exchange_test(base, group, resamples=resamples, seed=seed),
      mcnemar=[mcnemar(a, b) for a, b in zip(base, group, strict=False)],  # as many pairs as both have
    )

  return RegimeComparison(
    baseline=baseline if baseline in groups else None,
    images=len(first),
    patients=patients,
    level=level,
    resamples=resamples,
    regimes={regime: compared(regime) for regime in groups},
    notes=list(NOTES if patients is not None else NOTES_OF_UNKNOWN_PATIENTS),
  )


def _aligned(runs: Mapping[str, Sequence[Predictions]]) -> dict[str, list[Predictions]]:
  """Returns the regimes that have runs, all runs with the same rows."""
  names = [name for regime, group in runs.items() for name in _names(regime, group)]
  ordered = iter(as_runs([run for group in runs.values() for run in group], names))
  return {regime: [next(ordered) for _ in group] for regime, group in runs.items() if group}


def _pair(
  a: Predictions | Sequence[Predictions], b: Predictions | Sequence[Predictions], names: tuple[str, str]
) -> tuple[list[Predictions], list[Predictions]]:
  """Returns both as lists of runs with the same rows."""
  runs_a, runs_b = ([x] if isinstance(x, Predictions) else list(x) for x in (a, b))
  runs = as_runs([*runs_a, *runs_b], [*_names(names[0], runs_a), *_names(names[1], runs_b)])
  return runs[: len(runs_a)], runs[len(runs_a) :]


def _names(name: str, runs: Sequence[Predictions]) -> list[str]:
  return [name] if len(runs) == 1 else [f'{name} (run {i})' for i in range(len(runs))]


def _right(predictions: Predictions) -> Bool[np.ndarray, ' n']:
  return predictions.probabilities.argmax(axis=1) == predictions.labels
