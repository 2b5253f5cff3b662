"""Single copies among many images: found, and not seen where there are none."""

import numpy as np
import pytest

from fetal_jax.evaluate.copies.duplicates import duplicates


def _distances(rng, train, n):
  """Of n fresh points to the nearest of the training points."""
  fresh = rng.normal(size=(n, 1, train.shape[1]))
  return np.sqrt(((fresh - train) ** 2).sum(-1).min(-1)).astype(np.float32)


@pytest.mark.parametrize('dim', [2, 8])
def test_fresh_points_are_no_duplicates_and_a_single_copy_is(dim):
  rng = np.random.default_rng(dim)
  train = rng.normal(size=(300, dim))
  wrong = 0
  for _ in range(60):
    heldout, synthetic = _distances(rng, train, 150), _distances(rng, train, 600)
    found = duplicates(synthetic, heldout)
    wrong += found['count'] > 0
    near = found['threshold'] / 2
    synthetic[17] = near
    assert 17 in duplicates(synthetic, heldout)['indices']
  assert wrong <= 4  # half a case is expected, the estimate of the dimension adds to it


def test_the_threshold_is_where_theory_has_it():
  """Distances with P(d < r) = r^4: of 1,000 fresh ones the least is below t with probability 0.005 at t^4 = 5e-6."""
  rng = np.random.default_rng(0)
  heldout = rng.uniform(size=20_000) ** (1 / 4)
  found = duplicates(np.full(1000, 0.9), heldout)
  assert found['dimension'] == pytest.approx(4, rel=0.05)
  assert found['threshold'] == pytest.approx((0.005 / 1000) ** (1 / 4), rel=0.1)
  assert found['count'] == 0


def test_too_few_held_out_images_say_nothing():
  rng = np.random.default_rng(0)
  assert duplicates(np.array([0.0]), rng.uniform(size=99)) is None
  assert duplicates(np.array([]), rng.uniform(size=200)) is None
  assert duplicates(np.array([0.5]), np.zeros(200)) is None  # they are in the training set themselves
