"""Samplers: equal to guided-diffusion step by step, and to theory where the answer is known."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fetal_jax.diffusion import samplers
from fetal_jax.diffusion.guidance import classifier_guidance
from fetal_jax.diffusion.samplers import SAMPLERS, Reverse
from fetal_jax.diffusion.schedule import linear_betas, make_process, process_from_betas
from fetal_jax.runtime.errors import UserError

GOLDEN = dict(np.load(pathlib.Path(__file__).resolve().parent.parent / 'golden' / 'diffusion.npz'))
X_T, STEP_NOISE, NOISES = (jnp.asarray(GOLDEN[name]) for name in ('x_T', 'step_noise', 'ancestral25_noises'))


def network(x, t):
  """The golden files' formulas for eps and v."""
  s = (t / 1000)[:, None, None, None]
  return jnp.concatenate([0.7 * x + 0.2 * jnp.sin(3 * x) + 0.1 * s, jnp.tanh(x - s)], axis=-1)


def gradient(x, t):
  s = (t / 1000)[:, None, None, None]
  return 0.5 * (jnp.asarray(GOLDEN['y'] / 5, jnp.float32)[:, None, None, None] - x) * (1 - s)


def no_noise(i):
  raise AssertionError('a deterministic sampler asked for noise')


def zeros(i):
  return jnp.zeros_like(X_T)


def golden_step(respacing, index):
  process, t = make_process(respacing=respacing), jnp.asarray(GOLDEN[index], jnp.int32)
  x_t, t_original = jnp.asarray(GOLDEN['x_t']), jnp.asarray(process.timesteps, jnp.int32)[t]
  return process, network(x_t, t_original), x_t, t, lambda x: gradient(x, t_original)


def test_ancestral_step_equals_reference():
  process, output, x_t, t, grad = golden_step('250', 't_index_250')
  x = samplers.ancestral_step(process, output, x_t, t, STEP_NOISE)
  np.testing.assert_allclose(x, GOLDEN['ancestral_250_unguided'], rtol=0, atol=1e-5)
  x = samplers.ancestral_step(process, output, x_t, t, STEP_NOISE, lambda x: 0.5 * grad(x))
  np.testing.assert_allclose(x, GOLDEN['ancestral_250_guided'], rtol=0, atol=1e-5)


@pytest.mark.parametrize('eta', [0, 1])
def test_ddim_step_equals_reference(eta):
  process, output, x_t, t, grad = golden_step('ddim25', 't_index_ddim25')
  x = samplers.ddim_step(process, output, x_t, t, STEP_NOISE, grad, eta)
  np.testing.assert_allclose(x, GOLDEN[f'ddim25_guided_eta{eta}'], rtol=0, atol=1e-5)


def test_ddim_loop_equals_reference():
  process = make_process(respacing='ddim25')
  x = samplers.ddim(Reverse(process, network, no_noise, guidance=gradient), X_T)
  np.testing.assert_allclose(x, GOLDEN['ddim25_loop_guided_eta0'], rtol=0, atol=2e-4)


def test_ancestral_loop_equals_reference():
  process = make_process(respacing='25')
  reverse = Reverse(process, network, lambda i: NOISES[24 - i], guidance=gradient, guidance_scale=0.5)
  x = samplers.ancestral(reverse, X_T)
  np.testing.assert_allclose(x, GOLDEN['ancestral25_loop_guided'], rtol=0, atol=2e-4)


def test_ddim_at_eta_1_is_ancestral_with_the_posterior_variance():
  process, output, x_t, _, _ = golden_step('250', 't_index_250')
  t = jnp.array([2, 9, 100, 249])
  output = output.at[..., 1:].set(-1)
  ours = samplers.ddim_step(process, output, x_t, t, STEP_NOISE, eta=1.0)
  ancestral = samplers.ancestral_step(process, output, x_t, t, STEP_NOISE)
  np.testing.assert_allclose(ours, ancestral, atol=1e-4)


def test_guidance_at_the_mean_asks_there():
  process, output, x_t, t, _ = golden_step('250', 't_index_250')
  unguided = samplers.ancestral_step(process, output, x_t, t, jnp.zeros_like(x_t))
  asked = []

  def record(x):
    asked.append(x)
    return jnp.ones_like(x)

  guided = samplers.ancestral_step(process, output, x_t, t, jnp.zeros_like(x_t), record, 'mean')
  np.testing.assert_array_equal(asked[0], unguided)
  assert (guided > unguided).all()


