"""Random keys of the stages, all from the one seed of a run."""

import operator

import jax
import jax.numpy as jnp

from fetal_jax.runtime.errors import UserError

# The numbers that are folded into the key of the run: no stage draws what another one draws.
STAGE_KEYS = {'diffusion': 1, 'sample': 2, 'classify': 3}


def run_key(seed: int) -> jax.Array:
  """Returns the key of a run: that of `jax.random.key(seed)`, which without 64-bit mode drops a seed's upper 32 bits.

  Raises:
    UserError: the seed is no whole number from 0 to 2^63 - 1.
  """
  try:
    number = operator.index(seed)
  except TypeError:
    number = -1
  if not 0 <= number < 2**63:
    raise UserError(f'seed={seed!r}: must be a whole number from 0 to 2^63 - 1')
  return jax.random.wrap_key_data(
    jnp.array([number >> 32, number & 0xFFFFFFFF], jnp.uint32), impl='threefry2x32'
  )


def stage_key(seed: int, stage: str) -> jax.Array:
  """Returns the key of a stage (a name in `STAGE_KEYS`) in the run of this seed."""
  return jax.random.fold_in(run_key(seed), STAGE_KEYS[stage])
