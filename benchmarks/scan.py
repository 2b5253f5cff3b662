"""MedMamba's selective scan, three ways: as the project does it, token by token, and as an associative scan."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks import measure
from benchmarks.part import Context
from fetal_jax.models.selective_scan import selective_scan


def sequential(u, delta, A, B, C, D):
  """Computes the recurrence as it is written, one token after the other."""

  def step(h, token):
    u, delta, B, C = token
    h = jnp.exp(delta[:, None] * A.T) * h + (delta * u)[:, None] * B[..., None]
    return h, (h * C[..., None]).sum(1)

  tokens = tuple(x.swapaxes(0, 1) for x in (u, delta, B, C))
  _, y = jax.lax.scan(step, jnp.zeros((u.shape[0], *A.T.shape)), tokens)
  return y.swapaxes(0, 1) + D * u


def associative(u, delta, A, B, C, D):
  """Computes all tokens at once in log(length) passes over the states of all of them."""

  def combine(left, right):
    return left[0] * right[0], right[0] * left[1] + right[1]

  decay = jnp.exp(delta[..., None] * A)
  entering = (delta * u)[..., None] * B[:, :, None]
  _, h = jax.lax.associative_scan(combine, (decay, entering), axis=1)
  return jnp.einsum('bldn,bln->bld', h, C) + D * u


WAYS: dict[str, Callable[..., jax.Array]] = {
  'chunked (fetal_jax)': selective_scan,
  'lax.scan': sequential,
  'lax.associative_scan': associative,
}


def inputs(length: int, batch: int, channels: int, states: int) -> tuple[jax.Array, ...]:
  keys = jax.random.split(jax.random.key(length), 4)
  u = jax.random.normal(keys[0], (batch, length, channels))
  delta = jnp.exp(jax.random.normal(keys[1], (batch, length, channels)) - 3)
  A = -jnp.broadcast_to(jnp.arange(1.0, states + 1), (channels, states))
  B, C = (jax.random.normal(key, (batch, length, states)) for key in keys[2:])
  return u, delta, A, B, C, jnp.ones(channels)


def compare(context: Context, length: int) -> dict[str, Any]:
  """Forward and gradient (with respect to all arguments), interleaved; first that all ways agree."""
  size = context.size
  args = inputs(length, size.scan_batch, size.scan_channels, size.scan_states)
  expected, contestants, memory, errors = None, {}, {}, {}
  for name, way in WAYS.items():
    # Sines keep the gradient from being the same for every token.
    loss = lambda *args, way=way: (way(*args) * jnp.sin(jnp.arange(length))[:, None]).sum()  # noqa: E731
    for kind, function in (('forward', way), ('gradient', jax.grad(loss, argnums=tuple(range(6))))):
      try:
        compiled = jax.jit(function).lower(*args).compile()
        result = jax.block_until_ready(compiled(*args))
      except Exception as error:  # the associative scan may not fit
        errors[f'{name}, {kind}'] = f'{type(error).__name__}: {str(error).splitlines()[0][:200]}'
        continue
      if kind == 'forward':
        expected = result if expected is None else expected
        largest = float(jnp.abs(result - expected).max() / jnp.abs(expected).max())
        if largest > 1e-4:
          raise AssertionError(f'{name} differs from the others by {largest:.1e}')
      memory[f'{name}, {kind}'] = measure.memory(compiled)
      contestants[f'{name}, {kind}'] = lambda compiled=compiled: measure.seconds(
        compiled, *args, calls=size.calls
      )
      del result
  times = measure.interleaved(contestants, size.rounds)
  return {
    'batch': size.scan_batch,
    'channels': size.scan_channels,
    'states': size.scan_states,
    'seconds': {name: measure.summary(values) for name, values in times.items()},
    'memory': memory,
    'errors': errors,
  }


def run(context: Context) -> None:
  for length in context.size.scan_lengths:
    context.case(f'length {length}', compare, context, length)
