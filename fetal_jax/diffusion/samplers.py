"""Reverse processes, guided or not: plain functions of one signature, each loop one `lax.scan`.

    f(process, model, x, *, noise, guidance=None, guidance_scale=1.0, interval=None, guidance_at='x_t',
      eta=0.0, clip='static') -> x_0

  process: tables of K steps; a respaced one for fewer network calls.
  model: `(x, t) -> eps` or `eps and v`, with t `[B]` in original timesteps.
  x: `[B, H, W, C]` standard normal, x_T.
  noise: `i -> [B, H, W, C]` standard normal for the step that starts at index i of the process (traced int32,
    K-1 down to 0), so that keys can be folded with it; a deterministic sampler never calls it.
  guidance: `(x, t) ->` gradient of log p(y | x_t) with respect to x, t as for the model; None for none.
  guidance_scale: its factor; a Python 0 is the same as no guidance, at no cost.
  interval: (low, high) in original timesteps, both included; outside, guidance is not computed at all.
  guidance_at: 'x_t' as in the reference, or 'mean', the predicted mean, as derived ('ancestral' only).
  eta: 0 deterministic, 1 as noisy as the ancestral process ('ddim' only).
  clip: what keeps predicted images in range: 'static', 'dynamic' or None, see `gaussian.clip_x0`.

Returns x_0, float32 `[B, H, W, C]`, about [-1, 1]. Settings that a sampler cannot honour raise ValueError.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Num

from fetal_jax.diffusion import gaussian
from fetal_jax.diffusion.guidance import Guidance
from fetal_jax.diffusion.schedule import Process

Images = Float[Array, 'b h w c']
Index = Int[Array, 'b']
Model = Callable[[Images, Num[Array, 'b']], Float[Array, 'b h w out']]
Noise = Callable[[Int[Array, '']], Images]
Gradient = Callable[[Images], Images]  # of log p(y | x), already scaled
Scale = int | float | Float[Array, '']
Interval = tuple[int | float, int | float]


def ancestral_step(
  process: Process,
  model_output: Float[Array, 'b h w out'],
  x_t: Images,
  t: Index,
  noise: Images,
  gradient: Gradient | None = None,
  guidance_at: str = 'x_t',
  clip: str | None = 'static',
) -> Images:
  """x_{t-1} from p(x_{t-1} | x_t), its mean shifted by variance · gradient (arXiv:2105.05233, algorithm 1)."""
  mean, log_variance, _ = gaussian.model_mean_variance(process, model_output, x_t, t, clip)
  if gradient is not None:
    mean += jnp.exp(log_variance) * gradient(x_t if guidance_at == 'x_t' else mean)
  last = (t == 0)[:, None, None, None]
  return jnp.where(last, mean, mean + jnp.exp(log_variance / 2) * noise)


def ddim_step(
  process: Process,
  model_output: Float[Array, 'b h w out'],
  x_t: Images,
  t: Index,
  noise: Images | None = None,
  gradient: Gradient | None = None,
  eta: int | float = 0.0,
  clip: str | None = 'static',
) -> Images:
  """x_{t-1} by DDIM (arXiv:2010.02502, equation 12), guided through the score (arXiv:2105.05233, algorithm 2).

  The guided prediction of x_0 is not clipped again, as in the reference. `noise` is only used if eta > 0.
  """
  eps, x0 = _predict(process, model_output, x_t, t, gradient, clip)
  ratio = (1 - process.alphas_cumprod_prev) / (1 - process.alphas_cumprod)
  sigma = eta * np.sqrt(ratio * process.betas)
  direction = np.sqrt(1 - process.alphas_cumprod_prev - sigma**2)
  x = gaussian.gather(np.sqrt(process.alphas_cumprod_prev), t, x_t) * x0
  x += gaussian.gather(direction, t, x_t) * eps
  return x if noise is None else x + gaussian.gather(sigma, t, x_t) * noise


def dpmpp_2m_step(
  process: Process,
  model_output: Float[Array, 'b h w out'],
  x_t: Images,
  x0_before: Images,
  t: Index,
  gradient: Gradient | None = None,
  clip: str | None = 'static',
) -> tuple[Images, Images]:
  """One step of DPM-Solver++(2M) (arXiv:2211.01095, algorithm 2), in lambda = log(alpha / sigma).

  Args:
    x0_before: the predicted x_0 of the step before; ignored at the first step (the highest index).

  Returns:
    x_{t-1} (at index 0: x_0), and the predicted x_0 that the next step asks for, clipped after guidance.
  """
  _, x0 = _predict(process, model_output, x_t, t, gradient, None)
  x0 = gaussian.clip_x0(x0, clip)
  x_coefficient, x0_coefficient, extrapolation = _dpmpp_2m_coefficients(process)
  x0_ahead = x0 + gaussian.gather(extrapolation, t, x_t) * (x0 - x0_before)
  x = gaussian.gather(x_coefficient, t, x_t) * x_t + gaussian.gather(x0_coefficient, t, x_t) * x0_ahead
  return x, x0


def _dpmpp_2m_coefficients(process: Process) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Per index: what multiplies x_t, the data prediction, and its change since the step before."""
  alpha, sigma = np.sqrt(process.alphas_cumprod), np.sqrt(1 - process.alphas_cumprod)
  lambdas = np.log(alpha / sigma)
  h = lambdas[:-1] - lambdas[1:]  # h[i - 1] is the step from index i to i - 1
  # From index 0 on, sigma = 0: the step is to the predicted x_0 itself.
  x_coefficient = np.append(0.0, sigma[:-1] / sigma[1:])
  x0_coefficient = np.append(1.0, -alpha[:-1] * np.expm1(-h))
  # First order where there is no step before, and into the two last nodes: lambda diverges there, so that h
  # is many times the step before, and a straight line through the two last predictions overshoots.
  extrapolation = np.zeros(len(process))
  extrapolation[2:-1] = h[1:-1] / (2 * h[2:])
  return x_coefficient, x0_coefficient, extrapolation


