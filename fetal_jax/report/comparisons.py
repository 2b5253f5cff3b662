"""What the predictions alone say: every regime against real images, one comparison fixed beforehand, and subgroups."""

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from fetal_jax.evaluate import intervals
from fetal_jax.evaluate import paired as paired_lib
from fetal_jax.train.predictions import Predictions
from fetal_jax.runtime.errors import UserError
from fetal_jax.train.regimes import CONTROL

BASELINE = 'real'

# Whether synthetic data helped is asked of the first of these that ran, whatever its result: the best of several
# regimes would look better than it is.
PLANNED = ('synth_r12_then_real', 'synth_r1_then_real', 'synth_r1_plus_real')

GROUPINGS = ('machine', 'operator', 'brain_plane')

# {model: {regime: {seed: predictions}}}
AllPredictions = Mapping[str, Mapping[str, Mapping[int, Predictions]]]


def compare(predictions: AllPredictions, problems: list[str]) -> dict[str, Any]:
  """All comparisons of a run.

  Args:
    predictions: those that could be read.
    problems: where a sentence is added for what could not be compared.

  Returns:
    A dict that JSON can hold: `planned` (see `planned`), `control` (the same from `regimes.CONTROL`, None if that did not
    run), `models`: {model: as `paired_lib.compare_regimes` returns
    it}, and `groups`: {model: {regime: {grouping: rows of `intervals.by_group`}}} for real images alone and for the
    best regime with synthetic ones.
  """
  models, groups = {}, {}
  for model, by_regime in predictions.items():
    runs = {regime: list(by_seed.values()) for regime, by_seed in by_regime.items()}
    try:
      models[model] = paired_lib.compare_regimes(runs, BASELINE)
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
    control = paired(predictions, CONTROL, fixed['regime']) if fixed else None
  except UserError as error:
    problems.append(f'Whether synthetic data helped: {error}.')
    fixed = control = None
  return {'planned': fixed, 'control': control, 'models': models, 'groups': groups}


def best(compared: dict[str, Any]) -> str | None:
  """Of one model's regimes with synthetic images the one with the highest mean accuracy."""
  others = [regime for regime in compared['regimes'] if regime not in (BASELINE, CONTROL)]
  scores = {regime: compared['regimes'][regime]['scores']['accuracy']['value'] for regime in others}
  return max(others, key=lambda regime: scores[regime], default=None)


def planned(predictions: AllPredictions, regimes: tuple[str, ...] = PLANNED) -> dict[str, Any] | None:
  """The change in test accuracy from real images alone to the first of `regimes` that ran; see `paired`.

  Raises:
    UserError: not all runs were tested on the same images.
  """
  return first_pair(predictions, [(BASELINE, regime) for regime in regimes])


def first_pair(predictions: AllPredictions, pairs: Sequence[tuple[str, str]]) -> dict[str, Any] | None:
  """`paired` of the first of `pairs` (baseline, regime) that a model has, None if there is none."""
  return next(filter(None, (paired(predictions, *pair) for pair in pairs)), None)


def paired(predictions: AllPredictions, baseline: str, regime: str) -> dict[str, Any] | None:
  """The mean over models of the change in test accuracy from `baseline` to `regime`.

  Models count equally: only seeds that all of them have in both regimes are taken. A resample draws the same patients
  for all.

  Returns:
    `baseline`, `regime`, `models` ({model: its own difference}), `seeds`, `images`, `patients`, `metric`, and the
    difference as fractions: `value`, `low`, `high` (95 %), `why` (there is no interval). None: no model has both.

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
  found = paired_lib.paired_difference(
    [run for runs in before.values() for run in runs],
    [run for runs in after.values() for run in runs],
    'accuracy',
    names=(baseline, regime),
  )
  first = next(iter(before.values()))[0]
  return {
    'baseline': baseline,
    'regime': regime,
    'models': {model: _accuracy(after[model]) - _accuracy(before[model]) for model in both},
    'seeds': seeds,
    'images': len(first),
    'patients': len(set(first.patients.tolist())),
    'metric': 'accuracy',
    **dataclasses.asdict(found),
  }


def _accuracy(runs: list[Predictions]) -> float:
  return statistics.fmean(intervals.score(run) or 0.0 for run in runs)
