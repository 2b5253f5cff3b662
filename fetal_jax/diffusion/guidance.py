"""Classifier guidance (Dhariwal & Nichol 2021, arXiv:2105.05233, section 4)."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Num

Guidance = Callable[[Float[Array, 'b h w c'], Num[Array, 'b']], Float[Array, 'b h w c']]


def classifier_guidance(
  apply_fn: Callable[[Float[Array, 'b h w c'], Num[Array, 'b']], Float[Array, 'b classes']],
  y: Int[Array, 'b'],
) -> Guidance:
  """Turns a classifier of noisy images into the gradient that guides samplers.

  Args:
    apply_fn: `(x_t, t) -> logits`, without anything that mixes the images of a batch (such as BatchNorm), so
      that the gradient of the batch's sum is each image's own.
    y: the label wanted for each image of the batch.

  Returns:
    `(x_t, t) ->` gradient of log p(y | x_t) with respect to x_t, unscaled.
  """

  def log_likelihood(x: Float[Array, 'b h w c'], t: Num[Array, 'b']) -> Float[Array, '']:
    log_probs = jax.nn.log_softmax(apply_fn(x, t))
    return jnp.take_along_axis(log_probs, y[:, None], axis=-1).sum()

  return jax.grad(log_likelihood)
