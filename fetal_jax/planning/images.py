"""How many images a run will have: from the prepared data, the source, or what was published of it."""

import contextlib
import dataclasses
import pathlib

from fetal_jax.data import prepared, splits
from fetal_jax.runtime import files

PUBLISHED = 12_400  # images of FETAL_PLANES_DB
_PUBLISHED_BYTES = 2_088_522_169
_PHANTOM_BYTES = 9_500  # of a drawn plane as PNG
_CLASSES = 6  # of FETAL_PLANES_DB and its phantom
_OFFICIAL_TEST = 5_271 / PUBLISHED  # images of the data set's own column


@dataclasses.dataclass(frozen=True)
class Images:
  """Numbers of real images.

  Attributes:
    train, validation, test: images of each side.
    classes: number of classes.
    origin: where the numbers come from, in words.
    source_bytes: size of the source's files.
  """

  train: int
  validation: int
  test: int
  classes: int
  origin: str
  source_bytes: int

  @property
  def total(self) -> int:
    return self.train + self.validation + self.test


def find(
  workdir: files.PathLike | None,
  *,
  source: str,
  path: str,
  split: str,
  seed: int,
  test_fraction: float,
  phantom_images: int,
  validation: bool = True,
) -> Images:
  """Looks into the workdir, then at the source. Counts files; opens none but the table of FETAL_PLANES_DB.

  Args:
    workdir: of the run; None for none.
    source, path, split, test_fraction, phantom_images: settings of `config.data`.
    seed: of the split.
    validation: whether images are held out for it.

  Raises:
    UserError: the source is not as it must be, or is missing and its size is unknown.
  """
  image_bytes = _PHANTOM_BYTES if source == 'fetal_phantom' else _PUBLISHED_BYTES // PUBLISHED
  if workdir is not None:
    with contextlib.suppress(FileNotFoundError):
      return _prepared(workdir, image_bytes)
  shares = {'paper': 0.2, 'official': _OFFICIAL_TEST, 'patient': test_fraction}
  if source == 'fetal_planes_db' and path and pathlib.Path(path).exists():
    return _in_archive(pathlib.Path(path), split, seed, test_fraction, validation, image_bytes)
  if source == 'image_folder':
    return _in_folder(pathlib.Path(path), shares[split], validation)
  if source == 'fetal_phantom':
    count, origin = phantom_images, 'drawn'
  else:
    count, origin = PUBLISHED, f'as published, for {path} is missing' if path else 'as published'
  return Images(*_sides(count, shares[split], validation), _CLASSES, origin, count * image_bytes)


def _prepared(workdir: files.PathLike, image_bytes: int) -> Images:
  """Returns the images that the prepare stage found; FileNotFoundError if it has not been run."""
  info = prepared.read_info(workdir)
  train, validation, test = (info.totals[side] for side in splits.SIDES)
  origin = f'prepared in {prepared.folder_of(workdir)}'
  return Images(train, validation, test, len(info.class_names), origin, info.num_images * image_bytes)


def _in_archive(
  path: pathlib.Path, split: str, seed: int, test_fraction: float, validation: bool, image_bytes: int
) -> Images:
  from fetal_jax.data.sources.fetal_planes_db.archive import open_archive

  with open_archive(path) as archive:
    records = archive.records.of_seen_classes()
  sides = splits.SPLITS[split](records, seed=seed, test_fraction=test_fraction, validation=validation)
  train, held_out, test = (len(getattr(sides, side)) for side in splits.SIDES)
  source_bytes = len(records) * image_bytes
  return Images(train, held_out, test, len(records.class_names), f'counted in {path}', source_bytes)


def _in_folder(path: pathlib.Path, test_share: float, validation: bool) -> Images:
  from fetal_jax.data.sources.image_folder import find_images

  classes = find_images(path)
  found = [image for paths in classes.values() for image in paths]
  source_bytes = sum(image.stat().st_size for image in found)
  return Images(*_sides(len(found), test_share, validation), len(classes), f'counted in {path}', source_bytes)


def _sides(count: int, test_share: float, validation: bool) -> tuple[int, int, int]:
  """Returns about how many of so many images are for (train, validation, test)."""
  test = round(test_share * count)
  held_out = round(splits.VALIDATION_FRACTION * (count - test)) if validation else 0
  return count - test - held_out, held_out, test
