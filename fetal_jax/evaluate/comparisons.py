"""The comparisons of a run: every regime with real images alone, those that were fixed beforehand, and the filter's.

All are computed from predictions alone.
"""

import statistics
from collections.abc import Mapping, Sequence

import msgspec

from fetal_jax.data import patients as patients_lib
from fetal_jax.evaluate import intervals, paired
from fetal_jax.evaluate.intervals import GroupRow
from fetal_jax.evaluate.paired import RegimeComparison
from fetal_jax.runtime.errors import UserError
from fetal_jax.train import regimes
from fetal_jax.train.predictions import Predictions
from fetal_jax.train.regimes import CONTROL

BASELINE = 'real'

# Whether synthetic data helped is asked of the first of these that ran, whatever its result: the best of several
# regimes would look better than it is.
PLANNED = ('synth_r12_then_real', 'synth_r1_then_real', 'synth_r1_plus_real')

# Whether the filter helped is asked of the first of these that ran, likewise.
PLANNED_KEPT = (
  'synth_r12_kept_then_real',
  'synth_r1_kept_then_real',
  'synth_r1_kept_plus_real',
  'synth_r12_kept_plus_real',
  'synth_r12_kept',
  'synth_r1_kept',
)

GROUPINGS = ('machine', 'operator', 'brain_plane')

# {model: {regime: {seed: predictions}}}
AllPredictions = Mapping[str, Mapping[str, Mapping[int, Predictions]]]


class PairedDifference(msgspec.Struct, frozen=True, kw_only=True):
  """The mean over models of the change in test accuracy from one regime to another.

  Attributes:
    baseline, regime: the two regimes.
    models: {model: its own difference}.
    seeds: those that all models have in both regimes.
    images, patients: number of them in the test set; `patients` is None where they are unknown.
    metric: 'accuracy'.
    value, low, high, why: the difference as a fraction with its 95 % interval, see `intervals.Estimate`.
  """

  baseline: str
  regime: str
  models: dict[str, float]
  seeds: list[int]
  images: int
  patients: int | None
  metric: str
  value: float | None
  low: float | None
  high: float | None
  why: str


class Comparisons(msgspec.Struct, frozen=True, kw_only=True):
  """All comparisons of a run's main regimes.

  Attributes:
    planned: the comparison that was fixed beforehand; None if no model has both regimes.
    control: the same from `regimes.CONTROL`; None if that did not run.
    controls: {model: `control` of this model alone}.
    models: {model: its regimes beside each other}.
    groups: {model: {regime: {grouping: rows}}}, for real images alone and for the best regime with synthetic ones.
  """

  planned: PairedDifference | None
  control: PairedDifference | None
  controls: dict[str, PairedDifference]
  models: dict[str, RegimeComparison]
  groups: dict[str, dict[str, dict[str, list[GroupRow]]]]


class FilterEffect(msgspec.Struct, frozen=True, kw_only=True):
  """Every filtered regime beside the same one without filter.

  Attributes:
    planned: the comparison that was fixed beforehand; None if no model has both regimes.
    models: {model: {filtered regime: its accuracy, with `baseline` None where there is nothing to compare with}}.
  """

  planned: PairedDifference | None
  models: dict[str, dict[str, RegimeComparison]]


def compare(predictions: AllPredictions, problems: list[str]) -> Comparisons:
  """Makes all comparisons of a run.

  Args:
    predictions: of the main regimes.
    problems: a sentence is added for what could not be compared.
  """
  models: dict[str, RegimeComparison] = {}
  groups: dict[str, dict[str, dict[str, list[GroupRow]]]] = {}
  for model, by_regime in predictions.items():
    runs = {regime: list(by_seed.values()) for regime, by_seed in by_regime.items()}
    try:
      models[model] = paired.compare_regimes(runs, BASELINE)
    except UserError as error:
      problems.append(f'Intervals and differences of {model}: {error}.')
      continue
    chosen = dict.fromkeys([BASELINE, best(models[model])])
    groups[model] = {
      regime: {by: intervals.by_group(runs[regime], by) for by in GROUPINGS}
      for regime in chosen
      if regime in runs
    }
  try:
    fixed = planned(predictions)
    control = difference(predictions, CONTROL, fixed.regime) if fixed else None
    controls = _controls(predictions, control)
  except UserError as error:
    problems.append(f'Whether synthetic data helped: {error}.')
    fixed, control, controls = None, None, {}
  return Comparisons(planned=fixed, control=control, controls=controls, models=models, groups=groups)


