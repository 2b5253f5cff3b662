"""Rounds of synthetic images on disk: their plan, their manifest, the one writer and the one reader."""

from fetal_jax.data.rounds.manifest import CheckpointMark, Manifest, SamplerSettings, ShardEntry
from fetal_jax.data.rounds.reader import Round, begun, find, folder_of, read

__all__ = [
  'CheckpointMark',
  'Manifest',
  'Round',
  'SamplerSettings',
  'ShardEntry',
  'begun',
  'find',
  'folder_of',
  'read',
]
