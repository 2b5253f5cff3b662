"""Whether trainings had converged, from their curves of accuracy by epoch.

A baseline that is still learning makes whatever comes with more steps look useful. The rule: over the last quarter of the
epochs the score is on average at most one point higher than over the quarter before.
"""

import statistics
from collections.abc import Sequence

import msgspec

FEWEST_EPOCHS = 8  # of a curve that can be judged: two epochs a quarter
TOLERANCE = 0.01  # the rise that still counts as flat, as a fraction of accuracy


class Convergence(msgspec.Struct, frozen=True, kw_only=True):
  """The end of the curves of one model and regime.

  Attributes:
    epochs: of each training.
    score: mean over seeds and over the last quarter of the epochs; None with too few epochs.
    rise: mean over seeds of the change in score from the last quarter but one to the last one; None with too few epochs.
    flat: whether the rise is at most `TOLERANCE`; None where it is unknown.
  """

  epochs: int
  score: float | None
  rise: float | None
  flat: bool | None


def judge(curves: Sequence[Sequence[float]]) -> Convergence:
  """Judges the curves of one model and regime.

  Args:
    curves: the score of each epoch, in order, one sequence a seed; accuracies in [0, 1].

  Returns:
    Their end; `flat` is None where a curve has fewer than `FEWEST_EPOCHS`, or where there is none.
  """
  epochs = min(map(len, curves), default=0)
  if epochs < FEWEST_EPOCHS:
    return Convergence(epochs=epochs, score=None, rise=None, flat=None)
  before, last = (statistics.fmean(quarters) for quarters in zip(*map(_last_quarters, curves), strict=True))
  return Convergence(epochs=epochs, score=last, rise=last - before, flat=last - before <= TOLERANCE)


def _last_quarters(curve: Sequence[float]) -> tuple[float, float]:
  """Returns the mean of the last quarter but one, and of the last."""
  quarter = len(curve) // 4
  return statistics.fmean(curve[-2 * quarter : -quarter]), statistics.fmean(curve[-quarter:])
