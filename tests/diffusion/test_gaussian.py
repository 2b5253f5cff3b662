"""Forward process, posterior and losses, equal to guided-diffusion's."""

import math
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fetal_jax.diffusion import gaussian
from fetal_jax.diffusion.schedule import make_process

GOLDEN = dict(np.load(pathlib.Path(__file__).resolve().parent.parent / 'golden' / 'diffusion.npz'))
PROCESS = make_process()
X0, NOISE, X_T = (jnp.asarray(GOLDEN[name]) for name in ('x0', 'noise', 'x_t'))
T = jnp.asarray(GOLDEN['t'], jnp.int32)


def network(x, t_original):
  """The golden files' formulas for eps and v."""
  s = (t_original / 1000)[:, None, None, None]
  return jnp.concatenate([0.7 * x + 0.2 * jnp.sin(3 * x) + 0.1 * s, jnp.tanh(x - s)], axis=-1)


def assert_equals_golden(ours, name):
  reference = GOLDEN[name]
  np.testing.assert_allclose(np.broadcast_to(ours, reference.shape), reference, rtol=0, atol=1e-5)


def test_forward_process_equals_reference():
  assert_equals_golden(gaussian.q_sample(PROCESS, X0, T, NOISE), 'x_t')


def test_posterior_equals_reference():
  mean, log_variance = gaussian.q_posterior(PROCESS, X0, X_T, T)
  assert_equals_golden(mean, 'posterior_mean')
  assert_equals_golden(log_variance, 'posterior_logvar')


def test_learned_distribution_equals_reference():
  mean, log_variance, x0 = gaussian.model_mean_variance(PROCESS, network(X_T, T), X_T, T)
  assert_equals_golden(mean, 'p_mean')
  assert_equals_golden(log_variance, 'p_log_variance')
  assert_equals_golden(x0, 'p_pred_xstart')


def test_losses_equal_reference():
  losses = gaussian.training_losses(PROCESS, network(X_T, T), X0, X_T, T, NOISE)
  assert losses.keys() == {'mse', 'vb', 'loss'}
  for name, value in losses.items():
    assert_equals_golden(value, f'loss_{name}')


def test_only_v_learns_from_the_bound():
  def bound(output):
    return gaussian.training_losses(PROCESS, output, X0, X_T, T, NOISE)['vb'].sum()

  eps, v = jnp.split(jax.grad(bound)(network(X_T, T)), 2, axis=-1)
  np.testing.assert_array_equal(eps, 0)
  assert (jnp.abs(v).max(axis=(1, 2, 3)) > 0).all()
  assert jnp.isfinite(v).all()


def test_without_learned_variance_the_loss_is_mse():
  losses = gaussian.training_losses(PROCESS, network(X_T, T)[..., :1], X0, X_T, T, NOISE)
  assert losses.keys() == {'mse', 'loss'}
  assert_equals_golden(losses['loss'], 'loss_mse')
  _, log_variance, _ = gaussian.model_mean_variance(PROCESS, network(X_T, T)[..., :1], X_T, T)
  expected = [PROCESS.posterior_variance[1], *PROCESS.betas[np.array([1, 500, 999])]]
  np.testing.assert_allclose(np.exp(log_variance[:, 0, 0, 0]), expected, rtol=1e-5)


def test_output_with_other_channels_is_refused():
  with pytest.raises(ValueError, match='3 output channels for images of 1'):
    gaussian.training_losses(PROCESS, jnp.zeros((4, 8, 8, 3)), X0, X_T, T, NOISE)


def test_predictions_undo_the_forward_process():
  np.testing.assert_allclose(gaussian.predict_x0_from_eps(PROCESS, X_T, T, NOISE)[:3], X0[:3], atol=1e-4)
  np.testing.assert_allclose(gaussian.predict_eps_from_x0(PROCESS, X_T, T, X0)[1:], NOISE[1:], atol=1e-4)


def test_learned_variance_spans_posterior_and_beta():
  low = gaussian.learned_log_variance(PROCESS, -jnp.ones_like(X0), T)[:, 0, 0, 0]
  high = gaussian.learned_log_variance(PROCESS, jnp.ones_like(X0), T)[:, 0, 0, 0]
  t = GOLDEN['t']
  np.testing.assert_allclose(low, PROCESS.posterior_log_variance_clipped[t], rtol=1e-6)
  np.testing.assert_allclose(high, np.log(PROCESS.betas)[t], rtol=1e-6)


def test_decoder_is_a_distribution_over_8_bit_pixels():
  pixels = jnp.linspace(-1, 1, 256).reshape(256, 1, 1, 1)
  for mean, log_scale in ((0.3, -2.0), (-1.2, -4.0), (0.9, 0.0)):
    ones = jnp.ones_like(pixels)
    log_probs = gaussian.decoder_log_likelihood(pixels, mean * ones, log_scale * ones)
    assert jnp.exp(log_probs).sum() == pytest.approx(1, abs=1e-4)


def test_kl_on_known_values():
  def kl(*values):
    return gaussian.normal_kl(*(jnp.full((1, 1, 1, 1), value) for value in values)).item()

  assert kl(0.5, -1.0, 0.5, -1.0) == 0
  assert kl(0.0, 0.0, 1.0, 0.0) == pytest.approx(0.5)
  assert kl(0.0, math.log(4), 0.0, 0.0) == pytest.approx(0.5 * (4 - 1 - math.log(4)))


def test_clipping_on_known_values():
  x0 = jnp.stack([jnp.linspace(-0.5, 0.5, 64), jnp.linspace(-4, 4, 64)]).reshape(2, 8, 8, 1)
  np.testing.assert_array_equal(gaussian.clip_x0(x0, None), x0)
  np.testing.assert_array_equal(gaussian.clip_x0(x0, 'static'), np.clip(x0, -1, 1))
  dynamic = gaussian.clip_x0(x0, 'dynamic')
  np.testing.assert_array_equal(dynamic[0], x0[0])  # in range: as it was
  bound = np.quantile(np.abs(x0[1]), 0.995)
  np.testing.assert_allclose(dynamic[1], np.clip(x0[1] / bound, -1, 1), rtol=1e-5)
  with pytest.raises(ValueError, match="'hard'"):
    gaussian.clip_x0(x0, 'hard')
