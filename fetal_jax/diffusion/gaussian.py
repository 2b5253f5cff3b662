"""Gaussian diffusion: the forward process, its posterior, the distribution that the network predicts, and the loss.

Functions take the process first. `t` is an index into it, one an image (`[B]`); what the networks are told
is `process.timesteps[t]`.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from fetal_jax.diffusion.schedule import Process

Images = Float[Array, 'b h w c']
Index = Int[Array, 'b']


def gather(table: np.ndarray, t: Index, like: Images) -> Float[Array, 'b 1 1 1']:
  """Looks up a float64 table at `t`, in the dtype of the images it will multiply."""
  return jnp.asarray(table, like.dtype)[t][:, None, None, None]


def q_sample(process: Process, x0: Images, t: Index, noise: Images) -> Images:
  """Draws x_t from q(x_t | x_0), given standard normal noise (DDPM, equation 4)."""
  return (
    gather(np.sqrt(process.alphas_cumprod), t, x0) * x0
    + gather(np.sqrt(1 - process.alphas_cumprod), t, x0) * noise
  )


def predict_x0_from_eps(process: Process, x_t: Images, t: Index, eps: Images) -> Images:
  """Solves `q_sample` for x_0."""
  return (
    gather(np.sqrt(1 / process.alphas_cumprod), t, x_t) * x_t
    - gather(np.sqrt(1 / process.alphas_cumprod - 1), t, x_t) * eps
  )


def predict_eps_from_x0(process: Process, x_t: Images, t: Index, x0: Images) -> Images:
  """Solves `q_sample` for the noise."""
  return (gather(np.sqrt(1 / process.alphas_cumprod), t, x_t) * x_t - x0) / gather(
    np.sqrt(1 / process.alphas_cumprod - 1), t, x_t
  )


def q_posterior(
  process: Process, x0: Images, x_t: Images, t: Index
) -> tuple[Images, Float[Array, 'b 1 1 1']]:
  """Returns mean and clipped log variance of q(x_{t-1} | x_t, x_0) (DDPM, equation 7)."""
  mean = (
    gather(process.posterior_mean_coef1, t, x_t) * x0 + gather(process.posterior_mean_coef2, t, x_t) * x_t
  )
  return mean, gather(process.posterior_log_variance_clipped, t, x_t)


def learned_log_variance(process: Process, v: Images, t: Index) -> Images:
  """Interpolates the log variance between posterior (v = -1) and beta (v = 1); v is not clamped.

  Improved DDPM, equation 15, with v scaled to [-1, 1].
  """
  low = gather(process.posterior_log_variance_clipped, t, v)
  high = gather(np.log(process.betas), t, v)
  return low + (v + 1) / 2 * (high - low)


def clip_x0(x0: Images, clip: str | None) -> Images:
  """Keeps predicted images in range.

  'static' clamps to [-1, 1]. 'dynamic' clamps each image to its own 99.5th percentile of absolute values,
  if that is above 1, and divides by it (Imagen, arXiv:2205.11487, section 2.3). None does nothing.

  Raises:
    ValueError: another value of `clip`.
  """
  if clip is None:
    return x0
  if clip == 'static':
    return jnp.clip(x0, -1, 1)
  if clip == 'dynamic':
    bound = jnp.quantile(jnp.abs(x0), 0.995, axis=(1, 2, 3), keepdims=True)
    bound = jnp.maximum(bound, 1)
    return jnp.clip(x0, -bound, bound) / bound
  raise ValueError(f"clip must be 'static', 'dynamic' or None, not {clip!r}")


def split_output(
  model_output: Float[Array, 'b h w out'], channels: int
) -> tuple[Images, Float[Array, 'b h w c'] | None]:
  """Splits a network's output into eps and v; v is None where the variance is not learned.

  Raises:
    ValueError: the output has neither as many channels as the images nor twice as many.
  """
  if model_output.shape[-1] == channels:
    return model_output, None
  if model_output.shape[-1] == 2 * channels:
    return model_output[..., :channels], model_output[..., channels:]
  raise ValueError(
    f'{model_output.shape[-1]} output channels for images of {channels}: not eps, nor eps and v'
  )


def model_mean_variance(
  process: Process,
  model_output: Float[Array, 'b h w out'],
  x_t: Images,
  t: Index,
  clip: str | None = 'static',
) -> tuple[Images, Float[Array, 'b #h #w #c'], Images]:
  """Reads p(x_{t-1} | x_t) from the network's output.

  Returns:
    Mean; log variance (learned where the output has twice the channels, else "fixed large", `[B, 1, 1, 1]`);
    and the predicted x_0, after `clip_x0`.
  """
  eps, v = split_output(model_output, x_t.shape[-1])
  x0 = clip_x0(predict_x0_from_eps(process, x_t, t, eps), clip)
  mean, _ = q_posterior(process, x0, x_t, t)
  if v is None:
    return mean, gather(process.fixed_large_log_variance, t, x_t), x0
  return mean, learned_log_variance(process, v, t), x0


def training_losses(
  process: Process,
  model_output: Float[Array, 'b h w out'],
  x0: Images,
  x_t: Images,
  t: Index,
  noise: Images,
) -> dict[str, Float[Array, 'b']]:
  """Computes the hybrid loss of each image (Improved DDPM, equation 16).

  Returns:
    'mse' of the noise; 'vb', the term of the variational bound at t in bits per dimension, which trains only
    the variance and is absent where that is not learned; and 'loss', their sum. The bound has T terms, so at
    T = 1000 a sum with weight 1 for one of them is lambda = 0.001 for the whole bound.
  """
  eps, v = split_output(model_output, x0.shape[-1])
  mse = jnp.mean((noise - eps) ** 2, axis=(1, 2, 3))
  if v is None:
    return {'mse': mse, 'loss': mse}
  frozen = jnp.concatenate([jax.lax.stop_gradient(eps), v], axis=-1)
  vb = variational_bound(process, frozen, x0, x_t, t)
  return {'mse': mse, 'vb': vb, 'loss': mse + vb}


def variational_bound(
  process: Process, model_output: Float[Array, 'b h w out'], x0: Images, x_t: Images, t: Index
) -> Float[Array, 'b']:
  """Computes one term of the bound in bits per dimension: KL for t > 0, the decoder's likelihood at t = 0."""
  true_mean, true_log_variance = q_posterior(process, x0, x_t, t)
  mean, log_variance, _ = model_mean_variance(process, model_output, x_t, t, clip=None)
  kl = normal_kl(true_mean, true_log_variance, mean, log_variance)
  nll = -decoder_log_likelihood(x0, mean, log_variance / 2)
  first = (t == 0)[:, None, None, None]
  return jnp.mean(jnp.where(first, nll, kl), axis=(1, 2, 3)) / math.log(2)


