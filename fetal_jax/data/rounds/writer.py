"""The writer of one round of synthetic images: batches in, a TFDS data set out, whole after any interruption.

A batch is first staged as it came, so that a killed run never draws an image twice. Once all images of a shard are
staged they become one array_record file, a note says so, and the staged batches are deleted. Several processes share
a folder: each owns some of the shards and writes nothing of the others', and the first one writes the manifest, at
the beginning and at the end. What a finished folder holds depends on the images alone: not on batch sizes, nor on
interruptions, nor on the number of processes.

The manifest has the fingerprints of all files. Opening a round compares them; what is damaged is made again, and comes
out the same to the bit, since seed and index decide an image.
"""

import contextlib
import json
import pathlib
import queue
import threading
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
from absl import logging
from jaxtyping import Int, UInt8

from fetal_jax.data.rounds import manifest as manifest_lib
from fetal_jax.data.rounds.dataset import RECORD_OPTIONS, Encoder, explaining, write_metadata, write_preview
from fetal_jax.data.rounds.manifest import CheckpointMark, Manifest, SamplerSettings, ShardEntry
from fetal_jax.data.rounds.plan import Plan, Shard
from fetal_jax.data.rounds.staging import Staging
from fetal_jax.runtime import files, records
from fetal_jax.runtime.errors import UserError
from fetal_jax.runtime.fingerprint import Fingerprint

STAGING = '.staging'


