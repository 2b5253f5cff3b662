"""The ADM networks and their weights, equal to guided-diffusion's."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden.golden_param import golden_param

from fetal_jax import config as config_lib
from fetal_jax import networks
from fetal_jax.convert import guided_diffusion as gd
from fetal_jax.diffusion.guidance import classifier_guidance
from fetal_jax.runtime.errors import UserError

GOLDEN = pathlib.Path(__file__).resolve().parent.parent / 'golden'

# What guided-diffusion's scripts build from the flags that its README publishes with the 128 px checkpoints.
RELEASED_UNET = {
  'image_size': 128,
  'in_channels': 3,
  'model_channels': 256,
  'out_channels': 6,
  'num_res_blocks': 2,
  'attention_resolutions': (4, 8, 16),
  'channel_mult': (1, 1, 2, 3, 4),
  'num_classes': 1000,
  'num_heads': 4,
  'use_scale_shift_norm': True,
  'resblock_updown': True,
}
RELEASED_CLASSIFIER = {
  'image_size': 128,
  'in_channels': 3,
  'model_channels': 128,
  'out_channels': 1000,
  'num_res_blocks': 2,
  'attention_resolutions': (4, 8, 16),
  'channel_mult': (1, 1, 2, 3, 4),
  'num_head_channels': 64,
  'use_scale_shift_norm': True,
  'resblock_updown': True,
  'pool': 'attention',
}
SMALL = {
  'image_size': 8,
  'in_channels': 1,
  'model_channels': 8,
  'out_channels': 2,
  'num_res_blocks': 1,
  'attention_resolutions': (2,),
  'channel_mult': (1, 2),
  'num_heads': 2,
}


def load(name):
  golden = dict(np.load(GOLDEN / f'{name}.npz'))
  shapes = [tuple(json.loads(shape)) for shape in golden['param_shapes'].tolist()]
  salt, gain = int(golden['salt']), float(golden['conv_gain'])
  state_dict = {
    key: golden_param(key, shape, salt, gain)
    for key, shape in zip(golden['param_names'].tolist(), shapes, strict=True)
  }
  return golden, state_dict, json.loads(golden['config'].item())


def assert_close(ours, reference):
  np.testing.assert_allclose(ours, reference, rtol=0, atol=1e-4 * np.abs(reference).max())


def inputs(golden):
  return (
    jnp.asarray(golden['x_nhwc']),
    jnp.asarray(golden['t'], jnp.int32),
    jnp.asarray(golden['y'], jnp.int32),
  )


@pytest.mark.parametrize(
  'name', [pytest.param('unet_updown_legacy', marks=pytest.mark.slow), 'unet_conv_neworder']
)
def test_unet_equals_reference_and_weights_return_unchanged(name):
  golden, state_dict, config = load(name)
  variables = gd.from_torch(state_dict, config)
  output = jax.jit(gd.build(config).apply)(variables, *inputs(golden))
  assert_close(output, golden['output_nhwc'])

  returned = gd.to_torch(variables, config)
  assert returned.keys() == state_dict.keys()
  for key, value in state_dict.items():
    np.testing.assert_array_equal(returned[key], value)


@pytest.mark.parametrize(
  'name', [pytest.param('encoder_attention', marks=pytest.mark.slow), 'encoder_adaptive']
)
def test_half_unet_and_its_gradient_equal_reference(name):
  golden, state_dict, config = load(name)
  variables, net = gd.from_torch(state_dict, config), gd.build(config)
  x, t, y = inputs(golden)

  @jax.jit
  def logits_and_gradient(x):
    def apply(x, t):
      return net.apply(variables, x, t)

    return apply(x, t), classifier_guidance(apply, y)(x, t)

  logits, gradient = logits_and_gradient(x)
  assert_close(logits, golden['logits'])
  assert_close(gradient, golden['grad_nhwc'])

  returned = gd.to_torch(variables, config)
  assert returned.keys() == state_dict.keys()
  for key, value in state_dict.items():
    np.testing.assert_array_equal(returned[key], value)


def shapes_of(net, *args):
  return jax.eval_shape(net.init, jax.random.key(0), *args)


def count(tree):
  return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.mark.slow  # tests/models/test_unet.py counts the UNet's, too
def test_the_released_networks_have_their_parameters():
  x, t = jnp.zeros((1, 128, 128, 3)), jnp.zeros(1, jnp.int32)
  unet = gd.build(RELEASED_UNET)
  assert count(shapes_of(unet, x, t, t)) == 421_529_606
  assert (unet.num_heads, unet.num_head_channels, unet.attention_downsamples) == (4, None, (4, 8, 16))
  assert count(shapes_of(gd.build(RELEASED_CLASSIFIER), x, t)) == 42_568_040


def test_the_papers_config_has_the_released_networks():
  """So OpenAI's 128 px files start it, channels and classes aside."""
  config = config_lib.load_file('configs/paper.py:w256')
  unet, guide = networks.make_unet(config, 1000), networks.make_guide(config, 1000)
  assert unet.clone(out_channels=6) == gd.build(RELEASED_UNET, unet.dtype)
  assert guide == gd.build(RELEASED_CLASSIFIER, guide.dtype)


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'model_channel': 8}, "unknown keyword 'model_channel'"),
    ({'conv_resample': False}, 'only conv_resample=True'),
    ({'dims': 3}, 'only dims=2'),
    ({'pool': 'spatial'}, 'only pool=attention or adaptive is supported'),
  ],
)
def test_wrong_config_is_named(change, message):
  with pytest.raises(UserError, match=message):
    gd.build({**SMALL, **change})
  with pytest.raises(UserError, match='model_channels missing'):
    gd.build({key: value for key, value in SMALL.items() if key != 'model_channels'})


