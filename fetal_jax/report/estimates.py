"""Estimates and comparisons of classifiers in words, and as cells of tables."""

from collections.abc import Sequence
from typing import Protocol

from fetal_jax.evaluate.comparisons import PairedDifference
from fetal_jax.evaluate.paired import McNemar
from fetal_jax.report.format import Ends, brackets, interval, p_value, points, signed
from fetal_jax.report.names import model_title
from fetal_jax.report.page import DASH, Cell
from fetal_jax.report.run import Run


class Interval(Ends, Protocol):
  """A value with its interval, or why there is none, such as `intervals.Estimate`."""

  @property
  def value(self) -> float | None: ...


class Score(Interval, Protocol):
  """A score with its standard deviation over seeds."""

  @property
  def sd(self) -> float | None: ...


def changed(found: PairedDifference, against: str) -> str:
  """Returns what a paired comparison found, from the verb on: 'changed the test accuracy by …'."""
  known = f'95 % interval over {unit(found.patients)} ' if found.low is not None else ''
  narrow, patients = '', 'unknown'
  if found.patients is not None:
    patients = f'{found.patients:,}'
  elif known:
    narrow = ', too narrow if several show one patient'
  return (
    f'changed the test accuracy by {points(found.value)} against {against} ({known}{interval(found)}{narrow}; '
    f'{over(found)}; {found.images:,} images of {patients} patients)'
  )


def unit(patients: int | None) -> str:
  """Returns what intervals of test images of so many patients are over; None: the patients are unknown."""
  return 'patients' if patients is not None else 'images'


def too_narrow(run: Run) -> str:
  """Says, after a blank, that a run's intervals may be too narrow because its patients are unknown; '' where they are known."""
  if unit_of_run(run) == 'patients':
    return ''
  return ' The patients are unknown: intervals over images are too narrow if several show one patient.'


def unit_of_run(run: Run) -> str:
  """Returns what the intervals of a run's test images are over."""
  return 'patients' if run.data is None or run.data.patients_known else 'images'


def resampled(patients: int | None, images: int) -> str:
  """Returns of what resamples were drawn, as a table's note says it."""
  return f'{images:,} images' if patients is None else f'{patients:,} patients, {images:,} images'


def over(found: PairedDifference) -> str:
  """Returns which models and seeds a paired comparison is about."""
  models, seeds = len(found.models), len(found.seeds)
  if models == 1:
    return f'{model_title(next(iter(found.models)))}, {f"{seeds} seeds each" if seeds > 1 else "one seed"}'
  better = sum(value > 0 for value in found.models.values())
  each = f'{seeds} seeds' if seeds > 1 else 'one seed'
  return f'mean over {models} models, better in {better} of them, {each} each'


def difference_cell(change: Interval, p: float | None = None) -> Cell:
  """Shows a difference in percentage points, its interval and p; highlighted where the interval leaves out 0."""
  if change.low is None or change.high is None:
    small, clear = change.why, False
  else:
    small = f'[{signed(change.low)},\u00a0{signed(change.high)}]'
    clear = change.low > 0 or change.high < 0
  if p is not None:
    small += f' · p\u00a0{p_value(p)}'
  return Cell(signed(change.value), small=small, best=clear)


def mcnemar_cell(tests: Sequence[McNemar] | None) -> Cell:
  """Shows the counts and p of McNemar's test, seed by seed."""
  if not tests:
    return Cell(DASH)
  counts = ', '.join(f'{test.only_baseline} : {test.only_regime}' for test in tests)
  return Cell(counts, small=f'p {", ".join(p_value(test.p_value) for test in tests)}')


def score_cell(score: Score, scale: float = 100, digits: int = 1) -> Cell:
  """Shows a score, its interval and its standard deviation over seeds."""
  if score.value is None:
    return Cell(DASH, small=score.why)
  spread = f' · ±\u00a0{scale * score.sd:.{digits}f}' if score.sd is not None else ''
  return Cell(f'{scale * score.value:.{digits}f}', small=brackets(score, scale, digits) + spread)
