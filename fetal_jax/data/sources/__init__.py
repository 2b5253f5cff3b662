"""Where real images come from: each source is a TFDS builder, made from the config's `data`."""

import pathlib
from collections.abc import Callable
from typing import Any

from fetal_jax.runtime import files


def phantom(data: Any, folder: files.PathLike) -> Any:
  """Drawn planes; nothing is downloaded."""
  from fetal_jax.data.sources.fetal_phantom import FetalPhantom

  return FetalPhantom(data_dir=folder, images=data.phantom_images, seed=data.phantom_seed)


def planes_db(data: Any, folder: files.PathLike) -> Any:
  """The real data set, from `data.path` or, if that is empty, downloaded."""
  from fetal_jax.data.sources.fetal_planes_db import FetalPlanesDb

  return FetalPlanesDb(data_dir=folder, source=data.path, allow_missing=data.allow_missing)


def folder_of_images(data: Any, folder: files.PathLike) -> Any:
  """The user's own labelled images in `data.path`."""
  from fetal_jax.data.sources.image_folder import ImageFolder

  return ImageFolder(data_dir=folder, path=data.path, patients_csv=data.patients_csv)


SOURCES: dict[str, Callable[[Any, files.PathLike], Any]] = {
  'fetal_phantom': phantom,
  'fetal_planes_db': planes_db,
  'image_folder': folder_of_images,
}


def download_dir(data: Any) -> pathlib.Path | None:
  """Where a download is kept: with TFDS's own, for all workdirs; None if nothing is downloaded."""
  if data.source != 'fetal_planes_db' or data.path:
    return None
  import tensorflow_datasets as tfds

  return pathlib.Path(tfds.core.constants.DATA_DIR) / 'downloads'
