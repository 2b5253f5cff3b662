"""Devices: the mesh, and how arrays lie on it.

One process on one CPU is the same code with a mesh of one device.
"""

import contextlib
import math
import os
import pathlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from absl import logging
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from fetal_jax.runtime import files, trust
from fetal_jax.runtime.errors import UserError

_BATCH_AXES = ('data', 'fsdp')
_MOST_CPU_DEVICES = 8  # each holds all weights


def all_devices() -> list[Any]:
  """Returns the devices of all hosts.

  Raises:
    UserError: there are none of the kind that `JAX_PLATFORMS` asks for, or they do not answer.
  """
  try:
    return jax.devices()
  except RuntimeError as error:
    raise UserError(
      f'JAX finds no device ({" ".join(str(error).split())[:300]}); see JAX_PLATFORMS and the other variables of '
      'the environment, and whether another program holds the device'
    ) from error


def use_cpu_cores(*batch_sizes: int) -> None:
  """Makes each core of a CPU a device, as many as divide all batches; must be called before JAX is first used.

  XLA:CPU runs a convolution of up to 64 output channels on one thread, and its threads meet after every operation.
  Devices run whole networks side by side, each on its part of the batch: docs/performance.md has the gain.
  Accelerators are not affected. `XLA_FLAGS=--xla_force_host_platform_device_count=1` overrides this.

  Args:
    *batch_sizes: images a step, of everything that will run.
  """
  if 'xla_force_host_platform_device_count' in os.environ.get('XLA_FLAGS', ''):
    return
  cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
  common = math.gcd(*batch_sizes)
  devices = max(n for n in range(1, min(cores, _MOST_CPU_DEVICES) + 1) if common % n == 0)
  with contextlib.suppress(RuntimeError):  # a program that has used JAX already keeps its devices
    jax.config.update('jax_num_cpu_devices', devices)


def enable_compilation_cache(setting: str) -> None:
  """Keeps compiled programs on disk, so that a second start of the same run skips compilation.

  What is in the folder is run as it is, so one that others can write is not used, which is said.

  Args:
    setting: 'auto' (a folder in the user's cache folder; off where there is none), 'off', or a folder.
  """
  if setting == 'off':
    return
  chosen = jax.config.values['jax_compilation_cache_dir']
  if chosen:  # by the user's environment, which overrides the setting
    if '://' not in chosen and not _is_trusted(pathlib.Path(chosen)):
      jax.config.update('jax_compilation_cache_dir', None)
    return
  folder = _cache_folder() if setting == 'auto' else pathlib.Path(files.expanded(setting))
  if folder is None:
    logging.info(
      'No home folder, so no compiled programs are kept; config.compilation_cache can name a folder.'
    )
    return
  if _is_trusted(folder):
    jax.config.update('jax_compilation_cache_dir', str(folder))
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.2)


def _is_trusted(folder: pathlib.Path) -> bool:
  """Makes the folder if it is missing; returns whether nobody else can write to it, else logs why it is not used."""
  try:
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    why = trust.why_not_own(folder)
  except OSError as error:
    why = f'{error.strerror}'
  if why:
    logging.warning(
      '%s: compiled programs are not kept there, since what is in it is run as it is, and %s; name a folder of your '
      'own: --config.compilation_cache',
      folder,
      why,
    )
  return why is None


def _cache_folder() -> pathlib.Path | None:
  """Returns the project's folder in the user's cache folder; None for a user without a home, as in some containers."""
  base = os.environ.get('XDG_CACHE_HOME', '')
  if not os.path.isabs(base):  # others are to be ignored, as its specification says
    base = os.path.expanduser('~/.cache')
  return pathlib.Path(base) / 'fetal_jax' / 'xla' if os.path.isabs(base) else None


def make_mesh(data: int = -1, fsdp: int = 1) -> Mesh:
  """Returns a mesh with axes `data` and `fsdp` over all devices of all hosts.

  Args:
    data: devices along the batch axis; -1 takes what `fsdp` leaves.
    fsdp: devices that share one copy of the parameters.

  Raises:
    UserError: the sizes do not multiply to the number of devices.
  """
  devices = np.asarray(all_devices())
  if data == -1 and fsdp > 0 and devices.size % fsdp == 0:
    data = devices.size // fsdp
  if data < 1 or fsdp < 1 or data * fsdp != devices.size:
    raise UserError(f'config.mesh: data={data} x fsdp={fsdp} must make {devices.size}, the number of devices')
  return Mesh(devices.reshape(data, fsdp), _BATCH_AXES)


