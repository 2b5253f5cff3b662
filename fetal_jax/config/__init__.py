"""Settings: one table of them, and the configs that are made from it.

Library functions take plain arguments; only a stage's `run(config, workdir)` sees a config.
"""

from fetal_jax.config.changes import check_changes, decisive, differences, has_begun
from fetal_jax.config.checks import check_values, validate
from fetal_jax.config.settings import SETTINGS, decides, of_source
from fetal_jax.config.values import (
  config_hash,
  default_config,
  flatten,
  from_dict,
  load_file,
  override,
  to_dict,
)
from fetal_jax.runtime.errors import UserError

__all__ = [
  'SETTINGS',
  'UserError',
  'check_changes',
  'check_values',
  'config_hash',
  'decides',
  'decisive',
  'default_config',
  'differences',
  'flatten',
  'from_dict',
  'has_begun',
  'load_file',
  'of_source',
  'override',
  'to_dict',
  'validate',
]
