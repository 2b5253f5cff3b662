"""fetal_jax: classifier-guided diffusion for fetal ultrasound planes, and what the images are worth.

The public names are imported when they are first used, so that `import fetal_jax` is immediate.
"""

import importlib
from typing import TYPE_CHECKING, Any

from fetal_jax.runtime.version import __version__ as __version__

if TYPE_CHECKING:
  from fetal_jax.config import default_config as default_config
  from fetal_jax.diffusion.sample import make_sample as make_sample
  from fetal_jax.runtime.errors import UserError as UserError
  from fetal_jax.sample.sampler import Sampler as Sampler
  from fetal_jax.sample.sampler import load_sampler as load_sampler

_PUBLIC = {
  'Sampler': 'fetal_jax.sample.sampler',
  'UserError': 'fetal_jax.runtime.errors',
  'default_config': 'fetal_jax.config',
  'load_sampler': 'fetal_jax.sample.sampler',
  'make_sample': 'fetal_jax.diffusion.sample',
}
__all__ = list(_PUBLIC)


def __getattr__(name: str) -> Any:
  if name not in _PUBLIC:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  return getattr(importlib.import_module(_PUBLIC[name]), name)