def normal_kl(
  mean1: Images,
  log_variance1: Float[Array, 'b #h #w #c'],
  mean2: Images,
  log_variance2: Float[Array, 'b #h #w #c'],
) -> Images:
  """Computes KL(N1 || N2) of diagonal Gaussians in nats, element by element."""
  difference = log_variance1 - log_variance2
  distance = (mean1 - mean2) ** 2 * jnp.exp(-log_variance2)
  return 0.5 * (jnp.exp(difference) - 1 - difference + distance)


def decoder_log_likelihood(x0: Images, mean: Images, log_scale: Float[Array, 'b #h #w #c']) -> Images:
  """Computes the log probability in nats of 8-bit pixels: a Gaussian over bins of 2/255 (DDPM, equation 13).

  The outer bins are open: pixels beyond ±0.999 have the whole tail. Uses the tanh approximation of the normal
  distribution function, as the reference does.
  """

  def cdf(z: Images) -> Images:
    return 0.5 * (1 + jnp.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)))

  upper = cdf((x0 - mean + 1 / 255) * jnp.exp(-log_scale))
  lower = cdf((x0 - mean - 1 / 255) * jnp.exp(-log_scale))
  probability = jnp.where(x0 < -0.999, upper, jnp.where(x0 > 0.999, 1 - lower, upper - lower))
  return jnp.log(jnp.maximum(probability, 1e-12))
