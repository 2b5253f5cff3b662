"""Signals that ask a run to stop, obeyed where nothing is lost.

Outside of training a signal raises `Stopped` at once: everything there is written whole or not at all. Training
runs inside `deferred`, asks `requested` after each dispatch, and writes a checkpoint first. A second signal ends
the process there and then. Only the commands install handlers; a program that calls a stage keeps its own.
"""

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator

from absl import logging

# What a terminal's ctrl-C, a scheduler or a cloud, and SLURM's --signal=USR1 send, and the exit code that follows.
CODES: dict[int, int] = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGUSR1: 143}

_ONE_SECOND = 1.0  # launchers pass on what the terminal has sent too: within this it is one signal
_PATIENCE = 10.0  # how long Python's own handler may be held up, such as by a compilation
_TICK = 0.5


class Stopped(KeyboardInterrupt):
  """The run was asked to stop and has; a KeyboardInterrupt, which libraries let pass.

  Attributes:
    code: exit code of the process.
    where: what is kept, for the user; empty where there is nothing to say.
    together: whether the other processes of the run stop at the same place.
  """

  def __init__(self, where: str = '', *, together: bool = False) -> None:
    super().__init__(where)
    self.code = CODES.get(_received or 0, 143)
    self.where, self.together = where, together


_received: int | None = None  # the first signal
_delivered = False  # whether `Stopped` has been raised for it
_depth = 0  # of `deferred`
_last_words: list[Callable[[], None]] = []  # called before the process is ended without ceremony


def requested() -> bool:
  """Whether a signal has come."""
  return _received is not None


def stop(where: str = '', *, together: bool = False) -> None:
  """Raises `Stopped`, for the signal that has come or for one that another process got."""
  global _delivered
  _delivered = True
  raise Stopped(where, together=together)


@contextlib.contextmanager
def deferred() -> Iterator[None]:
  """In this block signals only set `requested`; one that nobody has acted upon raises `Stopped` at its end."""
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
  """`call` is made should the process be ended inside this block without unwinding it."""
  _last_words.append(call)
  try:
    yield
  finally:
    _last_words.remove(call)


@contextlib.contextmanager
def signals() -> Iterator[None]:
  """Handles `CODES` in this block, and gives back the handlers that were there before.

  Does nothing outside of the main thread, where Python has no signals.
  """
  global _received, _delivered
  if threading.current_thread() is not threading.main_thread():
    yield
    return
  _received, _delivered = None, False
  heard, told = socket.socketpair()
  told.setblocking(False)
  before_fd = signal.set_wakeup_fd(told.fileno(), warn_on_full_buffer=False)
  before = {number: signal.signal(number, _handle) for number in CODES}
  watcher = threading.Thread(target=_watch, args=(heard,), name='signals', daemon=True)
  watcher.start()
  try:
    yield
  finally:
    for number, handler in before.items():
      signal.signal(number, signal.SIG_DFL if handler is None else handler)  # None: not of Python's making
    signal.set_wakeup_fd(before_fd)
    told.close()  # ends the watcher
    watcher.join()
    heard.close()
    _received, _delivered = None, False


def _handle(number: int, frame: object) -> None:
  """Python's handler: runs in the main thread, between two of its instructions."""
  global _received
  if _received is None:
    _received = number
  if _depth == 0 and not _delivered:
    stop()


def _watch(heard: socket.socket) -> None:
  """Hears of signals even while the main thread is inside XLA, where no handler of Python's runs."""
  first, since, held_up = None, 0.0, 0.0
  while True:
    heard.settimeout(None if first is None else _TICK)
    try:
      numbers = heard.recv(64)
    except TimeoutError:
      numbers = None
    if numbers == b'':  # closed: the block is over
      return
    known = [number for number in numbers or () if number in CODES]
    if known and first is not None and time.monotonic() - since > _ONE_SECOND:
      _abandon(known[-1])
    if known and first is None:
      first, since = known[0], time.monotonic()
      if _depth:
        logging.info(
          'Asked to stop by %s: this dispatch is finished and a checkpoint written; once more stops at once.',
          signal.Signals(first).name,
        )
    # Nothing is held up in `deferred`: the checkpoint comes when the device is done.
    waiting = first is not None and not _delivered and not _depth
    held_up = held_up + _TICK if waiting else 0.0
    if first is not None and held_up >= _PATIENCE:
      _abandon(first)


def _abandon(number: int) -> None:
  """Ends the process as a kill would, with the exit code of the signal."""
  for call in _last_words:
    with contextlib.suppress(Exception):
      call()
  print(
    'fetal_jax: stopped at once; the same command goes on from what is finished', file=sys.stderr, flush=True
  )
  os._exit(CODES[number])
