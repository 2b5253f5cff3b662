"""Random numbers whose programs compile in a moment: good enough for the mean and the deviation of initial weights."""

import math

import jax
import jax.numpy as jnp
from jax.extend.random import define_prng_impl


def _mix(x: jax.Array) -> jax.Array:
  """MurmurHash3's finaliser: every bit of the input moves every bit of the output."""
  x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
  x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
  return x ^ (x >> 16)


def _counted(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
  return _mix(key[0] + _mix(jnp.arange(math.prod(shape), dtype=jnp.uint32)).reshape(shape))


def _bits(key: jax.Array, bit_width: int, shape: tuple[int, ...]) -> jax.Array:
  assert bit_width == 32
  return _counted(key, shape)


COUNTING = define_prng_impl(
  key_shape=(1,),
  seed=lambda seed: _mix(seed.astype(jnp.uint32)).reshape(1),
  split=lambda key, shape: _counted(key, (*shape, 1)),
  random_bits=_bits,
  fold_in=lambda key, data: _mix(key + _mix(data.astype(jnp.uint32) + jnp.uint32(1))),
  name='counting',
)
