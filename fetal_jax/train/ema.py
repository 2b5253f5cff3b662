"""Exponential moving averages of parameters."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def decay(step: Int[Array, ''], rate: float, *, warmup: bool) -> Float[Array, '']:
  """Returns the decay at optimiser step `step`, counted from 0.

  With `warmup` it is min(rate, (1 + step) / (10 + step)). Without, the initial weights still have the share rate^N
  after N steps: 37 % after 10,000 steps at 0.9999 (guided-diffusion has no warm-up).
  """
  if not warmup:
    return jnp.asarray(rate, jnp.float32)
  return jnp.minimum(rate, (1.0 + step) / (10.0 + step)).astype(jnp.float32)


def update(average: Any, params: Any, decay: Float[Array, '']) -> Any:
  """Returns decay * average + (1 - decay) * params, leaf by leaf."""
  return jax.tree.map(lambda a, p: a * decay + p * (1.0 - decay), average, params)
