"""DINOv2's vision transformer (Oquab et al., 2023, arXiv:2304.07193), the sizes S, B and L, without registers."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from fetal_jax.models.layers import LayerNorm, gelu

PATCH, HEAD_SIZE = 14, 64


class LayerScale(nn.Module):
  """A learned factor a channel (Touvron et al., 2021, arXiv:2103.17239)."""

  @nn.compact
  def __call__(self, x: Float[Array, 'b n c']) -> Float[Array, 'b n c']:
    return x * self.param('gamma', nn.initializers.ones, x.shape[-1:])


class Attention(nn.Module):
  """Self-attention with heads of 64 channels, laid out `[q|k|v][head]`."""

  @nn.compact
  def __call__(self, x: Float[Array, 'b n c']) -> Float[Array, 'b n c']:
    b, n, c = x.shape
    qkv = nn.Dense(3 * c, name='qkv')(x).reshape(b, n, 3, c // HEAD_SIZE, HEAD_SIZE)
    mixed = jax.nn.dot_product_attention(*jnp.moveaxis(qkv, 2, 0))
    return nn.Dense(c, name='proj')(mixed.reshape(x.shape))


class Mlp(nn.Module):
  """Two layers, the hidden one four times as wide."""

  @nn.compact
  def __call__(self, x: Float[Array, 'b n c']) -> Float[Array, 'b n c']:
    return nn.Dense(x.shape[-1], name='fc2')(gelu(nn.Dense(4 * x.shape[-1], name='fc1')(x)))


class Block(nn.Module):
  """Pre-norm attention and MLP, each scaled before it is added."""

  @nn.compact
  def __call__(self, x: Float[Array, 'b n c']) -> Float[Array, 'b n c']:
    x = x + LayerScale(name='ls1')(Attention(name='attn')(LayerNorm(epsilon=1e-6, name='norm1')(x)))
    return x + LayerScale(name='ls2')(Mlp(name='mlp')(LayerNorm(epsilon=1e-6, name='norm2')(x)))


class PatchEmbed(nn.Module):
  """Patches as tokens, row by row."""

  width: int

  @nn.compact
  def __call__(self, images: Float[Array, 'b h w c']) -> Float[Array, 'b n {self.width}']:
    x = nn.Conv(self.width, (PATCH, PATCH), PATCH, padding='VALID', name='proj')(images)
    return x.reshape(len(x), -1, self.width)


class DinoV2(nn.Module):
  """DINOv2 for inference.

  `apply(variables, images)` takes float32 images `[b, s, s, 3]`, normalised, with s a multiple of 14, and returns
  the normed class token, float32 `[b, width]`. Weights are for one size of images. Modules are named as in the
  reference, but for `blocks_<i>`.

  Attributes:
    width: channels, a multiple of 64: 384 (S), 768 (B), 1024 (L).
    depth: blocks: 12, 12, 24.
  """

  width: int = 384
  depth: int = 12

  @nn.compact
  def __call__(self, images: Float[Array, 'b s s 3']) -> Float[Array, 'b {self.width}']:
    x = PatchEmbed(self.width, name='patch_embed')(images)
    token = self.param('cls_token', nn.initializers.zeros, (1, 1, self.width))
    x = jnp.concatenate([jnp.broadcast_to(token, (len(x), 1, self.width)), x], axis=1)
    x = x + self.param('pos_embed', nn.initializers.zeros, (1, *x.shape[1:]))
    for i in range(self.depth):
      x = Block(name=f'blocks_{i}')(x)
    return LayerNorm(epsilon=1e-6, name='norm')(x[:, 0])
