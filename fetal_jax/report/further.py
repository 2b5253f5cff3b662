"""What the predictions of the further regimes say: accuracy by number of synthetic images, and with a filter."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from fetal_jax.evaluate import intervals, paired
from fetal_jax.report import comparisons, kinds
from fetal_jax.report.comparisons import BASELINE, AllPredictions
from fetal_jax.runtime.errors import UserError

LEAST_POINTS = 3  # fewer do not make a curve

# Whether the filter helped is asked of the first of these that ran, whatever its result; see `comparisons.PLANNED`.
PLANNED = (
  'synth_r12_kept_then_real',
  'synth_r1_kept_then_real',
  'synth_r1_kept_plus_real',
  'synth_r12_kept_plus_real',
  'synth_r12_kept',
  'synth_r1_kept',
)


def curve(
  predictions: AllPredictions, sizes: Mapping[int, int], problems: list[str]
) -> dict[str, Any] | None:
  """Test accuracy against the number of synthetic images, for each use of them.

  Args:
    predictions: all that could be read.
    sizes: synthetic images of each round.
    problems: where a sentence is added for what could not be compared.

  Returns:
    {use: `models`, `overall`} for each of `kinds.USES` in which a model has at least `LEAST_POINTS` numbers; None without
    any. `models`: {model: `points`, `changes`}. A point has `images` (0: real images alone), `regime`, `seeds` (how many),
    `value`, `low`, `high`, `why`, `sd` (over seeds). `changes` and `overall` (the mean over models, of the numbers that all
    of them have) hold what `comparisons.paired` returns, or None, with `start` and `end` (numbers): `more`, from the
    fewest images that are any to the most, and `some`, from none to the most.
  """
  found = {}
  for use in kinds.USES:
    runs = {}
    for model, by_regime in predictions.items():
      points = _points(by_regime, use, sizes)
      if len(points) < LEAST_POINTS:
        continue
      try:
        intervals.as_runs(*_named({r: by_regime[r] for r in points.values()}))
      except UserError as error:
        problems.append(f'Accuracy of {model} by number of synthetic images: {error}.')
        continue
      runs[model] = {n: (regime, by_regime[regime]) for n, regime in points.items()}
    if runs:
      common = sorted(set.intersection(*(set(by_number) for by_number in runs.values())))
      models = {
        model: {
          'points': [{'images': n, 'regime': r, **_score(by)} for n, (r, by) in by_number.items()],
          'changes': _changes({model: by_number}, list(by_number)),
        }
        for model, by_number in runs.items()
      }
      try:
        overall = _changes(runs, common)
      except UserError as error:
        problems.append(f'Whether more synthetic images help: {error}.')
        overall = {'more': None, 'some': None}
      found[use] = {'models': models, 'overall': overall}
  ran = {regime for by_regime in predictions.values() for regime in by_regime}
  if not found and any(kinds.count(regime) for regime in ran):
    problems.append(
      f'Accuracy by number of synthetic images: no model has predictions for {LEAST_POINTS} numbers; the scores of those '
      'that ran are in results.csv.'
    )
  return found or None


def _points(by_regime: Mapping[str, Any], use: str, sizes: Mapping[int, int]) -> dict[int, str]:
  """{number of synthetic images: regime} in order. As many images as a round has are that round: it stands for both."""
  points: dict[int, str] = {}
  for regime in sorted(by_regime, key=lambda name: kinds.count(name) is not None):
    starts = regime == BASELINE and use != 'synthetic'
    n = 0 if starts else kinds.images(regime, sizes) if kinds.use(regime) == use else None
    if n is not None:
      points.setdefault(n, regime)
  return dict(sorted(points.items()))


def _named(by_regime: Mapping[str, Mapping[int, Any]]) -> tuple[list[Any], list[str]]:
  """All runs, and what an error calls each."""
  runs = [(run, f'{regime} (seed {seed})') for regime, by in by_regime.items() for seed, run in by.items()]
  return [run for run, _ in runs], [name for _, name in runs]


def _score(by_seed: Mapping[int, Any]) -> dict[str, Any]:
  runs = list(by_seed.values())
  return {
    'seeds': len(runs),
    **dataclasses.asdict(intervals.bootstrap_interval(runs)),
    'sd': intervals.over_seeds(runs)['sd'],
  }


def _changes(runs: Mapping[str, Mapping[int, tuple[str, Any]]], numbers: list[int]) -> dict[str, Any]:
  some = [n for n in numbers if n]
  changes: dict[str, Any] = {'more': None, 'some': None}
  for kind, start in (('more', min(some, default=0)), ('some', 0)):
    end = max(some, default=0)
    if start in numbers and start < end:
      names = {n: f'{n:,} synthetic images' for n in (start, end)}
      pair = {m: {names[n]: by_number[n][1] for n in names} for m, by_number in runs.items()}
      paired = comparisons.paired(pair, *names.values())
      changes[kind] = paired and {**paired, 'start': start, 'end': end}
  return changes


def filtered(predictions: AllPredictions, problems: list[str]) -> dict[str, Any] | None:
  """Every filtered regime beside the same one without filter.

  Returns:
    `planned` (see `comparisons.paired`, or None) and `models`: {model: {filtered regime: as
    `paired.compare_regimes` returns it, of the accuracy, with `baseline` None where there is nothing to compare
    with}}; seeds are those that both have. None if no filtered regime ran.
  """
  models: dict[str, dict[str, Any]] = {}
  for model, by_regime in predictions.items():
    for regime in filter(kinds.is_kept, by_regime):
      before = kinds.without_filter(regime)
      seeds = sorted(set(by_regime.get(before, {})) & set(by_regime[regime]))
      runs = {name: [by_regime[name][seed] for seed in seeds] for name in (before, regime) if seeds}
      try:
        found = paired.compare_regimes(
          runs or {regime: list(by_regime[regime].values())}, before, metrics=['accuracy']
        )
      except UserError as error:
        problems.append(f'What the filter changed for {model}: {error}.')
        continue
      models.setdefault(model, {})[regime] = {key: value for key, value in found.items() if key != 'notes'}
  if not models:
    return None
  try:
    planned = comparisons.first_pair(predictions, [(kinds.without_filter(name), name) for name in PLANNED])
  except UserError as error:
    problems.append(f'Whether the filter helped: {error}.')
    planned = None
  return {'planned': planned, 'models': models}
