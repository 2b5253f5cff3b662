"""Swin Transformer T, as in torchvision: windows that do not fit the map are padded, and not masked."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, Int

from fetal_jax.models.layers import (
  LayerNorm,
  drop_path,
  gelu,
  linear_rates,
  normal_02,
  torch_bias,
  torch_kernel,
)


def relative_positions(window: int) -> Int[np.ndarray, 'n n']:
  """Returns the row of the bias table for every pair of the n = window² tokens of a window, in row-major order."""
  y, x = np.divmod(np.arange(window**2), window)
  dy = y[:, None] - y[None, :] + window - 1
  dx = x[:, None] - x[None, :] + window - 1
  return dy * (2 * window - 1) + dx


def to_windows(x: Any, window: int) -> Any:
  """Reshapes an array (of NumPy or JAX) `[b, h, w, ...]` to `[b, windows, window², ...]`, both in row-major order."""
  b, h, w, *rest = x.shape
  x = x.reshape(b, h // window, window, w // window, window, *rest).swapaxes(2, 3)
  return x.reshape(b, (h // window) * (w // window), window**2, *rest)


def from_windows(x: Array, window: int, height: int, width: int) -> Array:
  """Undoes `to_windows`."""
  b, _, _, *rest = x.shape
  x = x.reshape(b, height // window, width // window, window, window, *rest).swapaxes(2, 3)
  return x.reshape(b, height, width, *rest)


def shift_mask(height: int, width: int, window: int, shift: tuple[int, int]) -> Float[np.ndarray, 'w n n']:
  """Returns 0 between tokens that were neighbours before the cyclic shift, -100 between those it joined."""

  def regions(size: int, s: int) -> np.ndarray:
    i = np.arange(size)
    return (i >= size - window).astype(int) + (i >= size - s) if s else np.zeros(size, int)

  labels = 3 * regions(height, shift[0])[:, None] + regions(width, shift[1])[None, :]
  labels = to_windows(labels[None], window)[0]
  return np.where(labels[:, :, None] == labels[:, None, :], 0.0, -100.0).astype(np.float32)


class WindowAttention(nn.Module):
  """Self-attention within (shifted) windows, with relative position bias (Liu et al., 2021, section 3.2)."""

  heads: int
  window: int
  shifted: bool
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, 'b h w c']) -> Float[Array, 'b h w c']:
    _, h, w, channels = x.shape
    x = jnp.pad(x, ((0, 0), (0, -h % self.window), (0, -w % self.window), (0, 0)))
    _, height, width, _ = x.shape
    # A single window has nothing to shift into.
    down, across = (self.window // 2 if self.shifted and self.window < n else 0 for n in (height, width))
    x = jnp.roll(x, (-down, -across), axis=(1, 2))

    x = to_windows(x, self.window)
    qkv = nn.Dense(3 * channels, kernel_init=normal_02, dtype=self.dtype, name='qkv')(x)
    q, k, v = jnp.moveaxis(qkv.reshape(*x.shape[:3], 3, self.heads, -1), 3, 0)
    logits = jnp.einsum('bwqhc,bwkhc->bwhqk', q * q.shape[-1] ** -0.5, k).astype(jnp.float32)
    table = self.param('relative_position_bias_table', normal_02, ((2 * self.window - 1) ** 2, self.heads))
    logits = logits + jnp.moveaxis(table[relative_positions(self.window)], 2, 0)
    if down or across:
      logits = logits + shift_mask(height, width, self.window, (down, across))[:, None]
    x = jnp.einsum('bwhqk,bwkhc->bwqhc', jax.nn.softmax(logits).astype(self.dtype), v).reshape(x.shape)
    x = nn.Dense(channels, kernel_init=normal_02, dtype=self.dtype, name='proj')(x)

    x = jnp.roll(from_windows(x, self.window, height, width), (down, across), axis=(1, 2))
    return x[:, :h, :w]


class SwinBlock(nn.Module):
  """Window attention and an MLP, pre-norm, with stochastic depth on both branches."""

  heads: int
  window: int
  shifted: bool
  drop_path: float
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, 'b h w c'], *, train: bool) -> Float[Array, 'b h w c']:
    channels = x.shape[-1]
    h = LayerNorm(dtype=self.dtype, name='norm1')(x)
    h = WindowAttention(self.heads, self.window, self.shifted, self.dtype, name='attn')(h)
    x = x + drop_path(self.drop_path, train)(h)
    h = LayerNorm(dtype=self.dtype, name='norm2')(x)
    h = gelu(nn.Dense(4 * channels, kernel_init=normal_02, dtype=self.dtype, name='mlp_in')(h))
    h = nn.Dense(channels, kernel_init=normal_02, dtype=self.dtype, name='mlp_out')(h)
    return x + drop_path(self.drop_path, train)(h)


class PatchMerging(nn.Module):
  """Halves the map and doubles the channels; an odd edge is padded with zeros."""

  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, 'b h w c']) -> Float[Array, 'b h2 w2 c2']:
    _, h, w, channels = x.shape
    x = jnp.pad(x, ((0, 0), (0, h % 2), (0, w % 2), (0, 0)))
    x = jnp.concatenate([x[:, i::2, j::2] for j in (0, 1) for i in (0, 1)], axis=-1)
    x = LayerNorm(dtype=self.dtype, name='norm')(x)
    return nn.Dense(2 * channels, use_bias=False, kernel_init=normal_02, dtype=self.dtype, name='reduction')(
      x
    )


class SwinTransformer(nn.Module):
  """Swin Transformer for images of any size and channel count.

  `apply(variables, images, train=False)` takes float32 images `[b, h, w, c]` and returns float32 logits
  `[b, num_classes]`. With `train=True` it draws from the `dropout` stream.
  """

  num_classes: int = 6
  embed_dim: int = 96
  depths: Sequence[int] = (2, 2, 6, 2)
  heads: Sequence[int] = (3, 6, 12, 24)
  window: int = 7
  patch_size: int = 4
  drop_path: float = 0.2
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, images: Float[Array, 'b h w c'], train: bool = False
  ) -> Float[Array, 'b {self.num_classes}']:
    if min(images.shape[1:3]) < self.patch_size:
      raise ValueError(
        f'images of {images.shape[1]}x{images.shape[2]} are smaller than a patch of {self.patch_size}'
      )
    patch = (self.patch_size, self.patch_size)
    fan_in = self.patch_size**2 * images.shape[-1]
    x = nn.Conv(
      self.embed_dim,
      patch,
      patch,
      padding=0,
      kernel_init=torch_kernel,
      bias_init=torch_bias(fan_in),
      dtype=self.dtype,
      name='stem',
    )(images.astype(self.dtype))
    x = LayerNorm(dtype=self.dtype, name='stem_norm')(x)

    rates = iter(linear_rates(self.drop_path, sum(self.depths)))
    for stage, (depth, heads) in enumerate(zip(self.depths, self.heads, strict=True)):
      if stage > 0:
        x = PatchMerging(self.dtype, name=f'merge{stage}')(x)
      for i in range(depth):
        block = SwinBlock(heads, self.window, i % 2 == 1, next(rates), self.dtype, name=f'stage{stage}_{i}')
        x = block(x, train=train)

    x = LayerNorm(name='norm')(x).mean((1, 2))
    return nn.Dense(self.num_classes, kernel_init=normal_02, name='head')(x)


def swin_t(
  num_classes: int = 6,
  embed_dim: int = 96,
  depths: Sequence[int] = (2, 2, 6, 2),
  heads: Sequence[int] = (3, 6, 12, 24),
  window: int = 7,
  patch_size: int = 4,
  drop_path: float = 0.2,
  dtype: Any = jnp.float32,
) -> SwinTransformer:
  """Builds Swin-T (Liu et al., 2021); the other keywords make smaller ones."""
  return SwinTransformer(
    num_classes, embed_dim, tuple(depths), tuple(heads), window, patch_size, drop_path, dtype
  )
