"""Reverse processes, guided or not: plain functions `f(reverse, x) -> x_0` around one `lax.scan`.

`x` is x_T: standard normal, `[B, H, W, C]`; `Reverse` is everything else that a sampler is given. x_0 is float32
`[B, H, W, C]`, about [-1, 1]. A setting that a sampler cannot honour raises ValueError.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Num

from fetal_jax.diffusion import gaussian
from fetal_jax.diffusion.guidance import Guidance
from fetal_jax.diffusion.schedule import Process
from fetal_jax.runtime.errors import UserError

Images = Float[Array, 'b h w c']
Index = Int[Array, 'b']
Model = Callable[[Images, Num[Array, 'b']], Float[Array, 'b h w out']]
Noise = Callable[[Int[Array, '']], Images]
Gradient = Callable[[Images], Images]  # of log p(y | x), already scaled
Scale = int | float | Float[Array, '']
Interval = tuple[int | float, int | float]

# MARK: What a sampler is given


@dataclasses.dataclass(frozen=True, eq=False)
class Reverse:
  """A reverse process and its settings.

  Attributes:
    process: tables of K steps; a respaced one for fewer network calls.
    model: `(x, t) -> eps` or `eps and v`, with t `[B]` in original timesteps.
    noise: `i -> [B, H, W, C]` standard normal for the step that starts at index i of the process (traced int32,
      K-1 down to 0), so that keys can be folded with it; a deterministic sampler never calls it.
    guidance: `(x, t) ->` gradient of log p(y | x_t) with respect to x, t as for the model; None for none.
    guidance_scale: factor of the gradient; a Python 0 is the same as no guidance, at no cost.
    interval: (low, high) in original timesteps, both included; outside, guidance is not computed at all.
    guidance_at: 'x_t' as in the reference, or 'mean', the predicted mean, as derived ('ancestral' only).
    eta: 0 deterministic, 1 as noisy as the ancestral process ('ddim' only).
    clip: keeps predicted images in range: 'static', 'dynamic' or None, see `gaussian.clip_x0`.
  """

  process: Process
  model: Model
  noise: Noise
  guidance: Guidance | None = None
  guidance_scale: Scale = 1.0
  interval: Interval | None = None
  guidance_at: str = 'x_t'
  eta: int | float = 0.0
  clip: str | None = 'static'

  def __post_init__(self) -> None:
    if self.guidance_at not in ('x_t', 'mean'):
      raise ValueError(f"guidance_at must be 'x_t' or 'mean', not {self.guidance_at!r}")


Sampler = Callable[[Reverse, Images], Images]

# MARK: The loop


class At(NamedTuple):
  """The point at which a step starts."""

  i: Int[Array, '']  # index into the process
  t: Index  # the same, once for each image
  timestep: Index  # the original timestep, which the networks are given
  gradient: Gradient | None  # scaled; 0 and free outside the interval


def _scan(reverse: Reverse, step: Callable[[Any, At], Any], carry: Any) -> Any:
  """Runs `step(carry, at) -> carry` from the last index of the process to 0; x_t is the carry's first array."""
  process, shape = reverse.process, jax.tree.leaves(carry)[0].shape[:1]

  def body(carry: Any, i: Int[Array, '']) -> tuple[Any, None]:
    timestep = jnp.asarray(process.timesteps, jnp.int32)[i]
    t, timestep = jnp.broadcast_to(i, shape), jnp.broadcast_to(timestep, shape)
    return step(carry, At(i, t, timestep, _scaled_gradient(reverse, i, timestep))), None

  return jax.lax.scan(body, carry, jnp.arange(len(process) - 1, -1, -1, dtype=jnp.int32))[0]


def _scaled_gradient(reverse: Reverse, i: Int[Array, ''], timestep: Index) -> Gradient | None:
  """Returns the gradient times its scale, or None without guidance; outside the interval it is 0, at no cost."""
  guidance, scale, interval = reverse.guidance, reverse.guidance_scale, reverse.interval
  if guidance is None or (isinstance(scale, int | float) and scale == 0):
    return None

  def gradient(x: Images) -> Images:
    return scale * guidance(x, timestep)

  if interval is None:
    return gradient
  timesteps = reverse.process.timesteps
  active = (timesteps >= interval[0]) & (timesteps <= interval[1])
  return lambda x: jax.lax.cond(jnp.asarray(active)[i], gradient, jnp.zeros_like, x)


def refuse_unused(sampler: str, **settings: Any) -> None:
  """Refuses a setting of `Reverse` that is not at its default and for which the sampler has no use, see `NO_USE`.

  Raises:
    UserError: names the setting.
  """
  defaults = {field.name: field.default for field in dataclasses.fields(Reverse)}
  for name in NO_USE.get(sampler, ()):
    if name in settings and settings[name] != defaults[name]:
      raise UserError(f'{name}={settings[name]}: {sampler} has no use for it; leave it at {defaults[name]}')


# MARK: Ancestral sampling (DDPM)


