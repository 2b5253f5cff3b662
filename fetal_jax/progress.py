"""One live line for people at a terminal, plain log lines elsewhere."""

import sys
import time

from absl import logging


def duration(seconds: float) -> str:
  """For example `45 s`, `12 min 5 s`, `7 h 20 min`."""
  seconds = round(seconds)
  if seconds < 60:
    return f'{seconds} s'
  if seconds < 3600:
    return f'{seconds // 60} min {seconds % 60} s'
  return f'{seconds // 3600} h {seconds % 3600 // 60} min'


class Progress:
  """Shows how far a long loop is.

  At a terminal a bar that updates in place; otherwise log lines, at most one in `log_seconds` seconds.

  Args:
    title: what runs, for example `diffusion`.
    total: number of units.
    unit: for example `steps` or `images`.
    done: units done before this start.
    log_seconds: least time between two log lines.
  """

  def __init__(self, title: str, total: int, unit: str, *, done: int = 0, log_seconds: float = 10.0) -> None:
    self._title, self._total, self._unit, self._done = title, total, unit, done
    self._first, self._start = done, time.monotonic()
    self._log_seconds, self._logged = log_seconds, self._start
    self._bar = None
    if sys.stderr.isatty():
      from rich import console, progress

      self._bar = progress.Progress(
        progress.TextColumn('{task.description}'),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TextColumn('{task.fields[note]}'),
        progress.TimeRemainingColumn(),
        console=console.Console(stderr=True),
        transient=True,
      )
      self._bar.start()
      self._task = self._bar.add_task(title, total=total, completed=done, note='')

  def update(self, done: int, note: str = '') -> None:
    """Sets the units done, with a few words beside the bar."""
    self._done = done
    if self._bar:
      self._bar.update(self._task, completed=done, note=note)
      return
    now = time.monotonic()
    if now - self._logged >= self._log_seconds:
      self._logged = now
      logging.info(
        '%s: %d of %d %s, %s%s', self._title, done, self._total, self._unit, self.eta(), note and f', {note}'
      )

  def eta(self) -> str:
    """How long the rest takes at the rate so far, for example `3 min 20 s left`."""
    fresh = self._done - self._first
    if not fresh:
      return 'time left unknown'
    seconds = (time.monotonic() - self._start) / fresh * (self._total - self._done)
    return f'{duration(seconds)} left'

  def close(self) -> None:
    """Removes the bar."""
    if self._bar:
      self._bar.stop()

  def __enter__(self) -> 'Progress':
    return self

  def __exit__(self, *exception: object) -> None:
    self.close()
