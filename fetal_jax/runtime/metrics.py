"""Scalars and images of a run: TensorBoard events, and metrics.jsonl with one JSON line a step.

`clu.metric_writers` needs TensorFlow, which this project does without; the method names are clu's.
"""

import contextlib
import json
import math
import pathlib
import socket
import sys
import time
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from absl import logging

from fetal_jax.runtime.files import PathLike, naming, write_text

FILE = 'metrics.jsonl'
_FLUSH_SECONDS = 5  # TensorBoard is at most this far behind a running training

# `step`, and the metrics of that step by name; None for a value that is not finite.
MetricsRow = dict[str, Any]


class MetricWriter:
  """The writer of `<directory>/metrics.jsonl` and of TensorBoard's events; only the first process writes.

  Both are written in the caller's thread. tensorboardX's own `SummaryWriter` writes in another thread, which dies when
  the disk is full; its callers then wait for ever.

  Args:
    directory: one run's own log folder.
    start_step: rows of later steps are dropped, because a resumed run writes them again.
  """

  def __init__(self, directory: PathLike, *, start_step: int = 0) -> None:
    self._active = jax.process_index() == 0
    if not self._active:
      return
    from tensorboardX.proto.event_pb2 import SessionLog
    from tensorboardX.record_writer import RecordWriter

    self._directory = pathlib.Path(directory)
    self._directory.mkdir(parents=True, exist_ok=True)
    path = self._directory / FILE
    kept = [row for row in read_metrics(path) if row['step'] <= start_step]
    write_text(path, ''.join(json.dumps(row) + '\n' for row in kept))
    self._file = path.open('a', encoding='utf-8')
    self._events, self._flushed = RecordWriter(str(_fresh_events(self._directory))), 0.0
    self._write_event(0, file_version='brain.Event:2')
    # TensorBoard forgets what it read of this step and later ones.
    self._write_event(start_step + 1, session_log=SessionLog(status=SessionLog.START))

  def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
    """Writes one line, and one event a name; a value that is not finite becomes null in the line."""
    if not self._active:
      return
    from tensorboardX.summary import scalar

    values = {name: float(value) for name, value in scalars.items()}
    row = {'step': step, **{k: v if math.isfinite(v) else None for k, v in values.items()}}
    with naming(self._directory):
      self._file.write(json.dumps(row) + '\n')
      self._file.flush()
    for name, value in values.items():
      self._write_event(step, summary=scalar(name, value))
    self._flush_events()

  def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
    """Writes pictures uint8 [H, W, C] for TensorBoard."""
    if not self._active:
      return
    from tensorboardX.summary import image

    for name, picture in images.items():
      self._write_event(step, summary=image(name, picture, dataformats='HWC'))
    self._flush_events()

  def _write_event(self, step: int, **what: Any) -> None:
    from tensorboardX.proto.event_pb2 import Event

    with naming(self._directory):
      self._events.write(Event(wall_time=time.time(), step=step, **what).SerializeToString())

  def _flush_events(self) -> None:
    if time.monotonic() - self._flushed > _FLUSH_SECONDS:  # it waits for the disk
      with naming(self._directory):
        self._events.flush()
      self._flushed = time.monotonic()

  def close(self) -> None:
    """Flushes and closes the files."""
    if self._active:
      with naming(self._directory), contextlib.closing(self._events):
        self._file.close()

  def __enter__(self) -> 'MetricWriter':
    return self

  def __exit__(self, *exception: object) -> None:
    self.close()


def _fresh_events(directory: pathlib.Path) -> pathlib.Path:
  """Returns a name for TensorBoard's events that sorts after those that are there and overwrites none.

  TensorBoard reads the files of a folder in the order of their names, which begin with the second they were begun in. The
  clock may be behind: two starts within a second, or a clock that was set back.
  """
  begun = [path.name.split('.')[3] for path in directory.glob('events.out.tfevents.*')]
  latest = max((int(second) for second in begun if second.isdecimal()), default=0)
  second = max(int(time.time()), latest + 1)
  return directory / f'events.out.tfevents.{second}.{socket.gethostname()}'


def read_metrics(path: PathLike) -> list[MetricsRow]:
  """Reads the rows of a metrics.jsonl; none where it is missing.

  A damaged line is left out with a warning, such as the last one where a run was killed while it wrote.
  """
  path = pathlib.Path(path)
  if not path.is_file():
    return []
  rows = []
  for line in path.read_text(encoding='utf-8', errors='replace').splitlines():
    try:
      row = json.loads(line)
      step = row.pop('step')
      if not _is_number(step):
        raise ValueError(f'step {step!r}')
      rows.append({'step': step, **row})
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
      logging.warning('%s: left out an unfinished line.', path)
  return rows


def _is_number(value: Any) -> bool:
  """Returns whether a value of JSON is a finite number, which true and a number of a thousand digits are not."""
  return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def read_curves(path: PathLike) -> dict[str, tuple[list[float], list[float]]]:
  """Reads a metrics.jsonl by metric: `{metric: (steps, values)}`, finite values only, in order of step.

  Where a step was taken twice, by a run that was interrupted and resumed from its checkpoint, the later row counts.
  """
  values: dict[str, dict[float, float]] = {}
  for row in read_metrics(path):
    step = row.pop('step')
    for name, value in row.items():
      if _is_number(value):
        values.setdefault(name, {})[step] = value
  return {name: (sorted(curve), [curve[step] for step in sorted(curve)]) for name, curve in values.items()}
