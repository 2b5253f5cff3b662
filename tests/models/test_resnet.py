import jax
import jax.numpy as jnp
import numpy as np
from helpers.quick_keys import COUNTING

from fetal_jax.models.layers import BatchNorm
from fetal_jax.models.resnet import Bottleneck, resnet50


def test_batch_norm_keeps_the_unbiased_variance():
  x = jnp.asarray([[1.0], [2.0], [3.0], [6.0]])  # mean 3, variance 3.5 (biased), 14/3 (unbiased)
  norm = BatchNorm()
  variables = norm.init(jax.random.key(0), x, train=True)
  np.testing.assert_array_equal(variables['batch_stats']['var'], [1.0])
  y, updates = norm.apply(variables, x, train=True, mutable=['batch_stats'])
  np.testing.assert_allclose(y, (x - 3) / np.sqrt(3.5 + 1e-5), rtol=1e-6)
  np.testing.assert_allclose(updates['batch_stats']['mean'], [0.3], rtol=1e-6)
  np.testing.assert_allclose(updates['batch_stats']['var'], [0.9 + 0.1 * 14 / 3], rtol=1e-6)


def test_batch_norm_survives_low_contrast():
  # E[x²] - E[x]² in float32 would be rounding noise here.
  x = 300 + 0.01 * jnp.asarray(np.random.default_rng(0).standard_normal((4096, 1)), jnp.float32)
  norm = BatchNorm(epsilon=0.0)
  y, _ = norm.init_with_output(jax.random.key(0), x, train=True)
  assert abs(float(y.std()) - 1) < 1e-3


def test_stride_is_on_the_3x3_convolution():
  block = Bottleneck(width=4, stride=2)
  shapes = jax.eval_shape(
    lambda k, x: block.init_with_output(k, x, train=False, capture_intermediates=True, mutable=True)[1],
    jax.random.key(0),
    jnp.zeros((1, 8, 8, 8)),
  )
  sizes = {n: shapes['intermediates'][n]['__call__'][0].shape[1] for n in ('conv1', 'conv2', 'conv3')}
  assert sizes == {'conv1': 8, 'conv2': 4, 'conv3': 4}


def test_initial_weights():
  model = resnet50(width=32, depths=(1,))
  key = jax.random.key(0, impl=COUNTING)
  params = jax.jit(lambda: model.init(key, jnp.zeros((1, 32, 32, 3)))['params'])()
  # Kaiming normal, fan-out: sqrt(2 / (out · kh · kw)).
  for kernel, fan_out in (
    (params['stem']['kernel'], 32 * 49),
    (params['layer1_0']['conv2']['kernel'], 32 * 9),
    (params['layer1_0']['conv3']['kernel'], 128),
  ):
    np.testing.assert_allclose(kernel.std(), np.sqrt(2 / fan_out), rtol=0.05)
  np.testing.assert_array_equal(params['layer1_0']['bn3']['scale'], 1)  # not zero-initialised
  head = params['head']
  assert 0.9 * 128**-0.5 < jnp.abs(head['kernel']).max() <= 128**-0.5
  assert 0 < jnp.abs(head['bias']).max() <= 128**-0.5
