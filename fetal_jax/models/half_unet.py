"""The half U-Net: the ADM UNet's encoder as a classifier of noisy images, whose gradient guides sampling.

Dhariwal & Nichol 2021, arXiv:2105.05233, section 4.1.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Num

from fetal_jax.models import adm as layers

POOLS = ('attention', 'adaptive', 'spatial', 'spatial_v2')


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
    qkv = layers.dense(tokens, 3 * c, 'qkv', dtype=jnp.float32)
    heads = layers.count_heads(c, self.num_heads, self.num_head_channels)
    pooled = layers.attention(qkv, heads, 'xla')[:, 0]
    return layers.dense(pooled, self.features, 'proj', dtype=jnp.float32)


class HalfUNet(nn.Module):
  """Classifier of noisy images, `p(y | x_t, t)`.

  Attributes:
    image_size: side of the square images; the attention pool has one position for each pixel it sees.
    num_classes: number of logits.
    num_heads: attention heads where `num_head_channels` is None.
    num_head_channels: channels a head; overrides `num_heads`.
    pool: 'attention' (the released models'), 'adaptive' (global mean), 'spatial' or 'spatial_v2' (the means of
      every block's output through a two-layer perceptron).
    The others: as in `UNet`.
  """

  image_size: int
  num_classes: int
  width: int = 128
  channel_mult: Sequence[int | float] = (1, 1, 2, 3, 4)
  num_res_blocks: int = 2
  attention_downsamples: Sequence[int] = (4, 8, 16)
  num_heads: int = 1
  num_head_channels: int | None = 64
  pool: str = 'attention'
  dropout: float = 0.0
  use_scale_shift_norm: bool = True
  resblock_updown: bool = True
  norm_groups: int = 32
  dtype: Any = jnp.float32
  remat: bool = False

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

    res_block, attention_block = layers.make_blocks(
      num_heads=self.num_heads,
      num_head_channels=self.num_head_channels,
      dropout=self.dropout,
      use_scale_shift_norm=self.use_scale_shift_norm,
      norm_groups=self.norm_groups,
      dtype=self.dtype,
      remat=self.remat and train,
    )
    h, outputs = layers.encode(
      x,
      layers.TimeEmbedding(self.width, name='time_embed')(t),
      train,
      res_block=res_block,
      attention_block=attention_block,
      width=self.width,
      channel_mult=self.channel_mult,
      num_res_blocks=self.num_res_blocks,
      attention_downsamples=self.attention_downsamples,
      resblock_updown=self.resblock_updown,
      dtype=self.dtype,
    )
    h = h.astype(jnp.float32)

    if self.pool.startswith('spatial'):
      means = [o.astype(jnp.float32).mean(axis=(1, 2)) for o in (*outputs, h)]
      hidden = layers.dense(jnp.concatenate(means, axis=-1), 2048, 'hidden', dtype=jnp.float32)
      if self.pool == 'spatial':
        hidden = jax.nn.relu(hidden)
      else:
        hidden = nn.silu(layers.group_norm(hidden, 'hidden_norm', groups=self.norm_groups, dtype=jnp.float32))
      return layers.dense(hidden, self.num_classes, 'logits', dtype=jnp.float32)

    h = nn.silu(layers.group_norm(h, 'norm_out', groups=self.norm_groups, dtype=jnp.float32))
    if self.pool == 'adaptive':
      return layers.dense(h.mean(axis=(1, 2)), self.num_classes, 'logits', dtype=jnp.float32, zero=True)
    return AttentionPool(self.num_classes, self.num_heads, self.num_head_channels, name='pool')(h)
