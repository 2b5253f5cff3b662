"""Signals that ask a run to stop, obeyed where nothing is lost.

Outside of training a signal raises `Stopped` at once: everything there is written whole or not at all. Training
runs inside `deferred`, asks `requested` after each dispatch, and writes a checkpoint first. A second signal ends
the process at once. Only the commands install handlers (`handled`); a program that calls a stage keeps its own.
"""

import contextlib
import ctypes
import functools
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from absl import logging

# Signals and exit codes: ctrl-C of a terminal; a scheduler or a cloud; SLURM's --signal=USR1.
CODES: dict[int, int] = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGUSR1: 143}

_ONE_SIGNAL = (
  1.0  # seconds in which several count as one: launchers pass on what the terminal has sent as well
)
_PATIENCE = 10.0  # seconds that Python's own handler may be delayed, such as by a compilation
_TICK = 0.5  # seconds between two looks


class Stopped(KeyboardInterrupt):
  """Raised where a run stops because it was asked to; a KeyboardInterrupt, which libraries let pass.

  Attributes:
    code: exit code of the process.
    where: tells the user what is kept; may be empty.
    together: whether the other processes of the run stop at the same place.
  """

  def __init__(self, where: str = '', *, together: bool = False) -> None:
    super().__init__(where)
    self.code = CODES.get(_received or 0, 143)
    self.where, self.together = where, together


_received: int | None = None  # the first signal
_received_at = 0.0  # time.monotonic() of it
_delivered = False  # whether `Stopped` has been raised for it
# Whether Python has dropped it: it came inside of a callback of the collector, or a `__del__`.
_swallowed = False
_depth = 0  # of `deferred`
_last_calls: list[Callable[[], None]] = []  # made before the process is ended without unwinding


def requested() -> bool:
  """Returns whether a signal has come."""
  return _received is not None


def stop(where: str = '', *, together: bool = False) -> NoReturn:
  """Raises `Stopped`, for the signal that has come or for one that another process got."""
  global _delivered
  _delivered = True
  raise Stopped(where, together=together)


@contextlib.contextmanager
def deferred() -> Iterator[None]:
  """Lets signals only set `requested` in this block; raises `Stopped` at its end if nobody has acted on one."""
  global _depth
  _depth += 1
  try:
    yield
  finally:
    _depth -= 1
  if _depth == 0 and _received is not None and not _delivered:
    stop()


@contextlib.contextmanager
def before_abandoning(call: Callable[[], None]) -> Iterator[None]:
  """Makes `call` if the process is ended inside this block without unwinding it."""
  _last_calls.append(call)
  try:
    yield
  finally:
    _last_calls.remove(call)


@contextlib.contextmanager
def handled() -> Iterator[None]:
  """Handles `CODES` in this block, and restores the handlers from before at its end.

  Does nothing outside of the main thread, where Python has no signals.
  """
  global _received, _delivered, _swallowed
  if threading.current_thread() is not threading.main_thread():
    yield
    return
  _received, _delivered, _swallowed = None, False, False
  heard, told = socket.socketpair()
  told.setblocking(False)
  before_fd = signal.set_wakeup_fd(told.fileno(), warn_on_full_buffer=False)
  before = {number: signal.signal(number, _handle) for number in CODES}
  before_hook = sys.unraisablehook
  sys.unraisablehook = functools.partial(_notice_swallowed, before_hook)
  watcher = threading.Thread(target=_watch, args=(heard,), name='signals', daemon=True)
  watcher.start()
  try:
    yield
  finally:
    for number, handler in before.items():
      signal.signal(number, signal.SIG_DFL if handler is None else handler)  # None: not installed from Python
    signal.set_wakeup_fd(before_fd)
    sys.unraisablehook = before_hook
    told.close()  # ends the watcher
    watcher.join()
    heard.close()
    _received, _delivered, _swallowed = None, False, False


def _notice_swallowed(otherwise: Callable[[Any], Any], unraisable: Any) -> None:
  """Hears of exceptions that Python drops; `_watch` raises a `Stopped` among them again, others go to the hook from before."""
  global _swallowed
  if isinstance(unraisable.exc_value, Stopped):
    _swallowed = True
  else:
    otherwise(unraisable)


def _handle(number: int, frame: object) -> None:
  """Handles a signal in the main thread, between two instructions of Python."""
  global _received, _received_at
  if _received is None:
    _received, _received_at = number, time.monotonic()
  elif time.monotonic() - _received_at > _ONE_SIGNAL:
    _abandon(number)  # the watcher does so too, unless it died, for want of memory
  if _depth == 0 and not _delivered:
    stop()


def _watch(heard: socket.socket) -> None:
  """Receives signals in a thread, even while the main thread is inside XLA, where no handler of Python runs."""
  global _swallowed
  first, since, late = None, 0.0, 0.0
  while True:
    heard.settimeout(None if first is None else _TICK)
    try:
      numbers = heard.recv(64)
    except TimeoutError:
      numbers = None
    if numbers == b'':  # closed: the block is over
      return
    known = [number for number in numbers or () if number in CODES]
    if known and first is not None and time.monotonic() - since > _ONE_SIGNAL:
      _abandon(known[-1])
    if known and first is None:
      first, since = known[0], time.monotonic()
      if _depth:
        logging.info(
          'Asked to stop by %s: this dispatch is finished and a checkpoint written; once more stops at once.',
          signal.Signals(first).name,
        )
    if _swallowed:
      _swallowed = False
      ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(threading.main_thread().ident or 0), ctypes.py_object(Stopped)
      )
    # In `deferred` nothing is late: the checkpoint comes when the device is done.
    waiting = first is not None and not _delivered and not _depth
    late = late + _TICK if waiting else 0.0
    if first is not None and late >= _PATIENCE:
      _abandon(first)


def _abandon(number: int) -> None:
  """Ends the process as a kill would, with the exit code of the signal."""
  for call in _last_calls:
    with contextlib.suppress(Exception):
      call()
  print(
    'fetal_jax: stopped at once; run the same command again to resume from what is finished',
    file=sys.stderr,
    flush=True,
  )
  os._exit(CODES[number])
