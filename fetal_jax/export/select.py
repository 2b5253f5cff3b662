"""The selection of an export: images of a workdir's finished rounds, and their records, checked."""

import collections
import dataclasses
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

from absl import logging

from fetal_jax.data import rounds as rounds_lib
from fetal_jax.data.decode import RECORDS_A_READ
from fetal_jax.data.rounds import Round, ShardEntry
from fetal_jax.data.rounds.reader import REMEDY
from fetal_jax.runtime import files
from fetal_jax.runtime.errors import UserError
from fetal_jax.runtime.progress import Progress


@dataclasses.dataclass(frozen=True)
class Example:
  """One image as the round holds it; `index` is its index within the round."""

  png: bytes
  label: int
  name: str
  round: int
  index: int


@dataclasses.dataclass(frozen=True)
class Part:
  """The first `count` images of a shard of a round."""

  round: Round
  shard: ShardEntry
  count: int


@dataclasses.dataclass(frozen=True)
class Selection:
  """The images of an export, in order of round and index.

  Attributes:
    rounds: at least one, in order, alike in classes and in the shape of images.
    parts: where the images are, in order.
  """

  rounds: tuple[Round, ...]
  parts: tuple[Part, ...]

  def __len__(self) -> int:
    return sum(part.count for part in self.parts)

  @property
  def class_names(self) -> tuple[str, ...]:
    """Returns all classes in label order, those that are left out too: a label means the same in every export."""
    return self.rounds[0].manifest.class_names

  @property
  def image_size(self) -> int:
    """Returns height and width in pixels."""
    return self.rounds[0].manifest.image_size

  @property
  def channels(self) -> int:
    """Returns 1 (grey) or 3 (RGB)."""
    return self.rounds[0].manifest.channels

  def counts(self) -> dict[str, int]:
    """Returns class -> number of its images; classes that are left out do not appear."""
    counts: collections.Counter[str] = collections.Counter()
    for part in self.parts:
      counts[part.shard.class_name] += part.count
    return dict(counts)

  def examples(self) -> Iterator[Example]:
    """Reads the images, a few at a time, showing progress.

    Raises:
      UserError: a shard is not what its manifest says, or cannot be read.
    """
    sources: dict[int, Any] = {}  # by round
    done = 0
    with Progress('export', len(self), 'images') as progress:
      for part in self.parts:
        part.round.check_file(part.shard.file, part.shard)
        number, first = part.round.number, part.shard.first
        if number not in sources:
          sources[number] = part.round.source()
        for start in range(first, first + part.count, RECORDS_A_READ):
          indices = list(range(start, min(start + RECORDS_A_READ, first + part.count)))
          for record in sources[number].__getitems__(indices):
            yield _example(part.round, record)
            done += 1
            progress.update(done)


def _example(one: Round, record: dict[str, Any]) -> Example:
  """Returns an image as its record has it; UserError if the record is not of the round, since its name becomes a path."""
  name, label, index = record['name'].decode(errors='replace'), int(record['label']), int(record['index'])
  plan = one.manifest.plan
  if not 0 <= index < plan.num_images or (name, label) != (plan.name(index), index // plan.per_class):
    raise UserError(f'{one.folder}: has a record {name[:100]!r} that is not of this round; {REMEDY}')
  return Example(record['image'], label, name, one.number, index)


def select(
  workdir: files.PathLike,
  *,
  rounds: Sequence[int] | None = None,
  classes: Sequence[str] | None = None,
  limit_per_class: int | None = None,
) -> Selection:
  """Finds the images to export; reads the manifests only.

  Args:
    workdir: where the sample stage wrote `synthetic/round_<r>/`.
    rounds: numbers of rounds; None takes all that are finished.
    classes: names of classes; None takes all.
    limit_per_class: takes the first so many images of every class, over all rounds together.

  Raises:
    UserError: there is no such workdir, round or class, a round is not finished, or a manifest is damaged.
  """
  if limit_per_class is not None and limit_per_class < 1:
    raise UserError(f'limit_per_class is {limit_per_class}: set it to a positive number of images')
  found = _find_rounds(pathlib.Path(workdir), rounds)
  _check_names(found[0])
  class_names = found[0].manifest.class_names
  for name in classes or ():
    if name not in class_names:
      raise UserError(f'{workdir}: no class {name!r}; choose from {", ".join(class_names)}')
  if classes is not None and not classes:
    raise UserError(f'no class is chosen; choose from {", ".join(class_names)}')

  parts, taken = [], dict.fromkeys(class_names, 0)
  for one in found:
    for shard in one.manifest.shards:
      name, count = shard.class_name, shard.count
      if limit_per_class is not None:
        count = min(count, limit_per_class - taken[name])
      if count and (classes is None or name in classes):
        taken[name] += count
        parts.append(Part(one, shard, count))
  return Selection(tuple(found), tuple(parts))


def _check_names(first: Round) -> None:
  """Refuses class names that cannot be folders."""
  for name in first.manifest.class_names:
    if '/' in name or '\0' in name or name in ('.', '..'):
      raise UserError(f'{first.folder}: class {name!r} cannot name a file; draw with another class name')


def _find_rounds(workdir: pathlib.Path, wanted: Sequence[int] | None) -> list[Round]:
  """Finds the rounds that are wanted, in order of their numbers."""
  if not workdir.is_dir():
    raise UserError(f'{workdir}: no such folder; give the --workdir that the images were drawn in')
  begun = rounds_lib.begun(workdir)
  numbers = list(begun) if wanted is None else sorted(set(wanted))
  if wanted is not None and not numbers:
    raise UserError('no round is chosen; give their numbers, or leave --rounds out for all')

  found = []
  for number in numbers:
    if number not in begun:
      there = ', '.join(map(str, begun)) or 'none'
      raise UserError(f'{workdir}: no round {number} (there: {there}); choose others or run --stage=sample')
    folder = rounds_lib.folder_of(workdir, number)
    if (one := begun[number]) is not None:
      found.append(one)
    elif wanted is not None:
      raise UserError(f'{folder}: not finished; run --stage=sample to its end first')
    else:
      logging.warning('%s: not finished, left out.', folder)
  if not found:
    raise UserError(f'{workdir}: no finished synthetic round; run --stage=sample first')
  return found
