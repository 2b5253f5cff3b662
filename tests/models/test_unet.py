"""The UNet and the encoder that it shares with its guide: size, start, precision."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util
from helpers.quick_keys import COUNTING

from fetal_jax.models.unet import UNet

TINY = {
  'width': 8,
  'channel_mult': (1, 2),
  'num_res_blocks': 1,
  'attention_downsamples': (2,),
  'num_heads': 2,
}


def tiny(**changes):
  return UNet(**{'out_channels': 2, 'num_classes': 3, **TINY, **changes})


@pytest.fixture(scope='module')
def batch():
  x = jax.random.normal(jax.random.key(1), (2, 8, 8, 1))
  return x, jnp.array([0, 700]), jnp.array([2, 0])


@pytest.fixture(scope='module')
def variables(batch):
  """Random weights everywhere, so that the blocks which start as zero take part."""
  shapes = jax.eval_shape(tiny().init, jax.random.key(0), *batch)
  rng = np.random.default_rng(0)

  def draw(leaf):
    fan_in = max(math.prod(leaf.shape[:-1]), 1)
    return jnp.asarray(rng.standard_normal(leaf.shape) / math.sqrt(fan_in), jnp.float32)

  return jax.tree.map(draw, shapes)


@pytest.mark.parametrize(
  ('channels', 'out', 'classes', 'parameters'), [(3, 6, 1000, 421_529_606), (1, 2, 6, 420_497_922)]
)
def test_full_size_has_the_references_parameters(channels, out, classes, parameters):
  net = UNet(out, width=256, num_classes=classes)
  t = jnp.zeros(1, jnp.int32)
  shapes = jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, 128, 128, channels)), t, t)
  assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == parameters


def test_starts_as_the_reference_starts(batch):
  variables = jax.jit(tiny(width=32).init)(jax.random.key(0, impl=COUNTING), *batch)
  params = {'/'.join(path): leaf for path, leaf in traverse_util.flatten_dict(variables['params']).items()}
  assert all(leaf.dtype == jnp.float32 for leaf in params.values())

  zeroed = [
    path for path in params if path.startswith('conv_out') or path.split('/')[1] in ('conv_out', 'proj')
  ]
  assert all((params[path] == 0).all() for path in zeroed)
  # Stem-to-output: 3 blocks down and in the middle, 1 downsampling, 4 blocks up, 1 upsampling; 4 attentions.
  assert len(zeroed) == 2 * (1 + 10 + 4)

  for path in ('in_1_res/conv_in', 'middle_1_attention/qkv', 'time_embed/dense_0', 'out_0_res/skip'):
    kernel, bias = params[f'{path}/kernel'], params[f'{path}/bias']
    bound = 1 / math.sqrt(math.prod(kernel.shape[:-1]))
    assert 0.9 * bound < jnp.abs(kernel).max() <= bound
    assert 0.5 * bound < jnp.abs(bias).max() <= bound
  assert jnp.std(params['label_embed/embedding']) == pytest.approx(1, abs=0.15)


def test_wrong_size_names_size_and_factor(batch):
  _, t, y = batch
  with pytest.raises(ValueError, match=r'9x8 .* factor 2'):
    jax.eval_shape(tiny().init, jax.random.key(0), jnp.zeros((2, 9, 8, 1)), t, y)


def test_labels_if_and_only_if_conditional(batch):
  x, t, y = batch
  with pytest.raises(ValueError, match='must'):
    jax.eval_shape(tiny().init, jax.random.key(0), x, t)
  with pytest.raises(ValueError, match='cannot'):
    jax.eval_shape(tiny(num_classes=None).init, jax.random.key(0), x, t, y)
  shapes = jax.eval_shape(tiny(num_classes=None).init, jax.random.key(0), x, t)
  assert 'label_embed' not in shapes['params']


def test_heads_must_divide_channels(batch):
  with pytest.raises(ValueError, match=r'16 channels .* num_heads=3'):
    jax.eval_shape(tiny(num_heads=3).init, jax.random.key(0), *batch)
  with pytest.raises(ValueError, match='num_head_channels=5'):
    jax.eval_shape(tiny(num_head_channels=5).init, jax.random.key(0), *batch)


def test_each_image_depends_on_its_own_inputs_only(batch, variables):
  x, t, y = batch
  apply = jax.jit(tiny().apply)
  output = apply(variables, x, t, y)
  np.testing.assert_allclose(apply(variables, x[::-1], t[::-1], y[::-1]), output[::-1], atol=1e-5)
  assert jnp.abs(apply(variables, x, t.at[0].set(500), y) - output)[0].max() > 1e-3
  assert jnp.abs(apply(variables, x, t, y.at[0].set(1)) - output)[0].max() > 1e-3


def test_bfloat16_computes_there_and_returns_float32(batch, variables):
  output = jax.jit(tiny().apply)(variables, *batch)
  half = jax.jit(tiny(dtype=jnp.bfloat16).apply)(variables, *batch)
  assert half.dtype == jnp.float32
  error = jnp.abs(half - output).max() / jnp.abs(output).max()
  assert 1e-5 < error < 5e-2


def test_remat_changes_no_gradient(batch, variables):
  # Values that differ, two channels and more a group: else gradients before the norm are rounding errors.
  x, emb = jax.random.normal(jax.random.key(3), (1, 4, 4, 8)), jnp.ones((1, 32))
  params = variables['params']['in_1_res']

  def gradient(remat):
    net = tiny(norm_groups=2, dropout=0.5, remat=remat)
    res_block, _ = net.make_blocks(train=True)

    def loss(params):
      return (
        res_block(8).apply({'params': params}, x, emb, True, rngs={'dropout': jax.random.key(5)}) ** 2
      ).sum()

    return jax.jit(jax.grad(loss))(params)

  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4), gradient(False), gradient(True))

  for train, wanted in ((True, 10 + 4), (False, 0)):  # every residual and attention block, in training
    jaxpr = jax.make_jaxpr(lambda v, train=train: tiny(remat=True).apply(v, *batch, train=train))(variables)
    assert sum('remat' in equation.primitive.name for equation in jaxpr.eqns) == wanted
