"""A workdir belongs to one run at a time: lock.json in it says which process on which machine holds it."""

import contextlib
import datetime
import errno
import os
import pathlib
import socket
from collections.abc import Iterator

import filelock
import msgspec
from absl import logging

from fetal_jax.runtime import environment, files, signals
from fetal_jax.runtime.errors import UserError

LOCK = 'lock.json'
_NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK)  # of a file system without them


class Holder(msgspec.Struct, frozen=True):
  """The content of lock.json.

  Attributes:
    host: name of the machine.
    pid: number of the process.
    since: when it took the lock, in ISO 8601.
    process_started: tells the process from a later one of the same number; None where the system does not say.
    slurm: the job of SLURM and how often it was started before; None outside of SLURM.
  """

  host: str
  pid: int
  since: str
  process_started: str | None = None
  slurm: tuple[str, int] | None = None


@contextlib.contextmanager
def locked(workdir: files.PathLike) -> Iterator[None]:
  """Holds the workdir in this block.

  The lock of a process that has ended is taken over if it ran on this machine, or if it was an earlier start of the
  same job of SLURM, which was queued again.

  Raises:
    UserError: another run holds it, or one on another machine may.
  """
  path = pathlib.Path(workdir) / LOCK
  path.parent.mkdir(parents=True, exist_ok=True)
  mine: list[os.stat_result] = []

  def take(descriptor: int) -> None:
    # By the descriptor, not by name: on NFS the kernel's lock is lost when another descriptor of the file is closed.
    content = os.pread(descriptor, 1 << 16, 0)
    if content:
      _check_ended(path, _parse(content))
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, msgspec.json.format(msgspec.json.encode(_myself()), indent=2) + b'\n', 0)
    mine.append(os.fstat(descriptor))

  def remove() -> None:
    with contextlib.suppress(FileNotFoundError):
      if os.path.samestat(
        os.stat(path), mine[0]
      ):  # not the file of a later run, after a user has deleted ours
        path.unlink()

  lock = filelock.FileLock(path, timeout=0, fallback_to_soft=False, preserve_lock_file=True, on_acquired=take)
  try:
    lock.acquire()
  except filelock.Timeout:
    raise _at_work(path, _parse(path.read_bytes() if path.is_file() else b'')) from None
  except OSError as error:
    if error.errno not in _NO_LOCKS:
      raise
    with open(path, 'r+b') as f:  # the number of the process has to tell
      take(f.fileno())
  try:
    with signals.before_abandoning(remove):
      yield
  finally:
    remove()
    lock.release()


def _check_ended(path: pathlib.Path, holder: Holder | None) -> None:
  """Refuses the lock of a run that may be alive; logs that the lock of an ended one is taken over."""
  here = holder is not None and holder.host == socket.gethostname()
  if holder and here and _is_running(holder):
    raise _at_work(path, holder)
  if holder and not here and not _is_requeued(holder):
    raise UserError(
      f'{path.parent}: another run may be at work there ({_who(holder)}), which cannot be seen from this machine; '
      f'if it has ended, delete {path}, else use another --workdir'
    )
  logging.warning('%s: the run that held it has ended (%s); taking its place.', path.parent, _who(holder))


def _at_work(path: pathlib.Path, holder: Holder | None) -> UserError:
  """Returns the error for a workdir that a living process holds."""
  return UserError(
    f'{path.parent}: another run is at work there ({_who(holder)}); wait for it or stop it, or use another --workdir'
  )


def _who(holder: Holder | None) -> str:
  if holder is None:
    return 'an unknown process'
  return f'process {holder.pid} on {holder.host}, since {holder.since}'


def _parse(content: bytes) -> Holder | None:
  """Reads lock.json; None if a run was killed while it wrote."""
  try:
    return msgspec.json.decode(content, type=Holder)
  except (msgspec.DecodeError, UnicodeDecodeError):
    return None


def _myself() -> Holder:
  """Returns this process as a holder."""
  return Holder(
    host=socket.gethostname(),
    pid=os.getpid(),
    since=datetime.datetime.now().astimezone().isoformat(timespec='seconds'),
    process_started=_process_started(os.getpid()),
    slurm=_slurm(),
  )


def _is_running(holder: Holder) -> bool:
  """Returns whether a process of this machine is alive, and not another one that got its number later."""
  if holder.pid == os.getpid():
    return False
  try:
    os.kill(holder.pid, 0)
  except ProcessLookupError:
    return False
  except PermissionError:  # another user's
    pass
  started, now = holder.process_started, _process_started(holder.pid)
  return started is None or now is None or started == now


def _process_started(pid: int) -> str | None:
  """Returns a boot's id and the clock ticks from it to the start of a process; None where the system does not say."""
  try:
    # `pid (name) state ppid ...`: the 22nd field is the start, and a name may hold anything.
    fields = pathlib.Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()
    return f'{pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip()} {fields[19]}'
  except (OSError, IndexError):
    return None


def _slurm() -> tuple[str, int] | None:
  """Returns this job of SLURM, and how often it was started before."""
  job = os.environ.get('SLURM_JOB_ID')
  return (job, environment.number('SLURM_RESTART_COUNT', 0)) if job else None


def _is_requeued(holder: Holder) -> bool:
  """Returns whether the holder was an earlier start of this very job: SLURM runs one at a time."""
  mine, other = _slurm(), holder.slurm
  return bool(mine and other and mine[0] == other[0] and other[1] < mine[1])
