import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fetal_jax.models.selective_scan import selective_scan


def inputs(length, batch=2, channels=3, states=4):
  rng = np.random.default_rng(length)
  normal = lambda *shape: jnp.asarray(rng.standard_normal(shape), jnp.float32)  # noqa: E731
  u, delta = normal(batch, length, channels), jnp.exp(normal(batch, length, channels) - 2)
  A = -jnp.exp(normal(channels, states))
  return u, delta, A, normal(batch, length, states), normal(batch, length, states), normal(channels)


def loop(u, delta, A, B, C, D):
  """The recurrence as it is written, token by token."""

  def step(h, token):
    u, delta, B, C = token
    h = jnp.exp(delta[:, :, None] * A) * h + (delta * u)[:, :, None] * B[:, None]
    return h, (h * C[:, None]).sum(-1) + D * u

  tokens = tuple(x.swapaxes(0, 1) for x in (u, delta, B, C))
  _, y = jax.lax.scan(step, jnp.zeros((u.shape[0], *A.shape)), tokens)
  return y.swapaxes(0, 1)


@pytest.mark.parametrize(
  ('length', 'chunk', 'lanes'),
  [
    pytest.param(1, 128, 8, id='one token'),
    pytest.param(7, 128, 8, id='shorter than a chunk'),
    pytest.param(23, 8, 3, id='neither chunks nor lanes divide it'),
    pytest.param(20, 5, 1, id='one lane'),
  ],
)
def test_equals_the_loop_with_its_gradient(length, chunk, lanes):
  args = inputs(length)
  readout = jnp.asarray(np.random.default_rng(0).standard_normal(args[0].shape), jnp.float32)
  scan = lambda *args: selective_scan(*args, chunk=chunk, lanes=lanes)  # noqa: E731
  y, pullback = jax.vjp(jax.jit(scan), *args)
  expected, expected_pullback = jax.vjp(jax.jit(loop), *args)
  np.testing.assert_allclose(y, expected, atol=1e-5)
  for name, got, want in zip(
    ['u', 'delta', 'A', 'B', 'C', 'D'], pullback(readout), expected_pullback(readout), strict=True
  ):
    np.testing.assert_allclose(got, want, atol=2e-5 * max(1, float(jnp.abs(want).max())), err_msg=name)


@pytest.mark.parametrize('lanes', [None, 4])
def test_large_steps_forget_instead_of_overflowing(lanes):
  u, delta, A, B, C, D = inputs(40)
  delta, A = delta + 50.0, A - 10.0
  scan = jax.jit(jax.value_and_grad(lambda u: selective_scan(u, delta, A, B, C, D, lanes=lanes).sum()))
  value, grad = scan(u)
  expected = jnp.einsum('bld,bln,bln->', delta * u, B, C) + (D * u).sum()
  np.testing.assert_allclose(value, expected, rtol=1e-5)
  assert jnp.isfinite(grad).all()


def test_half_precision_inputs_are_scanned_in_float32():
  u, delta, A, B, C, D = inputs(12)
  y = selective_scan(u.astype(jnp.bfloat16), delta, A, B, C, D)
  assert y.dtype == jnp.float32
