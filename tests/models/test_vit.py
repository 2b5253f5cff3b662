import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.quick_keys import COUNTING

from fetal_jax.models.vit import vit_b_32


def test_another_size_is_refused_by_name():
  model = vit_b_32(image_size=64, hidden_size=8, depth=1, heads=1, mlp_dim=8)
  with pytest.raises(ValueError, match=r'64x64, these are 128x96'):
    model.init(jax.random.key(0), jnp.zeros((1, 128, 96, 1)))
  with pytest.raises(ValueError, match=r'image_size=100 is no multiple of patch_size=32'):
    vit_b_32(image_size=100).init(jax.random.key(0), jnp.zeros((1, 100, 100, 1)))


def test_initial_weights():
  model = vit_b_32(image_size=32, patch_size=8, hidden_size=64, depth=1, heads=2, mlp_dim=128)
  key = jax.random.key(0, impl=COUNTING)
  params = jax.jit(lambda: model.init(key, jnp.zeros((1, 32, 32, 3)))['params'])()
  np.testing.assert_allclose(params['stem']['kernel'].std(), (3 * 64) ** -0.5, rtol=0.05)
  np.testing.assert_allclose(params['pos_embedding'].std(), 0.02, rtol=0.1)
  np.testing.assert_array_equal(params['class_token'], 0)
  layer = params['layer_0']
  # Xavier uniform: bound sqrt(6 / (in + out)), deviation that over sqrt(3).
  np.testing.assert_allclose(layer['in_proj']['kernel'].std(), np.sqrt(2 / (64 + 192)), rtol=0.05)
  np.testing.assert_allclose(layer['mlp_in']['kernel'].std(), np.sqrt(2 / (64 + 128)), rtol=0.05)
  np.testing.assert_allclose(layer['out_proj']['kernel'].std(), (3 * 64) ** -0.5, rtol=0.05)
  np.testing.assert_allclose(layer['mlp_in']['bias'].std(), 1e-6, rtol=0.3)
  np.testing.assert_array_equal(layer['in_proj']['bias'], 0)
  np.testing.assert_array_equal(params['head']['kernel'], 0)
