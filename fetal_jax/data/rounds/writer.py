"""The writer of one round of synthetic images: batches in, a TFDS data set out, whole after any interruption.

A batch is first staged as it came, so that a killed run never draws an image twice. Once all images of a
shard are staged they become one array_record file, recorded in a note beside the staging files, and those go.
Several processes share a directory: each owns some of the shards and writes nothing of the others', and the
first one writes the manifest, before and after. What a finished directory holds depends on the images alone:
not on batch sizes, nor on interruptions, nor on the number of processes.

The manifest has the checksums of all files. Opening a round compares them; what is damaged is made again, and comes
out the same to the bit, since seed and index decide an image.
"""

import contextlib
import functools
import hashlib
import io
import json
import pathlib
import queue
import re
import shutil
import threading
from typing import Any

import numpy as np
from absl import logging
from jaxtyping import Int, UInt8

from fetal_jax.data.rounds.dataset import RECORD_OPTIONS, Encoder, write_metadata, write_preview, writing
from fetal_jax.data.rounds.plan import Plan, Shard
from fetal_jax.runtime import files
from fetal_jax.runtime.errors import DamagedFile, UserError

MANIFEST = 'manifest.json'
STAGING = '.staging'
_HASH = hashlib.sha256().digest_size


def is_complete(directory: files.PathLike) -> bool:
  """Whether `directory` holds a finished round, by its manifest and the sizes of its files."""
  directory = pathlib.Path(directory)
  try:
    manifest = files.read_json(directory / MANIFEST)
    recorded = _files(manifest)
    sizes = [(directory / name).stat().st_size for name in recorded]
  except (FileNotFoundError, NotADirectoryError, DamagedFile):
    return False
  return manifest['complete'] and sizes == [about['bytes'] for about in recorded.values()]


def check_files(directory: files.PathLike, manifest: dict[str, Any]) -> None:
  """Reads a finished round through before its images are used.

  Args:
    directory: of the round.
    manifest: what its manifest.json holds.

  Raises:
    UserError: a file is not the one that was written.
  """
  directory = pathlib.Path(directory)
  for name, recorded in _files(manifest).items():
    if damage := files.damage(directory / name, recorded):
      raise UserError(
        f'{directory / name}: {damage}; run --stage=sample again, it makes what is damaged anew'
      )


def _files(manifest: dict[str, Any]) -> dict[str, dict[str, Any]]:
  """Name -> fingerprint of every file of a finished round but the manifest."""
  return {shard['file']: shard for shard in manifest['shards']} | manifest.get('files', {})


