"""Test accuracy against the number of synthetic images, for each use of them."""

from collections.abc import Mapping, Sequence

import msgspec

from fetal_jax.evaluate import comparisons, intervals
from fetal_jax.evaluate.comparisons import BASELINE, AllPredictions, PairedDifference
from fetal_jax.runtime.errors import UserError
from fetal_jax.train import regimes
from fetal_jax.train.predictions import Predictions

LEAST_POINTS = 3  # fewer do not make a curve


class CurvePoint(msgspec.Struct, frozen=True, kw_only=True):
  """The accuracy of one model with one number of synthetic images.

  Attributes:
    images: number of synthetic images; 0: real images alone.
    regime: that was trained.
    seeds: how many.
    value, low, high, why: mean accuracy and its interval, see `intervals.Estimate`.
    sd: standard deviation over seeds (n - 1); None for a single seed.
  """

  images: int
  regime: str
  seeds: int
  value: float | None
  low: float | None
  high: float | None
  why: str
  sd: float | None


class Change(PairedDifference, frozen=True):
  """A difference between two numbers of synthetic images, `start` and `end`."""

  start: int
  end: int


class Changes(msgspec.Struct, frozen=True, kw_only=True):
  """The changes between the ends of a curve; None where a curve lacks an end.

  Attributes:
    more: from the fewest synthetic images that are not 0 to the most.
    some: from none to the most.
  """

  more: Change | None = None
  some: Change | None = None


class ModelCurve(msgspec.Struct, frozen=True, kw_only=True):
  """The curve of one model, points in order of their number of images."""

  points: list[CurvePoint]
  changes: Changes


class UseCurve(msgspec.Struct, frozen=True, kw_only=True):
  """The curves of one use of synthetic images.

  Attributes:
    models: {model: its curve}.
    overall: the mean over models, of the numbers of images that all of them have.
  """

  models: dict[str, ModelCurve]
  overall: Changes


# {number of synthetic images: (regime, {seed: predictions})}
_Runs = Mapping[int, tuple[str, Mapping[int, Predictions]]]


def curve(
  predictions: AllPredictions, sizes: Mapping[int, int], problems: list[str]
) -> dict[str, UseCurve] | None:
  """Computes the curves of a run.

  Args:
    predictions: all that could be read.
    sizes: synthetic images of each round.
    problems: a sentence is added for what could not be compared.

  Returns:
    {use: curves} for each of `regimes.USES` in which a model has at least `LEAST_POINTS` numbers; None without any.
  """
  found = {}
  for use in regimes.USES:
    if runs := _runs(predictions, use, sizes, problems):
      found[use] = _curves(runs, problems)
  ran = {regime for by_regime in predictions.values() for regime in by_regime}
  if not found and any(regimes.count(regime) for regime in ran):
    problems.append(
      f'Accuracy by number of synthetic images: no model has predictions for {LEAST_POINTS} numbers; the scores of those '
      'that ran are in results.csv.'
    )
  return found or None


def _runs(
  predictions: AllPredictions, use: str, sizes: Mapping[int, int], problems: list[str]
) -> dict[str, _Runs]:
  """Finds the runs of each model that make a curve."""
  runs: dict[str, _Runs] = {}
  for model, by_regime in predictions.items():
    points = _points(by_regime, use, sizes)
    if len(points) < LEAST_POINTS:
      continue
    try:
      intervals.as_runs(*_named({regime: by_regime[regime] for regime in points.values()}))
    except UserError as error:
      problems.append(f'Accuracy of {model} by number of synthetic images: {error}.')
      continue
    runs[model] = {n: (regime, by_regime[regime]) for n, regime in points.items()}
  return runs


def _curves(runs: Mapping[str, _Runs], problems: list[str]) -> UseCurve:
  models = {
    model: ModelCurve(
      points=[_point(n, regime, list(by_seed.values())) for n, (regime, by_seed) in by_number.items()],
      changes=_changes({model: by_number}, list(by_number)),
    )
    for model, by_number in runs.items()
  }
  common = sorted(set.intersection(*(set(by_number) for by_number in runs.values())))
  try:
    overall = _changes(runs, common)
  except UserError as error:
    problems.append(f'Whether more synthetic images help: {error}.')
    overall = Changes()
  return UseCurve(models=models, overall=overall)


def _points(
  by_regime: Mapping[str, Mapping[int, Predictions]], use: str, sizes: Mapping[int, int]
) -> dict[int, str]:
  """Finds {number of synthetic images: regime}, in order.

  A regime of a whole round stands for the regime of the same number of images too.
  """
  points: dict[int, str] = {}
  for regime in sorted(by_regime, key=lambda name: regimes.count(name) is not None):
    starts = regime == BASELINE and use != 'synthetic'
    n = 0 if starts else regimes.images(regime, sizes) if regimes.use(regime) == use else None
    if n is not None:
      points.setdefault(n, regime)
  return dict(sorted(points.items()))


def _named(
  by_regime: Mapping[str, Mapping[int, Predictions]],
) -> tuple[list[Predictions], list[str]]:
  """Lists all runs, and what an error calls each."""
  runs = [(run, f'{regime} (seed {seed})') for regime, by in by_regime.items() for seed, run in by.items()]
  return [run for run, _ in runs], [name for _, name in runs]


def _point(images: int, regime: str, runs: Sequence[Predictions]) -> CurvePoint:
  return CurvePoint(
    images=images,
    regime=regime,
    seeds=len(runs),
    sd=intervals.over_seeds(runs).sd,
    **msgspec.structs.asdict(intervals.bootstrap_interval(runs)),
  )


def _changes(runs: Mapping[str, _Runs], numbers: Sequence[int]) -> Changes:
  """Computes the changes between the ends of `numbers`."""
  end = max(numbers, default=0)
  fewest = min((n for n in numbers if n), default=0)

  def change(start: int) -> Change | None:
    if start not in numbers or start >= end:
      return None
    names = {n: f'{n:,} synthetic images' for n in (start, end)}
    pair = {m: {names[n]: by_number[n][1] for n in names} for m, by_number in runs.items()}
    found = comparisons.difference(pair, *names.values())
    return Change(**msgspec.structs.asdict(found), start=start, end=end) if found else None

  return Changes(more=change(fewest), some=change(0))
