"""Runs of classifiers by model and regime, and their means over seeds."""

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence

from fetal_jax.report.classifier_runs import ClassifierRun
from fetal_jax.train import regimes as regimes_lib
from fetal_jax.train.regimes import CONTROL


def train_accuracy(run: ClassifierRun) -> float | None:
  """Returns the training accuracy: of the chosen epoch, but under the protocol `paper` the best of all epochs, as there."""
  if run.protocol == 'paper' and run.history:
    return max(row.train_accuracy for row in run.history)
  return run.train_accuracy


# How each score of a run is found.
SCORES: dict[str, Callable[[ClassifierRun], float | None]] = {
  'accuracy': lambda run: run.scores.accuracy if run.scores else run.test_accuracy,
  'balanced_accuracy': lambda run: run.scores.balanced_accuracy if run.scores else None,
  'macro_f1': lambda run: run.scores.macro_f1 if run.scores else None,
  'auroc': lambda run: run.scores.auroc if run.scores else None,
  'train': train_accuracy,
  'last': lambda run: run.test_accuracy_last,
}


def groups(runs: Iterable[ClassifierRun]) -> dict[str, dict[str, list[ClassifierRun]]]:
  """Returns the runs of the main regimes as {model: {regime: [a run a seed]}}, in the order they come."""
  grouped: dict[str, dict[str, list[ClassifierRun]]] = {}
  for run in runs:
    if regimes_lib.is_main(run.regime):
      grouped.setdefault(run.model, {}).setdefault(run.regime, []).append(run)
  return grouped


def mean_and_sd(values: Iterable[float | None]) -> tuple[float, float | None] | None:
  """Computes the mean and the standard deviation (n - 1; None for a single value); None if there are no values."""
  known = [v for v in values if v is not None]
  if not known:
    return None
  return statistics.fmean(known), statistics.stdev(known) if len(known) > 1 else None


def mean_accuracy(runs: Iterable[ClassifierRun]) -> float:
  """Computes the mean test accuracy over seeds; -inf if it is unknown, so that it never is the best."""
  found = mean_and_sd(SCORES['accuracy'](run) for run in runs)
  return found[0] if found else -math.inf


def best_regime(
  regimes: Mapping[str, Sequence[ClassifierRun]], *, synthetic_only: bool = False
) -> str | None:
  """Returns the regime with the best mean test accuracy; with `synthetic_only`, of those with synthetic images."""
  names = [name for name in regimes if not (synthetic_only and name in ('real', CONTROL))]
  return max(names, key=lambda name: mean_accuracy(regimes[name]), default=None)


def with_start(runs: Sequence[ClassifierRun], key: str) -> dict[tuple[str, str, int], int]:
  """Returns a number by model, regime and seed, with that of the run whose weights it starts from added.

  Args:
    runs: of classifiers.
    key: `steps` or `synthetic_images`.
  """
  own: dict[tuple[str, str | None, int], int] = {
    (run.model, run.regime, run.seed): getattr(run, key) or 0 for run in runs
  }
  return {
    (run.model, run.regime, run.seed): own[run.model, run.regime, run.seed]
    + own.get((run.model, run.initialised_from, run.seed), 0)
    for run in runs
  }
