"""The ADM UNet (Dhariwal & Nichol 2021, arXiv:2105.05233): noise, and optionally its variance, from x_t."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int, Num

from fetal_jax.models import adm as layers


class UNet(nn.Module):
  """Class-conditional UNet with residual blocks, attention at chosen scales, and skips between its halves.

  Attributes:
    out_channels: channels of the output; twice those of x where the variance is learned.
    width: channels of the first level, multiplied by `channel_mult` at each level.
    channel_mult: one factor a level; each level after the first halves the image.
    num_res_blocks: residual blocks a level (one more on the way up).
    attention_downsamples: the downsampling factors of the levels that have attention.
    num_heads: attention heads.
    num_head_channels: channels a head; overrides `num_heads`.
    num_classes: number of labels, None for an unconditional network.
    dropout: rate inside residual blocks, in training.
    use_scale_shift_norm: condition by scale and shift after the norm (False: by addition before it).
    resblock_updown: resample inside residual blocks (False: by strided or plain convolutions).
    norm_groups: groups of the norms, the reference's 32; fewer suit narrow networks (`unet_layers.group_norm`).
    dtype: of convolutions and attention; parameters, embeddings and the output head are float32.
    remat: recompute activations in the backward pass, block by block; less memory, a third more work.
  """

  out_channels: int
  width: int = 128
  channel_mult: Sequence[int | float] = (1, 1, 2, 3, 4)
  num_res_blocks: int = 2
  attention_downsamples: Sequence[int] = (4, 8, 16)
  num_heads: int = 4
  num_head_channels: int | None = None
  num_classes: int | None = None
  dropout: float = 0.0
  use_scale_shift_norm: bool = True
  resblock_updown: bool = True
  norm_groups: int = 32
  dtype: Any = jnp.float32
  remat: bool = False

  @nn.compact
  def __call__(
    self,
    x: Float[Array, 'b h w c'],
    t: Num[Array, 'b'],
    y: Int[Array, 'b'] | None = None,
    train: bool = False,
  ) -> Float[Array, 'b h w out']:
    """Predicts the noise (and the variance's interpolation) in x_t.

    Args:
      x: noisy images in the scale of [-1, 1].
      t: timesteps of the original process (0..999 of a 1000-step one), not indices of a respaced one.
      y: labels; None if and only if `num_classes` is None.
      train: whether dropout is on; it then needs the rng 'dropout'.

    Returns:
      float32 `[B, H, W, out_channels]`: eps, then v where the variance is learned.

    Raises:
      ValueError: the image's size is not divisible by 2^(levels-1), or `y` and `num_classes` disagree.
    """
    if (y is None) != (self.num_classes is None):
      raise ValueError(
        f'num_classes={self.num_classes}, so labels {"must" if y is None else "cannot"} be given'
      )

    emb = layers.TimeEmbedding(self.width, name='time_embed')(t)
    if self.num_classes is not None:
      init = nn.initializers.normal(1.0)
      emb += nn.Embed(self.num_classes, 4 * self.width, embedding_init=init, name='label_embed')(y)

    res_block, attention_block = layers.make_blocks(
      num_heads=self.num_heads,
      num_head_channels=self.num_head_channels,
      dropout=self.dropout,
      use_scale_shift_norm=self.use_scale_shift_norm,
      norm_groups=self.norm_groups,
      dtype=self.dtype,
      remat=self.remat and train,
    )
    h, skips = layers.encode(
      x,
      emb,
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

    k = 0
    for level, mult in reversed(list(enumerate(self.channel_mult))):
      channels = int(self.width * mult)
      for block in range(self.num_res_blocks + 1):
        h = jnp.concatenate([h, skips.pop()], axis=-1)
        h = res_block(channels, name=f'out_{k}_res')(h, emb, train)
        if 2**level in self.attention_downsamples:
          h = attention_block(name=f'out_{k}_attention')(h)
        if level and block == self.num_res_blocks:
          if self.resblock_updown:
            h = res_block(channels, 'up', name=f'out_{k}_up')(h, emb, train)
          else:
            h = layers.upsampled_conv(h, channels, f'out_{k}_up', dtype=self.dtype, train=train)
        k += 1

    h = layers.group_norm(h.astype(jnp.float32), 'norm_out', groups=self.norm_groups, dtype=jnp.float32)
    return layers.conv(nn.silu(h), self.out_channels, 'conv_out', dtype=jnp.float32, zero=True)
