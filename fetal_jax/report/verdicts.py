"""The verdicts on a run, and what they lack in words: evidence from its comparisons, steps and curves, judged by `evaluate.verdict`."""

from collections.abc import Mapping
from typing import Any

from fetal_jax.evaluate import convergence, verdict
from fetal_jax.evaluate.comparisons import BASELINE, PairedDifference
from fetal_jax.evaluate.convergence import Convergence
from fetal_jax.evaluate.pixel_baselines import PixelBaseline
from fetal_jax.evaluate.verdict import Evidence, Lack, Verdict
from fetal_jax.report.groups import mean_accuracy
from fetal_jax.report.names import model_title
from fetal_jax.report.run import Run

# What stands for a lack where there is little room.
SHORT = {
  Lack.COMPARISON: 'comparison',
  Lack.CONTROL: 'control',
  Lack.FEWER_STEPS: 'equal steps',
  Lack.MORE_STEPS: 'equal steps',
  Lack.INTERVAL: 'interval',
  Lack.CURVE: 'epochs',
  Lack.CONVERGED: 'convergence',
  Lack.NO_PIXELS: 'raw pixels',
  Lack.PIXELS: 'better than raw pixels',
  Lack.PATIENTS: 'patients',
  Lack.SEEDS: 'seeds',
}


def of_model(run: Run, model: str) -> Verdict:
  """Decides whether synthetic images helped one model, by the comparison that was fixed beforehand."""
  return verdict.decide(_evidence(run, model))


def of_all(run: Run) -> Verdict:
  """Decides the same of all models together, by the mean over them."""
  models, control = evidence(run), run.comparisons.control
  ends = (control.low, control.high) if control else (None, None)
  return verdict.decide(verdict.of_all(models, *ends))


def of_filter(run: Run) -> Verdict:
  """Decides whether the filter helped: the control is the same regime without it."""
  return _of_pair(run, run.filter.planned if run.filter else None)


def of_curve(run: Run, use: str) -> Verdict:
  """Decides whether more images helped, for one use of them: the control is that of the fewest."""
  found = run.curve[use] if run.curve else None
  change = found.overall.more if found else None
  if found is None or change is None:
    return verdict.decide(verdict.NOTHING)
  models = {}
  for model in change.models:
    at = {point.images: point.regime for point in found.models[model].points}
    pair = at[change.start], at[change.end]
    models[model] = _judged(run, model, change, *pair)
  return verdict.decide(verdict.of_all(models, change.low, change.high))


def evidence(run: Run) -> dict[str, Evidence]:
  """Returns the evidence of each model that is in the comparison fixed beforehand."""
  planned = run.comparisons.planned
  return {model: _evidence(run, model) for model in (planned.models if planned else ())}


def _evidence(run: Run, model: str) -> Evidence:
  planned, control = run.comparisons.planned, run.comparisons.controls.get(model)
  if planned is None or model not in planned.models:
    return verdict.NOTHING
  if control is not None:
    return _judged(run, model, control, control.baseline, control.regime)
  return _judged(run, model, planned, None, planned.regime)


def _of_pair(run: Run, found: PairedDifference | None) -> Verdict:
  if found is None:
    return verdict.decide(verdict.NOTHING)
  models = {model: _judged(run, model, found, found.baseline, found.regime) for model in found.models}
  return verdict.decide(verdict.of_all(models, found.low, found.high))


def _judged(run: Run, model: str, found: PairedDifference, control: str | None, regime: str) -> Evidence:
  """Collects the evidence of one model.

  Args:
    run: what the workdir holds.
    model: of the classifiers.
    found: the comparison.
    control, regime: its two regimes; `control` is None where `found` is not a comparison with one.
  """
  return Evidence(
    low=found.low if control else None,
    high=found.high if control else None,
    compared=True,
    steps=steps_ratio(run, model, found.seeds, control, regime) if control else None,
    converged=converged(run, model).flat,
    beats_pixels=_beats_pixels(run, model),
    patients_known=run.data is not None and run.data.patients_known,
    seeds=len(found.seeds),
  )


def steps_ratio(run: Run, model: str, seeds: list[int], control: str, regime: str) -> float | None:
  """Returns the optimiser steps of the control for each one of the regime, pretraining included; None if unknown."""
  taken = {(one.regime, one.seed): one for one in run.runs if one.model == model}

  def steps(name: str, seed: int) -> int | None:
    one = taken.get((name, seed))
    if one is None or not one.steps:
      return None
    if not one.initialised_from:
      return one.steps
    start = taken.get((one.initialised_from, seed))
    return one.steps + start.steps if start and start.steps else None

  ratios = []
  for seed in seeds:
    ours, theirs = steps(control, seed), steps(regime, seed)
    if ours is None or theirs is None:
      return None
    ratios.append(ours / theirs)
  return min(ratios, default=None)


def converged(run: Run, model: str) -> Convergence:
  """Judges the curves of one model's runs on real images alone."""
  runs = [one for one in run.runs if (one.model, one.regime) == (model, BASELINE)]
  return convergence.judge([[row.score for row in one.history] for one in runs])


def best_of_pixels(run: Run) -> PixelBaseline | None:
  """Returns the classifier of raw pixels with the highest test accuracy; None where there is none."""
  return max(run.pixel_baselines or [], key=lambda one: one.accuracy, default=None)


def _beats_pixels(run: Run, model: str) -> bool | None:
  best = best_of_pixels(run)
  if best is None:
    return None
  return (
    mean_accuracy(one for one in run.runs if (one.model, one.regime) == (model, BASELINE)) > best.accuracy
  )


def to_json(run: Run) -> dict[str, Any]:
  """Returns the verdicts for results.json: `all`, and each model's, with what it lacks."""
  found = {'all': of_all(run)} | {model: of_model(run, model) for model in evidence(run)}
  return {
    name: {'verdict': one.word.value, 'lacks': [lack.name.lower() for lack in one.lacks]}
    for name, one in found.items()
  }


# MARK: Words


def missing(found: Verdict, control: str, models: Mapping[str, Verdict] | None = None) -> str:
  """Says all that a verdict lacks, in a clause.

  Args:
    found: the verdict.
    control: what the regime is compared with.
    models: {model: its own verdict}; models are named where not all of them lack it.
  """
  clauses = []
  for lack in found.lacks:
    mine = [model_title(model) for model, one in (models or {}).items() if lack in one.lacks]
    who = f' ({", ".join(mine)})' if models and 0 < len(mine) < len(models) else ''
    clauses.append(lack.value.format(control=control) + who)
  return '; '.join(clauses)
