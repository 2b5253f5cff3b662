"""Augmentation of real training images, on the device inside jit: rotation and both flips (paper, section 3.2)."""

import jax
import jax.numpy as jnp
from jax.scipy import ndimage
from jaxtyping import Array, Bool, Float, Key


def rotate(image: Float[Array, 'h w c'], radians: Float[Array, '']) -> Float[Array, 'h w c']:
  """Rotates counter-clockwise about the centre, bilinear, with 0 outside of the image."""
  h, w, _ = image.shape
  centre_y, centre_x = (h - 1) / 2, (w - 1) / 2
  y, x = jnp.meshgrid(jnp.arange(h) - centre_y, jnp.arange(w) - centre_x, indexing='ij')
  cos, sin = jnp.cos(radians), jnp.sin(radians)
  # Each output pixel looks up where it came from: the inverse rotation, y pointing down.
  coordinates = [cos * y + sin * x + centre_y, -sin * y + cos * x + centre_x]

  def turn(plane: Float[Array, 'h w']) -> Float[Array, 'h w']:
    return ndimage.map_coordinates(plane, coordinates, order=1, mode='constant', cval=0.0)

  return jax.vmap(turn, in_axes=-1, out_axes=-1)(image)


def augment(
  key: Key[Array, ''],
  images: Float[Array, 'b h w c'],
  real: Bool[Array, 'b'],
  *,
  rotation_degrees: float,
  flips: bool,
) -> Float[Array, 'b h w c']:
  """Rotates each real image by a uniform angle in ±`rotation_degrees` and flips it along each axis, p = 0.5.

  Synthetic images (`real` false) pass unchanged, as in the paper.
  """
  key_angle, key_flip = jax.random.split(key)
  changed = images
  if rotation_degrees:
    limit = jnp.deg2rad(rotation_degrees)
    angles = jax.random.uniform(key_angle, images.shape[:1], minval=-limit, maxval=limit)
    changed = jax.vmap(rotate)(changed, angles)
  if flips:
    flip = jax.random.bernoulli(key_flip, 0.5, (2, images.shape[0]))[:, :, None, None, None]
    changed = jnp.where(flip[0], changed[:, :, ::-1], changed)
    changed = jnp.where(flip[1], changed[:, ::-1], changed)
  return jnp.where(real[:, None, None, None], changed, images)
