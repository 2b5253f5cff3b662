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

  @property
  def num_shards(self) -> int:
    """Returns the number of shards of all classes."""
    return len(self.class_names) * self._shards_of_a_class

  @property
  def _shards_of_a_class(self) -> int:
    return -(-self.per_class // self.shard_size)

  def shards(self) -> list[Shard]:
    """Returns the shards in order. Each holds images of one class."""
    labels, numbers = range(len(self.class_names)), range(self._shards_of_a_class)
    return [self._shard(label, number) for label in labels for number in numbers]

  def shard_at(self, start: int) -> Shard | None:
    """Returns the shard whose first image has the index `start`; None if there is none."""
    label, within = divmod(start, self.per_class)
    number, rest = divmod(within, self.shard_size)
    return self._shard(label, number) if not rest and 0 <= label < len(self.class_names) else None

  def _shard(self, label: int, number: int) -> Shard:
    """Returns a shard by its number among those of its class."""
    first, start = label * self.per_class, number * self.shard_size
    stop = min(start + self.shard_size, self.per_class)
    return Shard(label * self._shards_of_a_class + number, label, first + start, first + stop)

  def file_name(self, shard: Shard) -> str:
    """Returns the name that TFDS expects of a shard's file."""
    return f'{DATASET}-train.array_record-{shard.index:05d}-of-{self.num_shards:05d}'
