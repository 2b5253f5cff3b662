"""The half that the ADM UNet and its guide share: settings, and the levels from the image down to the middle."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from fetal_jax.models import adm


class Encoder(nn.Module, kw_only=True):
  """Base of `UNet` and `HalfUNet`, which call its methods in their own `nn.compact` method.

  Attributes:
    width: channels of the first level, multiplied by `channel_mult` at each level.
    channel_mult: one factor a level; each level after the first halves the image.
    num_res_blocks: residual blocks a level (one more on the way up).
    attention_downsamples: the downsampling factors of the levels that have attention.
    num_heads: attention heads where `num_head_channels` is None.
    num_head_channels: channels a head; overrides `num_heads`.
    dropout: rate inside residual blocks, in training.
    use_scale_shift_norm: condition by scale and shift after the norm (False: by addition before it).
    resblock_updown: resample inside residual blocks (False: by strided or plain convolutions).
    norm_groups: groups of the norms, the reference's 32; fewer suit narrow networks (`adm.group_norm`).
    dtype: of convolutions and attention; parameters, embeddings and the output head are float32.
    remat: recompute activations in the backward pass, block by block; less memory, a third more work.
  """

  width: int = 128
  channel_mult: Sequence[int | float] = (1, 1, 2, 3, 4)
  num_res_blocks: int = 2
  attention_downsamples: Sequence[int] = (4, 8, 16)
  num_heads: int = 4
  num_head_channels: int | None = None
  dropout: float = 0.0
  use_scale_shift_norm: bool = True
  resblock_updown: bool = True
  norm_groups: int = 32
  dtype: Any = jnp.float32
  remat: bool = False

  def make_blocks(self, train: bool) -> tuple[Callable[..., nn.Module], Callable[..., nn.Module]]:
    """Returns the constructors of this network's residual and attention blocks."""
    remat = self.remat and train
    res_block = nn.remat(adm.ResBlock, static_argnums=(3,)) if remat else adm.ResBlock
    attention_block = nn.remat(adm.AttentionBlock) if remat else adm.AttentionBlock
    shared = {'norm_groups': self.norm_groups, 'dtype': self.dtype}
    return (
      functools.partial(
        res_block, dropout=self.dropout, use_scale_shift_norm=self.use_scale_shift_norm, **shared
      ),
      functools.partial(
        attention_block, num_heads=self.num_heads, num_head_channels=self.num_head_channels, **shared
      ),
    )

  def encode(
    self, x: Float[Array, 'b h w c'], emb: Float[Array, 'b d'], train: bool
  ) -> tuple[Float[Array, 'b h2 w2 c2'], list[Array]]:
    """Applies all levels down, then the middle block. `in_<k>` numbers the outputs that a decoder takes as skips.

    Returns:
      The features after the middle block, and the outputs of stem, blocks and downsamplings in order.

    Raises:
      ValueError: height or width is not divisible by the total downsampling.
    """
    factor = 2 ** (len(self.channel_mult) - 1)
    if x.shape[1] % factor or x.shape[2] % factor:
      raise ValueError(
        f'images of {x.shape[1]}x{x.shape[2]} are not divisible by the downsampling factor {factor}'
      )
    res_block, attention_block = self.make_blocks(train)

    h = adm.conv(x, int(self.width * self.channel_mult[0]), 'in_0', dtype=self.dtype)
    outputs = [h]
    for level, mult in enumerate(self.channel_mult):
      channels = int(self.width * mult)
      for _ in range(self.num_res_blocks):
        k = len(outputs)
        h = res_block(channels, name=f'in_{k}_res')(h, emb, train)
        if 2**level in self.attention_downsamples:
          h = attention_block(name=f'in_{k}_attention')(h)
        outputs.append(h)
      if level < len(self.channel_mult) - 1:
        k = len(outputs)
        if self.resblock_updown:
          h = res_block(channels, 'down', name=f'in_{k}_down')(h, emb, train)
        else:
          h = adm.conv(h, channels, f'in_{k}_down', dtype=self.dtype, strides=2)
        outputs.append(h)

    h = res_block(channels, name='middle_0_res')(h, emb, train)
    h = attention_block(name='middle_1_attention')(h)
    h = res_block(channels, name='middle_2_res')(h, emb, train)
    return h, outputs
