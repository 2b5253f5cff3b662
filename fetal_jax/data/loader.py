"""Batches: grain decides which image comes when; the images themselves stay in RAM.

The order is a function of (seed, epoch) alone. Every process computes the same global batches and uploads
only its own devices' rows (`devices.put_batch`), so any number of hosts sees the same training run.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import grain.python as grain
import numpy as np


@dataclasses.dataclass(frozen=True)
class Source:
  """A set of labelled images that stay where they are (in RAM or memory-mapped).

  Attributes:
    images: uint8 [N, H, W, C].
    labels: int32 [N].
    indices: int64 [n], the images of this source that take part.
    real: whether they get the real images' augmentation.
  """

  images: np.ndarray
  labels: np.ndarray
  indices: np.ndarray
  real: bool = True


def gather(sources: Sequence[Source], positions: np.ndarray) -> dict[str, np.ndarray]:
  """Copies the images at `positions` (any shape) of the concatenated sources: `images`, `labels` and `real`."""
  ends = np.cumsum([len(s.indices) for s in sources])
  first = sources[0].images
  batch = {
    'images': np.empty((*positions.shape, *first.shape[1:]), np.uint8),
    'labels': np.empty(positions.shape, np.int32),
    'real': np.empty(positions.shape, bool),
  }
  owner = np.searchsorted(ends, positions, side='right')
  for number, source in enumerate(sources):
    mine = owner == number
    rows = source.indices[positions[mine] - (ends[number] - len(source.indices))]
    batch['images'][mine] = source.images[rows]
    batch['labels'][mine] = source.labels[rows]
    batch['real'][mine] = source.real
  return batch


def training_batches(
  sources: Sequence[Source], *, batch_size: int, steps_per_call: int, seed: int
) -> grain.DatasetIterator:
  """Yields shuffled batches without end; every image comes once an epoch, and an epoch's end shortens no batch.

  Args:
    sources: concatenated, then shuffled together anew each epoch.
    batch_size: B, over all devices.
    steps_per_call: K, batches handed over at a time.
    seed: of the order.

  Returns:
    An iterator of dicts `images` uint8 [K, B, H, W, C], `labels` int32 [K, B], `real` bool [K, B]. Its
    `get_state()` / `set_state()` (a JSON-able dict) belong into the checkpoint.
  """
  ends = np.cumsum([0] + [len(s.indices) for s in sources])
  positions = grain.MapDataset.concatenate(
    [grain.MapDataset.range(int(a), int(b)) for a, b in itertools.pairwise(ends)]
  )
  dataset = (
    positions.seed(seed)
    .shuffle()
    .repeat()
    .batch(batch_size * steps_per_call)
    .map(lambda p: gather(sources, np.asarray(p).reshape(steps_per_call, batch_size)))
  )
  # Index arithmetic and one copy: threads would only get in the way.
  return iter(dataset.to_iter_dataset(grain.ReadOptions(num_threads=0)))


def evaluation_batches(source: Source, *, batch_size: int) -> list[dict[str, Any]]:
  """Copies all images of a source in order, in batches of one shape.

  Returns:
    Dicts as in `gather` with leading size `batch_size`, and `mask` bool [B], false where the last batch
    is padding.
  """
  batches = []
  for start in range(0, len(source.indices), batch_size):
    positions = np.arange(start, start + batch_size)
    mask = positions < len(source.indices)
    batches.append({**gather([source], np.where(mask, positions, 0)), 'mask': mask})
  return batches
