"""Every figure against a value worked out by hand, and against all pairs at once in numpy."""

import itertools

import msgspec
import numpy as np
import pytest
from scipy import linalg

from fetal_jax.evaluate import fidelity
from fetal_jax.evaluate.results import FidelitySet

NAMES = ('abdomen', 'brain', 'femur')


def normal(n, d=4, seed=0, mean=0.0, sd=1.0):
  return (mean + sd * np.random.default_rng(seed).standard_normal((n, d))).astype(np.float32)


def uniform(n, low, high, seed=0):
  return np.random.default_rng(seed).uniform(low, high, (n, 1)).astype(np.float32)


def covariance(d, seed):
  a = np.random.default_rng(seed).standard_normal((d, d))
  return a @ a.T


# FID


def test_gaussian_distance_of_diagonal_covariances_is_exact():
  mean = np.array([1.0, -2.0, 0.5])
  found = fidelity.gaussian_distance(mean, np.diag([4.0, 9.0, 1.0]), np.zeros(3), np.diag([1.0, 16.0, 0.0]))
  # (2 - 1)² + (3 - 4)² + (1 - 0)² beside the means.
  assert found == pytest.approx(1 + 4 + 0.25 + 1 + 1 + 1, rel=1e-12)


def test_gaussian_distance_agrees_with_the_matrix_square_root():
  a, b = covariance(6, 0), covariance(6, 1)
  expected = np.trace(a + b - 2 * linalg.sqrtm(a @ b).real)
  assert fidelity.gaussian_distance(np.zeros(6), a, np.zeros(6), b) == pytest.approx(expected, rel=1e-9)


def test_gaussian_distance_of_singular_covariances():
  # Of rank one: the root of u uᵀ v vᵀ has the trace |u·v|.
  u, v = np.array([1.0, 2.0, 0.0, 0.0]), np.array([3.0, -1.0, 1.0, 0.0])
  found = fidelity.gaussian_distance(np.zeros(4), np.outer(u, u), np.zeros(4), np.outer(v, v))
  assert found == pytest.approx(5 + 11 - 2 * 1, rel=1e-7)


def test_frechet_distance_of_two_gaussians():
  a, b = normal(40_000), normal(40_000, seed=1, mean=1.0, sd=2.0)
  # Four times (1 - 0)² + (2 - 1)²; the means' sampling error is about 2 · 4 · sqrt(5 / 40,000).
  assert fidelity.frechet_distance(a, b) == pytest.approx(8, abs=0.15)
  assert fidelity.frechet_distance(a, normal(40_000, seed=2)) < 0.002


def test_frechet_distance_of_fewer_images_than_features():
  a = normal(10, d=30)
  assert fidelity.frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
  assert fidelity.frechet_distance(a, a + np.float32(1)) == pytest.approx(30, rel=1e-5)
  b = normal(20, d=30, seed=1, sd=2.0)
  (mean_a, cov_a), (mean_b, cov_b) = ((x.mean(0), np.cov(x.astype(np.float64).T)) for x in (a, b))
  root = linalg.eigvals(cov_a @ cov_b).real.clip(min=0)
  expected = np.square(mean_a - mean_b).sum() + np.trace(cov_a + cov_b) - 2 * np.sqrt(root).sum()
  assert fidelity.frechet_distance(a, b) == pytest.approx(expected, rel=1e-5)


def test_moments_are_numpys_whatever_the_chunks(monkeypatch):
  x = normal(100, mean=300.0)
  monkeypatch.setattr(fidelity, '_CHUNK', 7)
  mean, cov = fidelity.moments(x)
  np.testing.assert_allclose(mean, x.astype(np.float64).mean(0), rtol=1e-12)
  np.testing.assert_allclose(cov, np.cov(x.astype(np.float64).T), rtol=1e-9)


# KID


def kid_by_loops(a, b):
  """The unbiased estimate, term by term."""
  k = lambda x, y: (np.dot(x, y) / len(x) + 1) ** 3  # noqa: E731
  a, b = a.astype(np.float64), b.astype(np.float64)
  within = [np.mean([k(s[i], s[j]) for i, j in itertools.permutations(range(len(s)), 2)]) for s in (a, b)]
  return sum(within) - 2 * np.mean([k(x, y) for x in a for y in b])


