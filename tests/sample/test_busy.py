"""The clock of a device's work."""

import threading
import time

import pytest

from fetal_jax.sample import busy


def test_gaps_do_not_count_and_queues_count_once(monkeypatch):
  """Two results wait for each other, the third comes after a gap."""
  done = {name: threading.Event() for name in 'abc'}
  monkeypatch.setattr(busy.jax, 'block_until_ready', lambda name: done[name].wait(10))
  with busy.BusyClock() as clock:
    start = time.monotonic()
    clock.watch('a', since=start)
    clock.watch('b', since=start)
    time.sleep(0.1)
    done['a'].set()
    time.sleep(0.1)
    done['b'].set()
    time.sleep(0.3)
    clock.watch('c', since=time.monotonic())
    time.sleep(0.1)
    done['c'].set()
  assert clock.busy == pytest.approx(0.3, abs=0.1)
