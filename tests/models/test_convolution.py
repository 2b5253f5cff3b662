"""Convolutions in other forms are the same convolutions, with the same gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from fetal_jax.models import convolution
from fetal_jax.models.adm import upsample

LAYOUT = ('NHWC', 'HWIO', 'NHWC')


def plain(x, kernel):
  return lax.conv_general_dilated(x, kernel, (1, 1), 'SAME', dimension_numbers=LAYOUT)


def random(*shape, seed=0):
  return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


@pytest.mark.parametrize('side', [1, 3])
def test_gradients_are_those_of_the_plain_convolution(side):
  x, kernel, g = random(2, 6, 8, 3), random(side, side, 3, 5, seed=1), random(2, 6, 8, 5, seed=2)
  pads = [(side // 2, side // 2)] * 2

  def ours(x, kernel):
    return convolution.conv_general_dilated(x, kernel, (1, 1), pads, dimension_numbers=LAYOUT)

  expected, expected_vjp = jax.vjp(plain, x, kernel)
  found, found_vjp = jax.vjp(ours, x, kernel)
  np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
  for a, b in zip(found_vjp(g), expected_vjp(g), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('shape', [(2, 4, 4, 3), (1, 1, 1, 2), (1, 3, 5, 2)])
def test_convolving_a_doubled_image_without_making_it(shape):
  x, kernel = random(*shape), random(3, 3, shape[-1], 4, seed=1)
  found = convolution.upsampled_conv_general_dilated(x, kernel, (1, 1), [(1, 1), (1, 1)])
  np.testing.assert_allclose(found, plain(upsample(x), kernel), rtol=1e-5, atol=1e-5)


def test_it_does_less_than_half_of_the_work():
  def flops(function):
    lowered = jax.jit(function).lower(random(1, 16, 16, 8), random(3, 3, 8, 8))
    return lowered.cost_analysis()['flops']

  doubled = flops(lambda x, kernel: plain(upsample(x), kernel))
  assert flops(lambda x, k: convolution.upsampled_conv_general_dilated(x, k, None, None)) < 0.5 * doubled
