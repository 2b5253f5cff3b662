"""Random keys of the stages, all from the one seed of a run."""

import jax

# The numbers that are folded into the key of the run: no stage draws what another one draws.
STAGE_KEYS = {'diffusion': 1, 'sample': 2, 'classify': 3}


def stage_key(seed: int, stage: str) -> jax.Array:
  """Returns the key of a stage (a name in `STAGE_KEYS`) in the run of this seed."""
  return jax.random.fold_in(jax.random.key(seed), STAGE_KEYS[stage])
