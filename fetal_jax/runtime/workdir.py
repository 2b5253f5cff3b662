"""A workdir belongs to one run at a time, and to one experiment for good."""

import contextlib
import datetime
import fcntl
import json
import os
import pathlib
import socket
from collections.abc import Iterator
from typing import Any

import ml_collections
from absl import logging

from fetal_jax import config as config_lib
from fetal_jax.data import sources
from fetal_jax.runtime import files, signals
from fetal_jax.runtime.errors import UserError

LOCK = 'lock.json'

# What `config.DECIDES` calls by name -> the files by which one can tell that it has begun.
_BEGUN = {
  'data': 'data/split.json',
  'diffusion': 'diffusion/checkpoints/[0-9]*',
  'synthetic': 'synthetic/round_*/manifest.json',
  'classify': 'classify/*/*/seed_*/*',
  'kept': 'classify/*/*_kept*/seed_*/*',
}
_MOST_DIFFERENCES = 5  # that an error names


@contextlib.contextmanager
def locked(workdir: files.PathLike) -> Iterator[None]:
  """Holds the workdir in this block, by a file `lock.json` in it that says who does.

  The lock of a process that is gone is taken over, if that ran on this machine, or for the same job of SLURM before
  it was queued again.

  Raises:
    UserError: another run holds it, or one on another machine may.
  """
  path = pathlib.Path(workdir) / LOCK
  path.parent.mkdir(parents=True, exist_ok=True)
  descriptor = _take(path)

  def release() -> None:
    if _is_at(path, descriptor):  # and not the file of a run that came after somebody had deleted ours
      path.unlink()

  try:
    with signals.before_abandoning(release):
      yield
  finally:
    release()
    os.close(descriptor)


def _take(path: pathlib.Path) -> int:
  """Makes the lock file this process's; returns its descriptor, which has to stay open."""
  while True:
    try:
      descriptor, new = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666), True
    except FileExistsError:
      try:
        descriptor, new = os.open(path, os.O_RDWR), False
      except FileNotFoundError:  # its run has just ended
        continue
    try:
      held = _is_held(descriptor)
      if _is_at(path, descriptor):  # else its run has just ended
        if held or not new:
          _check_over(path, _holder(descriptor), held=held)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, (json.dumps(_myself(), indent=2) + '\n').encode(), 0)
        return descriptor
    except BaseException:
      os.close(descriptor)
      raise
    os.close(descriptor)


def _is_held(descriptor: int) -> bool:
  """Whether another process has locked the file for the kernel; if not, this one has now, until it ends."""
  try:
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError:
    return True
  except OSError:  # a file system without such locks: the number of the process has to tell
    return False
  return False


def _check_over(path: pathlib.Path, holder: dict[str, Any] | None, *, held: bool) -> None:
  """Refuses a lock whose run may go on; says that it takes over one whose run does not."""
  who = (
    f'process {holder["pid"]} on {holder["host"]}, since {holder["since"]}'
    if holder
    else 'an unknown process'
  )
  here = holder is not None and holder['host'] == socket.gethostname()
  if held or (holder and here and _is_running(holder)):
    raise UserError(
      f'{path.parent}: another run is at work there ({who}); wait for it or stop it, or use another --workdir'
    )
  if holder and not here and not _is_requeued(holder):
    raise UserError(
      f'{path.parent}: another run may be at work there ({who}), which cannot be seen from this machine; if it is '
      f'over, delete {path}, else use another --workdir'
    )
  logging.warning('%s: the run that held it is gone (%s); going on in its place.', path.parent, who)


def _myself() -> dict[str, Any]:
  return {
    'host': socket.gethostname(),
    'pid': os.getpid(),
    'process_started': _process_started(os.getpid()),
    'since': datetime.datetime.now().astimezone().isoformat(timespec='seconds'),
    'slurm': _slurm(),
  }


def _holder(descriptor: int) -> dict[str, Any] | None:
  """What the lock file says; None if a run was killed while it wrote."""
  # Not by name: on a network file system closing another descriptor of the file would give up its lock.
  try:
    holder = json.loads(os.pread(descriptor, 1 << 16, 0))
    return holder if {'host', 'pid', 'since'} <= holder.keys() else None
  except (ValueError, AttributeError):
    return None


def _is_at(path: pathlib.Path, descriptor: int) -> bool:
  """Whether the open file is still the one of this name."""
  try:
    return os.path.samestat(os.stat(path), os.fstat(descriptor))
  except FileNotFoundError:
    return False


def _is_running(holder: dict[str, Any]) -> bool:
  """Whether a process of this machine lives, and is not another one that got its number later."""
  pid, started = holder['pid'], holder.get('process_started')
  if pid == os.getpid():
    return False
  try:
    os.kill(pid, 0)
  except ProcessLookupError:
    return False
  except PermissionError:  # another user's
    pass
  now = _process_started(pid)
  return started is None or now is None or started == now


def _process_started(pid: int) -> str | None:
  """When a process was started, in ticks of the machine's clock since a certain boot; None where nothing tells."""
  try:
    # `pid (name) state ppid ...`: the 22nd field is the start, and a name may hold anything.
    fields = pathlib.Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()
    return f'{pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip()} {fields[19]}'
  except (OSError, IndexError):
    return None


def _slurm() -> list[Any] | None:
  """The job of SLURM that this is, and how often that was started before."""
  job = os.environ.get('SLURM_JOB_ID')
  return [job, int(os.environ.get('SLURM_RESTART_COUNT', 0))] if job else None


def _is_requeued(holder: dict[str, Any]) -> bool:
  """Whether the holder was an earlier start of this very job: SLURM runs one at a time."""
  mine, other = _slurm(), holder.get('slurm')
  return bool(mine and other and mine[0] == other[0] and other[1] < mine[1])


def check_config(config: ml_collections.ConfigDict, workdir: files.PathLike) -> None:
  """Refuses a config that would change the meaning of what is in the workdir.

  `config.DECIDES` says which settings do; those of a stage that has not begun are free.

  Raises:
    UserError: names the settings, what they were there, and what is asked.
  """
  workdir = pathlib.Path(workdir)
  if not (workdir / 'config.json').is_file():
    return
  recorded = config_lib.from_dict(files.read_json(workdir / 'config.json')['config'])
  changed: dict[str, str] = {}
  for name in (*_BEGUN, *(f'classify/{model}' for model in config.classify.model_args)):
    if any(workdir.glob(_BEGUN.get(name, f'{name}/*/seed_*/*'))):
      there, asked = (config_lib.decisive(c, name) for c in (recorded, config))
      for key in dict.fromkeys([*there, *asked]):
        if (old := there.get(key, 'not set')) != (new := asked.get(key, 'not set')) and _counts(key, config):
          changed[key] = f'config.{key}: {old} there, {new} asked'
  if changed:
    named = '; '.join([*changed.values()][:_MOST_DIFFERENCES])
    more = len(changed) - _MOST_DIFFERENCES
    raise UserError(
      f'{workdir}: holds results of other settings ({named}{f"; and {more} more" if more > 0 else ""}); use a new '
      '--workdir, or the settings that are there'
    )


def _counts(key: str, config: ml_collections.ConfigDict) -> bool:
  """Whether the config's own source and split look at this setting of `data`."""
  name = key.removeprefix('data.')
  if name in {k for keys in sources.KEYS.values() for k in keys}:
    return name in sources.KEYS[config.data.source]
  return key != 'data.test_fraction' or config.data.split == 'patient'
