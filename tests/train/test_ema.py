"""The averages against the recursion written out."""

import jax.numpy as jnp
import numpy as np
import pytest

from fetal_jax.train import ema


def test_without_warm_up_it_is_the_references_recursion():
  average, expected = {'w': jnp.ones(3)}, 1.0
  for step in range(5):
    average = ema.update(
      average, {'w': jnp.full(3, 2.0 + step)}, ema.decay(jnp.asarray(step), 0.9, warmup=False)
    )
    expected = 0.9 * expected + 0.1 * (2.0 + step)
  np.testing.assert_allclose(average['w'], expected, rtol=1e-6)


@pytest.mark.parametrize(('step', 'expected'), [(0, 0.1), (1, 2 / 11), (90, 0.91), (10**6, 0.9999)])
def test_the_warm_up_starts_low_and_ends_at_the_rate(step, expected):
  assert float(ema.decay(jnp.asarray(step), 0.9999, warmup=True)) == pytest.approx(expected, rel=1e-6)


def test_with_warm_up_the_initial_weights_are_forgotten_after_a_short_run():
  """guided-diffusion's EMA still holds 90 % of them after 1,000 steps."""
  weight = np.prod([float(ema.decay(jnp.asarray(s), 0.9999, warmup=True)) for s in range(1000)])
  assert weight < 1e-6
