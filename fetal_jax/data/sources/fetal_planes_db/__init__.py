"""FETAL_PLANES_DB, the real data set: its metadata, and a TFDS builder of its images."""

from fetal_jax.data.sources.fetal_planes_db.metadata import CLASS_NAMES, PLANES, read_metadata

__all__ = ['CLASS_NAMES', 'PLANES', 'read_metadata']
