"""Where real images come from: each source is a TFDS builder, made from the settings of `config.data` that it has."""

import pathlib
from collections.abc import Callable
from typing import Any

from fetal_jax.runtime.files import PathLike


def phantom(folder: PathLike, *, phantom_images: int, phantom_seed: int) -> Any:
  """Makes the builder of drawn planes; nothing is downloaded."""
  from fetal_jax.data.sources.fetal_phantom.fetal_phantom_dataset_builder import FetalPhantom

  return FetalPhantom(data_dir=folder, images=phantom_images, seed=phantom_seed)


def planes_db(folder: PathLike, *, path: str, allow_missing: bool) -> Any:
  """Makes the builder of the real data set, from `path` or, if that is empty, downloaded."""
  from fetal_jax.data.sources.fetal_planes_db.fetal_planes_db_dataset_builder import FetalPlanesDb

  return FetalPlanesDb(data_dir=folder, source=path, allow_missing=allow_missing)


def folder_of_images(folder: PathLike, *, path: str, patients_csv: str) -> Any:
  """Makes the builder of the user's own labelled images in `path`."""
  from fetal_jax.data.sources.image_folder import ImageFolder

  return ImageFolder(data_dir=folder, path=path, patients_csv=patients_csv)


# data.source -> function of the folder of the TFDS data set and of the source's own settings.
SOURCES: dict[str, Callable[..., Any]] = {
  'fetal_phantom': phantom,
  'fetal_planes_db': planes_db,
  'image_folder': folder_of_images,
}


def download_dir(source: str, path: str) -> pathlib.Path | None:
  """Returns where a download is kept: with TFDS's own, for all workdirs; None if nothing is downloaded."""
  if source != 'fetal_planes_db' or path:
    return None
  import tensorflow_datasets as tfds

  return pathlib.Path(tfds.core.constants.DATA_DIR) / 'downloads'
