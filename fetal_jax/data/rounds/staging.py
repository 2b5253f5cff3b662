"""What a round has on disk before its shards are whole: batches as they came, and notes of finished shards."""

import hashlib
import io
import pathlib
import re
from typing import Any

import numpy as np
from absl import logging
from jaxtyping import Bool, UInt8

from fetal_jax.data.rounds.dataset import explaining
from fetal_jax.data.rounds.manifest import ShardEntry
from fetal_jax.runtime import files, records, temporary
from fetal_jax.runtime.errors import DamagedFile, UserError

_HASH = hashlib.sha256().digest_size
_IMAGES = re.compile(r'images_(\d+)_(\d+)\.npy')
_NOTE = re.compile(r'shard_\d+\.json')


class Staging:
  """The folder of staged batches, for one process.

  Only files that it wrote itself, known by their names, are deleted; what else is there stays.

  Args:
    folder: made when the first batch comes.
    image_shape: (H, W, C).

  Raises:
    UserError: the folder is a link.
  """

  def __init__(self, folder: pathlib.Path, image_shape: tuple[int, int, int]) -> None:
    if folder.is_symlink():
      raise UserError(f'{folder}: a link; remove it, since files are deleted there')
    self._folder = folder
    self._image_shape = image_shape
    self._batches: dict[pathlib.Path, tuple[int, int]] = {}  # staging file -> [first, stop)

  def clear(self) -> None:
    """Deletes what was staged, and the folder if nothing else is in it."""
    if not self._folder.is_dir():
      return
    temporary.remove_left_behind(self._folder)
    for path in sorted(self._folder.iterdir()):
      if _is_own(path):
        path.unlink()
    if any(self._folder.iterdir()):
      logging.warning('%s: left there, since it holds files of another origin', self._folder)
    else:
      self._folder.rmdir()

  def take_stock(self, is_staged: Bool[np.ndarray, ' n'], *, tidy: bool) -> None:
    """Finds the batches of earlier runs that are whole.

    Args:
      is_staged: set to true for the images that are found.
      tidy: whether to delete those that are not, and what killed processes left half-written; only one process may.
    """
    if tidy and self._folder.is_dir():
      temporary.remove_left_behind(self._folder)
    for path in sorted(self._folder.glob('images_*.npy')):
      match = _IMAGES.fullmatch(path.name)
      if match is None or not _is_own(path):
        continue
      first, stop = int(match[1]), int(match[2])
      if _is_whole(path, (stop - first, *self._image_shape)):
        self._batches[path] = (first, stop)
        is_staged[first:stop] = True
      elif tidy:
        logging.warning('%s: damaged; its images are drawn again', path)
        path.unlink()

  def add(self, first: int, images: UInt8[Any, 'n h w c']) -> None:
    """Writes a batch: images first, first + 1, …"""
    images = np.asarray(images)
    path = self._folder / f'images_{first}_{first + len(images)}.npy'
    buffer = io.BytesIO()  # numpy hides the reason when it writes straight to a full disk
    np.save(buffer, images)
    buffer.write(hashlib.sha256(buffer.getbuffer()).digest())  # numpy ignores what follows the array
    with explaining(path), files.replacing(path) as new:
      new.write_bytes(buffer.getbuffer())
    self._batches[path] = (first, first + len(images))

  def images(self, start: int, stop: int) -> UInt8[np.ndarray, 'n h w c']:
    """Reads images [start, stop), all of which are staged."""
    images = np.empty((stop - start, *self._image_shape), np.uint8)
    for path, (first, end) in self._batches.items():
      low, high = max(first, start), min(end, stop)
      if low < high:
        images[low - start : high - start] = np.load(path, mmap_mode='r')[low - first : high - first]
    return images

  def remove_spent(self, is_finished: Bool[np.ndarray, ' n']) -> None:
    """Deletes the batches whose images are all in finished shards."""
    for path, (first, stop) in list(self._batches.items()):
      if is_finished[first:stop].all():
        path.unlink(missing_ok=True)
        del self._batches[path]

  def write_note(self, entry: ShardEntry) -> None:
    """Notes that a shard is finished, for the manifest, which one process alone writes."""
    path = self._note(entry.first)
    with explaining(path):
      records.write(path, entry)

  def remove_note(self, first: int) -> None:
    """Deletes the note of the shard that begins with image `first`."""
    self._note(first).unlink(missing_ok=True)

  def notes(self) -> list[ShardEntry]:
    """Reads the notes of all processes; damaged ones are left out."""
    entries = []
    for path in sorted(self._folder.glob('shard_*.json')):
      try:
        entries.append(records.read(path, ShardEntry))
      except DamagedFile:
        logging.warning('%s: damaged; the images of its shard are drawn again', path)
    return entries

  def _note(self, first: int) -> pathlib.Path:
    return self._folder / f'shard_{first:09d}.json'


def _is_own(path: pathlib.Path) -> bool:
  """Returns whether a file has a name of staging, and is a plain file or a link, which goes without its target."""
  named = _IMAGES.fullmatch(path.name) or _NOTE.fullmatch(path.name)
  return named is not None and (path.is_symlink() or path.is_file())


def _is_whole(path: pathlib.Path, shape: tuple[int, ...]) -> bool:
  """Returns whether a .npy file is what was written, by the hash at its end, and holds uint8 images of this shape."""
  try:
    data = path.read_bytes()
    images = np.load(path, mmap_mode='r')
  except (ValueError, EOFError, FileNotFoundError):  # another process may have used it up
    return False
  hashed = hashlib.sha256(memoryview(data)[:-_HASH]).digest()
  return data[-_HASH:] == hashed and images.dtype == np.uint8 and images.shape == shape
