"""Noise schedules and the tables of the discrete diffusion process, in NumPy float64.

Ho et al. 2020 (DDPM, arXiv:2006.11239), Nichol & Dhariwal 2021 (Improved DDPM, arXiv:2102.09672).
"""

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float64, Int64


def linear_betas(timesteps: int) -> Float64[np.ndarray, 't']:
  """Returns DDPM's betas, 1e-4 to 0.02 for 1000 timesteps and scaled to the same total noise for other numbers."""
  scale = 1000 / timesteps
  return np.linspace(scale * 1e-4, scale * 0.02, timesteps, dtype=np.float64)


def cosine_betas(timesteps: int) -> Float64[np.ndarray, 't']:
  """Returns the betas of Improved DDPM, equation 17, each at most 0.999."""

  def alphas_cumprod(u: np.ndarray) -> np.ndarray:
    return np.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2

  u = np.arange(timesteps + 1, dtype=np.float64) / timesteps
  return np.minimum(1 - alphas_cumprod(u[1:]) / alphas_cumprod(u[:-1]), 0.999)


BETAS: dict[str, Callable[[int], np.ndarray]] = {'linear': linear_betas, 'cosine': cosine_betas}


def space_timesteps(timesteps: int, respacing: str | int | Sequence[int]) -> Int64[np.ndarray, 'k']:
  """Chooses the timesteps that a shorter process keeps, as guided-diffusion does (and quadratically).

  Args:
    timesteps: length of the original process.
    respacing: '250' or 250: so many, evenly from first to last; '10,15,20' (or a sequence): the process in
      equal sections with so many in each; 'ddim25': every 40th of 1000 from 0, DDIM's own stride; 'quad20': so
      many, densest at low noise (t quadratic: DDIM, arXiv:2010.02502, appendix D.2), which serves 'dpmpp_2m'
      best; '': all.

  Returns:
    The original timesteps kept, ascending.

  Raises:
    ValueError: the process cannot be divided so, or `respacing` is not of these forms.
  """
  if respacing == '':
    return np.arange(timesteps, dtype=np.int64)
  try:
    if isinstance(respacing, str) and respacing.startswith('ddim'):
      return _stride_timesteps(timesteps, int(respacing.removeprefix('ddim')))
    if isinstance(respacing, str) and respacing.startswith('quad'):
      return _quadratic_timesteps(timesteps, int(respacing.removeprefix('quad')))
    return _section_timesteps(timesteps, respacing)
  except ValueError as e:
    raise ValueError(f'respacing {respacing!r}: {e}') from e


def _stride_timesteps(timesteps: int, count: int) -> np.ndarray:
  for stride in range(1, timesteps + 1):
    kept = np.arange(0, timesteps, stride, dtype=np.int64)
    if len(kept) == count:
      return kept
  raise ValueError(f'no whole stride through {timesteps} timesteps makes {count}')


def _quadratic_timesteps(timesteps: int, count: int) -> np.ndarray:
  if not 2 <= count <= timesteps:
    raise ValueError(f'cannot keep {count} of {timesteps} timesteps, first and last among them')
  index = np.arange(count, dtype=np.int64)
  kept = np.floor((timesteps - 1) * (index / (count - 1)) ** 2 + 0.5).astype(np.int64)
  return np.maximum(kept, index)  # where the parabola is too flat for whole timesteps, every one


def _section_timesteps(timesteps: int, respacing: str | int | Sequence[int]) -> np.ndarray:
  if isinstance(respacing, str):
    respacing = [int(count) for count in respacing.split(',')]
  counts = [respacing] if isinstance(respacing, int) else respacing
  kept, start = [], 0
  for section, count in enumerate(counts):
    size = timesteps // len(counts) + (section < timesteps % len(counts))
    if not 1 <= count <= size:
      raise ValueError(f'cannot keep {count} timesteps of a section of {size}')
    stride = (size - 1) / (count - 1) if count > 1 else 1
    # Summed up one by one, then rounded half to even: where the reference lands depends on both.
    offsets = np.cumsum([0.0] + [stride] * (count - 1))
    kept.append(start + np.rint(offsets).astype(np.int64))
    start += size
  return np.concatenate(kept)