@pytest.mark.parametrize('name', sorted(SAMPLERS))
def test_no_guidance_costs_nothing(name):
  def refuse(x, t):
    raise AssertionError('guidance was traced')

  process = make_process(respacing='5')
  for scale in (0, 0.0):
    unguided = SAMPLERS[name](Reverse(process, network, zeros, guidance=refuse, guidance_scale=scale), X_T)
    np.testing.assert_array_equal(unguided, SAMPLERS[name](Reverse(process, network, zeros), X_T))


@pytest.mark.parametrize('name', sorted(SAMPLERS))
def test_guidance_is_skipped_outside_its_interval(name):
  process = make_process(respacing='5')  # timesteps 0, 250, 500, 749, 999

  def only_inside(x, t):
    t = t[:, None, None, None]
    return jnp.where((t >= 250) & (t <= 749), 0.5, jnp.nan) * jnp.ones_like(x)

  sample = SAMPLERS[name]
  guided = sample(Reverse(process, network, zeros, guidance=only_inside, interval=(250, 749)), X_T)
  assert jnp.isfinite(guided).all()
  unguided = sample(Reverse(process, network, zeros), X_T)
  assert jnp.abs(guided - unguided).max() > 1e-3
  everywhere = sample(Reverse(process, network, zeros, guidance=only_inside), X_T)
  assert not jnp.isfinite(everywhere).any()


def test_both_ends_of_the_interval_are_guided():
  process = make_process(respacing='5')  # timesteps 0, 250, 500, 749, 999

  def sample(interval):
    return samplers.ddim(Reverse(process, network, zeros, guidance=gradient, interval=interval), X_T)

  guided = sample((250, 749))
  np.testing.assert_array_equal(sample((249, 750)), guided)
  assert jnp.abs(sample((251, 749)) - guided).max() > 1e-4
  assert jnp.abs(sample((250, 748)) - guided).max() > 1e-4


def test_dpmpp_clips_after_guidance():
  process, output, x_t, t, grad = golden_step('250', 't_index_250')

  def predicted(clip):
    before = jnp.zeros_like(x_t)
    return samplers.dpmpp_2m_step(process, output, x_t, before, t, lambda x: 100 * grad(x), clip)[1]

  assert jnp.abs(predicted(None)).max() > 1.5
  np.testing.assert_array_equal(predicted('static'), jnp.clip(predicted(None), -1, 1))


@pytest.mark.parametrize('name', sorted(SAMPLERS))
def test_each_image_is_its_own_and_scale_can_be_swept(name):
  process = make_process(respacing='5')

  @jax.jit
  def sample(x, noises, scale):
    def guidance(x, t):
      return 0.1 - x

    reverse = Reverse(process, network, lambda i: noises[i], guidance=guidance, guidance_scale=scale)
    return SAMPLERS[name](reverse, x)

  both = sample(X_T, NOISES[:5], 0.7)
  np.testing.assert_allclose(sample(X_T[::-1], NOISES[:5, ::-1], 0.7)[::-1], both, atol=1e-6)
  assert jnp.abs(sample(X_T, NOISES[:5], 0.0) - both).max() > 1e-3
  unguided = SAMPLERS[name](Reverse(process, network, lambda i: NOISES[i]), X_T)
  np.testing.assert_allclose(sample(X_T, NOISES[:5], 0.0), unguided, atol=1e-5)
  assert both.dtype == jnp.float32


@pytest.mark.parametrize('name', sorted(SAMPLERS))
def test_one_step_predicts_x0(name):
  process = make_process(respacing='1')
  x = SAMPLERS[name](Reverse(process, lambda x, t: jnp.zeros_like(x), zeros, clip=None), X_T)
  np.testing.assert_allclose(x, X_T / np.sqrt(process.alphas_cumprod[0]), rtol=1e-5)


@pytest.mark.parametrize(
  ('name', 'settings', 'message'),
  [
    ('ancestral', {'eta': 0.5}, 'eta=0.5: ancestral has no use for it; leave it at 0.0'),
    ('ddim', {'guidance_at': 'mean'}, 'guidance_at=mean: ddim has no use for it; leave it at x_t'),
    ('dpmpp_2m', {'eta': 1.0}, 'eta=1.0: dpmpp_2m'),
    ('dpmpp_2m', {'guidance_at': 'mean'}, 'guidance_at=mean: dpmpp_2m'),
  ],
)
def test_settings_without_effect_are_refused(name, settings, message):
  with pytest.raises(UserError, match=message):
    samplers.refuse_unused(name, **settings)


