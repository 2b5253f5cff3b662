"""The half U-Net: the ADM UNet's encoder as a classifier of noisy images, whose gradient guides sampling.

Dhariwal & Nichol 2021, arXiv:2105.05233, section 4.1.
"""

import dataclasses
import math

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Num

from fetal_jax.models import adm
from fetal_jax.models.encoder import Encoder

POOLS = ('attention', 'adaptive')


class AttentionPool(nn.Module):
  """Attention over the pixels and their mean; the mean's output is classified (as in CLIP, arXiv:2103.00020)."""

  features: int
  num_heads: int
  num_head_channels: int | None

  @nn.compact
  def __call__(self, x: Float[Array, 'b h w c']) -> Float[Array, 'b features']:
    b, h, w, c = x.shape
    tokens = x.reshape(b, h * w, c)
    tokens = jnp.concatenate([tokens.mean(axis=1, keepdims=True), tokens], axis=1)
    init = nn.initializers.normal(1 / math.sqrt(c))
    tokens += self.param('positional_embedding', init, (h * w + 1, c))
    qkv = adm.dense(tokens, 3 * c, 'qkv', dtype=jnp.float32)
    heads = adm.count_heads(c, self.num_heads, self.num_head_channels)
    pooled = adm.attention(qkv, heads, 'xla')[:, 0]
    return adm.dense(pooled, self.features, 'proj', dtype=jnp.float32)


class HalfUNet(Encoder):
  """Classifier of noisy images, `p(y | x_t, t)`.

  Attributes:
    image_size: side of the square images; the attention pool has one position for each pixel it sees.
    num_classes: number of logits.
    pool: 'attention' (the released models') or 'adaptive' (global mean).
    The others: as in `Encoder`; the released models have heads of 64 channels.
  """

  image_size: int
  num_classes: int
  _: dataclasses.KW_ONLY
  num_heads: int = 1
  num_head_channels: int | None = 64
  pool: str = 'attention'

  @nn.compact
  def __call__(
    self, x: Float[Array, 'b h w c'], t: Num[Array, 'b'], train: bool = False
  ) -> Float[Array, 'b classes']:
    """Classifies noisy images.

    Args:
      x: noisy images x_t in the scale of [-1, 1].
      t: timesteps of the original process.
      train: whether dropout is on; it then needs the rng 'dropout'.

    Returns:
      float32 logits `[B, num_classes]`.

    Raises:
      ValueError: the images have another size than the network was built for, or `pool` is unknown.
    """
    if x.shape[1:3] != (self.image_size, self.image_size):
      raise ValueError(
        f'built for images of {self.image_size}x{self.image_size}, got {x.shape[1]}x{x.shape[2]}'
      )
    if self.pool not in POOLS:
      raise ValueError(f'no pool named {self.pool!r}; there are: {", ".join(POOLS)}')

    h, _ = self.encode(x, adm.TimeEmbedding(self.width, name='time_embed')(t), train)
    h = nn.silu(adm.group_norm(h.astype(jnp.float32), 'norm_out', groups=self.norm_groups, dtype=jnp.float32))
    if self.pool == 'adaptive':
      return adm.dense(h.mean(axis=(1, 2)), self.num_classes, 'logits', dtype=jnp.float32, zero=True)
    return AttentionPool(self.num_classes, self.num_heads, self.num_head_channels, name='pool')(h)