class RoundStore:
  """Writes one round, or goes on with one that was interrupted.

      with RoundStore(directory, plan, ...) as store:
        for indices in batches(store.missing()):  # runs of consecutive indices
          store.put(indices[0], draw(indices))
        store.finish()

  Encoding and writing happen on one background thread, behind a queue of `queue_size` batches: `put` waits
  when the disk is slower than the device, so that memory stays flat. An error on that thread is raised by
  the next `put`, `finish` or `close`. Left early, the store keeps what is staged.

  Args:
    directory: of the round; made if absent.
    plan: labels and shards.
    seed, checkpoint, config_hash, sampler: what drew the images, for the manifest; must be JSON.
    image_size: height and width in pixels.
    channels: 1 (grey) or 3 (RGB).
    share: (index of this process, number of processes); shard s belongs to process s modulo their number.
      The first process opens the directory before the others do, and finishes it when they are done.

  Raises:
    UserError: the directory holds a round of other settings, or cannot be written.
  """

  def __init__(
    self,
    directory: files.PathLike,
    plan: Plan,
    *,
    seed: int,
    checkpoint: dict[str, Any],
    config_hash: str,
    sampler: dict[str, Any],
    image_size: int,
    channels: int,
    share: tuple[int, int] = (0, 1),
    queue_size: int = 2,
  ):
    self.directory = pathlib.Path(directory)
    self.plan = plan
    self._staging = self.directory / STAGING
    self._image_shape = (image_size, image_size, channels)
    self._shards = plan.shards()
    self._by_start = {shard.start: shard for shard in self._shards}
    self._is_first = share[0] == 0
    self._own_shards = self._shards[share[0] :: share[1]]
    self._own = np.zeros(plan.num_images, bool)
    for shard in self._own_shards:
      self._own[shard.start : shard.stop] = True
    settings = {
      'round': plan.round,
      'seed': seed,
      'class_names': plan.class_names,
      'counts': dict.fromkeys(plan.class_names, plan.per_class),
      'shard_size': plan.shard_size,
      'image_size': image_size,
      'channels': channels,
      'sampler': sampler,
      'checkpoint': checkpoint,
      'config_hash': config_hash,
    }
    self._settings = json.loads(json.dumps(settings))  # as it will be read again: tuples are lists
    self._finished: dict[int, dict[str, Any]] = {}  # shard index -> its entry in the manifest
    self._others: dict[str, dict[str, Any]] = {}  # the other files of a complete round -> their fingerprints
    self._staged: dict[pathlib.Path, tuple[int, int]] = {}  # staging file -> [first, stop)
    self._is_finished, self._is_staged = np.zeros((2, plan.num_images), bool)

    self.complete = self._open()  # whether it was finished before
    # The state above belongs to the background thread from here on, this to the caller's.
    self._accepted = self._is_finished | self._is_staged
    self._error: BaseException | None = None
    self._queue: queue.Queue = queue.Queue(queue_size)
    self._thread: threading.Thread | None = threading.Thread(target=self._work, daemon=True)
    self._thread.start()

  def own(self) -> Int[np.ndarray, 'm']:
    """Indices of all images of this process's shards, ascending int64."""
    return np.flatnonzero(self._own).astype(np.int64)

  def missing(self) -> Int[np.ndarray, 'm']:
    """Those of `own` still to be drawn: neither in a finished shard, nor staged, nor put."""
    return np.flatnonzero(self._own & ~self._accepted).astype(np.int64)

  def put(self, first_index: int | np.integer, images: UInt8[Any, 'n h w c']) -> None:
    """Hands over images first_index, first_index + 1, ...; waits while the queue is full.

    Args:
      first_index: index within the round of the first image.
      images: uint8 [n, image_size, image_size, channels], of numpy or JAX; not to be changed afterwards.

    Raises:
      ValueError: wrong shape or dtype, indices outside the round, or an image that is already there.
      UserError: an earlier batch could not be written (such as a full disk).
    """
    if self._error is not None:
      raise self._error
    if self._thread is None:
      raise ValueError(f'{self.directory}: the store is closed')
    stop = first_index + len(images)
    if images.dtype != np.uint8 or images.shape[1:] != self._image_shape:
      raise ValueError(f'images must be uint8 {self._image_shape}, not {images.dtype} {images.shape[1:]}')
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

    Of several processes the first one does this, when all others have closed their stores.

    Raises:
      ValueError: images are missing.
      UserError: a file could not be written.
    """
    self.close()
    for entry in self._noted():
      self._add_finished(entry)
    missing = np.flatnonzero(~self._is_finished & ~(self._own & self._accepted))
    if missing.size:
      raise ValueError(f'{self.directory}: {missing.size} images are missing, from {missing[0]} on')
    sizes = [self._finished[shard.index]['bytes'] for shard in self._shards]
    names = write_metadata(self.directory, self.plan, self._encoder.features, num_bytes=sum(sizes))
    write_preview(self.directory, self.plan, self._image_shape)
    self._write_manifest(complete=False)  # takes over from the notes, which go with the staging files
    shutil.rmtree(self._staging, ignore_errors=True)
    self._others = {name: files.fingerprint(self.directory / name) for name in [*names, 'preview.png']}
    self._write_manifest(complete=True)

  def close(self) -> None:
    """Waits until everything put is staged and every whole shard is written; raises the thread's error."""
    if self._thread is not None:
      self._queue.put(None)
      self._thread.join()
      self._thread = None
    if self._error is not None:
      raise self._error

  def __enter__(self) -> 'RoundStore':
    return self

  def __exit__(self, *error) -> None:
    self.close()

  def _open(self) -> bool:
    """Takes stock of what earlier runs left; the first process removes what is of no use."""
    path = self.directory / MANIFEST
    if self._is_first and not path.exists():
      shutil.rmtree(self._staging, ignore_errors=True)  # of unknown settings
      self._write_manifest(complete=False)
    remedy = f'delete {self.directory} to draw this round again'
    try:
      manifest = files.read_json(path)
      shards, complete, others = manifest.pop('shards'), manifest.pop('complete'), manifest.pop('files', {})
      if differences := _differences(manifest, self._settings):
        raise UserError(f'{path}: {"; ".join(differences)}; choose another workdir, or {remedy}')
      for entry in shards + self._noted():
        if not self._is_first or self._is_as_written(entry):  # the others believe the first
          self._add_finished(entry)
    except (ValueError, KeyError, TypeError, AttributeError) as e:
      raise UserError(f'{path}: damaged, not what was written; {remedy}') from e
    whole = len(self._finished) == (len(self._shards) if complete else len(shards))
    if self._is_first and not (whole and (not complete or self._are_as_written(others))):
      complete = False
      self._write_manifest(complete=False)
    self._take_staged()
    return complete

  def _noted(self) -> list[dict[str, Any]]:
    """The entries of finished shards that the manifest does not have yet, of all processes."""
    entries = []
    for path in sorted(self._staging.glob('shard_*.json')):
      try:
        entries.append(files.read_json(path))
      except DamagedFile:
        logging.warning('%s: damaged; the images of its shard are drawn again', path)
    return entries

  def _note(self, entry: dict[str, Any]) -> pathlib.Path:
    return self._staging / f'shard_{entry["first"]:09d}.json'

  def _is_as_written(self, entry: dict[str, Any]) -> bool:
    """Whether a shard's bytes are still those that were written; removes it if not."""
    path = self.directory / entry['file']
    if not (damage := files.damage(path, entry)):
      return True
    logging.warning('%s: %s; its images are drawn again', path, damage)
    path.unlink(missing_ok=True)
    self._note(entry).unlink(missing_ok=True)
    return False

  def _are_as_written(self, others: dict[str, dict[str, Any]]) -> bool:
    """Whether metadata and preview are; without their fingerprints nobody knows, and to write them is quick."""
    for name, recorded in others.items():
      if damage := files.damage(self.directory / name, recorded):
        logging.warning('%s: %s; written again', self.directory / name, damage)
        return False
    return bool(others)

  def _add_finished(self, entry: dict[str, Any]) -> None:
    first, stop = entry['first'], entry['first'] + entry['count']
    self._finished[self._by_start[first].index] = entry
    self._is_finished[first:stop] = True

  def _take_staged(self) -> None:
    """Keeps the staging files that are whole; the first process deletes all else, and what nobody needs."""
    for path in sorted(self._staging.glob('*')):
      match = re.fullmatch(r'images_(\d+)_(\d+)\.npy', path.name)
      if match is None:
        if self._is_first and not re.fullmatch(r'shard_\d+\.json', path.name):
          path.unlink()
        continue
      first, stop = int(match[1]), int(match[2])
      if _is_whole(path, (stop - first, *self._image_shape)):
        self._staged[path] = (first, stop)
        self._is_staged[first:stop] = True
      elif self._is_first:
        logging.warning('%s: damaged; its images are drawn again', path)
        path.unlink()
    self._remove_spent()

  @functools.cached_property
  def _encoder(self) -> Encoder:
    return Encoder(self.plan.class_names, self._image_shape)

  def _work(self) -> None:
    """The background thread: stages what is put, writes the shards that become whole."""
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
    images = np.asarray(images)
    stop = first + len(images)
    path = self._staging / f'images_{first}_{stop}.npy'
    buffer = io.BytesIO()  # numpy hides the reason when writing straight to a full disk
    np.save(buffer, images)
    buffer.write(hashlib.sha256(buffer.getbuffer()).digest())  # numpy does not mind what follows
    with writing(path) as temporary:
      temporary.write_bytes(buffer.getbuffer())
    self._staged[path] = (first, stop)
    self._is_staged[first:stop] = True

  def _write_whole_shards(self) -> None:
    for shard in self._own_shards:
      if shard.index not in self._finished and self._is_staged[shard.start : shard.stop].all():
        self._write_shard(shard)
        self._remove_spent()

  def _write_shard(self, shard: Shard) -> None:
    from array_record.python.array_record_module import ArrayRecordWriter

    images = np.empty((shard.stop - shard.start, *self._image_shape), np.uint8)
    for path, (first, stop) in self._staged.items():
      low, high = max(first, shard.start), min(stop, shard.stop)
      if low < high:
        batch = np.load(path, mmap_mode='r')
        images[low - shard.start : high - shard.start] = batch[low - first : high - first]

    path = self.directory / self.plan.file_name(shard)
    with writing(path) as temporary:
      with contextlib.closing(ArrayRecordWriter(str(temporary), RECORD_OPTIONS)) as writer:
        for index, image in enumerate(images, shard.start):
          writer.write(self._encoder(image, shard.label, self.plan.name(index), index))
    entry = {
      'file': path.name,
      'class': self.plan.class_names[shard.label],
      'label': shard.label,
      'first': shard.start,
      'count': len(images),
      'bytes': path.stat().st_size,
      'seed': self._settings['seed'],
      'checkpoint_step': self._settings['checkpoint'].get('step'),
      'config_hash': self._settings['config_hash'],
      'sha256': files.sha256(path),
    }
    with writing(self._note(entry)) as temporary:
      temporary.write_text(json.dumps(files.sealed(entry)) + '\n', encoding='utf-8')
    self._add_finished(entry)
    logging.info('%s: shard %d of %d written', self.directory, shard.index + 1, len(self._shards))

  def _remove_spent(self) -> None:
    """Deletes the staging files whose images are all in finished shards, as far as this process knows."""
    for path, (first, stop) in list(self._staged.items()):
      if self._is_finished[first:stop].all():
        path.unlink(missing_ok=True)
        del self._staged[path]

  def _write_manifest(self, *, complete: bool) -> None:
    shards = [self._finished[index] for index in sorted(self._finished)]
    others = {'files': self._others} if complete else {}
    manifest = files.sealed({**self._settings, 'complete': complete, 'shards': shards, **others})
    with writing(self.directory / MANIFEST) as temporary:
      temporary.write_text(json.dumps(manifest, indent=2) + '\n', encoding='utf-8')


def _is_whole(path: pathlib.Path, shape: tuple[int, ...]) -> bool:
  """Whether a .npy file, with its hash at the end, is as it was written and holds uint8 images of this shape."""
  try:
    data = path.read_bytes()
    images = np.load(path, mmap_mode='r')
  except (ValueError, EOFError, FileNotFoundError):  # another process may have used it up
    return False
  hashed = hashlib.sha256(memoryview(data)[:-_HASH]).digest()
  return data[-_HASH:] == hashed and images.dtype == np.uint8 and images.shape == shape


def _differences(recorded: dict[str, Any], wanted: dict[str, Any], prefix: str = '') -> list[str]:
  """One 'key is x there but y now' for each setting that differs, dictionaries entered."""
  lines = []
  for key in [*wanted, *(key for key in recorded if key not in wanted)]:
    old, new = recorded.get(key), wanted.get(key)
    if isinstance(old, dict) and isinstance(new, dict):
      lines += _differences(old, new, f'{prefix}{key}.')
    elif old != new:
      lines.append(f'{prefix}{key} is {json.dumps(old)} there but {json.dumps(new)} now')
  return lines
