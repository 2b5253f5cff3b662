"""Inception v3 of the Fréchet inception distance: the network of pt_inception-2015-12-05, up to its pool.

Modules are named as in torchvision, so that weights carry over by name.
"""

import functools
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from fetal_jax.models.layers import BatchNorm

FEATURES = 2048
# What the TensorFlow original does where torchvision averages over padded zeros too; and its last block takes
# the maximum instead, which the published weights were made with.
mean_pool = functools.partial(
  nn.avg_pool, window_shape=(3, 3), strides=(1, 1), padding='SAME', count_include_pad=False
)
max_pool = functools.partial(nn.max_pool, window_shape=(3, 3), strides=(1, 1), padding='SAME')
halve = functools.partial(nn.max_pool, window_shape=(3, 3), strides=(2, 2), padding='VALID')


class Conv(nn.Module):
  """Convolution, BatchNorm and ReLU; keeps the size of the map unless `padding` is 'VALID'."""

  features: int
  size: tuple[int, int] = (1, 1)
  stride: int = 1
  padding: str = 'SAME'

  @nn.compact
  def __call__(self, x: Float[Array, 'b h w c']) -> Float[Array, 'b h2 w2 c2']:
    x = nn.Conv(self.features, self.size, self.stride, self.padding, use_bias=False, name='conv')(x)
    return nn.relu(BatchNorm(epsilon=1e-3, name='bn')(x, train=False))


class Branches(nn.Module):
  """Several chains of convolutions over one map, side by side (Szegedy et al., 2016, figures 5, 6, 7 and 10).

  Attributes:
    chains: for each chain its convolutions in order: the name, and the arguments of `Conv`. A chain's last step
      may be a tuple of convolutions that all read the one before.
    pool: of the last chain, which starts with it.
  """

  chains: tuple[tuple[Any, ...], ...]
  pool: Any

  @nn.compact
  def __call__(self, x: Float[Array, 'b h w c']) -> Float[Array, 'b h2 w2 c2']:
    def run(y: Array, step: tuple[Any, ...]) -> Array:
      if isinstance(step[0], str):
        name, *args = step
        return Conv(*args, name=name)(y)
      return jnp.concatenate([run(y, part) for part in step], axis=-1)

    outputs = []
    for i, chain in enumerate(self.chains):
      start = self.pool(x) if i == len(self.chains) - 1 else x
      outputs.append(functools.reduce(run, chain, start))
    return jnp.concatenate(outputs, axis=-1)


def block_a(pool_features: int, name: str) -> Branches:
  """The block of figure 5, with one 5x5 convolution instead of two 3x3."""
  return Branches(
    (
      (('branch1x1', 64),),
      (('branch5x5_1', 48), ('branch5x5_2', 64, (5, 5))),
      (('branch3x3dbl_1', 64), ('branch3x3dbl_2', 96, (3, 3)), ('branch3x3dbl_3', 96, (3, 3))),
      (('branch_pool', pool_features),),
    ),
    mean_pool,
    name=name,
  )


def block_b(name: str) -> Branches:
  """The block of figure 10: 35x35 to 17x17."""
  return Branches(
    (
      (('branch3x3', 384, (3, 3), 2, 'VALID'),),
      (
        ('branch3x3dbl_1', 64),
        ('branch3x3dbl_2', 96, (3, 3)),
        ('branch3x3dbl_3', 96, (3, 3), 2, 'VALID'),
      ),
      (),
    ),
    halve,
    name=name,
  )


def block_c(width: int, name: str) -> Branches:
  """The block of figure 6: 7x7 convolutions as 1x7 and 7x1."""
  row, column = (1, 7), (7, 1)
  return Branches(
    (
      (('branch1x1', 192),),
      (('branch7x7_1', width), ('branch7x7_2', width, row), ('branch7x7_3', 192, column)),
      (
        ('branch7x7dbl_1', width),
        ('branch7x7dbl_2', width, column),
        ('branch7x7dbl_3', width, row),
        ('branch7x7dbl_4', width, column),
        ('branch7x7dbl_5', 192, row),
      ),
      (('branch_pool', 192),),
    ),
    mean_pool,
    name=name,
  )


def block_d(name: str) -> Branches:
  """The block that takes 17x17 to 8x8."""
  return Branches(
    (
      (('branch3x3_1', 192), ('branch3x3_2', 320, (3, 3), 2, 'VALID')),
      (
        ('branch7x7x3_1', 192),
        ('branch7x7x3_2', 192, (1, 7)),
        ('branch7x7x3_3', 192, (7, 1)),
        ('branch7x7x3_4', 192, (3, 3), 2, 'VALID'),
      ),
      (),
    ),
    halve,
    name=name,
  )


def block_e(pool: Any, name: str) -> Branches:
  """The block of figure 7: 3x3 convolutions as 1x3 beside 3x1."""

  def fork(branch: str) -> tuple[Any, ...]:
    return (f'{branch}a', 384, (1, 3)), (f'{branch}b', 384, (3, 1))

  return Branches(
    (
      (('branch1x1', 320),),
      (('branch3x3_1', 384), fork('branch3x3_2')),
      (('branch3x3dbl_1', 448), ('branch3x3dbl_2', 384, (3, 3)), fork('branch3x3dbl_3')),
      (('branch_pool', 192),),
    ),
    pool,
    name=name,
  )


class InceptionV3(nn.Module):
  """Inception v3 for inference (Szegedy et al., 2016, arXiv:1512.00567), without its classifier.

  `apply(variables, images)` takes float32 images `[b, h, w, 3]` in [-1, 1], made for 299 x 299, at least
  75 x 75, and returns the float32 means of the last maps `[b, 2048]`.
  """

  @nn.compact
  def __call__(self, images: Float[Array, 'b h w 3']) -> Float[Array, 'b 2048']:
    x = Conv(32, (3, 3), 2, 'VALID', name='Conv2d_1a_3x3')(images)
    x = Conv(32, (3, 3), padding='VALID', name='Conv2d_2a_3x3')(x)
    x = Conv(64, (3, 3), name='Conv2d_2b_3x3')(x)
    x = halve(x)
    x = Conv(80, name='Conv2d_3b_1x1')(x)
    x = Conv(192, (3, 3), padding='VALID', name='Conv2d_4a_3x3')(x)
    x = halve(x)
    for letter, pool_features in zip('bcd', (32, 64, 64), strict=True):
      x = block_a(pool_features, f'Mixed_5{letter}')(x)
    x = block_b('Mixed_6a')(x)
    for letter, width in zip('bcde', (128, 160, 160, 192), strict=True):
      x = block_c(width, f'Mixed_6{letter}')(x)
    x = block_d('Mixed_7a')(x)
    x = block_e(mean_pool, 'Mixed_7b')(x)
    x = block_e(max_pool, 'Mixed_7c')(x)
    return x.mean((1, 2))
