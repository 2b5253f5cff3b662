"""A few images of every class, real and synthetic, evenly from all over the class rather than chosen."""

import io
import pathlib

import numpy as np
from jaxtyping import UInt8

from fetal_jax.data.rounds.writer import check_files
from fetal_jax.runtime import files
from fetal_jax.runtime.files import PathLike


def real_examples(workdir: PathLike, per_class: int) -> dict[str, UInt8[np.ndarray, 'n h w c']]:
  """Training images of every class, from all over the class; {} if there are no data."""
  if not (pathlib.Path(workdir) / 'data' / 'split.json').is_file():
    return {}
  from fetal_jax.data import prepare

  prepared = prepare.load(workdir)
  labels = prepared.records.labels[prepared.split.train]
  examples = {}
  for k, name in enumerate(prepared.records.class_names):
    members = prepared.split.train[labels == k]
    examples[name] = np.asarray(prepared.images[members[_spread(len(members), per_class)]])
  return examples


def synthetic_examples(folder: PathLike, per_class: int) -> dict[str, UInt8[np.ndarray, 'n h w c']]:
  """Images of every class of one round, from all over the class; {} if the folder holds no whole data set.

  Only these images are decoded: image k of a round is of class k // count.

  Raises:
    UserError: a file of the round is not the one that was written.
  """
  folder = pathlib.Path(folder)
  if not (folder / 'dataset_info.json').is_file():
    return {}
  import tensorflow_datasets as tfds
  from PIL import Image

  manifest = files.read_json(folder / 'manifest.json')
  check_files(folder, manifest)
  builder = tfds.builder_from_directory(folder)
  source = builder.as_data_source('train', decoders={'image': tfds.decode.SkipDecoding()})
  examples, first = {}, 0
  for name, count in manifest['counts'].items():
    images = []
    for k in _spread(count, per_class):
      with Image.open(io.BytesIO(source[int(first + k)]['image'])) as image:
        images.append(np.atleast_3d(np.asarray(image)))
    first += count
    if images:
      examples[name] = np.stack(images)
  return examples


def _spread(n: int, wanted: int) -> np.ndarray:
  return np.linspace(0, max(n - 1, 0), min(n, wanted)).astype(np.int64)
