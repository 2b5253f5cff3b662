"""Meshes and shardings on one device; tests/train/test_diffusion_step.py has them at work on eight."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fetal_jax import parallel
from fetal_jax.errors import UserError


def test_a_mesh_of_one():
  mesh = parallel.make_mesh()
  assert dict(mesh.shape) == {'data': 1, 'fsdp': 1}
  batch = parallel.put_batch(mesh, {'a': np.arange(4)})
  np.testing.assert_array_equal(batch['a'], np.arange(4))


@pytest.mark.parametrize('shape', [(3, 1), (1, 2), (-1, 3), (0, 1), (-1, 0)])
def test_a_mesh_that_does_not_fit_is_refused(shape):
  with pytest.raises(UserError, match=r'config\.mesh'):
    parallel.make_mesh(*shape)


def test_a_batch_that_does_not_divide_is_refused(monkeypatch):
  mesh = jax.sharding.AbstractMesh((4, 2), ('data', 'fsdp'))
  parallel.check_batch(mesh, 16, 'diffusion.batch_size')
  with pytest.raises(UserError, match=r'config.diffusion.batch_size=12: must be divisible by the 8 devices'):
    parallel.check_batch(mesh, 12, 'diffusion.batch_size')


def test_large_arrays_are_spread_over_fsdp_along_their_widest_dimension():
  mesh = jax.sharding.AbstractMesh((2, 4), ('data', 'fsdp'))
  shapes = {
    'kernel': jax.ShapeDtypeStruct((3, 3, 64, 128), jnp.float32),
    'bias': jax.ShapeDtypeStruct((7,), jnp.float32),
  }
  sharding = parallel.state_sharding(mesh, shapes)
  assert sharding['kernel'].spec == jax.sharding.PartitionSpec(None, None, None, 'fsdp')
  assert sharding['bias'].is_fully_replicated


def test_the_compilation_cache_can_be_off_and_the_users_own_wins(monkeypatch, tmp_path):
  before = jax.config.jax_compilation_cache_dir
  parallel.enable_compilation_cache(str(tmp_path / 'other'))
  assert jax.config.jax_compilation_cache_dir == before  # the test's environment names one
  parallel.enable_compilation_cache('off')
  assert jax.config.jax_compilation_cache_dir == before
