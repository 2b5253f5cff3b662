"""Hosts: joins the processes of a run, and lets one of them act for all."""

import contextlib
import glob
import importlib.util
import itertools
import os
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from absl import logging

from fetal_jax.runtime import environment
from fetal_jax.runtime.errors import UserError


def initialize_hosts() -> int:
  """Joins the other processes of a multi-host run, if there are any; must be called before anything else of JAX.

  A Cloud TPU slice of several hosts, tasks of `srun` and Open MPI are recognised, and `jax.distributed` finds the
  processes; elsewhere the user sets `JAX_COORDINATOR_ADDRESS`, `JAX_NUM_PROCESSES` and `JAX_PROCESS_ID`. Does nothing
  for a single process.

  Returns:
    The index of this process.

  Raises:
    UserError: the three variables do not go together, or the other processes do not answer.
  """
  plain = [os.environ.get(f'JAX_{name}') for name in ('COORDINATOR_ADDRESS', 'NUM_PROCESSES', 'PROCESS_ID')]
  address, count, index = plain
  if address and not (
    count and index and count.isdecimal() and index.isdecimal() and int(index) < int(count)
  ):
    raise UserError(
      f'JAX_COORDINATOR_ADDRESS={address} is set, JAX_NUM_PROCESSES={count} and JAX_PROCESS_ID={index} do not go '
      'with it: set all three (docs/scaling.md), or none for one process'
    )
  if not address and not _in_a_cluster():
    return 0  # `jax.process_index()` would start the devices
  try:
    if address and count and index:
      jax.distributed.initialize(address, int(count), int(index))
    else:
      jax.distributed.initialize()
  except Exception as error:  # of the network, and KeyError and others where a launcher's variables are wrong
    raise UserError(
      f'the processes of this run did not find each other ({" ".join(str(error).split())[:200]}); start all of '
      'them within five minutes, and see docs/scaling.md'
    ) from error
  return jax.process_index()


def _in_a_cluster() -> bool:
  """Returns whether a launcher that JAX recognises has started more than one process."""
  # Of the step, not of the job: `python` in a batch script is one process, whatever the job has room for.
  tasks = [environment.number(name, 1) for name in ('SLURM_STEP_NUM_TASKS', 'OMPI_COMM_WORLD_SIZE')]
  workers = os.environ.get('TPU_WORKER_HOSTNAMES', '')
  return any(number > 1 for number in tasks) or ',' in workers or _tpu_hosts() > 1


def _tpu_hosts() -> int:
  """Returns the number of hosts of this machine's TPU slice, from the metadata server of a Cloud TPU VM."""
  if importlib.util.find_spec('libtpu') is None or not glob.glob('/dev/accel*') + glob.glob('/dev/vfio/*'):
    return 1
  request = urllib.request.Request(
    'http://metadata.google.internal/computeMetadata/v1/instance/attributes/worker-network-endpoints',
    headers={'Metadata-Flavor': 'Google'},
  )
  try:
    with urllib.request.urlopen(request, timeout=2) as response:
      return len(response.read().decode().split(','))
  except OSError:  # not Google's cloud
    return 1


@contextlib.contextmanager
def together() -> Iterator[None]:
  """Ends the block in all processes together: none leaves it before the last one has finished it.

  Raises:
    UserError: another process failed in its block; one that failed raises its own error.
  """
  error: Exception | None = None
  try:
    yield
  except Exception as e:
    error = e
    if jax.process_count() > 1:
      logging.error('process %d: %s (waiting for the others)', jax.process_index(), e)
  if jax.process_count() > 1:
    _wait_for_all()
    from jax.experimental import multihost_utils

    failed = np.flatnonzero(multihost_utils.process_allgather(np.asarray(error is not None)))
    if error is None and failed.size:
      raise UserError(f'stopped, because process {failed[0]} did; its own message says why')
  if error is not None:
    raise error


def _wait_for_all() -> None:
  """Waits at a barrier of the coordinator, which unlike a collective on the devices may take days."""
  from orbax.checkpoint import multihost

  number, everyone = next(_barriers), set(range(jax.process_count()))
  # The coordinator ends all processes when one dies, so the limit need not be short.
  multihost.sync_global_processes(f'fetal_jax_{number}', timeout=7 * 24 * 3600, processes=everyone)


_barriers = itertools.count()


def on_one_host(function: Callable[..., Any], *args: Any) -> Any:
  """Calls `function` in the first process while the others wait; they get None.

  Raises:
    UserError: in the others, where the call failed.
  """
  with together():
    return function(*args) if is_first() else None


def first_host_first(function: Callable[[], Any]) -> Any:
  """Calls `function` in every process, in the others after the first one's call has returned."""
  with together():
    result = function() if is_first() else None
  with together():
    return result if is_first() else function()


def is_first() -> bool:
  """Returns whether this process is the first one, which writes what is written once."""
  return jax.process_index() == 0
