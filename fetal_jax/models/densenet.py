"""DenseNet-169, as in torchvision."""

import functools
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from fetal_jax.models.layers import BatchNorm, he_fan_in, torch_kernel


class DenseLayer(nn.Module):
  """BN-ReLU-conv 1x1, BN-ReLU-conv 3x3 (Huang et al., 2017, section 3): the `growth` new channels."""

  growth: int
  bn_size: int
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, 'b h w c'], *, train: bool) -> Float[Array, 'b h w {self.growth}']:
    conv = functools.partial(nn.Conv, use_bias=False, kernel_init=he_fan_in, dtype=self.dtype)
    x = nn.relu(BatchNorm(dtype=self.dtype, name='norm1')(x, train=train))
    x = conv(self.bn_size * self.growth, (1, 1), name='conv1')(x)
    x = nn.relu(BatchNorm(dtype=self.dtype, name='norm2')(x, train=train))
    return conv(self.growth, (3, 3), padding=1, name='conv2')(x)


class DenseNet(nn.Module):
  """DenseNet for images of any channel count and of at least 32 x 32 pixels (with four blocks).

  `apply(variables, images, train=False)` takes float32 images `[b, h, w, c]` and returns float32 logits
  `[b, num_classes]`. With `train=True`, `batch_stats` must be mutable.
  """

  num_classes: int = 6
  growth: int = 32
  blocks: Sequence[int] = (6, 12, 32, 32)
  init_features: int = 64
  bn_size: int = 4
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, images: Float[Array, 'b h w c'], train: bool = False
  ) -> Float[Array, 'b {self.num_classes}']:
    conv = functools.partial(nn.Conv, use_bias=False, kernel_init=he_fan_in, dtype=self.dtype)
    norm = functools.partial(BatchNorm, dtype=self.dtype)
    x = conv(self.init_features, (7, 7), 2, padding=3, name='stem')(images.astype(self.dtype))
    x = nn.relu(norm(name='stem_norm')(x, train=train))
    x = nn.max_pool(x, (3, 3), (2, 2), padding=((1, 1), (1, 1)))

    for b, depth in enumerate(self.blocks, start=1):
      for i in range(1, depth + 1):
        layer = DenseLayer(self.growth, self.bn_size, self.dtype, name=f'block{b}_layer{i}')
        x = jnp.concatenate([x, layer(x, train=train)], axis=-1)
      if b < len(self.blocks):
        if min(x.shape[1:3]) < 2:
          raise ValueError(
            f'images of {images.shape[1]}x{images.shape[2]} vanish in block {b + 1} of DenseNet'
          )
        x = nn.relu(norm(name=f'transition{b}_norm')(x, train=train))
        x = conv(x.shape[-1] // 2, (1, 1), name=f'transition{b}_conv')(x)
        x = nn.avg_pool(x, (2, 2), (2, 2))

    x = nn.relu(norm(name='final_norm')(x, train=train))
    x = x.astype(jnp.float32).mean((1, 2))
    return nn.Dense(self.num_classes, kernel_init=torch_kernel, name='head')(x)


def densenet169(
  num_classes: int = 6,
  growth: int = 32,
  blocks: Sequence[int] = (6, 12, 32, 32),
  init_features: int = 64,
  bn_size: int = 4,
  dtype: Any = jnp.float32,
) -> DenseNet:
  """Builds DenseNet-169 (Huang et al., 2017); the other keywords make smaller ones."""
  return DenseNet(num_classes, growth, tuple(blocks), init_features, bn_size, dtype)
