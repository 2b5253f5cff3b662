"""Drawn fetal ultrasound planes: the data set that needs no download."""

from typing import Any

from fetal_jax.data.sources.fetal_phantom.cohort import CLASS_NAMES
from fetal_jax.data.sources.fetal_phantom.draw import draw
from fetal_jax.data.sources.fetal_phantom.records import phantom_records

__all__ = ['CLASS_NAMES', 'FetalPhantom', 'draw', 'phantom_records']


def __getattr__(name: str) -> Any:
  # Images can be drawn without paying for the import of TFDS.
  if name == 'FetalPhantom':
    from fetal_jax.data.sources.fetal_phantom.fetal_phantom_dataset_builder import FetalPhantom

    return FetalPhantom
  raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