# From here on the data are Gaussian, so that the exact network is known: with x_0 ~ N(mean, std²),
# x_t ~ N(alpha mean, alpha² std² + sigma²), and eps is -sigma times the score of that.


def marginal(alphas_cumprod, t, mean, std):
  alpha_bar = jnp.asarray(alphas_cumprod, jnp.float32)[t][:, None, None, None]
  return jnp.sqrt(alpha_bar) * mean, alpha_bar * std**2 + 1 - alpha_bar, jnp.sqrt(1 - alpha_bar)


def lambda_uniform_process(steps):
  """Steps even in lambda = log(alpha / sigma), the solver's own time, picked from a much finer process."""
  betas = linear_betas(50_000)
  alphas_cumprod = np.cumprod(1 - betas)
  lambdas = 0.5 * np.log(alphas_cumprod / (1 - alphas_cumprod))
  kept = np.searchsorted(-lambdas, -np.linspace(3.0, -4.5, steps))
  return process_from_betas(betas, kept), alphas_cumprod


def error_against_exact_ode(name, process, alphas_cumprod, mean, std):
  def exact_network(x, t):
    center, variance, sigma = marginal(alphas_cumprod, t, mean, std)
    return sigma * (x - center) / variance

  x = jnp.array([-1.5, 0.7, 2.0]).reshape(3, 1, 1, 1)
  sampled = SAMPLERS[name](Reverse(process, exact_network, no_noise, clip=None), x)
  # Along the ODE the standardised x is constant. The last step, to E[x_0 | x], is exact for its start.
  first, last = process.timesteps[[-1]], process.timesteps[[0]]
  center, variance, _ = marginal(alphas_cumprod, first, mean, std)
  z = (x - center) / jnp.sqrt(variance)
  _, variance, _ = marginal(alphas_cumprod, last, mean, std)
  exact = mean + np.sqrt(alphas_cumprod[last]) * std**2 * z / jnp.sqrt(variance)
  return jnp.abs(sampled - exact).max()


@pytest.mark.parametrize(('name', 'order'), [('ddim', 1), ('dpmpp_2m', 2)])
def test_order_of_convergence_to_the_exact_ode(name, order):
  steps = np.array([40, 80, 160])
  errors = [error_against_exact_ode(name, *lambda_uniform_process(count), 0.4, 0.5) for count in steps]
  slope = -np.polyfit(np.log(steps), np.log(np.array(errors)), 1)[0]
  assert slope == pytest.approx(order, abs=0.15), errors


def test_second_order_pays_at_20_steps():
  def error(name, respacing):
    return error_against_exact_ode(
      name, make_process(respacing=respacing), make_process().alphas_cumprod, -0.4, 0.15
    )

  assert error('dpmpp_2m', 'quad20') < error('ddim', 'quad20') / 3
  # Even steps in t end with a jump in lambda that a second-order step would overshoot.
  assert error('dpmpp_2m', '20') < error('ddim', '20')


def test_guided_ancestral_sampling_draws_the_asked_class():
  """Score of a mixture plus gradient of its exact classifier = score of one class, by Bayes' rule."""
  process, std = make_process(), 0.3
  means = jnp.array([-0.8, 0.1, 0.9])
  y = jnp.arange(3).repeat(2000)

  def log_likelihoods(x, t):
    center, variance, _ = marginal(process.alphas_cumprod, t, means, std)
    return (-((x - center) ** 2) / (2 * variance))[:, 0, 0]

  def exact_network(x, t):
    _, _, sigma = marginal(process.alphas_cumprod, t, 0.0, std)
    score = jax.grad(lambda x: jax.nn.logsumexp(log_likelihoods(x, t), axis=-1).sum())(x)
    return -sigma * score

  @jax.jit
  def sample(key):
    x = jax.random.normal(key, (len(y), 1, 1, 1))
    reverse = Reverse(
      process,
      exact_network,
      noise=lambda i: jax.random.normal(jax.random.fold_in(key, i), x.shape),
      guidance=classifier_guidance(log_likelihoods, y),
      clip=None,
    )
    return samplers.ancestral(reverse, x)

  x = sample(jax.random.key(0)).reshape(3, 2000)
  # Four standard errors of a mean and of a deviation of 2000 draws.
  np.testing.assert_allclose(x.mean(axis=1), means, atol=4 * std / np.sqrt(2000))
  np.testing.assert_allclose(x.std(axis=1), std, atol=4 * std / np.sqrt(4000))
