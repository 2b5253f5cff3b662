"""FETAL_PLANES_DB, the real data set: its metadata, and a TFDS builder of its images."""

from typing import Any

from fetal_jax.data.sources.fetal_planes_db.metadata import CLASS_NAMES, PLANES, read_metadata

__all__ = ['CLASS_NAMES', 'PLANES', 'FetalPlanesDb', 'read_metadata']


def __getattr__(name: str) -> Any:
  # The table can be read without paying for the import of TFDS.
  if name == 'FetalPlanesDb':
    from fetal_jax.data.sources.fetal_planes_db.fetal_planes_db_dataset_builder import FetalPlanesDb

    return FetalPlanesDb
  raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
