"""The batch size of sampling: what the device's memory holds, by the memory that the compiler says is needed."""

import os
from collections.abc import Callable, Sequence
from typing import Any

import jax
from absl import logging

# The share of the memory that one program may fill; allocators need some room between the pieces.
FILL = 0.85
# Beyond this a larger batch is no faster, only later with its first images.
MOST = 1024
# Batches to measure at, a device: the fewest that use a device as a large batch does.
PROBES = (8, 16)
# On a CPU the caches decide, not the memory: larger batches are slower, if anything.
CPU = 32

_GIB = 2**30


def largest_batch(small: tuple[int, int], large: tuple[int, int], limit: int, most: int) -> int:
  """Returns the largest batch that fits, if memory grows linearly with the batch.

  Args:
    small, large: (images, bytes) of two compiled programs, the smaller first.
    limit: bytes that there are.
    most: images there are to draw.

  Returns:
    1, 2, 3, 4, 6, 8, 12, …: a power of two or one and a half of it, at least 1; or `most` where all fit at once.
  """
  each = max((large[1] - small[1]) / (large[0] - small[0]), 1.0)
  fixed = small[1] - each * small[0]
  fits = int((FILL * limit - fixed) // each)
  most = min(most, MOST)
  if fits >= most:
    return most
  sizes = [2**power for power in range(11)] + [3 * 2**power for power in range(10)]
  return max((size for size in sizes if size <= fits), default=1)


def program_bytes(compiled: Any) -> int:
  """Returns the bytes a device that a compiled program holds while it runs: arguments, results and what lies between."""
  memory = compiled.memory_analysis()
  return (
    memory.argument_size_in_bytes
    + memory.output_size_in_bytes
    + memory.temp_size_in_bytes
    - memory.alias_size_in_bytes
  )


def device_bytes(device: Any) -> int | None:
  """Returns the bytes that a program may use on a device, or None where the device does not say."""
  stats = device.memory_stats()
  return stats.get('bytes_limit') if stats else None


def host_bytes() -> int:
  """Returns the bytes of memory in this machine."""
  return os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')


def _measure(compile: Callable[[int], Any], count: int) -> tuple[tuple[int, int], tuple[int, int]] | None:
  """Measures (images, bytes) a device of the two probes on `count` devices; None where the compiler refuses one."""
  try:
    small, large = [(size, program_bytes(compile(size * count))) for size in PROBES]
  except jax.errors.JaxRuntimeError as error:
    # A TPU's compiler knows the memory; others find out when running.
    if 'RESOURCE_EXHAUSTED' not in str(error):
      raise
    return None
  return small, large


def find(compile: Callable[[int], Any], devices: Sequence[Any], images: int) -> int:
  """Finds a batch size for `devices` from the memory that small batches need.

  It depends on the program, the kind of device and the plan only, so that a resumed run finds the same.

  Args:
    compile: global batch size -> compiled program.
    devices: that a batch is spread over.
    images: to draw with it, in all; of a whole plan, not of what is left of it.

  Returns:
    Images a dispatch, over all devices.
  """
  count = len(devices)
  most = min(MOST, -(-images // count))
  on_cpu = devices[0].platform == 'cpu'
  # Virtual devices of a CPU share its memory.
  limit = host_bytes() // (2 * count) if on_cpu else device_bytes(devices[0])
  if on_cpu or limit is None or most <= PROBES[0]:
    batch, why = (
      min(most, CPU),
      f'the plan has no more, or the fixed choice where there is no memory to measure: {CPU}',
    )
    if limit is not None and on_cpu:
      batch = largest_batch((0, 0), (batch, program_bytes(compile(batch * count))), limit, batch)
  elif (measured := _measure(compile, count)) is None:
    batch, why = PROBES[0], f'the compiler has no room for {PROBES[1]}'
  else:
    small, large = measured
    batch = largest_batch(small, large, limit, most)
    each = (large[1] - small[1]) / (large[0] - small[0])
    total = small[1] + each * (batch - small[0])
    why = (
      f'{each / 2**20:.3g} MiB an image, {total / _GIB:.3g} GiB in all, of {limit / _GIB:.3g} GiB there are'
    )
  logging.info('sample: %d images a device and dispatch (%s).', batch, why)
  return batch * count
