"""How many images a run will have, from what there is: the prepared data, the source, or what was published of it."""

import contextlib
import dataclasses
import pathlib

import ml_collections

from fetal_jax.data import prepared, splits
from fetal_jax.runtime import files

PUBLISHED = 12_400  # images of FETAL_PLANES_DB
_PUBLISHED_BYTES = 2_088_522_169
_PHANTOM_BYTES = 9_500  # of a drawn plane as PNG
_CLASSES = 6  # of FETAL_PLANES_DB and its phantom
_OFFICIAL_TEST = 5_271 / PUBLISHED  # images of the data set's own column


@dataclasses.dataclass(frozen=True)
class Images:
  """Of the real data.

  Attributes:
    train, validation, test: how many of each side.
    classes: how many.
    origin: where this is known from, in words.
    source_bytes: of the source's files, as they are kept in the workdir and before they are.
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


def find(config: ml_collections.ConfigDict, workdir: files.PathLike | None) -> Images:
  """Looks into the workdir, then at the source; counts files, opens none but the table of FETAL_PLANES_DB.

  Raises:
    UserError: the source is not as it must be, or is not there and nobody knows its size.
  """
  data, path = config.data, pathlib.Path(config.data.path)
  if workdir is not None:
    with contextlib.suppress(FileNotFoundError):
      return _prepared(workdir, _bytes_an_image(data))
  if data.source == 'fetal_planes_db' and data.path and path.exists():
    return _in_archive(config, path)
  if data.source == 'image_folder':
    from fetal_jax.data.sources.image_folder import find_images

    images = find_images(path)
    found = [image for paths in images.values() for image in paths]
    counts = _shares(config, len(found))
    return Images(
      *counts,
      classes=len(images),
      origin=f'counted in {path}',
      source_bytes=sum(image.stat().st_size for image in found),
    )
  if data.source == 'fetal_phantom':
    count, origin = data.phantom_images, 'drawn'
  else:
    count, origin = PUBLISHED, f'as published, for {path} is not there' if data.path else 'as published'
  return Images(*_shares(config, count), _CLASSES, origin, count * _bytes_an_image(data))


def _prepared(workdir: files.PathLike, each: int) -> Images:
  """Returns the images that the prepare stage found; FileNotFoundError if it has not been run."""
  info = prepared.read_info(workdir)
  train, validation, test = (info.totals[side] for side in splits.SIDES)
  origin = f'prepared in {prepared.folder_of(workdir)}'
  return Images(train, validation, test, len(info.class_names), origin, info.num_images * each)


def _in_archive(config: ml_collections.ConfigDict, path: pathlib.Path) -> Images:
  from fetal_jax.data.sources.fetal_planes_db.archive import open_archive

  data = config.data
  with open_archive(path) as archive:
    records = archive.records
  split = splits.SPLITS[data.split](records, seed=config.seed, test_fraction=data.test_fraction)
  train, validation, test = (len(getattr(split, side)) for side in splits.SIDES)
  source_bytes = len(records) * _bytes_an_image(data)
  return Images(train, validation, test, len(records.class_names), f'counted in {path}', source_bytes)


def _shares(config: ml_collections.ConfigDict, count: int) -> tuple[int, int, int]:
  """(train, validation, test) of so many images, about."""
  shares = {'paper': 0.2, 'official': _OFFICIAL_TEST, 'patient': config.data.test_fraction}
  test = round(shares[config.data.split] * count)
  validation = round(splits.VALIDATION_FRACTION * (count - test))
  return count - test - validation, validation, test


def _bytes_an_image(data: ml_collections.ConfigDict) -> int:
  """As PNG, at the size that the source has."""
  return _PHANTOM_BYTES if data.source == 'fetal_phantom' else _PUBLISHED_BYTES // PUBLISHED