def ancestral(reverse: Reverse, x: Images) -> Images:
  """Draws with the variance that the network learned, as the reference does (DDPM)."""

  def step(x: Images, at: At) -> Images:
    output = reverse.model(x, at.timestep)
    noise = reverse.noise(at.i)
    return ancestral_step(
      reverse.process, output, x, at.t, noise, at.gradient, reverse.guidance_at, reverse.clip
    )

  return _scan(reverse, step, x)


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
  """Draws x_{t-1} from p(x_{t-1} | x_t), its mean shifted by variance · gradient (arXiv:2105.05233, algorithm 1)."""
  mean, log_variance, _ = gaussian.model_mean_variance(process, model_output, x_t, t, clip)
  if gradient is not None:
    mean += jnp.exp(log_variance) * gradient(x_t if guidance_at == 'x_t' else mean)
  last = (t == 0)[:, None, None, None]
  return jnp.where(last, mean, mean + jnp.exp(log_variance / 2) * noise)


# MARK: DDIM


def ddim(reverse: Reverse, x: Images) -> Images:
  """Solves to first order, deterministic at eta 0: few steps (25 in the reference)."""

  def step(x: Images, at: At) -> Images:
    noise = reverse.noise(at.i) if reverse.eta else None
    output = reverse.model(x, at.timestep)
    return ddim_step(reverse.process, output, x, at.t, noise, at.gradient, reverse.eta, reverse.clip)

  return _scan(reverse, step, x)


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
  """Steps to x_{t-1} by DDIM (arXiv:2010.02502, equation 12), guided through the score (arXiv:2105.05233, algorithm 2).

  The guided prediction of x_0 is not clipped again, as in the reference. `noise` is only used if eta > 0.
  """
  eps, x0 = _predict(process, model_output, x_t, t, gradient, clip)
  ratio = (1 - process.alphas_cumprod_prev) / (1 - process.alphas_cumprod)
  sigma = eta * np.sqrt(ratio * process.betas)
  direction = np.sqrt(1 - process.alphas_cumprod_prev - sigma**2)
  x = gaussian.gather(np.sqrt(process.alphas_cumprod_prev), t, x_t) * x0
  x += gaussian.gather(direction, t, x_t) * eps
  return x if noise is None else x + gaussian.gather(sigma, t, x_t) * noise


# MARK: DPM-Solver++(2M)


def dpmpp_2m(reverse: Reverse, x: Images) -> Images:
  """Solves to second order, deterministic: the fewest steps (respacing 'quad20'). Ignores a learned variance."""

  def step(carry: tuple[Images, Images], at: At) -> tuple[Images, Images]:
    x, x0_before = carry
    output = reverse.model(x, at.timestep)
    return dpmpp_2m_step(reverse.process, output, x, x0_before, at.t, at.gradient, reverse.clip)

  return _scan(reverse, step, (x, jnp.zeros_like(x)))[0]


def dpmpp_2m_step(
  process: Process,
  model_output: Float[Array, 'b h w out'],
  x_t: Images,
  x0_before: Images,
  t: Index,
  gradient: Gradient | None = None,
  clip: str | None = 'static',
) -> tuple[Images, Images]:
  """Takes a step of DPM-Solver++(2M) (arXiv:2211.01095, algorithm 2), in lambda = log(alpha / sigma).

  Args:
    x0_before: x_0 as predicted by the step before; ignored at the first step (the highest index).

  Returns:
    x_{t-1} (at index 0: x_0), and the predicted x_0 that the next step needs, clipped after guidance.
  """
  _, x0 = _predict(process, model_output, x_t, t, gradient, None)
  x0 = gaussian.clip_x0(x0, clip)
  x_coefficient, x0_coefficient, extrapolation = _dpmpp_2m_coefficients(process)
  x0_ahead = x0 + gaussian.gather(extrapolation, t, x_t) * (x0 - x0_before)
  x = gaussian.gather(x_coefficient, t, x_t) * x_t + gaussian.gather(x0_coefficient, t, x_t) * x0_ahead
  return x, x0


def _dpmpp_2m_coefficients(process: Process) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Returns, for each index, the factors of x_t, of the predicted x_0, and of its change since the step before."""
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


# MARK: Shared


def _predict(
  process: Process,
  model_output: Float[Array, 'b h w out'],
  x_t: Images,
  t: Index,
  gradient: Gradient | None,
  clip: str | None,
) -> tuple[Images, Images]:
  """Returns noise and x_0 that agree with each other: x_0 clipped, then both guided through the score."""
  eps, _ = gaussian.split_output(model_output, x_t.shape[-1])
  x0 = gaussian.clip_x0(gaussian.predict_x0_from_eps(process, x_t, t, eps), clip)
  eps = gaussian.predict_eps_from_x0(process, x_t, t, x0)
  if gradient is not None:
    eps -= gaussian.gather(np.sqrt(1 - process.alphas_cumprod), t, x_t) * gradient(x_t)
    x0 = gaussian.predict_x0_from_eps(process, x_t, t, eps)
  return eps, x0


SAMPLERS: dict[str, Sampler] = {'ancestral': ancestral, 'ddim': ddim, 'dpmpp_2m': dpmpp_2m}

# The settings of `Reverse` that a sampler ignores; `make_sample` refuses them.
NO_USE: dict[str, tuple[str, ...]] = {
  'ancestral': ('eta',),
  'ddim': ('guidance_at',),
  'dpmpp_2m': ('guidance_at', 'eta'),
}
