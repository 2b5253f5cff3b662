"""Which images of a workdir's finished rounds an export takes, and their records, checked."""

import collections
import dataclasses
import pathlib
import re
from collections.abc import Iterator, Sequence
from typing import Any

from absl import logging

from fetal_jax.data.rounds.writer import MANIFEST
from fetal_jax.runtime import files
from fetal_jax.runtime.errors import DamagedFile, UserError
from fetal_jax.runtime.progress import Progress

RECORDS_A_READ = 64


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
  """The first `count` images of a shard: `shard` is its entry in the manifest of the round in `folder`."""

  folder: pathlib.Path
  shard: dict[str, Any]
  count: int


@dataclasses.dataclass(frozen=True)
class Selection:
  """The images of an export, in order of round and index.

  Attributes:
    manifests: of the rounds, in order.
    parts: where the images are, in order.
  """

  manifests: tuple[dict[str, Any], ...]
  parts: tuple[Part, ...]

  def __len__(self) -> int:
    return sum(part.count for part in self.parts)

  @property
  def class_names(self) -> tuple[str, ...]:
    """All classes in label order, those that are left out too: a label means the same in every export."""
    return tuple(self.manifests[0]['class_names'])

  @property
  def image_size(self) -> int:
    return self.manifests[0]['image_size']

  @property
  def channels(self) -> int:
    return self.manifests[0]['channels']

  def counts(self) -> dict[str, int]:
    """Class -> number of its images; classes that are left out do not appear."""
    counts: collections.Counter[str] = collections.Counter()
    for part in self.parts:
      counts[part.shard['class']] += part.count
    return dict(counts)

  def examples(self) -> Iterator[Example]:
    """The images, read a few at a time, showing progress.

    Raises:
      UserError: a shard is not what its manifest says, or cannot be read.
    """
    sources: dict[pathlib.Path, Any] = {}
    done = 0
    with Progress('export', len(self), 'images') as progress:
      for part in self.parts:
        _check_shard(part)
        if part.folder not in sources:
          sources[part.folder] = _open(part.folder)
        source, first = sources[part.folder], part.shard['first']
        number = int(part.folder.name.removeprefix('round_'))
        for start in range(first, first + part.count, RECORDS_A_READ):
          indices = list(range(start, min(start + RECORDS_A_READ, first + part.count)))
          for record in source.__getitems__(indices):
            name = record['name'].decode()
            yield Example(record['image'], int(record['label']), name, number, int(record['index']))
            done += 1
            progress.update(done)


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
  manifests = tuple(found.values())
  _check_alike(found)
  class_names = manifests[0]['class_names']
  for name in classes or ():
    if name not in class_names:
      raise UserError(f'{workdir}: no class {name!r}; choose from {", ".join(class_names)}')
  if classes is not None and not classes:
    raise UserError(f'no class is chosen; choose from {", ".join(class_names)}')

  parts, taken = [], dict.fromkeys(class_names, 0)
  for folder, manifest in found.items():
    for shard in manifest['shards']:
      name, count = shard['class'], shard['count']
      if limit_per_class is not None:
        count = min(count, limit_per_class - taken[name])
      if count and (classes is None or name in classes):
        taken[name] += count
        parts.append(Part(folder, shard, count))
  return Selection(manifests, tuple(parts))


def _find_rounds(workdir: pathlib.Path, wanted: Sequence[int] | None) -> dict[pathlib.Path, dict[str, Any]]:
  """Folder -> manifest of the rounds that are wanted, in order of their numbers."""
  if not workdir.is_dir():
    raise UserError(f'{workdir}: no such folder; give the --workdir that the images were drawn in')
  folders = {}
  for path in (workdir / 'synthetic').glob('round_*'):
    if match := re.fullmatch(r'round_(\d+)', path.name):
      folders[int(match[1])] = path
  numbers = sorted(folders) if wanted is None else sorted(set(wanted))
  if wanted is not None and not numbers:
    raise UserError('no round is chosen; give their numbers, or leave --rounds out for all')

  found = {}
  for number in numbers:
    if number not in folders:
      there = ', '.join(map(str, sorted(folders))) or 'none'
      raise UserError(f'{workdir}: no round {number} (there: {there}); choose others or run --stage=sample')
    manifest = _read_manifest(folders[number])
    if manifest is not None and manifest['complete']:
      found[folders[number]] = manifest
    elif wanted is not None:
      raise UserError(f'{folders[number]}: not finished; run --stage=sample to its end first')
    else:
      logging.warning('%s: not finished, left out.', folders[number])
  if not found:
    raise UserError(f'{workdir}: no finished synthetic round; run --stage=sample first')
  return found


def _read_manifest(folder: pathlib.Path) -> dict[str, Any] | None:
  """The manifest of a round, None if it has none yet."""
  path = folder / MANIFEST
  try:
    manifest = files.read_json(path)
    missing = {'complete', 'class_names', 'image_size', 'channels', 'shards'} - set(manifest)
    if missing:
      raise ValueError(f'no {", ".join(sorted(missing))}')
  except FileNotFoundError:
    return None
  except DamagedFile:
    raise
  except (ValueError, TypeError, OSError) as error:
    raise UserError(f'{path}: damaged ({error}); delete {folder} and run --stage=sample again') from error
  return manifest


def _check_alike(found: dict[pathlib.Path, dict[str, Any]]) -> None:
  """Refuses rounds that cannot be one data set, and class names that cannot be folders."""
  (first, manifest), *others = found.items()
  for folder, other in others:
    for key in ('class_names', 'image_size', 'channels'):
      if other[key] != manifest[key]:
        raise UserError(
          f'{folder}: its {key} ({other[key]}) are not those of {first.name} ({manifest[key]}); '
          'export one round at a time with --rounds'
        )
  for name in manifest['class_names']:
    if '/' in name or '\0' in name or name in ('.', '..'):
      raise UserError(f'{first / MANIFEST}: class {name!r} cannot name a file; draw with another class name')


def _check_shard(part: Part) -> None:
  path = part.folder / part.shard['file']
  try:
    whole = path.stat().st_size == part.shard['bytes'] and files.sha256(path) == part.shard['sha256']
  except OSError as error:
    raise UserError(
      f'{path}: cannot be read ({error.strerror}); run --stage=sample again, it draws what is lost'
    ) from error
  if not whole:
    raise UserError(
      f'{path}: damaged, not the file that {MANIFEST} names; run --stage=sample again, it draws it anew'
    )


def _open(folder: pathlib.Path) -> Any:
  """The records of a round, images as PNG bytes."""
  import tensorflow_datasets as tfds

  from fetal_jax.data import decode

  try:
    return decode.open_source(tfds.builder_from_directory(folder), 'train')
  except (OSError, ValueError, KeyError, tfds.core.DatasetNotFoundError) as error:
    raise UserError(
      f'{folder}: no whole TFDS data set; delete the folder and run --stage=sample again'
    ) from error
