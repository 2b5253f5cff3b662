"""ResNet-50, as in torchvision: the variant with the stride on the 3x3 convolution ("v1.5")."""

import functools
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from fetal_jax.models.layers import BatchNorm, he_fan_out, torch_bias, torch_kernel


class Bottleneck(nn.Module):
  """1x1, 3x3, 1x1 convolutions with a shortcut (He et al., 2016, figure 5); the output has 4 x `width`."""

  width: int
  stride: int
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, 'b h w c'], *, train: bool) -> Float[Array, 'b h2 w2 c2']:
    conv = functools.partial(nn.Conv, use_bias=False, kernel_init=he_fan_out, dtype=self.dtype)
    norm = functools.partial(BatchNorm, dtype=self.dtype)

    h = nn.relu(norm(name='bn1')(conv(self.width, (1, 1), name='conv1')(x), train=train))
    # 'SAME' would pad a stride of 2 on one side only.
    h = conv(self.width, (3, 3), self.stride, padding=1, name='conv2')(h)
    h = nn.relu(norm(name='bn2')(h, train=train))
    h = norm(name='bn3')(conv(4 * self.width, (1, 1), name='conv3')(h), train=train)

    if self.stride != 1 or x.shape[-1] != 4 * self.width:
      x = conv(4 * self.width, (1, 1), self.stride, padding=0, name='downsample_conv')(x)
      x = norm(name='downsample_bn')(x, train=train)
    return nn.relu(h + x)


class ResNet(nn.Module):
  """Bottleneck ResNet for images of any size and channel count.

  `apply(variables, images, train=False)` takes float32 images `[b, h, w, c]` and returns float32 logits
  `[b, num_classes]`. With `train=True`, `batch_stats` must be mutable.
  """

  num_classes: int = 6
  width: int = 64
  depths: Sequence[int] = (3, 4, 6, 3)
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, images: Float[Array, 'b h w c'], train: bool = False
  ) -> Float[Array, 'b {self.num_classes}']:
    x = images.astype(self.dtype)
    x = nn.Conv(
      self.width, (7, 7), 2, padding=3, use_bias=False, kernel_init=he_fan_out, dtype=self.dtype, name='stem'
    )(x)
    x = nn.relu(BatchNorm(dtype=self.dtype, name='stem_bn')(x, train=train))
    x = nn.max_pool(x, (3, 3), (2, 2), padding=((1, 1), (1, 1)))

    for stage, depth in enumerate(self.depths):
      for i in range(depth):
        stride = 2 if stage > 0 and i == 0 else 1
        block = Bottleneck(self.width * 2**stage, stride, self.dtype, name=f'layer{stage + 1}_{i}')
        x = block(x, train=train)

    x = x.astype(jnp.float32).mean((1, 2))
    return nn.Dense(
      self.num_classes, kernel_init=torch_kernel, bias_init=torch_bias(x.shape[-1]), name='head'
    )(x)


def resnet50(
  num_classes: int = 6, width: int = 64, depths: Sequence[int] = (3, 4, 6, 3), dtype: Any = jnp.float32
) -> ResNet:
  """Builds ResNet-50 (He et al., 2016); `width` and `depths` make smaller ones."""
  return ResNet(num_classes, width, tuple(depths), dtype)
