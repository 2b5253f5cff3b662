"""Progress of a stage: one live line for people at a terminal, plain log lines elsewhere and in logs/run.log."""

import logging as python_logging
import sys
import time
from typing import Any

from absl import logging

from fetal_jax.runtime.units import duration

# Marks the log records of progress: at a terminal the live line stands for them.
_MARK = 'fetal_jax_progress'


class Progress:
  """Progress of a long loop.

  At a terminal the first process draws one line that updates in place; log lines that go through a
  `TerminalHandler` appear above it. Without a terminal (a file, a pipe, a notebook) there are log lines, at most one
  in `log_seconds` seconds, and no escape codes. A log file gets the log lines in both cases.

      with Progress('diffusion', 5000, 'steps') as progress:
        ...
        progress.update(step, loss=0.08)

  Args:
    title: what runs, for example `diffusion`.
    total: number of units; 0 where it is unknown.
    unit: for example `steps` or `images`.
    done: units done before this start.
    log_seconds: least time between two log lines.
  """

  def __init__(self, title: str, total: int, unit: str, *, done: int = 0, log_seconds: float = 10.0) -> None:
    self._title, self._total, self._unit, self._done = title, total, unit, done
    self._first, self._start = done, time.monotonic()
    self._log_seconds, self._logged = log_seconds, self._start
    self._note = ''
    self._bar = _open_bar()
    if self._bar:
      self._task = self._bar.add_task(title, total=total or None, completed=done, line=self._line())

  def update(self, done: int, note: str = '', **values: float) -> None:
    """Sets the units done, and what is shown beside them.

    Args:
      done: units done, of those before this start too.
      note: a few words.
      **values: measurements by name, shown as `loss 0.08`, or as `73 img/s` if the name ends in `_per_s`.
    """
    self._note = ', '.join([note] * bool(note) + [_words(name, value) for name, value in values.items()])
    self.tick(done)
    now = time.monotonic()
    if now - self._logged >= self._log_seconds and (not self._bar or _apart()):
      self._logged = now
      logging.info('%s: %s', self._title, self._line(), extra={_MARK: True})

  def tick(self, done: int) -> None:
    """Sets the units done between two updates: moves the live line and writes no log line."""
    self._done = done
    if self._bar:
      self._bar.update(self._task, completed=done, line=self._line())

  def eta(self) -> str:
    """Returns how long the rest takes at the rate so far, for example `3 min 20 s left`."""
    fresh = self._done - self._first
    if not fresh or not self._total:
      return 'time left unknown'
    seconds = (time.monotonic() - self._start) / fresh * (self._total - self._done)
    return f'{duration(round(seconds))} left'

  def close(self) -> None:
    """Removes the live line."""
    if self._bar:
      _close_bar(self._bar)
      self._bar = None

  def __enter__(self) -> 'Progress':
    return self

  def __exit__(self, *exception: object) -> None:
    self.close()

  def _line(self) -> str:
    of = f'{self._done:,} of {self._total:,}' if self._total else f'{self._done:,}'
    return f'{of} {self._unit}, {self.eta()}{self._note and f", {self._note}"}'


class TerminalHandler(python_logging.Handler):
  """Writes log lines to stderr, above the live line while there is one; then log lines of progress are left out."""

  def emit(self, record: python_logging.LogRecord) -> None:
    bar = _live
    try:
      if bar is None:
        print(self.format(record), file=sys.stderr, flush=True)
      elif not hasattr(record, _MARK):
        # Long lines are left to the terminal, so that a command can be copied from one.
        bar.console.print(self.format(record), markup=False, highlight=False, emoji=False, soft_wrap=True)
    except Exception:
      self.handleError(record)


def _words(name: str, value: float) -> str:
  if name.endswith('_per_s'):
    return f'{value:.3g} {name.removesuffix("_per_s")}/s'
  return f'{name.replace("_", " ")} {value:.4g}'


_live: Any = None  # the rich.progress.Progress that is being drawn


def _open_bar() -> Any:
  """Starts drawing; None without a terminal, in other processes than the first, and where a line is drawn already."""
  global _live
  if _live is not None or sys.stderr is None or not sys.stderr.isatty() or not _is_first():
    return None
  from rich import console, progress

  stderr = console.Console(stderr=True)
  if stderr.is_dumb_terminal:
    return None
  _live = progress.Progress(
    progress.TextColumn('{task.description}', markup=False),
    progress.BarColumn(bar_width=10),
    progress.TextColumn('{task.fields[line]}', markup=False),
    console=stderr,
    transient=True,
    refresh_per_second=4,
  )
  _live.start()
  stderr.show_cursor(True)  # rich hides it, and a killed process could not bring it back
  return _live


def _close_bar(bar: Any) -> None:
  global _live
  bar.stop()
  _live = None


def _apart() -> bool:
  """Returns whether log lines go above the live line, as they do in the command."""
  return any(isinstance(handler, TerminalHandler) for handler in python_logging.getLogger().handlers)


def _is_first() -> bool:
  """Returns whether this is the first or only process of a run; does not start JAX."""
  jax = sys.modules.get('jax')
  return jax is None or not jax.distributed.is_initialized() or jax.process_index() == 0