def random_variables(config, seed=0):
  rng = np.random.default_rng(seed)
  shapes = gd._shapes(config)
  return jax.tree.map(lambda s: rng.standard_normal(s.shape).astype(np.float32), shapes)


@pytest.mark.parametrize('pool', [None, 'attention', 'adaptive'])
@pytest.mark.parametrize('new_order', [False, True])
def test_round_trip_from_flax_is_identity(pool, new_order):
  config = {**SMALL, 'use_new_attention_order': new_order} | ({} if pool is None else {'pool': pool})
  variables = random_variables(config)
  state_dict = gd.to_torch(variables, config)
  assert len(state_dict) == len(jax.tree.leaves(variables))
  jax.tree.map(np.testing.assert_array_equal, gd.from_torch(state_dict, config), variables)


def test_attention_orders_are_a_permutation_of_the_same_weights():
  variables = random_variables(SMALL)
  legacy = gd.to_torch(variables, SMALL)['middle_block.1.qkv.weight']
  new = gd.to_torch(variables, {**SMALL, 'use_new_attention_order': True})['middle_block.1.qkv.weight']
  # 2 heads of 8 channels: legacy is [head][q|k|v], new is [q|k|v][head].
  np.testing.assert_array_equal(legacy.reshape(2, 3, 8, 16), new.reshape(3, 2, 8, 16).swapaxes(0, 1))


def test_weights_of_another_network_are_refused_by_name():
  state_dict = gd.to_torch(random_variables(SMALL), SMALL)
  del state_dict['middle_block.1.norm.bias']
  with pytest.raises(UserError, match=r'middle_block\.1\.norm\.bias'):
    gd.from_torch(state_dict, SMALL)


PUBLISHED = {  # three channels, four classes, 16 px
  'image_size': 16,
  'in_channels': 3,
  'model_channels': 32,
  'num_res_blocks': 1,
  'attention_resolutions': (2,),
  'channel_mult': (1, 2),
  'num_head_channels': 32,
  'use_scale_shift_norm': True,
  'resblock_updown': True,
}
PUBLISHED_UNET = PUBLISHED | {'out_channels': 6, 'num_classes': 4, 'use_new_attention_order': True}
FIRST = 'input_blocks.0.0.weight'
PUBLISHED_GUIDE = PUBLISHED | {'out_channels': 4, 'pool': 'attention'}


@pytest.mark.parametrize('config', [PUBLISHED_UNET, PUBLISHED_GUIDE, SMALL | {'model_channels': 32}])
def test_describe_is_the_inverse_of_build(config):
  net, size = gd.build(config), config['image_size']
  described = gd.describe(net, (size, size, config['in_channels']))
  assert gd.build(described) == net
  assert {key: described[key] for key in ('image_size', 'in_channels', 'out_channels')} == {
    key: config[key] for key in ('image_size', 'in_channels', 'out_channels')
  }
  with pytest.raises(UserError, match='set norm_groups=32'):
    gd.describe(net.clone(norm_groups=4), (size, size, 1))


