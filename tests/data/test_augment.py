"""Rotation and flips against known answers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fetal_jax.data.augment import augment, rotate


def test_a_quarter_turn_is_numpys():
  image = jax.random.uniform(jax.random.key(0), (9, 9, 2))
  np.testing.assert_allclose(rotate(image, jnp.asarray(jnp.pi / 2)), np.rot90(image), atol=1e-5)


def test_a_small_turn_moves_a_point_where_geometry_says():
  image = jnp.zeros((65, 65, 1)).at[32, 57].set(1.0)  # 25 px right of the centre
  y, x, _ = np.unravel_index(np.argmax(rotate(image, jnp.deg2rad(30.0))), image.shape)
  assert abs(x - (32 + 25 * np.cos(np.pi / 6))) < 1
  assert abs(y - (32 - 25 * np.sin(np.pi / 6))) < 1  # counter-clockwise: upwards


def test_corners_that_come_from_outside_are_black():
  turned = rotate(jnp.ones((32, 32, 1)), jnp.deg2rad(30.0))
  assert turned[0, 0, 0] == 0
  assert turned[16, 16, 0] == pytest.approx(1)


def test_synthetic_images_pass_unchanged():
  images = jax.random.uniform(jax.random.key(0), (64, 8, 8, 1))
  real = jnp.arange(64) < 32
  changed = augment(jax.random.key(1), images, real, rotation_degrees=30.0, flips=True)
  np.testing.assert_array_equal(changed[32:], images[32:])
  assert (changed[:32] != images[:32]).any(axis=(1, 2, 3)).all()


def test_flips_come_in_all_four_combinations():
  images = jnp.broadcast_to(jnp.arange(4.0).reshape(1, 2, 2, 1), (400, 2, 2, 1))
  flipped = augment(jax.random.key(0), images, jnp.ones(400, bool), rotation_degrees=0.0, flips=True)
  corners, counts = np.unique(np.asarray(flipped)[:, 0, 0, 0], return_counts=True)
  np.testing.assert_array_equal(corners, [0, 1, 2, 3])
  assert counts.min() > 60  # 100 expected, 4.6 standard deviations


def test_angles_stay_within_the_limit():
  image = jnp.zeros((1, 65, 65, 1)).at[0, 32, 57].set(1.0)
  turned = augment(
    jax.random.key(2), jnp.repeat(image, 200, 0), jnp.ones(200, bool), rotation_degrees=30.0, flips=False
  )
  y, x, _ = np.unravel_index(np.asarray(turned).reshape(200, -1).argmax(1), (65, 65, 1))
  angles = np.rad2deg(np.arctan2(32 - y, x - 32))
  assert np.abs(angles).max() < 32
  assert angles.min() < -25
  assert angles.max() > 25