def _controls(predictions: AllPredictions, control: PairedDifference | None) -> dict[str, PairedDifference]:
  """Computes the difference from the control of each model alone, on all seeds that it has."""
  if control is None:
    return {}
  found = {
    model: difference({model: predictions[model]}, control.baseline, control.regime)
    for model in control.models
  }
  return {model: one for model, one in found.items() if one}


def best(compared: RegimeComparison) -> str | None:
  """Returns the regime with synthetic images that has the highest mean accuracy."""
  scores = {
    regime: found.scores['accuracy'].value or 0.0
    for regime, found in compared.regimes.items()
    if regime not in (BASELINE, CONTROL)
  }
  return max(scores, key=lambda regime: scores[regime], default=None)


def planned(predictions: AllPredictions) -> PairedDifference | None:
  """Computes the change in test accuracy from real images alone to the first of `PLANNED` that ran.

  Raises:
    UserError: not all runs were tested on the same images.
  """
  return first_pair(predictions, [(BASELINE, regime) for regime in PLANNED])


def first_pair(predictions: AllPredictions, pairs: Sequence[tuple[str, str]]) -> PairedDifference | None:
  """Computes the difference of the first of `pairs` (baseline, regime) that a model has, None if there is none."""
  return next(filter(None, (difference(predictions, *pair) for pair in pairs)), None)


def difference(predictions: AllPredictions, baseline: str, regime: str) -> PairedDifference | None:
  """Computes the mean over models of the change in test accuracy from `baseline` to `regime`.

  Models count equally: only seeds that all of them have in both regimes are taken. A resample draws the same patients
  for all.

  Returns:
    The difference; None if no model has both.

  Raises:
    UserError: not all runs were tested on the same images.
  """
  both = {
    model: sorted(set(by.get(baseline, {})) & set(by.get(regime, {}))) for model, by in predictions.items()
  }
  both = {model: seeds for model, seeds in both.items() if seeds}
  seeds = sorted(set.intersection(*map(set, both.values()))) if both else []
  if not seeds:
    return None
  before, after = (
    {model: [predictions[model][which][seed] for seed in seeds] for model in both}
    for which in (baseline, regime)
  )
  found = paired.paired_difference(
    [run for runs in before.values() for run in runs],
    [run for runs in after.values() for run in runs],
    'accuracy',
    names=(baseline, regime),
  )
  first = next(iter(before.values()))[0]
  return PairedDifference(
    baseline=baseline,
    regime=regime,
    models={model: _accuracy(after[model]) - _accuracy(before[model]) for model in both},
    seeds=seeds,
    images=len(first),
    patients=patients_lib.count(first.patients),
    metric='accuracy',
    **msgspec.structs.asdict(found),
  )


def _accuracy(runs: list[Predictions]) -> float:
  return statistics.fmean(intervals.score(run) or 0.0 for run in runs)


def filtered(predictions: AllPredictions, problems: list[str]) -> FilterEffect | None:
  """Compares every filtered regime with the same one without filter, on the seeds that both have.

  Args:
    predictions: all that could be read.
    problems: a sentence is added for what could not be compared.

  Returns:
    The comparisons; None if no filtered regime ran.
  """
  models: dict[str, dict[str, RegimeComparison]] = {}
  for model, by_regime in predictions.items():
    for regime in filter(regimes.is_kept, by_regime):
      before = regimes.without_filter(regime)
      seeds = sorted(set(by_regime.get(before, {})) & set(by_regime[regime]))
      runs = {name: [by_regime[name][seed] for seed in seeds] for name in (before, regime) if seeds}
      runs = runs or {regime: list(by_regime[regime].values())}
      try:
        found = paired.compare_regimes(runs, before, metrics=['accuracy'])
      except UserError as error:
        problems.append(f'What the filter changed for {model}: {error}.')
        continue
      models.setdefault(model, {})[regime] = found
  if not models:
    return None
  try:
    fixed = first_pair(predictions, [(regimes.without_filter(name), name) for name in PLANNED_KEPT])
  except UserError as error:
    problems.append(f'Whether the filter helped: {error}.')
    fixed = None
  return FilterEffect(planned=fixed, models=models)