def test_kernel_distance_of_whole_sets_is_the_formula():
  a, b = normal(12), normal(12, seed=1, mean=0.5)
  found = fidelity.kernel_distance(a, b)
  assert found.mean == pytest.approx(kid_by_loops(a, b), rel=1e-4)
  assert found == (found.mean, None, 1, 12)


def test_kernel_distance_is_the_mean_over_random_subsets():
  a, b = normal(30), normal(9, seed=1, mean=0.5)
  found = fidelity.kernel_distance(a, b, subsets=5, subset_size=1000, seed=3)
  assert (found.subsets, found.subset_size) == (5, 9)
  rng = np.random.default_rng(3)
  draws = [(a[rng.choice(30, 9, replace=False)], b[rng.choice(9, 9, replace=False)]) for _ in range(5)]
  values = [kid_by_loops(*draw) for draw in draws]
  assert found.mean == pytest.approx(np.mean(values), rel=1e-4)
  assert found.sd == pytest.approx(np.std(values, ddof=1), rel=1e-4)
  assert found != fidelity.kernel_distance(a, b, subsets=5, seed=4)


def test_kernel_distance_has_the_expectation_of_the_moments():
  # In one dimension MMD² = 3 Δ₁² + 3 Δ₂² + Δ₃² of the first three moments; N(0, 1) and N(1, 1) differ by 1, 1 and 4.
  a, b = normal(20_000, d=1), normal(20_000, d=1, seed=1, mean=1.0)
  found = fidelity.kernel_distance(a, b, subsets=60, subset_size=300)
  assert found.mean == pytest.approx(3 + 3 + 16, abs=4 * found.sd / 60**0.5)
  assert found.sd < 22


def test_kernel_distance_of_one_distribution_is_zero_on_average():
  fresh = [
    fidelity.kernel_distance(normal(40, seed=2 * s), normal(40, seed=2 * s + 1)).mean for s in range(200)
  ]
  error = np.std(fresh) / 200**0.5
  assert abs(np.mean(fresh)) < 3 * error
  assert 0.3 < np.mean(np.less(fresh, 0)) < 0.8  # a biased estimate would hardly ever be negative
  # The spread over subsets of large sets is that of fresh samples.
  found = fidelity.kernel_distance(normal(8000), normal(8000, seed=1), subsets=200, subset_size=40)
  assert found.sd == pytest.approx(np.std(fresh), rel=0.35)


# Precision and recall, density and coverage


def by_brute_force(real, fake, k):
  """Precision, recall, density and coverage from full distance matrices in float64."""
  distance = lambda x, y: np.sqrt(np.square(x[:, None].astype(np.float64) - y[None]).sum(-1))  # noqa: E731
  between = distance(real, fake)
  radii_real, radii_fake = (np.sort(distance(s, s), axis=1)[:, k] for s in (real, fake))  # the 0th is itself
  in_real, in_fake = between <= radii_real[:, None], between <= radii_fake[None]
  return in_real.any(0).mean(), in_fake.any(1).mean(), in_real.sum() / (k * len(fake)), in_real.any(1).mean()


@pytest.mark.parametrize('k', [1, 3, 5])
@pytest.mark.parametrize('offset', [0.0, 1000.0])
def test_agrees_with_brute_force(k, offset):
  # Far from the origin |x|² + |y|² - 2 x·y in float32 would be noise.
  real, fake = normal(120, d=8, mean=offset), normal(90, d=8, seed=1, mean=offset + 0.3, sd=0.8)
  expected = by_brute_force(real, fake, k)
  found = (*fidelity.precision_recall(real, fake, k), *fidelity.density_coverage(real, fake, k))
  np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_identical_and_disjoint_sets():
  real = normal(60)
  assert fidelity.precision_recall(real, real) == (1, 1)
  assert fidelity.density_coverage(real, real)[1] == 1
  assert fidelity.precision_recall(real, real + 100) == (0, 0)
  assert fidelity.density_coverage(real, real + 100) == (0, 0)


