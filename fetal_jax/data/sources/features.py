"""The TFDS features of one example, the same for every source."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

SPLIT = 'train'  # a source's one TFDS split: it has none of its own, and TFDS reserves the name 'all'
OFFICIAL_TRAIN_UNKNOWN = -1


def features(class_names: Sequence[str]) -> tfds.features.FeaturesDict:
  """Returns the TFDS features that every real or drawn data set has.

  The image is a PNG, kept byte for byte: feed `bytes`, never an array (TFDS encodes arrays with
  TensorFlow). It may be grey, palette, RGB or RGBA, of any size; `fetal_jax.data.decode` makes it what a
  model takes. `patient` is '' where nobody knows who is seen. `official_train` is 1 or 0 as the source's own train/test
  column says, -1 where it has none.
  """
  return tfds.features.FeaturesDict(
    {
      'image': tfds.features.Image(shape=(None, None, 1), encoding_format='png'),
      'label': tfds.features.ClassLabel(names=list(class_names)),
      'name': tfds.features.Text(),
      'patient': tfds.features.Text(),
      'brain_plane': tfds.features.Text(),
      'operator': tfds.features.Text(),
      'machine': tfds.features.Text(),
      'official_train': tfds.features.Scalar(dtype=np.int8),
    }
  )


def example(
  image: bytes,
  *,
  label: int,
  name: str,
  patient: str,
  brain_plane: str = '',
  operator: str = '',
  machine: str = '',
  official_train: int = OFFICIAL_TRAIN_UNKNOWN,
) -> dict[str, Any]:
  """Makes one example for `features`: the PNG's bytes and what is known about it."""
  return {
    'image': image,
    'label': label,
    'name': name,
    'patient': patient,
    'brain_plane': brain_plane,
    'operator': operator,
    'machine': machine,
    'official_train': int(official_train),
  }
