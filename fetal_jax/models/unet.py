"""The ADM UNet (Dhariwal & Nichol 2021, arXiv:2105.05233): noise, and optionally its variance, from x_t."""

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int, Num

from fetal_jax.models import adm
from fetal_jax.models.encoder import Encoder


class UNet(Encoder):
  """Class-conditional UNet with residual blocks, attention at chosen scales, and skips between its halves.

  Attributes:
    out_channels: channels of the output; twice those of x where the variance is learned.
    num_classes: number of labels, None for an unconditional network.
    The others: as in `Encoder`.
  """

  out_channels: int
  num_classes: int | None = None

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

    emb = adm.TimeEmbedding(self.width, name='time_embed')(t)
    if self.num_classes is not None:
      init = nn.initializers.normal(1.0)
      emb += nn.Embed(self.num_classes, 4 * self.width, embedding_init=init, name='label_embed')(y)
    h, skips = self.encode(x, emb, train)
    h = self.decode(h, emb, skips, train)

    h = adm.group_norm(h.astype(jnp.float32), 'norm_out', groups=self.norm_groups, dtype=jnp.float32)
    return adm.conv(nn.silu(h), self.out_channels, 'conv_out', dtype=jnp.float32, zero=True)

  def decode(
    self, h: Float[Array, 'b h2 w2 c2'], emb: Float[Array, 'b d'], skips: list[Array], train: bool
  ) -> Float[Array, 'b h w c3']:
    """Applies all levels up again, each block on the features and the next of the encoder's outputs, last first."""
    res_block, attention_block = self.make_blocks(train)
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
            h = adm.upsampled_conv(h, channels, f'out_{k}_up', dtype=self.dtype, train=train)
        k += 1
    return h