def _predict(
  process: Process,
  model_output: Float[Array, 'b h w out'],
  x_t: Images,
  t: Index,
  gradient: Gradient | None,
  clip: str | None,
) -> tuple[Images, Images]:
  """Noise and x_0 that agree with each other: x_0 clipped, then both guided through the score."""
  eps, _ = gaussian.split_output(model_output, x_t.shape[-1])
  x0 = gaussian.clip_x0(gaussian.predict_x0_from_eps(process, x_t, t, eps), clip)
  eps = gaussian.predict_eps_from_x0(process, x_t, t, x0)
  if gradient is not None:
    eps -= gaussian.gather(np.sqrt(1 - process.alphas_cumprod), t, x_t) * gradient(x_t)
    x0 = gaussian.predict_x0_from_eps(process, x_t, t, eps)
  return eps, x0


def ancestral(
  process: Process,
  model: Model,
  x: Images,
  *,
  noise: Noise,
  guidance: Guidance | None = None,
  guidance_scale: Scale = 1.0,
  interval: Interval | None = None,
  guidance_at: str = 'x_t',
  eta: int | float = 0.0,
  clip: str | None = 'static',
) -> Images:
  """The reference's sampler: DDPM with the variance that the network learned."""
  if guidance_at not in ('x_t', 'mean'):
    raise ValueError(f"guidance_at must be 'x_t' or 'mean', not {guidance_at!r}")
  _refuse('ancestral', eta=eta != 0)
  gradient_at = _scaled(process, guidance, guidance_scale, interval)

  def step(x: Images, i: Int[Array, '']) -> tuple[Images, None]:
    t, t_original = _at(process, i, x)
    gradient = gradient_at(i, t_original)
    x = ancestral_step(process, model(x, t_original), x, t, noise(i), gradient, guidance_at, clip)
    return x, None

  return jax.lax.scan(step, x, _indices(process))[0]


