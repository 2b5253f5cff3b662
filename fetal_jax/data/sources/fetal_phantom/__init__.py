"""Drawn fetal ultrasound planes, the data set that needs no download: drawings, records, and a TFDS builder."""

from fetal_jax.data.sources.fetal_phantom.cohort import CLASS_NAMES
from fetal_jax.data.sources.fetal_phantom.draw import draw
from fetal_jax.data.sources.fetal_phantom.records import phantom_records

__all__ = ['CLASS_NAMES', 'draw', 'phantom_records']
