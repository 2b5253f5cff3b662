"""A few images of every class, real and synthetic, evenly from all over the class rather than chosen."""

import io
import pathlib

import numpy as np
from jaxtyping import UInt8

from fetal_jax.runtime.files import PathLike


def real_examples(workdir: PathLike, per_class: int) -> dict[str, UInt8[np.ndarray, 'n h w c']]:
  """Training images of every class, from all over the class; {} if there are no data."""
  if not (pathlib.Path(workdir) / 'data' / 'split.json').is_file():
    return {}
  from fetal_jax.data import prepared as prepared_lib

  prepared = prepared_lib.load(workdir)
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
  from PIL import Image

  from fetal_jax.data import rounds

  found = rounds.read(folder)
  found.check_files()
  source = found.source()
  examples, first = {}, 0
  for name, count in found.manifest.counts.items():
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
