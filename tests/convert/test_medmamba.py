import jax
import jax.numpy as jnp
import numpy as np

from fetal_jax import convert, models

REDUCED = {'dims': (8, 16), 'depths': (1, 2), 'd_state': 4}


def test_names_shapes_and_the_way_back():
  model = models.create('medmamba_t', num_classes=5, **REDUCED)
  shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
  rng = np.random.default_rng(0)
  variables = jax.tree.map(lambda x: rng.standard_normal(x.shape).astype(np.float32), shapes)
  state = convert.to_torch('medmamba_t', variables)
  assert state['layers.0.downsample.reduction.weight'].shape == (16, 32)
  assert state['layers.1.blocks.1.conv33conv33conv11.5.running_mean'].shape == (8,)
  assert state['layers.0.blocks.0.self_attention.conv2d.weight'].shape == (8, 1, 3, 3)
  assert state['layers.0.blocks.0.self_attention.A_logs'].shape == (32, 4)
  back = convert.from_torch('medmamba_t', state, **REDUCED)
  jax.tree.map(np.testing.assert_array_equal, back, variables)


def test_one_channel_and_a_fresh_head():
  model = models.create('medmamba_t', **REDUCED)
  shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
  state = convert.to_torch('medmamba_t', jax.tree.map(lambda x: np.ones(x.shape, np.float32), shapes))
  variables = convert.from_torch('medmamba_t', state, channels=1, num_classes=3, **REDUCED)
  np.testing.assert_array_equal(variables['params']['stem']['kernel'], np.full((4, 4, 1, 8), 3.0))
  assert variables['params']['head']['kernel'].shape == (16, 3)
  assert 0 < np.abs(variables['params']['head']['kernel']).max() < 0.2