def test_a_unet_of_three_channels_is_fitted_to_grey_images_and_other_classes():
  state = gd.to_torch(random_variables(PUBLISHED_UNET), PUBLISHED_UNET)
  ours = PUBLISHED_UNET | {'in_channels': 1, 'out_channels': 2, 'num_classes': 3}
  fresh = random_variables(ours, seed=1)
  variables, changes = gd.fit(state, ours, fresh)
  assert changes == {
    'input_blocks.0.0.weight': 'summed over 3 input channels',
    'out.2.weight': 'averaged over 3 output channels',
    'out.2.bias': 'averaged over 3 output channels',
    'label_emb.weight': 'not loaded, but fresh: 4 classes there, 3 here',
  }
  labels = variables['params']['label_embed']['embedding']
  np.testing.assert_array_equal(labels, fresh['params']['label_embed']['embedding'])

  # With the same label embedding: the noise and the variance are the means of what three equal channels give.
  three = gd.from_torch(state, PUBLISHED_UNET)
  labels[...] = three['params']['label_embed']['embedding'][:3]
  grey = jnp.asarray(np.random.default_rng(2).standard_normal((2, 16, 16, 1)), jnp.float32)
  t, y = jnp.asarray([10, 900]), jnp.asarray([0, 2])
  expected = jax.jit(gd.build(PUBLISHED_UNET).apply)(three, jnp.repeat(grey, 3, -1), t, y)
  got = jax.jit(gd.build(ours).apply)(variables, grey, t, y)
  np.testing.assert_allclose(got, expected.reshape(2, 16, 16, 2, 3).mean(-1), atol=1e-4)


def test_a_guide_is_fitted_to_grey_images_another_size_and_other_classes():
  state = gd.to_torch(random_variables(PUBLISHED_GUIDE), PUBLISHED_GUIDE)
  ours = PUBLISHED_GUIDE | {'in_channels': 1, 'image_size': 32, 'out_channels': 3}
  fresh = random_variables(ours, seed=1)
  variables, changes = gd.fit(state, ours, fresh)
  assert changes == {
    'input_blocks.0.0.weight': 'summed over 3 input channels',
    'out.2.c_proj.weight': 'not loaded, but fresh: 4 classes there, 3 here',
    'out.2.c_proj.bias': 'not loaded, but fresh: 4 classes there, 3 here',
    'out.2.positional_embedding': 'interpolated from 8x8 to 16x16 positions',
  }
  positions = variables['params']['pool']['positional_embedding']
  assert positions.shape == (1 + 16 * 16, 64)
  np.testing.assert_array_equal(positions[0], state['out.2.positional_embedding'][:, 0])
  jax.eval_shape(gd.build(ours).apply, variables, jnp.zeros((1, 32, 32, 1)), jnp.zeros(1, jnp.int32))


@pytest.mark.parametrize(
  ('theirs', 'ours', 'said'),
  [
    ({'num_classes': None}, {}, {'label_emb.weight': 'not loaded, but fresh: the file has none'}),
    ({}, {'num_classes': None}, {'label_emb.weight': 'left out: no part of this network'}),
    ({}, {'in_channels': 4}, {FIRST: 'not loaded, but fresh: 3 input channels there, 4 here'}),
    (
      {},
      {'out_channels': 1},
      dict.fromkeys(
        ('out.2.weight', 'out.2.bias'),
        'not loaded, but fresh: 6 outputs there, 1 here, so channels or learn_sigma differ',
      ),
    ),
  ],
)
def test_ends_that_do_not_fit_are_fresh(theirs, ours, said):
  """Files of unconditional networks, and of other channels: all between the ends is what the file has."""
  theirs, ours = PUBLISHED_UNET | theirs, PUBLISHED_UNET | ours
  state = gd.to_torch(random_variables(theirs), theirs)
  fresh = random_variables(ours, seed=1)
  variables, changes = gd.fit({f'module.{name}': value for name, value in state.items()}, ours, fresh)
  assert changes == {'module.': 'taken off', **said}
  loaded, before = gd.to_torch(variables, ours), gd.to_torch(fresh, ours)
  for name in loaded:
    expected = before if name in said else state
    np.testing.assert_array_equal(loaded[name], expected[name], err_msg=name)


def test_the_keywords_that_differ_are_told_from_the_weights():
  """As improved-diffusion's networks differ: resampled by convolutions, conditioned by addition."""
  theirs = PUBLISHED_UNET | {'resblock_updown': False, 'use_scale_shift_norm': False}
  state = gd.to_torch(random_variables(theirs), theirs)
  assert gd.differing(state, theirs) == {}
  assert gd.differing(state, PUBLISHED_UNET) == {'resblock_updown': False, 'use_scale_shift_norm': False}
  assert gd.differing(state, theirs | {'model_channels': 64}) == {'model_channels': 32}


def test_what_cannot_be_fitted_is_named():
  state = gd.to_torch(random_variables(PUBLISHED_UNET), PUBLISHED_UNET)
  for ours, message in [
    (PUBLISHED_UNET | {'model_channels': 64}, r'0\.0\.weight has shape \[32, 3, 3, 3\], expected \[64, 3'),
    (PUBLISHED_UNET | {'resblock_updown': False}, r'input_blocks\.2\.0\.op\.weight \[.*\] is missing'),
  ]:
    with pytest.raises(UserError, match=message):
      gd.fit(state, ours, random_variables(ours))
