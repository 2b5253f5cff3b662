"""Devices and their speed: published peaks, and the time that a program takes on them."""

import dataclasses
import os
import time

import jax
import jax.numpy as jnp

from fetal_jax.planning.program import Cost

# The share of the published peak that convolutions and matrix products of these sizes are assumed to reach.
REACH = 0.5
# Least seconds an operation on an accelerator; several are fused into one.
LAUNCH = 1e-6

# A CPU's constants were fitted to 16 programs (diffusion, sampling and all five families, small and large) on two cores:
# the times came out between 0.6 and 1.6 of what was measured. Its peak is measured where the plan is made.
CPU_LAUNCH = 6e-6
_CPU_BANDWIDTH = 5.5e9  # bytes written a second and core

# Compiling, on the same two cores: 2.5 ms an operation as written, 1.7 to 4.
COMPILE_SECONDS = 2.5e-3


@dataclasses.dataclass(frozen=True)
class Device:
  """An accelerator, or the CPUs of a machine; or several.

  Attributes:
    name: for tables.
    flops: peak FLOP/s of one device in dense matrix products, in the dtype of the run.
    bandwidth: bytes a second that operations of one device write.
    memory: bytes of one device that programs may use; None if unknown.
    launch: least seconds an operation.
    reach: share of `flops` that large products reach.
    count: devices that share a batch.
    wide: whether it computes in float32, not in bfloat16.
    fused: whether results of elementwise operations are not stored.
  """

  name: str
  flops: float
  bandwidth: float
  memory: float | None
  launch: float = LAUNCH
  reach: float = REACH
  count: int = 1
  wide: bool = False
  fused: bool = True

  def seconds(self, cost: Cost) -> float:
    """Returns the seconds of a program: its products, what it writes, and its operations, one after the other."""
    work = cost.flops / (self.reach * self.flops) + cost.bytes / self.bandwidth
    return work / self.count + cost.operations * self.launch


@dataclasses.dataclass(frozen=True)
class _Published:
  """TFLOP/s of dense products in bfloat16 and float32 as JAX computes them by default; GB/s; GiB."""

  bfloat16: float
  float32: float
  bandwidth: float
  memory: float


# From the makers' data sheets. JAX multiplies float32 on TPUs in bfloat16 and on Ampere and later in TF32; V100 and T4
# have no bfloat16 and use float32.
_PUBLISHED = {
  'TPU v4': _Published(275, 275, 1228, 32),
  'TPU v5e': _Published(197, 197, 819, 16),
  'TPU v5p': _Published(459, 459, 2765, 95),
  'TPU v6e': _Published(918, 918, 1640, 32),
  'V100': _Published(15.7, 15.7, 900, 16),
  'T4': _Published(8.1, 8.1, 320, 16),
  'L4': _Published(121, 60, 300, 24),
  'A100': _Published(312, 156, 1555, 40),
  'A100 80GB': _Published(312, 156, 2039, 80),
  'H100': _Published(989, 494, 3350, 80),
  'H200': _Published(989, 494, 4800, 141),
}
COLUMNS = ('A100', 'H100', 'TPU v5e')  # beside this machine, in every plan
_JAX_NAMES = {'TPU v5 lite': 'TPU v5e', 'TPU v5': 'TPU v5p', 'TPU v6 lite': 'TPU v6e'}


def published(name: str, dtype: str, count: int = 1) -> Device:
  """Returns one or several devices of the table; `dtype` is bfloat16 or float32."""
  row = _PUBLISHED[name]
  return Device(
    f'{count} x {name}',
    flops=getattr(row, dtype) * 1e12,
    bandwidth=row.bandwidth * 1e9,  # reading adds about as much as fusion saves
    memory=row.memory * 2**30,
    count=count,
    wide=dtype == 'float32',
  )


def find(kind: str) -> str | None:
  """Returns the table's name of what JAX calls `kind`, such as `NVIDIA A100-SXM4-80GB`; None if it has none."""
  if kind in _JAX_NAMES:
    return _JAX_NAMES[kind]
  words = kind.replace('-', ' ').split()
  found = [name for name in _PUBLISHED if set(name.split()) <= set(words)]
  return max(found, key=len, default=None)


def here(dtype: str) -> Device:
  """Returns the devices that JAX finds, as in the table, or else measured."""
  devices = jax.devices()
  name, count = find(devices[0].device_kind), len(devices)
  if name:
    stats = devices[0].memory_stats() or {}
    device = published(name, dtype, count)
    return dataclasses.replace(device, memory=stats.get('bytes_limit', device.memory))
  cores, pages = cpu_cores(), os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
  # A device that is not in the table. The devices of a CPU are its cores, and a product uses them all.
  return Device(
    f'{cores} CPU cores' if devices[0].platform == 'cpu' else f'{count} x {devices[0].device_kind}',
    flops=measure_peak(dtype) / count,
    bandwidth=cores * _CPU_BANDWIDTH / count,
    memory=pages / count,
    launch=CPU_LAUNCH,
    reach=1.0,
    count=count,
    wide=dtype == 'float32',
    fused=False,
  )


def cpu_cores() -> int:
  """Returns how many cores this process may use."""
  return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


def measure_peak(dtype: str, side: int = 2048, seconds: float = 1.0) -> float:
  """Measures the FLOP/s of the fastest product of two square matrices within so many seconds."""
  matrix = jnp.ones((side, side), dtype)
  product = jax.jit(jnp.matmul)
  product(matrix, matrix).block_until_ready()
  fastest, end = float('inf'), time.perf_counter() + seconds
  while fastest == float('inf') or time.perf_counter() < end:
    clock = time.perf_counter()
    product(matrix, matrix).block_until_ready()
    fastest = min(fastest, time.perf_counter() - clock)
  return 2 * side**3 / fastest
