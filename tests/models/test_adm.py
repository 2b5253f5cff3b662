"""The blocks of the ADM networks on known values."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from fetal_jax.models import adm


def test_dropout_is_for_training_only():
  block, x, emb = adm.ResBlock(8, dropout=0.5), jnp.ones((2, 4, 4, 8)), jnp.ones((2, 32))
  shapes, rng = jax.eval_shape(block.init, jax.random.key(0), x, emb)['params'], np.random.default_rng(0)
  params = jax.tree.map(lambda s: jnp.asarray(0.3 * rng.standard_normal(s.shape), jnp.float32), shapes)

  @jax.jit
  def outputs(key):
    rngs = {'dropout': key}
    return block.apply({'params': params}, x, emb, rngs=rngs), block.apply(
      {'params': params}, x, emb, True, rngs=rngs
    )

  (plain, first), (same, second) = outputs(jax.random.key(1)), outputs(jax.random.key(2))
  np.testing.assert_array_equal(plain, same)
  assert jnp.abs(first - second).max() > 1e-2


@pytest.mark.parametrize(('channels', 'groups'), [(64, 32), (16, 16), (20, 4), (96, 32)])
def test_group_norm_has_gcd_groups_and_two_pass_variance(channels, groups):
  class Norm(nn.Module):
    @nn.compact
    def __call__(self, x):
      return adm.group_norm(x, 'norm', dtype=jnp.float32)

  # Low contrast on a large mean: the case in which E[x²] - E[x]² fails.
  x = (3 + 0.01 * np.random.default_rng(0).standard_normal((2, 4, 4, channels))).astype(np.float32)
  grouped = x.astype(np.float64).reshape(2, 16, groups, -1)
  mean, var = grouped.mean((1, 3), keepdims=True), grouped.var((1, 3), keepdims=True)
  expected = ((grouped - mean) / np.sqrt(var + 1e-5)).reshape(x.shape)
  np.testing.assert_allclose(
    Norm().init_with_output(jax.random.key(0), jnp.asarray(x))[0], expected, atol=2e-4
  )


def test_resampling_on_known_values():
  x = jnp.arange(8.0).reshape(1, 2, 4, 1)
  up = adm.upsample(x)[0, :, :, 0]
  np.testing.assert_array_equal(up, np.repeat(np.repeat(x[0, :, :, 0], 2, axis=0), 2, axis=1))
  np.testing.assert_array_equal(adm.downsample(x)[0, :, :, 0], [[2.5, 4.5]])


def test_timestep_embedding_on_known_values():
  embedding = adm.timestep_embedding(jnp.array([0, 3]), 5)
  expected = [[1, 1, 0, 0, 0], [math.cos(3), math.cos(0.03), math.sin(3), math.sin(0.03), 0]]
  np.testing.assert_allclose(embedding, expected, atol=1e-6)


def test_attention_equals_its_definition():
  heads, d = 2, 3
  qkv = np.random.default_rng(0).standard_normal((1, 5, 3 * heads * d)).astype(np.float32)
  q, k, v = qkv.reshape(5, 3, heads, d).transpose(1, 2, 0, 3)
  weights = np.exp(q @ k.transpose(0, 2, 1) / math.sqrt(d))
  expected = (weights / weights.sum(-1, keepdims=True) @ v).transpose(1, 0, 2).reshape(1, 5, heads * d)
  np.testing.assert_allclose(adm.attention(jnp.asarray(qkv), heads), expected, atol=1e-5)


class FakeDevice:
  platform = 'gpu'

  def __init__(self, capability, version='PJRT C API\ncuda 12090'):
    self.compute_capability = capability
    self.client = type('Client', (), {'platform_version': version})


@pytest.mark.parametrize(
  ('device', 'dtype', 'head_dim', 'expected'),
  [
    (FakeDevice('9.0'), jnp.bfloat16, 256, 'cudnn'),
    (FakeDevice('8.0'), jnp.bfloat16, 128, 'cudnn'),
    (FakeDevice('8.0'), jnp.float16, 192, 'xla'),
    (FakeDevice('9.0'), jnp.float32, 64, 'xla'),
    (FakeDevice('9.0'), jnp.bfloat16, 12, 'xla'),
    (FakeDevice('gfx942', 'rocm 60300'), jnp.bfloat16, 64, 'xla'),
  ],
)
def test_flash_attention_only_where_it_runs(monkeypatch, device, dtype, head_dim, expected):
  assert adm._attention_implementation(jnp.bfloat16, 64) == 'xla'  # the CPU of these tests
  monkeypatch.setattr(jax, 'local_devices', lambda: [device])
  assert adm._attention_implementation(dtype, head_dim) == expected


def test_few_groups_let_a_narrow_network_see_brightness():
  """With one channel a group the norm takes an image and a brighter one for the same; with several it does not."""
  x = jax.random.normal(jax.random.key(0), (1, 8, 8, 1))
  images = jnp.concatenate([x, x + 0.5])

  def features(groups):
    class Narrow(nn.Module):
      @nn.compact
      def __call__(self, x):
        return adm.group_norm(
          adm.conv(x, 8, 'conv', dtype=jnp.float32), 'norm', groups=groups, dtype=jnp.float32
        )

    inner = Narrow().init_with_output(jax.random.key(1), images)[0][:, 2:-2, 2:-2]  # away from the padding
    return float(jnp.abs(inner[0].mean((0, 1)) - inner[1].mean((0, 1))).max())

  assert features(2) > 3 * features(8)
