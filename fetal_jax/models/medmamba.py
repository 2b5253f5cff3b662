"""MedMamba (Yue and Li, 2024): half the channels are convolved, half go through a scan in four directions."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from fetal_jax.models.layers import (
  BatchNorm,
  LayerNorm,
  drop_path,
  he_fan_out,
  linear_rates,
  normal_02,
  torch_bias,
)
from fetal_jax.models.selective_scan import selective_scan

DIRECTIONS = 4


def log_rates(key: Any, shape: tuple[int, ...]) -> Array:
  """Returns log(1), ..., log(n) for every channel: the initial decay rates of S4D-Real."""
  return jnp.broadcast_to(jnp.log(jnp.arange(1.0, shape[-1] + 1)), shape)


def step_bias(key: Any, shape: tuple[int, ...]) -> Array:
  """Draws biases whose softplus, the initial step size, is log-uniform between 0.001 and 0.1."""
  step = jnp.exp(jax.random.uniform(key, shape, minval=math.log(0.001), maxval=math.log(0.1)))
  return step + jnp.log(-jnp.expm1(-step))


def uniform(bound: float) -> nn.initializers.Initializer:
  return lambda key, shape: jax.random.uniform(key, shape, minval=-bound, maxval=bound)


class SS2D(nn.Module):
  """A gated selective scan of the map in four orders: by rows, by columns, and both backwards."""

  d_state: int
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, 'b h w c']) -> Float[Array, 'b h w c']:
    channels = x.shape[-1]
    inner = 2 * channels
    xz = nn.Dense(2 * inner, use_bias=False, kernel_init=normal_02, dtype=self.dtype, name='in_proj')(x)
    x, z = jnp.split(xz, 2, axis=-1)
    x = nn.Conv(
      inner,
      (3, 3),
      padding=1,
      feature_group_count=inner,
      kernel_init=he_fan_out,
      bias_init=torch_bias(9),
      dtype=self.dtype,
      name='conv2d',
    )(x)
    y = self.scan(nn.silu(x).astype(jnp.float32), dt_rank=math.ceil(channels / 16))
    y = LayerNorm(dtype=self.dtype, name='out_norm')(y) * nn.silu(z)
    return nn.Dense(channels, use_bias=False, kernel_init=normal_02, dtype=self.dtype, name='out_proj')(y)

  def scan(self, x: Float[Array, 'b h w d'], dt_rank: int) -> Float[Array, 'b h w d']:
    """Returns the sum of the four scans, in float32."""
    b, h, w, d = x.shape
    n = self.d_state
    x_proj = self.param('x_proj_weight', uniform(d**-0.5), (DIRECTIONS, dt_rank + 2 * n, d))
    dt_weight = self.param('dt_projs_weight', uniform(dt_rank**-0.5), (DIRECTIONS, d, dt_rank))
    dt_bias = self.param('dt_projs_bias', step_bias, (DIRECTIONS, d))
    A = -jnp.exp(self.param('A_logs', log_rates, (DIRECTIONS * d, n))).reshape(DIRECTIONS, d, n)
    D = self.param('Ds', nn.initializers.ones, (DIRECTIONS * d,)).reshape(DIRECTIONS, d)

    rows, columns = x.reshape(b, h * w, d), x.swapaxes(1, 2).reshape(b, h * w, d)
    u = jnp.stack([rows, columns, rows[:, ::-1], columns[:, ::-1]])
    projected = jnp.einsum('kbld,kcd->kblc', u, x_proj)
    delta, B, C = jnp.split(projected, [dt_rank, dt_rank + n], axis=-1)
    delta = nn.softplus(jnp.einsum('kblr,kdr->kbld', delta, dt_weight) + dt_bias[:, None, None])
    y = jax.vmap(selective_scan)(u, delta, A, B, C, D)

    rows, columns = y[0] + y[2, :, ::-1], y[1] + y[3, :, ::-1]
    return rows.reshape(b, h, w, d) + columns.reshape(b, w, h, d).swapaxes(1, 2)


class SSConvSSM(nn.Module):
  """One half of the channels convolved, the other scanned; then shuffled together and added to the input."""

  d_state: int
  drop_path: float
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, 'b h w c'], *, train: bool) -> Float[Array, 'b h w c']:
    left, right = jnp.split(x, 2, axis=-1)
    half = left.shape[-1]

    right = LayerNorm(dtype=self.dtype, name='ln_1')(right)
    right = SS2D(self.d_state, self.dtype, name='self_attention')(right)
    right = drop_path(self.drop_path, train)(right)

    def conv(x: Array, size: int, name: str) -> Array:
      return nn.Conv(
        half,
        (size, size),
        padding=size // 2,
        kernel_init=he_fan_out,
        bias_init=torch_bias(size**2 * half),
        dtype=self.dtype,
        name=name,
      )(x)

    left = BatchNorm(dtype=self.dtype, name='bn1')(left, train=train)
    left = BatchNorm(dtype=self.dtype, name='bn2')(conv(left, 3, 'conv1'), train=train)
    left = BatchNorm(dtype=self.dtype, name='bn3')(conv(nn.relu(left), 3, 'conv2'), train=train)
    left = nn.relu(conv(nn.relu(left), 1, 'conv3'))

    # Channel shuffle with two groups: left and right alternate.
    return jnp.stack([left, right], axis=-1).reshape(x.shape) + x


class PatchMerging(nn.Module):
  """Halves the map and doubles the channels; an odd last row or column is left out."""

  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, 'b h w c']) -> Float[Array, 'b h2 w2 c2']:
    _, h, w, channels = x.shape
    x = x[:, : h // 2 * 2, : w // 2 * 2]
    x = jnp.concatenate([x[:, i::2, j::2] for j in (0, 1) for i in (0, 1)], axis=-1)
    x = LayerNorm(dtype=self.dtype, name='norm')(x)
    return nn.Dense(2 * channels, use_bias=False, kernel_init=normal_02, dtype=self.dtype, name='reduction')(
      x
    )


class MedMamba(nn.Module):
  """MedMamba for images of any channel count and of at least 8 x `patch_size` pixels (with four stages).

  `apply(variables, images, train=False)` takes float32 images `[b, h, w, c]` and returns float32 logits
  `[b, num_classes]`. With `train=True`, `batch_stats` must be mutable; it draws from the `dropout` stream.
  """

  num_classes: int = 6
  dims: Sequence[int] = (96, 192, 384, 768)
  depths: Sequence[int] = (2, 2, 4, 2)
  d_state: int = 16
  patch_size: int = 4
  drop_path: float = 0.1
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, images: Float[Array, 'b h w c'], train: bool = False
  ) -> Float[Array, 'b {self.num_classes}']:
    smallest = self.patch_size * 2 ** (len(self.depths) - 1)
    if min(images.shape[1:3]) < smallest:
      raise ValueError(
        f'images of {images.shape[1]}x{images.shape[2]} vanish in MedMamba: it needs {smallest}x{smallest}'
      )
    patch = (self.patch_size, self.patch_size)
    x = nn.Conv(
      self.dims[0],
      patch,
      patch,
      padding=0,
      kernel_init=he_fan_out,
      bias_init=torch_bias(self.patch_size**2 * images.shape[-1]),
      dtype=self.dtype,
      name='stem',
    )(images.astype(self.dtype))
    x = LayerNorm(dtype=self.dtype, name='stem_norm')(x)

    rates = iter(linear_rates(self.drop_path, sum(self.depths)))
    for stage, depth in enumerate(self.depths):
      if stage > 0:
        x = PatchMerging(self.dtype, name=f'merge{stage}')(x)
      for i in range(depth):
        x = SSConvSSM(self.d_state, next(rates), self.dtype, name=f'stage{stage}_{i}')(x, train=train)

    x = x.astype(jnp.float32).mean((1, 2))
    return nn.Dense(self.num_classes, kernel_init=normal_02, name='head')(x)


def medmamba_t(
  num_classes: int = 6,
  dims: Sequence[int] = (96, 192, 384, 768),
  depths: Sequence[int] = (2, 2, 4, 2),
  d_state: int = 16,
  patch_size: int = 4,
  drop_path: float = 0.1,
  dtype: Any = jnp.float32,
) -> MedMamba:
  """Builds MedMamba-T; the other keywords make smaller ones. `dims` doubles from stage to stage."""
  return MedMamba(num_classes, tuple(dims), tuple(depths), d_state, patch_size, drop_path, dtype)


def medmamba_s(depths: Sequence[int] = (2, 2, 8, 2), **kwargs: Any) -> MedMamba:
  """Builds MedMamba-S: T with a deeper third stage."""
  return medmamba_t(depths=depths, **kwargs)


def medmamba_b(
  dims: Sequence[int] = (128, 256, 512, 1024), depths: Sequence[int] = (2, 2, 12, 2), **kwargs: Any
) -> MedMamba:
  """Builds MedMamba-B: wider, and deeper in the third stage."""
  return medmamba_t(dims=dims, depths=depths, **kwargs)
