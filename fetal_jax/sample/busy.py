"""The share of the time in which a device computes."""

import queue
import threading
import time
from typing import Any

import jax


class BusyClock:
  """Adds up how long results took to compute; for results that are dispatched one after the other.

  with BusyClock() as clock:
    for ...:
      now = time.monotonic()
      clock.watch(dispatch(...), since=now)
  clock.busy  # seconds
  """

  def __init__(self) -> None:
    self.busy = 0.0
    self._queue: queue.SimpleQueue = queue.SimpleQueue()
    self._thread = threading.Thread(target=self._work, daemon=True)

  def watch(self, result: Any, since: float) -> None:
    """Counts from `since`, or from the end of the one before, until `result` is ready; does not wait."""
    self._queue.put((since, result))

  def _work(self) -> None:
    end = 0.0
    while (entry := self._queue.get()) is not None:
      dispatched, result = entry
      try:
        jax.block_until_ready(result)
      except jax.errors.JaxRuntimeError:  # raised where the result is used
        return
      begun, end = max(dispatched, end), time.monotonic()
      self.busy += end - begun

  def __enter__(self) -> 'BusyClock':
    self._thread.start()
    return self

  def __exit__(self, *error: object) -> None:
    self._queue.put(None)
    self._thread.join()
