"""What all five classifier families promise: the reference's numbers, any input, a gradient everywhere."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden.golden_param import golden_param

from fetal_jax import convert, models

GOLDEN = pathlib.Path(__file__).resolve().parent.parent / 'golden'
FAMILIES = ('resnet50', 'densenet169', 'vit_b_32', 'swin_t', 'medmamba_t')
QUICK = ('medmamba_t',)
REDUCED = {
  'resnet50': {'width': 8, 'depths': (1, 1)},
  'densenet169': {'growth': 8, 'blocks': (2, 1), 'init_features': 8},
  'vit_b_32': {'image_size': 32, 'patch_size': 8, 'hidden_size': 16, 'depth': 1, 'heads': 2, 'mlp_dim': 32},
  'swin_t': {'embed_dim': 8, 'depths': (1, 2), 'heads': (1, 2), 'window': 3},
  'medmamba_t': {'dims': (8, 16), 'depths': (1, 1), 'd_state': 4},
}


def weights(model, size=32, channels=1):
  """Variables at random, drawn by numpy: the initial ones take longer to compile than the network does."""
  shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, size, size, channels)))
  rng = np.random.default_rng(0)
  variables = jax.tree.map(lambda x: jnp.asarray(0.1 * rng.standard_normal(x.shape), jnp.float32), shapes)
  if 'batch_stats' in variables:
    variables['batch_stats'] = jax.tree.map(jnp.ones_like, variables['batch_stats'])
  return variables


def images(batch=2, size=32, channels=1):
  rng = np.random.default_rng(1)
  return jnp.asarray(rng.standard_normal((batch, size, size, channels)), jnp.float32)


@pytest.mark.parametrize(
  'name', [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in FAMILIES]
)
def test_full_size_equals_reference(name):
  golden = np.load(GOLDEN / f'{name}.npz')
  names = [str(n) for n in golden['param_names']]
  shapes = [tuple(json.loads(str(s))) for s in golden['param_shapes']]
  salt, gain = int(golden['salt']), float(golden['conv_gain'])
  state = {n: golden_param(n, s, salt, gain) for n, s in zip(names, shapes, strict=True)}
  variables = convert.from_torch(name, state)

  model = models.create(name)
  logits = jax.jit(model.apply)(variables, jnp.asarray(golden['image_nhwc']))
  expected = golden['logits']
  assert logits.dtype == jnp.float32
  np.testing.assert_allclose(logits, expected, atol=1e-4 * np.abs(expected).max(), rtol=0)

  count = sum(np.prod(s) for n, s in zip(names, shapes, strict=True) if 'running_' not in n)
  assert sum(x.size for x in jax.tree.leaves(variables['params'])) == count

  back = convert.to_torch(name, variables)
  assert back.keys() == state.keys()
  for key, value in state.items():
    np.testing.assert_array_equal(back[key], value, err_msg=key)


@pytest.mark.parametrize('name', FAMILIES)
def test_every_parameter_learns(name):
  model = models.create(name, **REDUCED[name])
  variables = weights(model)
  if name == 'vit_b_32':
    assert 'batch_stats' not in variables

  def loss(params):
    logits, updates = model.apply(
      {**variables, 'params': params},
      images(),
      train=True,
      mutable=['batch_stats'],
      rngs={'dropout': jax.random.key(0)},
    )
    return (logits**2).sum(), (logits, updates)

  (_, (logits, updates)), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(variables['params'])
  assert logits.shape == (2, 6)
  for path, grad in jax.tree_util.tree_leaves_with_path(grads):
    name_of = jax.tree_util.keystr(path)
    assert jnp.isfinite(grad).all(), name_of
    assert jnp.abs(grad).max() > 0, name_of
  for path, new in jax.tree_util.tree_leaves_with_path(updates):
    assert jnp.abs(new - 1).max() > 0, jax.tree_util.keystr(path)


@pytest.mark.parametrize('name', FAMILIES)
def test_bfloat16_computes_nearly_the_same_and_answers_in_float32(name):
  kwargs = REDUCED[name]
  variables = weights(models.create(name, **kwargs))
  exact = jax.jit(models.create(name, **kwargs).apply)(variables, images())
  rough = jax.jit(models.create(name, **kwargs, dtype=jnp.bfloat16).apply)(variables, images())
  assert rough.dtype == jnp.float32
  assert not jnp.array_equal(rough, exact)
  np.testing.assert_allclose(rough, exact, atol=0.05 * float(jnp.abs(exact).max()))


@pytest.mark.parametrize('name', FAMILIES)
@pytest.mark.parametrize(('size', 'channels'), [(32, 3), (44, 1)])
def test_any_size_and_channel_count(name, size, channels):
  kwargs = dict(REDUCED[name], num_classes=4)
  if name == 'vit_b_32':
    kwargs |= {'image_size': size, 'patch_size': 4}
  model = models.create(name, **kwargs)
  x = jax.ShapeDtypeStruct((2, size, size, channels), jnp.float32)
  variables = jax.eval_shape(model.init, jax.random.key(0), x)
  assert jax.eval_shape(model.apply, variables, x).shape == (2, 4)


@pytest.mark.parametrize('name', FAMILIES)
def test_full_networks_take_images_of_32_pixels(name):
  model = models.create(name, **({'image_size': 32} if name == 'vit_b_32' else {}))
  x = jax.ShapeDtypeStruct((1, 32, 32, 1), jnp.float32)
  assert jax.eval_shape(lambda k, x: model.init_with_output(k, x)[0], jax.random.key(0), x).shape == (1, 6)


@pytest.mark.parametrize('name', ['swin_t', 'medmamba_t'])
def test_stochastic_depth_is_drawn_per_image(name):
  model = models.create(name, **REDUCED[name] | {'drop_path': 0.9})
  variables = weights(model)
  x = jnp.repeat(images(batch=1), 8, axis=0)
  apply = jax.jit(
    lambda key: model.apply(variables, x, train=True, mutable=['batch_stats'], rngs={'dropout': key})[0]
  )
  first, second = apply(jax.random.key(0)), apply(jax.random.key(1))
  assert len(np.unique(np.asarray(first[:, 0]).round(4))) > 1
  assert not jnp.array_equal(first, second)