def ddim(
  process: Process,
  model: Model,
  x: Images,
  *,
  noise: Noise,
  guidance: Guidance | None = None,
  guidance_scale: Scale = 1.0,
  interval: Interval | None = None,
  guidance_at: str = 'x_t',
  eta: int | float = 0.0,
  clip: str | None = 'static',
) -> Images:
  """First-order and deterministic at eta 0: few steps (25 in the reference)."""
  _refuse('ddim', guidance_at=guidance_at != 'x_t')
  gradient_at = _scaled(process, guidance, guidance_scale, interval)

  def step(x: Images, i: Int[Array, '']) -> tuple[Images, None]:
    t, t_original = _at(process, i, x)
    gradient = gradient_at(i, t_original)
    step_noise = noise(i) if eta else None
    return ddim_step(process, model(x, t_original), x, t, step_noise, gradient, eta, clip), None

  return jax.lax.scan(step, x, _indices(process))[0]


def dpmpp_2m(
  process: Process,
  model: Model,
  x: Images,
  *,
  noise: Noise,
  guidance: Guidance | None = None,
  guidance_scale: Scale = 1.0,
  interval: Interval | None = None,
  guidance_at: str = 'x_t',
  eta: int | float = 0.0,
  clip: str | None = 'static',
) -> Images:
  """Second-order and deterministic: the fewest steps (respacing 'quad20'); a learned variance is not used."""
  del noise  # an ODE solver
  _refuse('dpmpp_2m', guidance_at=guidance_at != 'x_t', eta=eta != 0)
  gradient_at = _scaled(process, guidance, guidance_scale, interval)

  def step(carry: tuple[Images, Images], i: Int[Array, '']) -> tuple[tuple[Images, Images], None]:
    x, x0_before = carry
    t, t_original = _at(process, i, x)
    gradient = gradient_at(i, t_original)
    return dpmpp_2m_step(process, model(x, t_original), x, x0_before, t, gradient, clip), None

  (x, _), _ = jax.lax.scan(step, (x, jnp.zeros_like(x)), _indices(process))
  return x


SAMPLERS: dict[str, Callable[..., Images]] = {'ancestral': ancestral, 'ddim': ddim, 'dpmpp_2m': dpmpp_2m}


def _indices(process: Process) -> Int[Array, 'k']:
  return jnp.arange(len(process) - 1, -1, -1, dtype=jnp.int32)


def _at(process: Process, i: Int[Array, ''], x: Images) -> tuple[Index, Index]:
  """The index and the original timestep, once for each image."""
  timestep = jnp.asarray(process.timesteps, jnp.int32)[i]
  return jnp.broadcast_to(i, x.shape[:1]), jnp.broadcast_to(timestep, x.shape[:1])


def _scaled(
  process: Process,
  guidance: Guidance | None,
  scale: Scale,
  interval: Interval | None,
) -> Callable[[Int[Array, ''], Index], Gradient | None]:
  """`(i, t_original) ->` scaled gradient as a function of x; it is 0 and free outside the interval."""
  if guidance is None or (isinstance(scale, int | float) and scale == 0):
    return lambda i, t_original: None
  if interval is None:
    return lambda i, t_original: lambda x: scale * guidance(x, t_original)
  active = (process.timesteps >= interval[0]) & (process.timesteps <= interval[1])

  def gradient_at(i: Int[Array, ''], t_original: Index) -> Gradient:
    return lambda x: jax.lax.cond(
      jnp.asarray(active)[i], lambda x: scale * guidance(x, t_original), jnp.zeros_like, x
    )

  return gradient_at


def _refuse(sampler: str, **asked: bool) -> None:
  for setting, is_asked in asked.items():
    if is_asked:
      raise ValueError(f'{sampler} has no use for {setting}; leave it at its default')