class RoundWriter:
  """Writes one round, or resumes one that was interrupted.

      with RoundWriter(folder, plan, ...) as writer:
        for indices in batches(writer.missing()):  # runs of consecutive indices
          writer.put(indices[0], draw(indices))
        writer.finish()

  Encoding and writing happen on one background thread, behind a queue of `queue_size` batches: `put` waits
  when the disk is slower than the device, so that memory stays flat. An error on that thread is raised by
  the next `put`, `finish` or `close`. Left early, the writer keeps what is staged.

  Args:
    folder: of the round; made if missing.
    plan: labels and shards.
    seed, checkpoint, config_hash, sampler: what draws the images, for the manifest.
    image_size: height and width in pixels.
    channels: 1 (grey) or 3 (RGB).
    share: (index of this process, number of processes); shard s belongs to process s modulo their number.
      The first process opens the folder before the others do, and finishes it when they are done.

  Raises:
    UserError: the folder holds a round of other settings, or cannot be written.
  """

  def __init__(
    self,
    folder: files.PathLike,
    plan: Plan,
    *,
    seed: int,
    checkpoint: CheckpointMark,
    config_hash: str,
    sampler: SamplerSettings,
    image_size: int,
    channels: int,
    share: tuple[int, int] = (0, 1),
    queue_size: int = 2,
  ):
    self.folder = pathlib.Path(folder)
    self.plan = plan
    self._manifest = Manifest(  # as it is when nothing is drawn
      round=plan.round,
      seed=seed,
      class_names=plan.class_names,
      counts=dict.fromkeys(plan.class_names, plan.per_class),
      shard_size=plan.shard_size,
      image_size=image_size,
      channels=channels,
      sampler=sampler,
      checkpoint=checkpoint,
      config_hash=config_hash,
      complete=False,
      shards=(),
      files={},
    )
    self._image_shape = (image_size, image_size, channels)
    self._staging = Staging(self.folder / STAGING, self._image_shape)
    self._shards = {shard.start: shard for shard in plan.shards()}
    self._is_first = share[0] == 0
    self._own_shards = list(self._shards.values())[share[0] :: share[1]]
    self._own = np.zeros(plan.num_images, bool)
    for shard in self._own_shards:
      self._own[shard.start : shard.stop] = True
    self._finished: dict[int, ShardEntry] = {}  # by first image
    self._is_finished, self._is_staged = np.zeros((2, plan.num_images), bool)

    self.complete = self._open()  # whether it was finished before
    if not self.complete:
      # Here and not in the thread: while TFDS is imported, it replaces Python's `import` in all threads.
      self._encoder = Encoder(plan.class_names, self._image_shape)
    # The state above belongs to the background thread from here on, this to the caller's.
    self._accepted = self._is_finished | self._is_staged
    self._error: BaseException | None = None
    self._queue: queue.Queue = queue.Queue(queue_size)
    self._thread: threading.Thread | None = threading.Thread(target=self._work, daemon=True)
    self._thread.start()

  # The caller's side.

  def own(self) -> Int[np.ndarray, 'm']:
    """Returns the indices of all images of this process's shards, ascending int64."""
    return np.flatnonzero(self._own).astype(np.int64)

  def missing(self) -> Int[np.ndarray, 'm']:
    """Returns those of `own` still to be drawn: neither in a finished shard, nor staged, nor put."""
    return np.flatnonzero(self._own & ~self._accepted).astype(np.int64)

  def put(self, first_index: int | np.integer, images: UInt8[Any, 'n h w c']) -> None:
    """Hands over images first_index, first_index + 1, …; waits while the queue is full.

    Args:
      first_index: index of the first image within the round.
      images: uint8 [N, H, W, C], a numpy or JAX array (copied from the device on the background thread).

    Raises:
      ValueError: another shape or dtype, images of another process, or images that are there already.
      UserError: an earlier image could not be written.
    """
    if self._error is not None:
      raise self._error
    if self._thread is None:
      raise ValueError('the writer is closed')
    if images.dtype != np.uint8 or images.shape[1:] != self._image_shape:
      raise ValueError(f'images must be uint8 [n, *{self._image_shape}], not {images.dtype} {images.shape}')
    stop = first_index + len(images)
    if not 0 <= first_index < stop <= self.plan.num_images:
      raise ValueError(f'no images [{first_index}, {stop}) in a round of {self.plan.num_images}')
    if not self._own[first_index:stop].all():
      raise ValueError(f'images [{first_index}, {stop}) belong to another process')
    if self._accepted[first_index:stop].any():
      raise ValueError(f'images [{first_index}, {stop}) are partly there already: ask missing() what to draw')
    self._accepted[first_index:stop] = True
    self._queue.put((int(first_index), images))

  def finish(self) -> None:
    """Waits for the last shard, then writes TFDS's metadata, preview.png and the final manifest.

    Of several processes the first one does this, when all others have closed their writers.

    Raises:
      ValueError: images are missing.
      UserError: a file could not be written.
    """
    self.close()
    if self.complete:
      return
    for entry in self._notes():
      self._add_finished(entry)
    missing = np.flatnonzero(~self._is_finished & ~(self._own & self._accepted))
    if missing.size:
      raise ValueError(f'{self.folder}: {missing.size} images are missing, from {missing[0]} on')
    num_bytes = sum(entry.bytes for entry in self._finished.values())
    names = write_metadata(self.folder, self.plan, self._encoder.features, num_bytes=num_bytes)
    write_preview(self.folder, self.plan, self._image_shape)
    self._write_manifest()  # takes over from the notes, which go with the staged batches
    self._staging.clear()
    self._write_manifest({name: Fingerprint.of(self.folder / name) for name in [*names, 'preview.png']})

  def close(self) -> None:
    """Waits until everything put is staged and every whole shard is written; raises the thread's error."""
    if self._thread is not None:
      self._queue.put(None)
      self._thread.join()
      self._thread = None
    if self._error is not None:
      raise self._error

  def __enter__(self) -> 'RoundWriter':
    return self

  def __exit__(self, *error) -> None:
    self.close()

  # Opening.

  def _open(self) -> bool:
    """Takes stock of what earlier runs left; the first process removes what is of no use.

    Returns:
      Whether the round is complete.
    """
    if self._is_first and not (self.folder / manifest_lib.NAME).exists():
      self._staging.clear()  # of unknown settings
      self._write_manifest()
    found = self._read_manifest()
    for entry in (*found.shards, *self._notes()):
      if not self._is_first or self._is_as_written(entry):  # the other processes believe the first
        self._add_finished(entry)
    complete = found.complete
    if self._is_first:
      whole = len(self._finished) == len(found.shards)
      complete = complete and whole and self._are_as_written(found.files)
      if not whole or complete != found.complete:
        self._write_manifest()
    self._staging.take_stock(self._is_staged, tidy=self._is_first)
    self._staging.remove_spent(self._is_finished)
    return complete

  def _read_manifest(self) -> Manifest:
    """Reads what is on disk, and refuses a round of other settings."""
    found = manifest_lib.read(self.folder)
    progress = {'complete': False, 'shards': (), 'files': {}}
    recorded, wanted = (
      records.to_json(msgspec.structs.replace(m, **progress)) for m in (found, self._manifest)
    )
    if differences := _differences(recorded, wanted):
      path = self.folder / manifest_lib.NAME
      raise UserError(
        f'{path}: {"; ".join(differences)}; choose another workdir, or delete {self.folder} to draw this round again'
      )
    return found

  def _notes(self) -> list[ShardEntry]:
    """Reads the notes of finished shards, of all processes; those of other settings are left out."""
    return [
      entry
      for entry in self._staging.notes()
      if entry.first in self._shards and entry == self._manifest.entry(self._shards[entry.first], entry)
    ]

  def _is_as_written(self, entry: ShardEntry) -> bool:
    """Returns whether a shard's bytes are still those that were written; removes it if not."""
    path = self.folder / entry.file
    if not (damage := entry.damage(path)):
      return True
    logging.warning('%s: %s; its images are drawn again', path, damage)
    path.unlink(missing_ok=True)
    self._staging.remove_note(entry.first)
    return False

  def _are_as_written(self, others: Mapping[str, Fingerprint]) -> bool:
    """Returns whether metadata and preview are still those that were written."""
    for name, fingerprint in others.items():
      if damage := fingerprint.damage(self.folder / name):
        logging.warning('%s: %s; written again', self.folder / name, damage)
        return False
    return True

  def _add_finished(self, entry: ShardEntry) -> None:
    self._finished[entry.first] = entry
    self._is_finished[entry.first : entry.first + entry.count] = True

  def _write_manifest(self, others: Mapping[str, Fingerprint] | None = None) -> None:
    """Writes the manifest, of a complete round if the fingerprints of the other files are given."""
    manifest = msgspec.structs.replace(
      self._manifest,
      complete=others is not None,
      shards=tuple(self._finished[first] for first in sorted(self._finished)),
      files=dict(others or {}),
    )
    with explaining(self.folder / manifest_lib.NAME):
      manifest_lib.write(self.folder, manifest)

  # The background thread's side.

  def _work(self) -> None:
    """Stages what is put, and writes the shards that become whole."""
    try:
      self._write_whole_shards()
      while (batch := self._queue.get()) is not None:
        self._stage(*batch)
        self._write_whole_shards()
    except BaseException as e:  # raised in the caller's thread
      self._error = e
      while self._queue.get() is not None:
        pass  # a caller that waits for room in the queue must not wait for ever

  def _stage(self, first: int, images: Any) -> None:
    self._staging.add(first, images)
    self._is_staged[first : first + len(images)] = True

  def _write_whole_shards(self) -> None:
    for shard in self._own_shards:
      if shard.start not in self._finished and self._is_staged[shard.start : shard.stop].all():
        self._write_shard(shard)
        self._staging.remove_spent(self._is_finished)

  def _write_shard(self, shard: Shard) -> None:
    from array_record.python.array_record_module import ArrayRecordWriter

    path = self.folder / self.plan.file_name(shard)
    images = self._staging.images(shard.start, shard.stop)
    with explaining(path), files.replacing(path) as temporary:
      with contextlib.closing(ArrayRecordWriter(str(temporary), RECORD_OPTIONS)) as writer:
        for index, image in enumerate(images, shard.start):
          writer.write(self._encoder(image, shard.label, self.plan.name(index), index))
    entry = self._manifest.entry(shard, Fingerprint.of(path))
    self._staging.write_note(entry)
    self._add_finished(entry)
    logging.info('%s: shard %d of %d written', self.folder, shard.index + 1, len(self._shards))


def _differences(recorded: dict[str, Any], wanted: dict[str, Any], prefix: str = '') -> list[str]:
  """Returns one 'key is x there but y now' for each setting that differs, dictionaries entered."""
  lines = []
  for key in [*wanted, *(key for key in recorded if key not in wanted)]:
    old, new = recorded.get(key), wanted.get(key)
    if isinstance(old, dict) and isinstance(new, dict):
      lines += _differences(old, new, f'{prefix}{key}.')
    elif old != new:
      lines.append(f'{prefix}{key} is {json.dumps(old)} there but {json.dumps(new)} now')
  return lines
