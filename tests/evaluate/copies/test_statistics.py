"""The tests for copies: they find what is there, keep their level, and are what their papers say."""

import numpy as np
import pytest
from scipy import stats

from fetal_jax.evaluate.copies.statistics import authentic, copying_score, duplicates, near_share


def normal(n, mean=0.0, seed=0):
  return np.random.default_rng(seed).standard_normal(n) + mean


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
    wrong += found.count > 0
    near = found.threshold / 2
    synthetic[17] = near
    assert 17 in duplicates(synthetic, heldout).indices
  assert wrong <= 4  # half a case is expected, the estimate of the dimension adds to it


def test_the_threshold_is_where_theory_has_it():
  """Distances with P(d < r) = r^4: of 1,000 fresh ones the least is below t with probability 0.005 at t^4 = 5e-6."""
  rng = np.random.default_rng(0)
  heldout = rng.uniform(size=20_000) ** (1 / 4)
  found = duplicates(np.full(1000, 0.9), heldout)
  assert found.dimension == pytest.approx(4, rel=0.05)
  assert found.threshold == pytest.approx((0.005 / 1000) ** (1 / 4), rel=0.1)
  assert found.count == 0


def test_too_few_held_out_images_say_nothing():
  rng = np.random.default_rng(0)
  assert duplicates(np.array([0.0]), rng.uniform(size=99)) is None
  assert duplicates(np.array([]), rng.uniform(size=200)) is None
  assert duplicates(np.array([0.5]), np.zeros(200)) is None  # they are in the training set themselves


def test_c_t_is_negative_for_copies_and_has_the_known_size():
  # Of normal distances one sd apart: P(nearer) = Φ(1/√2); the score is that less a half over its null deviation.
  m, n = 4000, 3000
  near, far = normal(m, -1.0), normal(n, seed=1)
  score, nearer = copying_score(near, far)
  assert nearer == pytest.approx(stats.norm.cdf(1 / np.sqrt(2)), abs=0.02)
  assert score == pytest.approx((0.5 - nearer) * m * n / np.sqrt(m * n * (m + n + 1) / 12), rel=1e-9)
  assert score < -30
  assert copying_score(near + 2, far)[0] > 30


def test_c_t_of_equal_distributions_is_standard_normal_and_of_ties_is_scipys():
  scores = [copying_score(normal(60, seed=2 * i), normal(80, seed=2 * i + 1))[0] for i in range(400)]
  assert stats.kstest(scores, 'norm').pvalue > 0.01
  x, y = normal(50).round(), normal(70, 0.5, seed=1).round()
  score, _ = copying_score(x, y)
  p = stats.mannwhitneyu(x, y, alternative='less', method='asymptotic', use_continuity=False).pvalue
  assert stats.norm.cdf(score) == pytest.approx(p, rel=1e-9)


@pytest.mark.parametrize(('n', 'r'), [(99, 1), (150, 1), (1000, 10)])
def test_fresh_images_are_near_as_often_as_the_rate_says(n, r):
  """Also where few held-out images make an uncertain threshold and a large synthetic set makes a narrow interval."""
  rng = np.random.default_rng(0)
  found = [near_share(rng.exponential(size=5000), rng.exponential(size=n)) for _ in range(300)]
  assert found[0].rate == r / (n + 1)
  # Mean and spread of the beta distribution of the threshold's place, and 2.5 % of false alarms.
  sd = stats.beta(r, n + 1 - r).std() / np.sqrt(300)
  assert np.mean([f.share for f in found]) == pytest.approx(r / (n + 1), abs=4 * sd)
  assert np.mean([f.copied for f in found]) < 0.05


def test_the_share_below_the_first_percentile():
  heldout = np.arange(1, 200.0)
  found = near_share(np.array([1.0, 1.5, 2.0, *range(3, 50)]), heldout)
  assert (found.threshold, found.count, found.share) == (2.0, 2, 0.04)  # strictly below
  assert found.interval == pytest.approx([0.0048814, 0.1371376], rel=1e-4)  # of 2 of 50 by the tables
  assert found.copied is False
  assert found.p == pytest.approx(stats.betabinom.sf(1, 50, 2, 198))
  assert near_share(np.r_[np.zeros(10), np.full(90, 9.0)], heldout).copied is True


def test_an_image_is_authentic_if_its_training_image_has_a_nearer_neighbour():
  assert authentic(np.array([2.0, 1.0, 1.5]), np.array([1.0, 2.0, 1.5])).tolist() == [True, False, False]