def make_local_mesh(fsdp: int = 1) -> Mesh:
  """Returns a mesh over the devices of this process alone, for work that needs no other process.

  Args:
    fsdp: devices that share one copy of the parameters; fewer if it does not divide this process's devices.
  """
  all_devices()  # raises UserError where there are none
  devices = np.asarray(jax.local_devices())
  fsdp = math.gcd(fsdp, devices.size)
  return Mesh(devices.reshape(-1, fsdp), _BATCH_AXES)


def replicated(mesh: Mesh) -> NamedSharding:
  """Returns the sharding in which every device holds the whole array."""
  return NamedSharding(mesh, P())


def batch_sharding(mesh: Mesh, axis: int = 0) -> NamedSharding:
  """Returns the sharding in which array axis `axis` is spread over all devices."""
  return NamedSharding(mesh, P(*[None] * axis, _BATCH_AXES))


def state_sharding(mesh: Mesh, shapes: Any) -> Any:
  """Returns the shardings of a training state: replicated, or spread over `fsdp` when it is larger than 1.

  The largest dimension that `fsdp` divides is spread; arrays without one and small arrays are replicated.

  Args:
    mesh: from `make_mesh`.
    shapes: a pytree of arrays or `jax.ShapeDtypeStruct`.

  Returns:
    The same pytree of `NamedSharding`.
  """
  fsdp = mesh.shape['fsdp']

  def sharding(leaf: Any) -> NamedSharding:
    candidates = [axis for axis, size in enumerate(leaf.shape) if size % fsdp == 0]
    if fsdp == 1 or leaf.size < 2**10 or not candidates:
      return replicated(mesh)
    widest = max(candidates, key=lambda axis: leaf.shape[axis])
    return NamedSharding(mesh, P(*[None] * widest, 'fsdp'))

  return jax.tree.map(sharding, shapes)


def placed(shapes: Any, sharding: Any) -> Any:
  """Returns `shapes` with the shardings of the same pytree attached: what a checkpoint is restored into."""
  return jax.tree.map(lambda s, d: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=d), shapes, sharding)


def check_batch(mesh: Mesh, batch_size: int, key: str) -> None:
  """Raises UserError where `batch_size` (the setting `key`) does not divide over the devices."""
  if batch_size % mesh.size:
    raise UserError(f'config.{key}={batch_size}: must be divisible by the {mesh.size} devices')


def put_batch(mesh: Mesh, batch: Any, axis: int = 0) -> Any:
  """Moves a global batch of host arrays onto the mesh, spread along `axis`; asynchronous.

  Every process passes the same global batch and uploads only the rows of its own devices.
  """
  sharding = batch_sharding(mesh, axis)

  def put(array: np.ndarray) -> jax.Array:
    if jax.process_count() == 1:
      return jax.device_put(array, sharding)
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])

  return jax.tree.map(put, batch)


def put_batches(mesh: Mesh, batches: Iterable[dict[str, np.ndarray]], names: Sequence[str]) -> Iterator[Any]:
  """Yields the arrays `names` of every training batch [K, B, ...] on the mesh, spread along B."""
  for batch in batches:
    yield put_batch(mesh, {name: batch[name] for name in names}, axis=1)


def to_host(mesh: Mesh, tree: Any) -> Any:
  """Returns arrays that are spread over the mesh as whole numpy arrays, in every process."""
  return jax.tree.map(np.asarray, jax.jit(lambda tree: tree, out_shardings=replicated(mesh))(tree))


def put_like(values: Any, like: Any) -> Any:
  """Moves host arrays to where the same arrays of `like` are; every process passes the same values."""
  return jax.tree.map(lambda value, old: jax.device_put(value, old.sharding), values, like)


def device_summary() -> str:
  """Returns for example `8 x NVIDIA H100 on 1 host`."""
  hosts = jax.process_count()
  return f'{jax.device_count()} x {jax.devices()[0].device_kind} on {hosts} host{"s" if hosts > 1 else ""}'


def compute_dtype(setting: str) -> Any:
  """Returns the dtype of matmuls and convolutions: `auto` is bfloat16 on accelerators, float32 on the CPU."""
  if setting == 'auto':
    setting = 'float32' if jax.default_backend() == 'cpu' else 'bfloat16'
  logging.log_first_n(logging.INFO, 'Matmuls and convolutions in %s on %s.', 1, setting, device_summary())
  return jax.numpy.dtype(setting)
