"""The public name of FETAL_PLANES_DB's metadata; `fetal_jax/data/sources/fetal_planes_db/` has the code."""

from fetal_jax.data.sources.fetal_planes_db import CLASS_NAMES, PLANES, read_metadata

__all__ = ['CLASS_NAMES', 'PLANES', 'read_metadata']
