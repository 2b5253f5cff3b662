"""Signals: what they raise, when, and with which exit code."""

import contextlib
import ctypes
import gc
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from conftest import ROOT

from fetal_jax.runtime import signals


def send(number):
  """Sends this process a signal; returns once Python's handler must have run."""
  os.kill(os.getpid(), number)
  for _ in range(100):
    time.sleep(0.001)


def handled(block):
  """Calls `block` with signals handled, as the commands do; returns the `Stopped` that it must end in."""

  def call():
    with signals.handled():
      block()

  with pytest.raises(signals.Stopped) as stopped:
    call()
  return stopped.value


@pytest.fixture
def abandoned(monkeypatch):
  """The signals for which the process would have been ended at once."""
  numbers = []
  monkeypatch.setattr(signals, '_abandon', numbers.append)
  return numbers


@pytest.mark.parametrize(
  ('number', 'code'), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGUSR1, 143)]
)
def test_a_signal_stops_at_once_where_nothing_is_lost(number, code):
  stopped = handled(lambda: (send(number), pytest.fail('went on')))
  assert stopped.code == code
  assert isinstance(stopped, KeyboardInterrupt)  # what catches all errors lets it pass


def test_a_stop_that_comes_in_a_callback_of_the_collector_is_not_lost():
  """Python drops exceptions there; JAX has such a callback, which takes long after a large compilation."""

  def callback(phase, info):
    if phase == 'start':
      gc.callbacks.remove(callback)
      send(signal.SIGTERM)

  def block():
    gc.callbacks.append(callback)
    gc.collect()
    for _ in range(200):
      time.sleep(0.05)
    pytest.fail('went on')

  assert handled(block).code == 143


def test_a_signal_waits_for_a_deferred_block():
  done = []

  def block():
    with signals.deferred():
      with signals.deferred():
        assert not signals.requested()
        send(signal.SIGTERM)
        assert signals.requested()
        done.append('inner')
      done.append('outer')
    done.append('after')

  assert handled(block).code == 143
  assert done == ['inner', 'outer']


def test_a_deferred_block_that_stops_by_itself_says_what_is_kept():
  def block():
    with signals.deferred():
      send(signal.SIGINT)
      signals.stop('at step 3 of 4')

  stopped = handled(block)
  assert (stopped.where, stopped.code) == ('at step 3 of 4', 130)


def test_an_error_of_a_deferred_block_is_not_hidden():
  def block():
    with signals.handled(), signals.deferred():
      send(signal.SIGINT)
      raise ValueError('mine')

  with pytest.raises(ValueError, match='mine'):
    block()


def test_handlers_are_given_back():
  mine = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
  before = [signal.getsignal(number) for number in signals.CODES]
  try:
    with signals.handled():
      assert signal.getsignal(signal.SIGUSR1) != signal.SIG_IGN
    assert [signal.getsignal(number) for number in signals.CODES] == before
    assert not signals.requested()
    assert 'signals' not in [thread.name for thread in threading.enumerate()]
  finally:
    signal.signal(signal.SIGUSR1, mine)


def test_nothing_is_installed_outside_of_the_main_thread():
  found = []

  def inside():
    with signals.handled():
      found.append(signal.getsignal(signal.SIGTERM))

  thread = threading.Thread(target=inside)
  thread.start()
  thread.join()
  assert found == [signal.getsignal(signal.SIGTERM)]


def test_a_signal_sent_twice_at_a_time_is_one(abandoned, monkeypatch):
  monkeypatch.setattr(signals, '_ONE_SIGNAL', 60.0)  # a busy machine

  def block():
    with signals.deferred():
      send(signal.SIGINT)
      send(signal.SIGINT)

  handled(block)
  assert abandoned == []


def test_a_second_signal_ends_the_process(abandoned, monkeypatch):
  monkeypatch.setattr(signals, '_ONE_SIGNAL', 0.05)

  def block():
    with signals.deferred():
      send(signal.SIGTERM)
      time.sleep(0.1)
      while not abandoned:
        send(signal.SIGINT)

  handled(block)
  assert abandoned[0] == signal.SIGINT


def test_a_second_signal_ends_a_process_whose_watcher_died(abandoned, monkeypatch):
  """While the first one unwinds, as where memory has ended."""
  monkeypatch.setattr(signals, '_ONE_SIGNAL', 0.05)
  monkeypatch.setattr(signals, '_watch', lambda heard: None)

  def block():
    try:
      send(signal.SIGTERM)
    finally:
      time.sleep(0.1)
      send(signal.SIGINT)

  handled(block)
  assert abandoned == [signal.SIGINT]


@pytest.mark.parametrize('deferring', [False, True])
def test_a_main_thread_that_cannot_answer(abandoned, monkeypatch, deferring):
  """Such as one that compiles: the process is ended for it, unless a checkpoint is to come."""
  monkeypatch.setattr(signals, '_PATIENCE', 0.2)
  monkeypatch.setattr(signals, '_TICK', 0.05)
  sleep = ctypes.CDLL(None).usleep

  def busy():
    # The signal goes to another thread, as the system calls of this one must not end early.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM)).start()
    sleep(800_000)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})

  def block():
    with signals.deferred() if deferring else contextlib.nullcontext():
      busy()

  handled(block)
  assert (signal.SIGTERM in abandoned) == (not deferring)


_UNWILLING = """
import os, sys, time
from fetal_jax.runtime import signals, workdir
signals._ONE_SIGNAL = 0.0
with signals.handled(), workdir.locked(sys.argv[1]):
  try:
    print('ready', flush=True)
    time.sleep(60)
  finally:
    print('unwinding', flush=True)
    time.sleep(60)
"""


def test_a_process_that_is_ended_at_once_leaves_no_lock(tmp_path):
  process = subprocess.Popen(
    [sys.executable, '-c', _UNWILLING, str(tmp_path)],
    cwd=ROOT,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )
  assert process.stdout.readline() == 'ready\n'
  assert (tmp_path / 'lock.json').is_file()
  process.send_signal(signal.SIGINT)
  assert process.stdout.readline() == 'unwinding\n'
  while process.poll() is None:  # signals that come together count as one
    process.send_signal(signal.SIGTERM)
    time.sleep(0.2)
  assert 'stopped at once' in process.communicate()[1]
  assert process.returncode == 143
  assert not (tmp_path / 'lock.json').exists()
