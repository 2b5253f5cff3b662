"""FETAL_PLANES_DB under its public name; `fetal_jax/data/sources/fetal_planes_db/` has the code."""

from fetal_jax.data.sources.fetal_planes_db import CLASS_NAMES, PLANES, read_metadata

__all__ = ['CLASS_NAMES', 'PLANES', 'read_metadata']
