"""fetal_jax: classifier-guided diffusion for fetal ultrasound planes, and what the images are worth.

The public names are imported when they are first used, so that `import fetal_jax` is immediate.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from fetal_jax.config import default_config as default_config
  from fetal_jax.errors import UserError as UserError
  from fetal_jax.synthesis.api import Sampler as Sampler
  from fetal_jax.synthesis.api import load_sampler as load_sampler
  from fetal_jax.synthesis.sampling import make_sample as make_sample

_PUBLIC = {
  'Sampler': 'fetal_jax.synthesis.api',
  'UserError': 'fetal_jax.errors',
  'default_config': 'fetal_jax.config',
  'load_sampler': 'fetal_jax.synthesis.api',
  'make_sample': 'fetal_jax.synthesis.sampling',
}
__all__ = list(_PUBLIC)


def __getattr__(name: str) -> Any:
  if name not in _PUBLIC:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  return getattr(importlib.import_module(_PUBLIC[name]), name)
