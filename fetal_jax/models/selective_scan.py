"""The selective scan of Mamba (Gu and Dao, 2023, section 3), in pure JAX."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def selective_scan(
  u: Float[Array, 'b l d'],
  delta: Float[Array, 'b l d'],
  A: Float[Array, 'd n'],
  B: Float[Array, 'b l n'],
  C: Float[Array, 'b l n'],
  D: Float[Array, ' d'],
  *,
  chunk: int = 64,
  lanes: int | None = None,
) -> Float[Array, 'b l d']:
  """Runs a diagonal linear recurrence whose step, input and output depend on the token.

      h_t = exp(delta_t A) h_{t-1} + delta_t B_t u_t,    y_t = C_t . h_t + D u_t,    h_0 = 0

  The sequence is computed chunk by chunk. A chunk is cut into lanes, which run in parallel, twice: first from a zero
  state, which gives each lane's last state and so the next one's first; then from those first states. That is
  2 l / lanes sequential steps instead of l, for twice the work. The backward pass recomputes a chunk, so that beyond
  inputs and output the memory is `b d n (2 chunk + l / chunk)`. Only products of decays are formed, all at most 1:
  nothing overflows.

  Args:
    u: input. Everything is computed in float32.
    delta: step sizes, positive (after the softplus).
    A: decay rates, negative.
    B: input weights, shared by all d channels.
    C: output weights, shared by all d channels.
    D: weight of the input in the output.
    chunk: tokens a chunk; the sequence need not be a multiple.
    lanes: lanes a chunk, fewer where chunks are short. None: 8, but 1 on a CPU, where only work counts.

  Returns:
    y, float32.
  """
  u, delta, A, B, C, D = (x.astype(jnp.float32) for x in (u, delta, A, B, C, D))
  batch, length, channels = u.shape
  if lanes is None:
    lanes = 1 if jax.default_backend() == 'cpu' else 8
  lanes = min(lanes, math.isqrt(min(chunk, length)))
  steps = math.ceil(min(chunk, length) / lanes)
  A = A.T  # states are [b, n, d]: channels, the longest axis, last

  def advance(h, inputs):
    u, delta, B, C = inputs
    h = jnp.exp(delta[:, None] * A) * h + (delta * u)[:, None] * B[..., None]
    return h, (h * C[..., None]).sum(1)

  def enter_lane(h, lane):
    decay, end = lane
    return decay * h + end, h

  def by_lane(x):
    return x.reshape(batch, lanes, *A.shape).swapaxes(0, 1)

  @jax.checkpoint
  def one_chunk(h, inputs):
    if lanes == 1:
      return jax.lax.scan(advance, h, inputs)
    ends, _ = jax.lax.scan(advance, jnp.zeros((batch * lanes, *A.shape)), inputs)
    decays = jnp.exp(inputs[1].sum(0)[:, None] * A)
    h, starts = jax.lax.scan(enter_lane, h, (by_lane(decays), by_lane(ends)))
    _, y = jax.lax.scan(advance, starts.swapaxes(0, 1).reshape(ends.shape), inputs)
    return h, y

  h = jnp.zeros((batch, *A.shape))
  _, y = jax.lax.scan(one_chunk, h, tuple(_to_chunks(x, steps, lanes) for x in (u, delta, B, C)))
  y = y.reshape(-1, steps, batch, lanes, channels).transpose(2, 0, 3, 1, 4)
  return y.reshape(batch, -1, channels)[:, :length] + D * u


def _to_chunks(x: Float[Array, 'b l c'], steps: int, lanes: int) -> Float[Array, 'chunks steps rows c']:
  """Cuts sequences into chunks of lanes; the steps of size 0 at the end leave the state as it is."""
  batch, length, _ = x.shape
  x = jnp.pad(x, ((0, 0), (0, -length % (lanes * steps)), (0, 0)))
  x = x.reshape(batch, -1, lanes, steps, x.shape[-1]).transpose(1, 3, 0, 2, 4)
  return x.reshape(*x.shape[:2], batch * lanes, -1)
