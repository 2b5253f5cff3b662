import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.quick_keys import COUNTING

from fetal_jax.models.densenet import densenet169


def test_images_that_vanish_are_refused():
  with pytest.raises(ValueError, match=r'16x16 vanish in block 4'):
    jax.eval_shape(densenet169(blocks=(1, 1, 1, 1)).init, jax.random.key(0), jnp.zeros((1, 16, 16, 1)))


def test_blocks_grow_and_transitions_halve():
  model = densenet169(growth=8, blocks=(2, 3), init_features=16)
  params = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 1)))['params']
  assert params['block1_layer2']['conv1']['kernel'].shape == (1, 1, 24, 32)
  assert params['transition1_conv']['kernel'].shape == (1, 1, 32, 16)
  assert params['final_norm']['scale'].shape == (16 + 3 * 8,)


def test_initial_weights():
  model = densenet169(growth=16, blocks=(1,), init_features=32)
  key = jax.random.key(0, impl=COUNTING)
  params = jax.jit(lambda: model.init(key, jnp.zeros((1, 32, 32, 3)))['params'])()
  # Kaiming normal, fan-in: sqrt(2 / (in · kh · kw)).
  for kernel, fan_in in (
    (params['stem']['kernel'], 3 * 49),
    (params['block1_layer1']['conv1']['kernel'], 32),
    (params['block1_layer1']['conv2']['kernel'], 64 * 9),
  ):
    np.testing.assert_allclose(kernel.std(), np.sqrt(2 / fan_in), rtol=0.05)
  assert 0.9 * 48**-0.5 < jnp.abs(params['head']['kernel']).max() <= 48**-0.5
  np.testing.assert_array_equal(params['head']['bias'], 0)
