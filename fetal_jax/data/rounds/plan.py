"""The label plan of a round: which image shows which class, and which shard holds it."""

import dataclasses

import numpy as np
from jaxtyping import Int

DATASET = 'synthetic'  # the name by which TFDS finds the files


@dataclasses.dataclass(frozen=True)
class Shard:
  """Images [start, stop) of a round, all of class `label`, in one file."""

  index: int
  label: int
  start: int
  stop: int


@dataclasses.dataclass(frozen=True)
class Plan:
  """A round of `per_class` images of every class, class after class: image k shows class k // per_class.

  Attributes:
    round: number of the round, from 1.
    class_names: names in label order, unique.
    per_class: images of each class.
    shard_size: most images in one file.

  Raises:
    ValueError: a count is below 1, there is no class, or a class name is empty or given twice.
  """

  round: int
  class_names: tuple[str, ...]
  per_class: int
  shard_size: int = 1000

  def __post_init__(self):
    for field in ('round', 'per_class', 'shard_size'):
      if getattr(self, field) < 1:
        raise ValueError(f'{field} must be at least 1, not {getattr(self, field)}')
    if not self.class_names or not all(self.class_names):
      raise ValueError(f'every class needs a name: {self.class_names}')
    if len(set(self.class_names)) < len(self.class_names):
      raise ValueError(f'a class name is given twice: {self.class_names}')

  @property
  def num_images(self) -> int:
    """Returns the number of images of all classes."""
    return len(self.class_names) * self.per_class

  def labels(self) -> Int[np.ndarray, 'n']:
    """Returns the class of every image, int32 [num_images]."""
    return np.repeat(np.arange(len(self.class_names), dtype=np.int32), self.per_class)

  def name(self, index: int) -> str:
    """Returns the name of an image: its round, its class, and its number within the class."""
    label, number = divmod(index, self.per_class)
    return f'round{self.round}_{self.class_names[label]}_{number:05d}'

  def shards(self) -> list[Shard]:
    """Returns the shards in order. Each holds images of one class."""
    borders = [
      (label, start, min(start + self.shard_size, (label + 1) * self.per_class))
      for label in range(len(self.class_names))
      for start in range(label * self.per_class, (label + 1) * self.per_class, self.shard_size)
    ]
    return [Shard(index, *border) for index, border in enumerate(borders)]

  def file_name(self, shard: Shard) -> str:
    """Returns the name that TFDS expects of a shard's file."""
    num_shards = len(self.class_names) * -(-self.per_class // self.shard_size)
    return f'{DATASET}-train.array_record-{shard.index:05d}-of-{num_shards:05d}'
