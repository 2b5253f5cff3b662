"""The overview of a run before its first step."""

import types

import jax.numpy as jnp

from fetal_jax.train import overview

PARAMS = {'a': {'kernel': jnp.zeros((3, 4)), 'bias': jnp.zeros(4)}, 'scale': jnp.zeros(())}


def test_scalars_are_counted():
  assert overview.count_parameters(PARAMS) == 3 * 4 + 4 + 1


def test_the_table_names_every_array(caplog):
  with caplog.at_level('INFO', 'absl'):
    overview.log_parameters({'unet': PARAMS})
  assert 'unet: 17 parameters' in caplog.text
  assert 'a/kernel' in caplog.text


def test_the_cost_is_of_a_whole_step(caplog):
  """XLA counts one of the parts that are accumulated."""
  lowered = types.SimpleNamespace(cost_analysis=lambda: {'flops': 5e11})
  memory = types.SimpleNamespace(argument_size_in_bytes=2**30, temp_size_in_bytes=2**31)
  compiled = types.SimpleNamespace(memory_analysis=lambda: memory)
  with caplog.at_level('INFO', 'absl'):
    overview.log_cost('diffusion', lowered, compiled, steps=2, microbatches=4)
  assert 'diffusion: 2 TFLOP a step, 2 steps a dispatch' in caplog.text
  assert '1.00 GiB state and batch, 2.00 GiB while computing' in caplog.text
