import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.quick_keys import COUNTING

from fetal_jax import models
from fetal_jax.models import medmamba


@pytest.mark.parametrize(
  ('name', 'millions'), [('medmamba_t', 14.46), ('medmamba_s', 18.63), ('medmamba_b', 39.86)]
)
def test_parameter_counts(name, millions):
  shapes = jax.eval_shape(models.create(name).init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
  count = sum(np.prod(x.shape) for x in jax.tree.leaves(shapes['params']))
  assert round(count / 1e6, 2) == millions


def test_images_that_vanish_are_refused():
  with pytest.raises(ValueError, match=r'31x64 vanish in MedMamba: it needs 32x32'):
    medmamba.medmamba_t().init(jax.random.key(0), jnp.zeros((1, 31, 64, 1)))


def test_merging_leaves_out_an_odd_edge():
  merging = medmamba.PatchMerging()
  x = jnp.asarray(np.random.default_rng(0).standard_normal((1, 5, 4, 3)), jnp.float32)
  y, variables = merging.init_with_output(jax.random.key(0, impl=COUNTING), x)
  assert y.shape == (1, 2, 2, 6)
  np.testing.assert_array_equal(merging.apply(variables, x[:, :4]), y)


def test_scan_reaches_the_whole_map_from_every_place():
  module = medmamba.SS2D(d_state=4)
  x = jnp.asarray(np.random.default_rng(0).standard_normal((1, 3, 4, 16)), jnp.float32)
  variables = jax.jit(module.init)(jax.random.key(0, impl=COUNTING), x)
  influence = jax.jit(jax.grad(lambda x: module.apply(variables, x)[0, 1, 1].sum()))(x)
  assert (jnp.abs(influence[0]).max(-1) > 0).all()


def test_initial_weights():
  block = medmamba.SSConvSSM(d_state=16, drop_path=0.0)
  key = jax.random.key(0, impl=COUNTING)
  params = jax.jit(lambda: block.init(key, jnp.zeros((1, 4, 4, 64)), train=False)['params'])()
  # Kaiming normal, fan-out, the depthwise convolution (64 channels) included; biases stay PyTorch's.
  np.testing.assert_allclose(params['conv1']['kernel'].std(), np.sqrt(2 / (32 * 9)), rtol=0.05)
  assert 0 < jnp.abs(params['conv1']['bias']).max() <= (32 * 9) ** -0.5
  ssm = params['self_attention']
  np.testing.assert_allclose(ssm['conv2d']['kernel'].std(), np.sqrt(2 / (64 * 9)), rtol=0.1)
  np.testing.assert_allclose(ssm['in_proj']['kernel'].std(), 0.02, rtol=0.05)
  np.testing.assert_allclose(ssm['x_proj_weight'].std(), (3 * 64) ** -0.5, rtol=0.05)
  # Decay rates 1 to 16, steps log-uniform in [0.001, 0.1] after the softplus, a skip of 1.
  np.testing.assert_allclose(jnp.exp(ssm['A_logs'][7]), np.arange(1, 17), rtol=1e-5)
  steps = jax.nn.softplus(ssm['dt_projs_bias'])
  assert 0.00099 < steps.min() < 0.0015
  assert 0.07 < steps.max() < 0.101
  np.testing.assert_allclose(jnp.log(steps).mean(), np.log(0.01), atol=0.3)
  assert 0.9 * 2**-0.5 < jnp.abs(ssm['dt_projs_weight']).max() <= 2**-0.5
  np.testing.assert_array_equal(ssm['Ds'], 1)
