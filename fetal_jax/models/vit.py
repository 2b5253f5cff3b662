"""Vision Transformer B/32, as in torchvision."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from fetal_jax.models.layers import LayerNorm, gelu, normal_02, torch_kernel

xavier = nn.initializers.xavier_uniform()


class EncoderLayer(nn.Module):
  """Pre-norm self-attention and MLP (Dosovitskiy et al., 2021, equations 2 and 3)."""

  heads: int
  mlp_dim: int
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, 'b n c']) -> Float[Array, 'b n c']:
    channels = x.shape[-1]
    h = LayerNorm(epsilon=1e-6, dtype=self.dtype, name='ln_1')(x)
    # One matrix [q|k|v], each with its heads side by side; Xavier's bound counts all three together.
    qkv = nn.Dense(3 * channels, kernel_init=xavier, dtype=self.dtype, name='in_proj')(h)
    q, k, v = jnp.moveaxis(qkv.reshape(*x.shape[:2], 3, self.heads, -1), 2, 0)
    weights = jnp.einsum('bqhc,bkhc->bhqk', q * q.shape[-1] ** -0.5, k)
    weights = jax.nn.softmax(weights.astype(jnp.float32)).astype(self.dtype)
    h = jnp.einsum('bhqk,bkhc->bqhc', weights, v).reshape(x.shape)
    x = x + nn.Dense(channels, kernel_init=torch_kernel, dtype=self.dtype, name='out_proj')(h)

    h = LayerNorm(epsilon=1e-6, dtype=self.dtype, name='ln_2')(x)
    tiny = nn.initializers.normal(1e-6)
    h = nn.Dense(self.mlp_dim, kernel_init=xavier, bias_init=tiny, dtype=self.dtype, name='mlp_in')(h)
    return x + nn.Dense(channels, kernel_init=xavier, bias_init=tiny, dtype=self.dtype, name='mlp_out')(
      gelu(h)
    )


class VisionTransformer(nn.Module):
  """ViT for square images of one size, which its position embeddings are made for, and any channel count.

  `apply(variables, images, train=False)` takes float32 images `[b, image_size, image_size, c]` and returns
  float32 logits `[b, num_classes]`. It has no dropout, so `train` changes nothing.

  Raises:
    ValueError: images of another size, or a size that is no multiple of the patches'.
  """

  num_classes: int = 6
  image_size: int = 128
  patch_size: int = 32
  hidden_size: int = 768
  depth: int = 12
  heads: int = 12
  mlp_dim: int = 3072
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, images: Float[Array, 'b h w c'], train: bool = False
  ) -> Float[Array, 'b {self.num_classes}']:
    del train
    if self.image_size % self.patch_size:
      raise ValueError(f'image_size={self.image_size} is no multiple of patch_size={self.patch_size}')
    if images.shape[1:3] != (self.image_size, self.image_size):
      raise ValueError(
        f'this ViT is built for images of {self.image_size}x{self.image_size},'
        f' these are {images.shape[1]}x{images.shape[2]}'
      )
    patch = (self.patch_size, self.patch_size)
    fan_in = self.patch_size**2 * images.shape[-1]
    x = nn.Conv(
      self.hidden_size,
      patch,
      patch,
      padding=0,
      kernel_init=nn.initializers.normal(fan_in**-0.5),
      dtype=self.dtype,
      name='stem',
    )(images.astype(self.dtype))
    x = x.reshape(x.shape[0], -1, self.hidden_size)

    class_token = self.param('class_token', nn.initializers.zeros, (1, 1, self.hidden_size))
    x = jnp.concatenate(
      [jnp.broadcast_to(class_token, (x.shape[0], 1, x.shape[2])).astype(x.dtype), x], axis=1
    )
    positions = self.param('pos_embedding', normal_02, (1, *x.shape[1:]))
    x = x + positions.astype(x.dtype)
    for i in range(self.depth):
      x = EncoderLayer(self.heads, self.mlp_dim, self.dtype, name=f'layer_{i}')(x)
    x = LayerNorm(epsilon=1e-6, name='ln')(x[:, 0])
    return nn.Dense(self.num_classes, kernel_init=nn.initializers.zeros, name='head')(x)


def vit_b_32(
  num_classes: int = 6,
  image_size: int = 128,
  patch_size: int = 32,
  hidden_size: int = 768,
  depth: int = 12,
  heads: int = 12,
  mlp_dim: int = 3072,
  dtype: Any = jnp.float32,
) -> VisionTransformer:
  """Builds ViT-B/32 (Dosovitskiy et al., 2021) for images of 128 x 128; the other keywords make smaller ones."""
  return VisionTransformer(num_classes, image_size, patch_size, hidden_size, depth, heads, mlp_dim, dtype)
