import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fetal_jax import convert, models
from fetal_jax.runtime.errors import UserError

REDUCED = {
  'resnet50': {'width': 4, 'depths': (1, 1)},
  'densenet169': {'growth': 4, 'blocks': (2, 1), 'init_features': 8},
  'vit_b_32': {'patch_size': 8, 'hidden_size': 16, 'depth': 1, 'heads': 2, 'mlp_dim': 32},
  'swin_t': {'embed_dim': 8, 'depths': (1, 1), 'heads': (1, 2), 'window': 3},
}


def checkpoint(name, channels=3, size=32):
  """A state dict for a reduced network, and the network."""
  kwargs = REDUCED[name] | ({'image_size': size} if name == 'vit_b_32' else {})
  model = models.create(name, **kwargs)
  shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, size, size, channels)))
  rng = np.random.default_rng(0)
  variables = jax.tree.map(lambda x: np.abs(0.3 * rng.standard_normal(x.shape)).astype(np.float32), shapes)
  return convert.to_torch(name, variables), model


@pytest.mark.parametrize('name', REDUCED)
def test_grey_images_give_what_they_gave_when_repeated(name):
  state, model = checkpoint(name)
  grey = jnp.asarray(np.random.default_rng(1).standard_normal((2, 32, 32, 1)), jnp.float32)
  three = convert.from_torch(name, state, **REDUCED[name])
  one = convert.from_torch(name, state, channels=1, **REDUCED[name])
  assert one['params']['stem']['kernel'].shape[2] == 1
  expected = model.apply(three, jnp.repeat(grey, 3, axis=-1))
  np.testing.assert_allclose(model.apply(one, grey), expected, rtol=1e-4)


def test_other_channel_counts_are_refused():
  state, _ = checkpoint('resnet50')
  with pytest.raises(UserError, match=r'conv1.weight has 3 input channels.* 4, only 1'):
    convert.from_torch('resnet50', state, channels=4, **REDUCED['resnet50'])


def test_another_class_count_gets_a_fresh_head():
  state, _ = checkpoint('resnet50')
  convert_to = lambda seed: convert.from_torch(  # noqa: E731
    'resnet50', state, num_classes=4, seed=seed, **REDUCED['resnet50']
  )
  first, second = convert_to(0), convert_to(1)
  head = first['params']['head']['kernel']
  assert head.shape == (32, 4)
  assert 0 < np.abs(head).max() <= 32**-0.5
  assert not np.array_equal(head, second['params']['head']['kernel'])
  np.testing.assert_array_equal(first['params']['stem']['kernel'], second['params']['stem']['kernel'])

  same = convert.from_torch('resnet50', state, num_classes=6, **REDUCED['resnet50'])
  np.testing.assert_array_equal(same['params']['head']['kernel'], state['fc.weight'].T)


def test_position_embeddings_are_interpolated():
  state, _ = checkpoint('vit_b_32', size=56)  # 7 x 7 patches, as in published weights
  ramp = np.broadcast_to(np.arange(7.0)[:, None, None], (7, 7, 16)).reshape(1, 49, 16)
  state['encoder.pos_embedding'] = np.concatenate([np.full((1, 1, 16), 5.0), ramp], axis=1)
  variables = convert.from_torch('vit_b_32', state, image_size=32, **REDUCED['vit_b_32'])
  positions = variables['params']['pos_embedding']
  assert positions.shape == (1, 17, 16)
  np.testing.assert_array_equal(positions[0, 0], 5.0)
  grid = positions[0, 1:, 0].reshape(4, 4)
  np.testing.assert_allclose(grid, np.broadcast_to(grid[:, :1], (4, 4)), atol=1e-5)
  assert (np.diff(grid[:, 0]) > 1).all()
  np.testing.assert_allclose(grid.mean(), 3.0, atol=1e-4)

  same = convert.from_torch('vit_b_32', state, **REDUCED['vit_b_32'])
  np.testing.assert_array_equal(same['params']['pos_embedding'], state['encoder.pos_embedding'])


def test_names_of_older_files_are_understood():
  for name, today, former in (
    ('densenet169', 'denselayer1.norm1.', 'denselayer1.norm.1.'),
    ('vit_b_32', 'mlp.0.', 'mlp.linear_1.'),
  ):
    state, _ = checkpoint(name)
    old = {key.replace(today, former): value for key, value in state.items()}
    assert old.keys() != state.keys()
    jax.tree.map(
      np.testing.assert_array_equal,
      convert.from_torch(name, old, **REDUCED[name]),
      convert.from_torch(name, state, **REDUCED[name]),
    )


def test_swins_index_tables_are_ignored():
  state, _ = checkpoint('swin_t')
  state['features.1.0.attn.relative_position_index'] = np.zeros(81, int)
  convert.from_torch('swin_t', state, **REDUCED['swin_t'])


@pytest.mark.parametrize('entry', ['conv1.weight', 'fc.bias', 'layer1.0.downsample.1.running_var'])
def test_missing_entries_are_named(entry):
  state, _ = checkpoint('resnet50')
  del state[entry]
  with pytest.raises(UserError, match=f'{entry}.* is missing'):
    convert.from_torch('resnet50', state, **REDUCED['resnet50'])


def test_weights_of_another_depth_are_named():
  state, _ = checkpoint('resnet50')
  with pytest.raises(UserError, match=r'layer2\.0\.\S+ \[.*\] belongs to no variable'):
    convert.from_torch('resnet50', state, width=4, depths=(1,))
