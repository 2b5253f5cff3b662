"""The files by which TFDS knows a round: its records, its metadata, and a picture of it."""

import contextlib
import errno
import io
import pathlib
import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from fetal_jax.data.grid import grid
from fetal_jax.data.rounds.plan import DATASET, Plan
from fetal_jax.runtime import files
from fetal_jax.runtime.errors import UserError

PREVIEW_COLUMNS = 10
# One PNG a record, so that any image is read alone; PNG bytes would not shrink any further.
RECORD_OPTIONS = 'group_size:1,uncompressed'


@contextlib.contextmanager
def explaining(path: pathlib.Path) -> Iterator[None]:
  """Tells the user of a disk that is full or cannot be written while `path` is written in this block."""
  try:
    yield
  except (OSError, RuntimeError) as e:
    # array_record reports the system's errors as text.
    full = getattr(e, 'errno', None) in (errno.ENOSPC, errno.EDQUOT) or 'No space left' in str(e)
    if not full and not isinstance(e, OSError):
      raise
    reason = 'the disk is full; free some space' if full else f'cannot be written ({e}); make that possible'
    raise UserError(f'{path}: {reason} and run the same command again, it resumes from here') from e


class Encoder:
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


def write_metadata(folder: pathlib.Path, plan: Plan, features: Any, *, num_bytes: int) -> list[str]:
  """Writes the files by which `tfds.builder_from_directory` knows a data set, and returns their names.

  Args:
    folder: of the round.
    plan: its shards.
    features: of an `Encoder`.
    num_bytes: of all shards.
  """
  import tensorflow_datasets as tfds

  identity = tfds.core.DatasetIdentity(DATASET, tfds.core.Version('1.0.0'), str(folder), '')
  info = tfds.core.DatasetInfo(
    builder=identity,
    description=f'Synthetic images, round {plan.round}. manifest.json says how they were drawn.',
    features=features,
    supervised_keys=('image', 'label'),
    disable_shuffling=True,
  )
  info.set_file_format(tfds.core.FileFormat.ARRAY_RECORD)
  split = tfds.core.SplitInfo(
    name='train',
    shard_lengths=[shard.stop - shard.start for shard in plan.shards()],
    num_bytes=num_bytes,
  )
  info.set_splits(tfds.core.SplitDict([split]))

  # TFDS does not write whole or not at all.
  with tempfile.TemporaryDirectory() as temporary_folder:
    info.write_to_directory(temporary_folder)
    paths = sorted(pathlib.Path(temporary_folder).iterdir())
    for path in paths:
      target = folder / path.name
      with explaining(target), files.replacing(target) as temporary:
        temporary.write_bytes(path.read_bytes())
  return [path.name for path in paths]


def write_preview(folder: pathlib.Path, plan: Plan, image_shape: tuple[int, int, int]) -> None:
  """Draws the first images of every class, a row a class, as the finished data set gives them."""
  import tensorflow_datasets as tfds

  decoders = {'image': tfds.decode.SkipDecoding()}
  source = tfds.builder_from_directory(folder).as_data_source('train', decoders=decoders)
  rows, columns = len(plan.class_names), min(plan.per_class, PREVIEW_COLUMNS)
  images = np.empty((rows, columns, *image_shape), np.uint8)
  for row, column in np.ndindex(rows, columns):
    with Image.open(io.BytesIO(source[row * plan.per_class + column]['image'])) as image:
      images[row, column] = np.asarray(image).reshape(image_shape)
  path = folder / 'preview.png'
  with explaining(path), files.replacing(path) as temporary:
    grid(images, plan.class_names).save(temporary, 'PNG')
