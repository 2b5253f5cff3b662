"""How many images a run will have, from what there is: the prepared data, the source, or what was published of it."""

import dataclasses
import pathlib

import ml_collections

from fetal_jax import files
from fetal_jax.data import splits

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
  known = pathlib.Path(workdir) / 'data' / 'split.json' if workdir else None
  data = config.data
  count, classes, origin, source_bytes = _source(data, look=not (known and known.is_file()))
  if known and known.is_file():
    info = files.read_json(known)
    return Images(
      **{side: info['totals'][side] for side in splits.SIDES},
      classes=len(info['class_names']),
      origin=f'prepared in {known.parent}',
      source_bytes=source_bytes * info['num_images'] // max(count, 1),
    )
  shares = {'paper': 0.2, 'official': _OFFICIAL_TEST, 'patient': data.test_fraction}
  test = round(shares[data.split] * count)
  validation = round(splits.VALIDATION_FRACTION * (count - test))
  return Images(count - test - validation, validation, test, classes, origin, source_bytes)


def _source(data: ml_collections.ConfigDict, *, look: bool) -> tuple[int, int, str, int]:
  """(images, classes, where that is known from, bytes) of the config's source; `look` into its files, or do not."""
  path = pathlib.Path(data.path)
  if data.source == 'fetal_phantom':
    return data.phantom_images, _CLASSES, 'drawn', data.phantom_images * _PHANTOM_BYTES
  if data.source == 'image_folder' and look:
    from fetal_jax.data.image_folder import find_images

    images = find_images(path)
    found = [image for paths in images.values() for image in paths]
    return len(found), len(images), f'counted in {path}', sum(image.stat().st_size for image in found)
  if data.source == 'fetal_planes_db' and data.path and path.exists() and look:
    from fetal_jax.data.fetal_planes_db.archive import open_archive

    with open_archive(path) as archive:
      count = len(archive.records)
    return count, _CLASSES, f'counted in {path}', round(_PUBLISHED_BYTES * count / PUBLISHED)
  origin = f'as published, for {path} is not there' if data.path else 'as published'
  return PUBLISHED, _CLASSES, origin, _PUBLISHED_BYTES
