"""Networks: Flax linen modules without training code.

Classifiers are called as `model.apply(variables, images, train=False) -> logits` with float32 images
`[B, H, W, C]`, already normalised; the UNet as `apply(variables, x, t, y) -> [B, H, W, out]`; the half
U-Net as `apply(variables, x, t) -> logits`.
"""

from collections.abc import Callable
from typing import Any

from flax import linen as nn

from fetal_jax.models.densenet import densenet169
from fetal_jax.models.half_unet import HalfUNet
from fetal_jax.models.medmamba import medmamba_b, medmamba_s, medmamba_t
from fetal_jax.models.resnet import resnet50
from fetal_jax.models.swin import swin_t
from fetal_jax.models.unet import UNet
from fetal_jax.models.vit import vit_b_32

CLASSIFIERS: dict[str, Callable[..., nn.Module]] = {
  'resnet50': resnet50,
  'densenet169': densenet169,
  'vit_b_32': vit_b_32,
  'swin_t': swin_t,
  'medmamba_t': medmamba_t,
  'medmamba_s': medmamba_s,
  'medmamba_b': medmamba_b,
}

MODELS: dict[str, Callable[..., nn.Module]] = {'unet': UNet, 'half_unet': HalfUNet, **CLASSIFIERS}


def create(name: str, **kwargs: Any) -> nn.Module:
  """Builds the network `name` (a key of `MODELS`) with the constructor's own keywords.

  Raises:
    KeyError: the name is not in `MODELS`.
  """
  if name not in MODELS:
    raise KeyError(f'no network named {name!r}; there are: {", ".join(MODELS)}')
  return MODELS[name](**kwargs)