@dataclasses.dataclass(frozen=True, eq=False)
class Process:
  """A Gaussian diffusion process of K steps: float64 tables, all `[K]`, and the original timesteps.

  `q(x_t | x_0) = N(sqrt(alphas_cumprod) x_0, 1 - alphas_cumprod)`. A respaced process is one of its own: its
  betas and posterior are those of the longer jumps. Equality is identity, so it can be a static jit argument.
  """

  timesteps: Int64[np.ndarray, 'k']  # what the networks are told: timesteps of the process trained with
  betas: Float64[np.ndarray, 'k']
  alphas_cumprod: Float64[np.ndarray, 'k']
  alphas_cumprod_prev: Float64[np.ndarray, 'k']  # starts with 1
  posterior_variance: Float64[np.ndarray, 'k']  # of q(x_{t-1} | x_t, x_0); 0 at index 0
  posterior_log_variance_clipped: Float64[np.ndarray, 'k']  # index 0 has the value of index 1
  posterior_mean_coef1: Float64[np.ndarray, 'k']  # of x_0
  posterior_mean_coef2: Float64[np.ndarray, 'k']  # of x_t
  fixed_large_log_variance: Float64[np.ndarray, 'k']  # DDPM's "fixed large", for networks without v

  def __len__(self) -> int:
    return len(self.betas)


def process_from_betas(
  betas: Float64[np.ndarray, 't'], kept: Int64[np.ndarray, 'k'] | None = None
) -> Process:
  """Computes the tables of the process with these betas, shortened to the timesteps `kept`.

  DDPM, equations 4, 6 and 7; the respaced betas are Improved DDPM's, section 4.

  Raises:
    ValueError: betas outside (0, 1], or `kept` not ascending within the process.
  """
  if not ((betas > 0) & (betas <= 1)).all():
    raise ValueError('betas must be in (0, 1]')
  kept = np.arange(len(betas), dtype=np.int64) if kept is None else kept
  if len(kept) == 0 or kept[0] < 0 or kept[-1] >= len(betas) or (np.diff(kept) <= 0).any():
    raise ValueError(f'timesteps must be ascending in 0..{len(betas) - 1}')

  alphas_cumprod = np.cumprod(1 - betas)[kept]
  alphas_cumprod_prev = np.append(1.0, alphas_cumprod[:-1])
  betas = 1 - alphas_cumprod / alphas_cumprod_prev
  posterior_variance = betas * (1 - alphas_cumprod_prev) / (1 - alphas_cumprod)
  # The variance is 0 at index 0; a process of one step has no other value to borrow than its beta.
  second = posterior_variance[1] if len(betas) > 1 else betas[0]
  return Process(
    timesteps=kept,
    betas=betas,
    alphas_cumprod=alphas_cumprod,
    alphas_cumprod_prev=alphas_cumprod_prev,
    posterior_variance=posterior_variance,
    posterior_log_variance_clipped=np.log(np.append(second, posterior_variance[1:])),
    posterior_mean_coef1=betas * np.sqrt(alphas_cumprod_prev) / (1 - alphas_cumprod),
    posterior_mean_coef2=(1 - alphas_cumprod_prev) * np.sqrt(1 - betas) / (1 - alphas_cumprod),
    fixed_large_log_variance=np.log(np.append(second, betas[1:])),
  )


def make_process(
  schedule: str = 'linear', timesteps: int = 1000, respacing: str | int | Sequence[int] = ''
) -> Process:
  """Builds a process: a schedule of `BETAS` of so many timesteps, shortened by `respacing`.

  Raises:
    ValueError: unknown schedule, or a respacing that `space_timesteps` refuses.
  """
  if schedule not in BETAS:
    raise ValueError(f'no schedule named {schedule!r}; there are: {", ".join(BETAS)}')
  return process_from_betas(BETAS[schedule](timesteps), space_timesteps(timesteps, respacing))
