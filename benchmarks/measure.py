"""Time, memory and work of compiled functions."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax

from fetal_jax.planning import program

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
  """Returns the ratio of pairs measured in the same round."""
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
  return program.cost(program.trace(function, *args)).flops
