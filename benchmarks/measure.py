"""Time, memory and work of compiled functions."""

import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax

# Thread pools spin for a moment after their work; the next library starts when they sleep.
SETTLE_S = 0.05


def seconds(function: Callable[..., Any], *args: Any, calls: int = 1) -> float:
  """Wall seconds a call; `calls` are dispatched one after the other before waiting for the last."""
  time.sleep(SETTLE_S)
  clock = time.perf_counter()
  for _ in range(calls):
    result = function(*args)
  jax.block_until_ready(result)
  return (time.perf_counter() - clock) / calls


def repeated(function: Callable[..., Any], *args: Any, repeats: int, calls: int = 1) -> list[float]:
  """`seconds`, several times after one call that does not count."""
  jax.block_until_ready(function(*args))
  return [seconds(function, *args, calls=calls) for _ in range(repeats)]


def interleaved(contestants: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
  """Every contestant once a round, so that whatever else the machine does meets all of them.

  A contestant returns the seconds it took; the first round does not count.
  """
  times: dict[str, list[float]] = {name: [] for name in contestants}
  for number in range(rounds + 1):
    for name, contestant in contestants.items():
      took = contestant()
      if number:
        times[name].append(took)
  return times


def summary(values: list[float]) -> dict[str, float]:
  """Median, extremes and number."""
  return {
    'median': statistics.median(values),
    'min': min(values),
    'max': max(values),
    'n': len(values),
  }


def ratio(numerators: list[float], denominators: list[float]) -> dict[str, float]:
  """Of pairs measured in the same round."""
  return summary([a / b for a, b in zip(numerators, denominators, strict=True)])


def memory(compiled: Any) -> dict[str, int] | None:
  """Bytes that a compiled program needs: arguments, results that do not replace them, and temporaries; or None."""
  try:
    analysis = compiled.memory_analysis()
  except Exception:  # not every backend and version can say
    analysis = None
  if analysis is None:
    return None
  fresh = analysis.output_size_in_bytes - analysis.alias_size_in_bytes
  return {
    'arguments': analysis.argument_size_in_bytes,
    'temporary': analysis.temp_size_in_bytes,
    'total': analysis.argument_size_in_bytes + fresh + analysis.temp_size_in_bytes,
  }


def device_peak() -> int | None:
  """Most bytes in use on the device since the process began; None where it does not count them."""
  statistics_ = jax.local_devices()[0].memory_stats() or {}
  return statistics_.get('peak_bytes_in_use')


def flops(function: Callable[..., Any], *args: Any) -> float:
  """Floating-point operations of all convolutions and matrix products of a call, two a multiply-add.

  Counted in the program as written (its jaxpr), a loop's body as often as it runs; what is elementwise is left out.
  """
  return _count(jax.make_jaxpr(function)(*args).jaxpr)


def _count(jaxpr: Any) -> float:
  total = 0.0
  for equation in _needed(jaxpr):
    name, params = equation.primitive.name, equation.params
    if name == 'dot_general':
      (contracted, _), _ = params['dimension_numbers']
      left = equation.invars[0].aval.shape
      total += 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(left[axis] for axis in contracted)
    elif name == 'conv_general_dilated':
      kernel = equation.invars[1].aval.shape
      out_features = kernel[params['dimension_numbers'].rhs_spec[0]]
      # Zeros that are put between the pixels (the gradient of a stride) are no work.
      macs = math.prod(equation.outvars[0].aval.shape) * math.prod(kernel) / out_features
      total += 2 * macs / math.prod(params['lhs_dilation'])
    elif name.startswith('dot_product_attention'):
      batch, queries, heads, width = equation.invars[0].aval.shape
      once = 4 * batch * heads * queries * equation.invars[1].aval.shape[1] * width
      total += once * (2.5 if 'bwd' in name else 1)
    elif name == 'cond':
      total += max(_count(branch.jaxpr) for branch in params['branches'])
    else:
      inner = sum(_count(jaxpr) for jaxpr in _inner(params))
      total += inner * (params['length'] if name == 'scan' else 1)
  return total


def _needed(jaxpr: Any) -> Iterator[Any]:
  """The equations that results depend on: the compiler leaves out the others, such as unused gradients of weights."""
  needed = {id(variable) for variable in jaxpr.outvars}
  for equation in reversed(jaxpr.eqns):
    if any(id(variable) in needed for variable in equation.outvars):
      needed |= {id(variable) for variable in equation.invars}
      yield equation


def _inner(params: Mapping[str, Any]) -> list[Any]:
  """The programs within an equation: of jit, scan, remat, custom derivatives."""
  found = []
  for key, value in params.items():
    if key in ('jaxpr', 'call_jaxpr', 'fun_jaxpr'):
      found.append(getattr(value, 'jaxpr', value))
  return found
