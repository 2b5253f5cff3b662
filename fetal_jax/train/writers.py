"""Scalars and images of a run: TensorBoard events, one JSON line a step, and the log.

`clu.metric_writers` needs TensorFlow, which this project does without; the method names are clu's.
"""

import json
import math
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from absl import logging

from fetal_jax.files import PathLike, write_text

_FLUSH_SECONDS = 5  # how far TensorBoard is behind a running training


class MetricWriter:
  """Writes to `<directory>/metrics.jsonl` and TensorBoard; only the first process writes.

  Args:
    directory: one run's own log folder.
    start_step: lines of later steps are dropped, because a resumed run writes them again.
  """

  def __init__(self, directory: PathLike, *, start_step: int = 0) -> None:
    self._active = jax.process_index() == 0
    if not self._active:
      return
    from tensorboardX import SummaryWriter

    directory = pathlib.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    self._path = directory / 'metrics.jsonl'
    kept = [row for row in read_metrics(self._path) if row['step'] <= start_step]
    write_text(self._path, ''.join(json.dumps(row) + '\n' for row in kept))
    self._file = self._path.open('a', encoding='utf-8')
    self._tensorboard = SummaryWriter(str(directory), purge_step=start_step + 1, flush_secs=_FLUSH_SECONDS)

  def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
    """One line and one event a name; not-a-number becomes null in the JSON line."""
    if not self._active:
      return
    values = {name: float(value) for name, value in scalars.items()}
    row = {'step': step, **{k: v if math.isfinite(v) else None for k, v in values.items()}}
    self._file.write(json.dumps(row) + '\n')
    self._file.flush()
    for name, value in values.items():
      self._tensorboard.add_scalar(name, value, step)

  def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
    """Pictures uint8 [H, W, C] for TensorBoard."""
    if not self._active:
      return
    for name, image in images.items():
      self._tensorboard.add_image(name, image, step, dataformats='HWC')

  def close(self) -> None:
    """Flushes and closes the files."""
    if self._active:
      self._file.close()
      self._tensorboard.close()

  def __enter__(self) -> 'MetricWriter':
    return self

  def __exit__(self, *exception: object) -> None:
    self.close()


def read_metrics(path: PathLike) -> list[dict[str, Any]]:
  """The rows of a metrics.jsonl; an unfinished last line (a killed run) is left out."""
  path = pathlib.Path(path)
  if not path.is_file():
    return []
  rows = []
  for line in path.read_text(encoding='utf-8').splitlines():
    try:
      rows.append(json.loads(line))
    except json.JSONDecodeError:
      logging.warning('%s: left out an unfinished line.', path)
  return rows
