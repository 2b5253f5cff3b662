"""Numbers in words: percentages, points, intervals, p values and digits, each in one form for the whole page."""

from typing import Protocol

from fetal_jax.report.page import DASH


class Ends(Protocol):
  """An interval, and why there is none, such as `intervals.Estimate`."""

  @property
  def low(self) -> float | None: ...
  @property
  def high(self) -> float | None: ...
  @property
  def why(self) -> str: ...


def percent(found: tuple[float, float | None] | None, digits: int = 1) -> str:
  """Returns mean and standard deviation of fractions as percent: '92.1', '92.1 ± 0.3' or a dash."""
  if found is None:
    return DASH
  mean, sd = found
  return f'{100 * mean:.{digits}f}' + (f' ± {100 * sd:.{digits}f}' if sd is not None else '')


def signed(difference: float | None) -> str:
  """Returns a difference of two fractions in percentage points with its sign: '+1.2', '−0.4', or a dash."""
  if difference is None:
    return DASH
  return f'{100 * difference:+.1f}'.replace('-', '−')


def points(difference: float | None) -> str:
  """Returns `signed` with its unit: '+1.2 points'."""
  return f'{signed(difference)} points'


def interval(found: Ends) -> str:
  """Returns the interval of a difference in percentage points, '−0.4 to +3.0', or why there is none."""
  if found.low is None or found.high is None:
    return f'no interval: {found.why}'
  return f'{signed(found.low)} to {signed(found.high)}'


def brackets(found: Ends, scale: float = 100, digits: int = 1) -> str:
  """Returns the interval of a score in brackets, '[90.1, 94.0]'; '' if there is none."""
  if found.low is None or found.high is None:
    return ''
  return f'[{scale * found.low:.{digits}f},\u00a0{scale * found.high:.{digits}f}]'


def p_value(p: float) -> str:
  """Returns a p with as many digits as are read: '<\u00a00.001', '0.012', '0.50'."""
  return '<\u00a00.001' if p < 0.001 else f'{p:.3f}' if p < 0.1 else f'{p:.2f}'


def digits(value: float | None) -> str:
  """Returns three digits, or as many as a large number has; a dash for None."""
  if value is None:
    return DASH
  return f'{value:,.0f}' if abs(value) >= 1000 else f'{value:.3g}'.replace('-', '−')
