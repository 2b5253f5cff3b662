"""Parts that the classifiers share: PyTorch's initial distributions, and its BatchNorm."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

# PyTorch's default weights of Linear and Conv2d: U(±1/sqrt(fan_in)).
torch_kernel = nn.initializers.variance_scaling(1 / 3, 'fan_in', 'uniform')
he_fan_in = nn.initializers.variance_scaling(2.0, 'fan_in', 'normal')
he_fan_out = nn.initializers.variance_scaling(2.0, 'fan_out', 'normal')
# PyTorch's trunc_normal_ cuts at ±2 whatever the deviation, so at 0.02 it is an ordinary normal.
normal_02 = nn.initializers.normal(0.02)

LayerNorm = functools.partial(nn.LayerNorm, epsilon=1e-5, use_fast_variance=False)
gelu = functools.partial(jax.nn.gelu, approximate=False)


def torch_bias(fan_in: int) -> nn.initializers.Initializer:
  """Returns PyTorch's initial bias of Linear and Conv2d: U(±1/sqrt(fan_in))."""

  def init(key: Any, shape: Any, dtype: Any = jnp.float32) -> Array:
    return jax.random.uniform(key, shape, dtype, -(fan_in**-0.5), fan_in**-0.5)

  return init


def linear_rates(rate: float, depth: int) -> list[float]:
  """Returns stochastic-depth rates of `depth` blocks, from 0 at the first to `rate` at the last."""
  return [rate * i / max(depth - 1, 1) for i in range(depth)]


def drop_path(rate: float, train: bool) -> nn.Dropout:
  """Returns stochastic depth (Huang et al., 2016), which drops the whole branch `[b, h, w, c]` of an image."""
  return nn.Dropout(rate, broadcast_dims=(1, 2, 3), deterministic=not train)


class BatchNorm(nn.Module):
  """Batch normalisation as in PyTorch: the running variance is the unbiased one, unlike `nn.BatchNorm`'s.

  Statistics are float32, in two passes, over all but the last axis; under `jit` with a sharded batch they
  are those of the whole batch.
  """

  dtype: Any = jnp.float32
  momentum: float = 0.9  # PyTorch defines it as the share of the new value, 0.1
  epsilon: float = 1e-5

  @nn.compact
  def __call__(self, x: Float[Array, '*b c'], *, train: bool) -> Float[Array, '*b c']:
    features = x.shape[-1]
    scale = self.param('scale', nn.initializers.ones, (features,))
    bias = self.param('bias', nn.initializers.zeros, (features,))
    running_mean = self.variable('batch_stats', 'mean', jnp.zeros, (features,))
    running_var = self.variable('batch_stats', 'var', jnp.ones, (features,))

    x = x.astype(jnp.float32)
    if train:
      axes = tuple(range(x.ndim - 1))
      mean = x.mean(axes)
      var = jnp.square(x - mean).mean(axes)
      if not self.is_initializing():
        count = x.size // features
        unbiased = var * (count / max(count - 1, 1))
        running_mean.value = self.momentum * running_mean.value + (1 - self.momentum) * mean
        running_var.value = self.momentum * running_var.value + (1 - self.momentum) * unbiased
    else:
      mean, var = running_mean.value, running_var.value
    y = (x - mean) * (jax.lax.rsqrt(var + self.epsilon) * scale) + bias
    return y.astype(self.dtype)