def test_uniform_distributions_have_known_shares():
  real = uniform(1000, 0, 1)
  wide, upper = uniform(1000, 0, 2, seed=1), uniform(1000, 0.5, 1, seed=2)
  assert fidelity.precision_recall(real, wide) == pytest.approx((0.5, 1), abs=0.05)
  assert fidelity.precision_recall(real, upper) == pytest.approx((1, 0.5), abs=0.05)
  assert fidelity.density_coverage(real, wide)[0] == pytest.approx(0.5, abs=0.05)
  assert fidelity.density_coverage(real, upper) == pytest.approx((1, 0.5), abs=0.05)


@pytest.mark.parametrize('k', [1, 2, 3])
def test_density_and_coverage_of_one_distribution(k):
  # The ball to the k-th neighbour holds k/n of any distribution on average.
  density, coverage = fidelity.density_coverage(normal(3000, d=3), normal(3000, d=3, seed=1), k)
  assert density == pytest.approx(1, abs=0.05)
  assert coverage == pytest.approx(1 - 0.5**k, abs=0.04)


# Together


def test_summary_by_class():
  real, fake = normal(90), normal(60, seed=1)
  real_labels, fake_labels = np.repeat([0, 1], [50, 40]), np.repeat([0, 1, 2], [30, 27, 3])
  found = fidelity.summarise(real, fake, real_labels, fake_labels, NAMES, subset_size=20, subsets=4)
  assert msgspec.json.decode(msgspec.json.encode(found), type=FidelitySet) == found

  overall, (abdomen, brain, femur) = found.overall, found.per_class
  assert (overall.n_real, overall.n_fake) == (90, 60)
  assert overall.notes == {}
  assert overall.fid == pytest.approx(fidelity.frechet_distance(real, fake))
  kid = fidelity.kernel_distance(real, fake, subsets=4, subset_size=20)
  assert (overall.kid, overall.kid_sd, overall.kid_subset_size) == (kid.mean, kid.sd, 20)

  assert [c.name for c in found.per_class] == list(NAMES)
  assert [(c.n_real, c.n_fake) for c in found.per_class] == [(50, 30), (40, 27), (0, 3)]
  assert (brain.precision, brain.recall) == fidelity.precision_recall(real[50:], fake[30:57])
  assert (abdomen.density, abdomen.coverage) == fidelity.density_coverage(real[:50], fake[:30])
  figures = ('fid', 'kid', 'kid_sd', 'kid_subset_size', 'precision', 'recall', 'density', 'coverage')
  assert [getattr(femur, figure) for figure in figures] == [None] * len(figures)
  assert femur.notes['recall'] == 'needs 4 real and 4 synthetic images; there are 0 and 3'


def test_summary_of_few_images_says_what_it_cannot_say():
  found = fidelity.summarise(
    normal(5, d=8), normal(4, d=8, seed=1), np.zeros(5, int), np.zeros(4, int), NAMES[:1]
  )
  overall = found.overall
  assert overall.precision is not None
  assert overall.coverage is None
  assert overall.fid > 0
  assert '8 features' in overall.notes['fid']
  same = fidelity.summarise(normal(9), normal(9, seed=1), np.zeros(9, int), np.zeros(9, int), NAMES[:1])
  assert same.overall.kid_sd is None
  assert 'one subset' in same.overall.notes['kid_sd']


@pytest.mark.parametrize(
  ('real', 'labels'),
  [
    (np.full((3, 4), np.nan, np.float32), np.zeros(3, int)),
    (normal(3), np.zeros(2, int)),
    (normal(3), np.full(3, 3)),
    (normal(3, d=5), np.zeros(3, int)),
  ],
)
def test_nonsense_is_refused(real, labels):
  with pytest.raises(ValueError, match=r'finite|labels'):
    fidelity.summarise(real, normal(3), labels, np.zeros(3, int), NAMES)


def test_too_few_vectors_are_refused():
  with pytest.raises(ValueError, match='2 vectors'):
    fidelity.frechet_distance(normal(1), normal(5))
  with pytest.raises(ValueError, match='2 vectors'):
    fidelity.kernel_distance(normal(5), normal(1))
