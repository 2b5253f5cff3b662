"""The writer of one round of synthetic images: batches in, a TFDS data set out, whole after any interruption.

A batch is first staged as it came, so that a killed run never draws an image twice. Once all images of a
shard are staged they become one array_record file, recorded in the manifest, and their staging files go.
What a finished directory holds depends on the images alone: not on batch sizes, nor on interruptions.
"""

import contextlib
import errno
import io
import json
import pathlib
import queue
import re
import shutil
import tempfile
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
from absl import logging
from jaxtyping import Int, UInt8
from PIL import Image

from fetal_jax import files
from fetal_jax.errors import UserError
from fetal_jax.grid import grid
from fetal_jax.synthesis.plan import DATASET, Plan, Shard

MANIFEST = 'manifest.json'
STAGING = '.staging'
PREVIEW_COLUMNS = 10
# One PNG a record, so that any image is read alone; PNG bytes would not shrink any further.
RECORD_OPTIONS = 'group_size:1,uncompressed'


def is_complete(directory: files.PathLike) -> bool:
  """Whether `directory` holds a finished round, by its manifest and the sizes of its shards."""
  directory = pathlib.Path(directory)
  try:
    manifest = files.read_json(directory / MANIFEST)
    sizes = [(directory / shard['file']).stat().st_size for shard in manifest['shards']]
  except (FileNotFoundError, NotADirectoryError, ValueError):
    return False
  return manifest['complete'] and sizes == [shard['bytes'] for shard in manifest['shards']]


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
    queue_size: int = 2,
  ):
    self.directory = pathlib.Path(directory)
    self.plan = plan
    self._staging = self.directory / STAGING
    self._image_shape = (image_size, image_size, channels)
    self._shards = plan.shards()
    self._encoder = _Encoder(plan.class_names, self._image_shape)
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
    self._staged: dict[pathlib.Path, tuple[int, int]] = {}  # staging file -> [first, stop)
    self._is_finished, self._is_staged = np.zeros((2, plan.num_images), bool)

    self._open()
    # The state above belongs to the background thread from here on, this to the caller's.
    self._accepted = self._is_finished | self._is_staged
    self._error: BaseException | None = None
    self._queue: queue.Queue = queue.Queue(queue_size)
    self._thread: threading.Thread | None = threading.Thread(target=self._work, daemon=True)
    self._thread.start()

  def missing(self) -> Int[np.ndarray, 'm']:
    """Indices still to be drawn, ascending int64: neither in a finished shard, nor staged, nor put."""
    return np.flatnonzero(~self._accepted).astype(np.int64)

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
    if self._accepted[first_index:stop].any():
      raise ValueError(f'images [{first_index}, {stop}) are partly there already: ask missing() what to draw')
    self._accepted[first_index:stop] = True
    self._queue.put((int(first_index), images))

  def finish(self) -> None:
    """Waits for the last shard, then writes TFDS's metadata, preview.png and the final manifest.

    Raises:
      ValueError: images are missing.
      UserError: a file could not be written.
    """
    self.close()
    missing = self.missing()
    if missing.size:
      raise ValueError(f'{self.directory}: {missing.size} images are missing, from {missing[0]} on')
    self._write_metadata()
    self._write_preview()
    shutil.rmtree(self._staging, ignore_errors=True)
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

  def _open(self) -> None:
    """Takes stock of what earlier runs left, and removes what is of no use."""
    path = self.directory / MANIFEST
    if not path.exists():
      shutil.rmtree(self._staging, ignore_errors=True)  # of unknown settings
      self._write_manifest(complete=False)
      return
    remedy = f'delete {self.directory} to draw this round again'
    try:
      manifest = files.read_json(path)
    except ValueError as e:
      raise UserError(f'{path}: damaged ({e}); {remedy}') from e
    shards = manifest.pop('shards')
    del manifest['complete']
    if differences := _differences(manifest, self._settings):
      raise UserError(f'{path}: {"; ".join(differences)}; choose another workdir, or {remedy}')
    self._take_shards(shards)
    if len(self._finished) < len(shards):
      self._write_manifest(complete=False)
    self._take_staged()

  def _take_shards(self, entries: list[dict[str, Any]]) -> None:
    """Keeps the shards whose bytes are still those that were written."""
    indices = {self.plan.file_name(shard): shard.index for shard in self._shards}
    for entry in entries:
      path = self.directory / entry['file']
      if not path.exists() or files.sha256(path) != entry['sha256']:
        logging.warning('%s: gone or not the file that was written; its images are drawn again', path)
        path.unlink(missing_ok=True)
      else:
        self._finished[indices[entry['file']]] = entry
        self._is_finished[entry['first'] : entry['first'] + entry['count']] = True

  def _take_staged(self) -> None:
    """Keeps the staging files that are whole and still needed, deletes all else."""
    for path in sorted(self._staging.glob('*')):
      match = re.fullmatch(r'images_(\d+)_(\d+)\.npy', path.name)
      if match is None:
        path.unlink()
      else:
        first, stop = int(match[1]), int(match[2])
        if _is_whole(path, (stop - first, *self._image_shape)):
          self._staged[path] = (first, stop)
          self._is_staged[first:stop] = True
        else:
          logging.warning('%s: damaged; its images are drawn again', path)
          path.unlink()
    self._remove_spent()

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
    with _writing(path) as temporary:
      temporary.write_bytes(buffer.getbuffer())
    self._staged[path] = (first, stop)
    self._is_staged[first:stop] = True

  def _write_whole_shards(self) -> None:
    for shard in self._shards:
      if shard.index not in self._finished and self._is_staged[shard.start : shard.stop].all():
        self._write_shard(shard)
        self._write_manifest(complete=False)
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
    with _writing(path) as temporary:
      with contextlib.closing(ArrayRecordWriter(str(temporary), RECORD_OPTIONS)) as writer:
        for index, image in enumerate(images, shard.start):
          writer.write(self._encoder(image, shard.label, self.plan.name(index), index))
    self._finished[shard.index] = {
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
    self._is_finished[shard.start : shard.stop] = True
    logging.info('%s: shard %d of %d written', self.directory, len(self._finished), len(self._shards))

  def _remove_spent(self) -> None:
    """Deletes the staging files whose images are all in finished shards."""
    for path, (first, stop) in list(self._staged.items()):
      if self._is_finished[first:stop].all():
        path.unlink()
        del self._staged[path]

  def _write_manifest(self, *, complete: bool) -> None:
    shards = [self._finished[index] for index in sorted(self._finished)]
    manifest = {**self._settings, 'complete': complete, 'shards': shards}
    with _writing(self.directory / MANIFEST) as temporary:
      temporary.write_text(json.dumps(manifest, indent=2) + '\n', encoding='utf-8')

  def _write_metadata(self) -> None:
    """Writes the files by which `tfds.builder_from_directory` knows a data set."""
    import tensorflow_datasets as tfds

    identity = tfds.core.DatasetIdentity(DATASET, tfds.core.Version('1.0.0'), str(self.directory), '')
    info = tfds.core.DatasetInfo(
      builder=identity,
      description=f'Synthetic images, round {self.plan.round}. {MANIFEST} says how they were drawn.',
      features=self._encoder.features,
      supervised_keys=('image', 'label'),
      disable_shuffling=True,
    )
    info.set_file_format(tfds.core.FileFormat.ARRAY_RECORD)
    split = tfds.core.SplitInfo(
      name='train',
      shard_lengths=[shard.stop - shard.start for shard in self._shards],
      num_bytes=sum(entry['bytes'] for entry in self._finished.values()),
    )
    info.set_splits(tfds.core.SplitDict([split]))

    # TFDS does not write whole or not at all.
    with tempfile.TemporaryDirectory() as folder:
      info.write_to_directory(folder)
      for path in sorted(pathlib.Path(folder).iterdir()):
        with _writing(self.directory / path.name) as temporary:
          temporary.write_bytes(path.read_bytes())

  def _write_preview(self) -> None:
    """Draws the first images of every class, a row a class, as the finished data set gives them."""
    import tensorflow_datasets as tfds

    decoders = {'image': tfds.decode.SkipDecoding()}
    source = tfds.builder_from_directory(self.directory).as_data_source('train', decoders=decoders)
    rows, columns = len(self.plan.class_names), min(self.plan.per_class, PREVIEW_COLUMNS)
    images = np.empty((rows, columns, *self._image_shape), np.uint8)
    for row, column in np.ndindex(rows, columns):
      with Image.open(io.BytesIO(source[row * self.plan.per_class + column]['image'])) as image:
        images[row, column] = np.asarray(image).reshape(self._image_shape)
    with _writing(self.directory / 'preview.png') as temporary:
      grid(images, self.plan.class_names).save(temporary, 'PNG')


class _Encoder:
  """Turns an image and what is known of it into the bytes of one TFDS example."""

  def __init__(self, class_names: tuple[str, ...], image_shape: tuple[int, int, int]):
    import tensorflow_datasets as tfds

    self.features = tfds.features.FeaturesDict(
      {
        'image': tfds.features.Image(shape=image_shape, encoding_format='png'),
        'label': tfds.features.ClassLabel(names=list(class_names)),
        'name': tfds.features.Text(),
        'index': np.int64,
      }
    )
    self._serializer = tfds.core.ExampleSerializer(self.features.get_serialized_info())

  def __call__(self, image: UInt8[np.ndarray, 'h w c'], label: int, name: str, index: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(buffer, 'PNG')
    # Fed as PNG bytes: TFDS would encode an array with TensorFlow.
    example = {'image': buffer.getvalue(), 'label': label, 'name': name, 'index': index}
    example = self._serializer.get_tf_example(self.features.encode_example(example))
    # `features.serialize_example` leaves the order of the map to chance, another in every process.
    return example.SerializeToString(deterministic=True)


def _is_whole(path: pathlib.Path, shape: tuple[int, ...]) -> bool:
  """Whether a .npy file holds uint8 images of this shape; mapping it fails if its end is missing."""
  try:
    images = np.load(path, mmap_mode='r')
  except (ValueError, EOFError):
    return False
  return images.dtype == np.uint8 and images.shape == shape


@contextlib.contextmanager
def _writing(path: pathlib.Path) -> Iterator[pathlib.Path]:
  """`files.replacing`, with a disk that is full or cannot be written told to the user."""
  try:
    with files.replacing(path) as temporary:
      yield temporary
  except (OSError, RuntimeError) as e:
    # array_record reports the system's errors as text.
    full = getattr(e, 'errno', None) in (errno.ENOSPC, errno.EDQUOT) or 'No space left' in str(e)
    if not full and not isinstance(e, OSError):
      raise
    reason = 'the disk is full; free some space' if full else f'cannot be written ({e}); make that possible'
    raise UserError(f'{path}: {reason} and run the same command again, it goes on from here') from e


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
