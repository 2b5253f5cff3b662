"""Sampling as a pure function: parameters, keys and labels in, uint8 images out."""

import math
import numbers
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, UInt8

from fetal_jax.diffusion.guidance import classifier_guidance
from fetal_jax.diffusion.samplers import SAMPLERS, Reverse, refuse_unused
from fetal_jax.diffusion.schedule import Process
from fetal_jax.runtime.errors import UserError

# The draw of x_T; loop indices of the process are below it.
_INITIAL = 2**31 - 1


def image_keys(key: Key[Array, ''], indices: Int[Array, 'b']) -> Key[Array, 'b']:
  """Folds one key an image from its index: image k is the same in any batch, on any number of devices."""
  return jax.vmap(lambda index: jax.random.fold_in(key, index))(indices)


def make_sample(
  unet: Any,
  guide: Any,
  process: Process,
  *,
  image_shape: tuple[int, int, int],
  method: str = 'ancestral',
  guidance_scale: float = 0.0,
  guidance_interval: tuple[int, int] | None = None,
  guidance_at: str = 'x_t',
  eta: float = 0.0,
  clip: str | None = 'static',
) -> Callable[[dict[str, Any], Key[Array, 'b'], Int[Array, 'b']], UInt8[Array, 'b h w c']]:
  """Builds `sample(params, keys, labels) -> images`, a pure function for `jit`, `vmap` or sharding.

  The whole reverse process is one `lax.scan`; x_t stays float32, the networks compute in their own dtype.

  Args:
    unet: the denoiser, a linen module.
    guide: the classifier on noisy images, a linen module; may be None where `guidance_scale` is 0.
    process: the respaced process.
    image_shape: (H, W, C).
    method: a key of `SAMPLERS`.
    guidance_scale: factor of the guide's gradient; at 0 the guide is not computed.
    guidance_interval: (low, high), original timesteps in which the guide acts; None = all.
    guidance_at: 'x_t' as guided-diffusion does, or 'mean'.
    eta: stochasticity of DDIM.
    clip: 'static', 'dynamic' or None.

  Returns:
    A function of {'unet': params, 'guide': params}, keys [B] (`image_keys`) and int32 labels [B].

  Raises:
    UserError: see `check_settings`; or there is no guide for this `guidance_scale`.
  """
  check_settings(
    method=method,
    guidance_scale=guidance_scale,
    interval=guidance_interval,
    guidance_at=guidance_at,
    eta=eta,
    clip=clip,
  )
  if guidance_scale and guide is None:
    raise UserError(f'guidance_scale={guidance_scale}: there is no guide; give one, or guidance_scale=0')

  def sample(
    params: dict[str, Any], keys: Key[Array, 'b'], labels: Int[Array, 'b']
  ) -> UInt8[Array, 'b h w c']:
    params = cast_blocks(params, unet.dtype)

    def noise(index: Int[Array, '']) -> Float[Array, 'b h w c']:
      return jax.vmap(lambda key: jax.random.normal(jax.random.fold_in(key, index), image_shape))(keys)

    def model(x: Float[Array, 'b h w c'], t: Int[Array, 'b']) -> Float[Array, 'b h w out']:
      return unet.apply({'params': params['unet']}, x, t, labels if unet.num_classes else None)

    guidance = None
    if guidance_scale:
      guidance = classifier_guidance(lambda x, t: guide.apply({'params': params['guide']}, x, t), labels)
    reverse = Reverse(
      process,
      model,
      noise,
      guidance=guidance,
      guidance_scale=guidance_scale,
      interval=guidance_interval,
      guidance_at=guidance_at,
      eta=eta,
      clip=clip,
    )
    x_0 = SAMPLERS[method](reverse, noise(jnp.asarray(_INITIAL)))
    return to_uint8(x_0)

  return sample


def check_settings(
  *, method: str, guidance_scale: float, interval: Any, guidance_at: str, eta: float, clip: str | None
) -> None:
  """Refuses what no sampler, or not this one, can do; the settings are those of `make_sample`.

  Raises:
    UserError: names the setting, its value, and what it may be.
  """
  if method not in SAMPLERS:
    raise UserError(f'method={method!r}: must be one of {", ".join(SAMPLERS)}')
  for name, value in (('guidance_scale', guidance_scale), ('eta', eta)):
    if not isinstance(value, numbers.Real) or not 0 <= value < math.inf:
      raise UserError(f'{name}={value!r}: must be a number from 0 on')
  if guidance_at not in ('x_t', 'mean'):
    raise UserError(f'guidance_at={guidance_at!r}: must be x_t or mean')
  if clip not in ('static', 'dynamic', None):
    raise UserError(f'clip={clip!r}: must be static, dynamic or None')
  if interval is not None and not _is_interval(interval):
    raise UserError(f'interval={interval!r}: must be (low, high) timesteps, or None for all')
  refuse_unused(method, eta=eta, guidance_at=guidance_at)


def _is_interval(value: Any) -> bool:
  try:
    low, high = value
    return 0 <= low <= high
  except (TypeError, ValueError):
    return False


def cast_blocks(params: dict[str, Any], dtype: Any) -> dict[str, Any]:
  """Casts the 3x3 convolutions of the blocks, 95 % of the weights, once instead of once a step inside the scan.

  Embeddings, norms and the output heads compute in float32 and keep float32 weights.
  """

  def cast(path: tuple[Any, ...], leaf: jax.Array) -> jax.Array:
    in_block = len(path) > 3  # network / block / convolution / kernel; a head lacks the block
    return leaf.astype(dtype) if in_block and leaf.ndim == 4 else leaf

  return jax.tree_util.tree_map_with_path(cast, params)


def to_uint8(x: Float[Array, '*shape']) -> UInt8[Array, '*shape']:
  """Converts [-1, 1] to grey levels, truncating as guided-diffusion does."""
  return jnp.clip((x + 1.0) * 127.5, 0, 255).astype(jnp.uint8)


def to_float(images: UInt8[Array, '*shape']) -> Float[Array, '*shape']:
  """Converts grey levels to [-1, 1] (guided-diffusion's `/ 127.5 - 1`)."""
  return images.astype(jnp.float32) / 127.5 - 1.0
