"""Fidelity and diversity of one set of images against another: FID, KID, precision, recall, density, coverage.

Pure functions of feature arrays [n, d]. None of them knows what the features are; `evaluate.encoders` makes them.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import msgspec
import numpy as np
from jaxtyping import Array, Float, Int
from scipy import linalg

from fetal_jax.evaluate.neighbours import balls_around, nearest_distances, neighbour_distances, products
from fetal_jax.evaluate.results import ClassFidelity, FidelityScores, FidelitySet

_CHUNK = 4096

Features = Float[np.ndarray, 'n d'] | Float[Array, 'n d']


class KernelDistance(NamedTuple):
  """Mean of the KID over subsets, its standard deviation (None if there is but one), their number and size."""

  mean: float
  sd: float | None
  subsets: int
  subset_size: int


def moments(features: Features) -> tuple[Float[np.ndarray, ' d'], Float[np.ndarray, 'd d']]:
  """Computes mean and unbiased covariance in float64, in chunks.

  Raises:
    ValueError: fewer than two vectors.
  """
  features = np.asarray(features)
  if len(features) < 2:
    raise ValueError(f'a covariance needs 2 vectors, there are {len(features)}')
  mean = features.mean(axis=0, dtype=np.float64)
  scatter = np.zeros((len(mean), len(mean)))
  for start in range(0, len(features), _CHUNK):
    centred = features[start : start + _CHUNK] - mean
    scatter += centred.T @ centred
  return mean, scatter / (len(features) - 1)


def gaussian_distance(
  mean_a: Float[np.ndarray, ' d'],
  covariance_a: Float[np.ndarray, 'd d'],
  mean_b: Float[np.ndarray, ' d'],
  covariance_b: Float[np.ndarray, 'd d'],
) -> float:
  """Computes the squared Fréchet (2-Wasserstein) distance of two Gaussians, in float64.

  |μ_a - μ_b|² + tr(Σ_a + Σ_b - 2 (Σ_a Σ_b)^½), Dowson and Landau, 1982. The last trace is the sum of the singular
  values of Σ_a^½ Σ_b^½, which holds for singular covariances too and stays real.
  """
  overlap = linalg.svdvals(_square_root(covariance_a) @ _square_root(covariance_b)).sum()
  squared = np.square(mean_a - mean_b).sum() + np.trace(covariance_a) + np.trace(covariance_b) - 2 * overlap
  return max(float(squared), 0.0)  # rounding


def _square_root(covariance: Float[np.ndarray, 'd d']) -> Float[np.ndarray, 'd d']:
  values, vectors = linalg.eigh(covariance)
  return (vectors * np.sqrt(values.clip(min=0))) @ vectors.T


def frechet_distance(a: Features, b: Features) -> float:
  """Computes the Fréchet inception distance (Heusel et al., 2017, arXiv:1706.08500, equation 6): `gaussian_distance` of both sets.

  It is biased upwards by about 1/n: compare only at equal n. With n <= d the covariances are singular, which is
  well defined but far from the value at large n.

  Raises:
    ValueError: fewer than two vectors in a set.
  """
  return gaussian_distance(*moments(a), *moments(b))


def kernel_distance(
  a: Features, b: Features, subsets: int = 100, subset_size: int = 1000, seed: int = 0
) -> KernelDistance:
  """Computes the kernel inception distance (Bińkowski et al., 2018, arXiv:1801.01401, section 4).

  The unbiased estimate of MMD² with k(x, y) = (x·y / d + 1)³,
  Σ_{i≠j} k(a_i, a_j) / m(m-1) + Σ_{i≠j} k(b_i, b_j) / m(m-1) - 2 Σ_{ij} k(a_i, b_j) / m²,
  over random subsets of m vectors of each set, drawn without replacement. It may be negative.

  Args:
    a: one set.
    b: the other.
    subsets: how many; only one where both sets are taken whole.
    subset_size: m; at most the size of the smaller set.
    seed: of the draws.

  Returns:
    Mean and sd over the subsets. Subsets overlap: the sd is the scatter of a single subset, and less than that where
    m is close to a set's size.

  Raises:
    ValueError: fewer than two vectors in a set, or no subset.
  """
  a, b = np.asarray(a), np.asarray(b)
  m = min(subset_size, len(a), len(b))
  if m < 2 or subsets < 1:
    raise ValueError(
      f'KID needs 2 vectors of each set and a subset; there are {len(a)}, {len(b)} and {subsets}'
    )
  if m == len(a) == len(b):
    subsets = 1
  rng = np.random.default_rng(seed)
  estimates = []
  for _ in range(subsets):
    rows_a, rows_b = (rng.choice(len(s), m, replace=False) for s in (a, b))
    # float64 from here on, for the three sums are nearly equal.
    within_a, within_b, between = (np.float64(s).sum() for s in _kernel_sums(a[rows_a], b[rows_b]))
    estimates.append((within_a + within_b) / (m * (m - 1)) - 2 * between / m**2)
  sd = float(np.std(estimates, ddof=1)) if subsets > 1 else None
  return KernelDistance(float(np.mean(estimates)), sd, subsets, m)


@jax.jit
def _kernel_sums(a: Float[Array, 'm d'], b: Float[Array, 'm d']) -> tuple[Float[Array, ' m'], ...]:
  """Sums each row of the kernel matrices a-a and b-b without their diagonals, and a-b."""

  def kernel(x: Float[Array, 'm d'], y: Float[Array, 'm d']) -> Float[Array, 'm m']:
    return (products(x, y) / x.shape[1] + 1) ** 3

  others = 1 - jnp.eye(len(a))
  return (kernel(a, a) * others).sum(1), (kernel(b, b) * others).sum(1), kernel(a, b).sum(1)


def precision_recall(real: Features, fake: Features, k: int = 3) -> tuple[float, float]:
  """Computes improved precision and recall (Kynkäänniemi et al., 2019, arXiv:1904.06991, equations 1 and 2).

  Precision: the share of `fake` that lies in a ball around a real vector; recall: the share of `real` that lies
  in a ball around a fake one. A ball reaches to its centre's k-th nearest neighbour in the centre's own set.

  Raises:
    ValueError: a set has no k-th neighbours, that is k vectors or fewer.
  """
  centre = np.asarray(real).mean(axis=0)
  real, fake = _centred(real, centre), _centred(fake, centre)
  in_real = balls_around(fake, real, neighbour_distances(real, k))
  in_fake = balls_around(real, fake, neighbour_distances(fake, k))
  return float((in_real > 0).mean()), float((in_fake > 0).mean())


def density_coverage(real: Features, fake: Features, k: int = 5) -> tuple[float, float]:
  """Computes density and coverage (Naeem et al., 2020, arXiv:2002.09797, equations 3 and 4).

  Density: the number of balls around real vectors that a fake one lies in, on average and in units of k; equal
  distributions have 1, more is possible. Coverage: the share of real vectors whose ball holds a fake one;
  of equal distributions and equally many vectors, 1 - 1/2^k is expected. Balls as in `precision_recall`.

  Raises:
    ValueError: k or fewer real vectors, or no fake ones.
  """
  centre = np.asarray(real).mean(axis=0)
  real, fake = _centred(real, centre), _centred(fake, centre)
  radii = neighbour_distances(real, k)
  density = balls_around(fake, real, radii).mean() / k
  return float(density), float((nearest_distances(real, fake) <= radii).mean())


def _centred(features: Features, centre: Float[np.ndarray, ' d']) -> Float[np.ndarray, 'n d']:
  # Distances stay the same, and |x|² + |y|² - 2 x·y loses fewer digits near the origin.
  return np.asarray(features - centre, np.float32)


def summarise(
  real: Features,
  fake: Features,
  real_labels: Int[np.ndarray, ' n'],
  fake_labels: Int[np.ndarray, ' m'],
  class_names: Sequence[str],
  *,
  neighbours: int = 3,
  coverage_neighbours: int = 5,
  subsets: int = 100,
  subset_size: int = 1000,
  seed: int = 0,
) -> FidelitySet:
  """Computes all figures of two labelled sets, over all classes and for each.

  Args:
    real: features of real images.
    fake: features of the images that are judged.
    real_labels: index into `class_names` of each.
    fake_labels: likewise.
    class_names: the classes.
    neighbours: k of precision and recall.
    coverage_neighbours: k of density and coverage.
    subsets: of the KID.
    subset_size: of the KID.
    seed: of the KID's subsets.

  Returns:
    The figures; one that the sets are too small for is None, and `notes` says why. `notes` also says where a FID rests
    on fewer images than there are features.

  Raises:
    ValueError: features are not finite or not of one width, or labels do not fit.
  """
  real, fake = np.asarray(real), np.asarray(fake)
  for features, labels in ((real, real_labels), (fake, fake_labels)):
    if features.ndim != 2 or features.shape[1] != real.shape[1] or len(labels) != len(features):
      raise ValueError(f'{real.shape} real features, {fake.shape} fake ones, {len(labels)} labels')
    if not np.isfinite(features).all():
      raise ValueError('features are not finite')
    if len(labels) and not 0 <= np.min(labels) <= np.max(labels) < len(class_names):
      raise ValueError(
        f'labels span {np.min(labels)}..{np.max(labels)}, there are {len(class_names)} classes'
      )

  def figures(real: np.ndarray, fake: np.ndarray) -> FidelityScores:
    return _figures(real, fake, neighbours, coverage_neighbours, subsets, subset_size, seed)

  def of_class(c: int, name: str) -> ClassFidelity:
    mine = figures(real[np.equal(real_labels, c)], fake[np.equal(fake_labels, c)])
    return ClassFidelity(name=name, **msgspec.structs.asdict(mine))

  return FidelitySet(
    overall=figures(real, fake), per_class=[of_class(c, name) for c, name in enumerate(class_names)]
  )


def _figures(
  real: np.ndarray, fake: np.ndarray, k: int, k_coverage: int, subsets: int, subset_size: int, seed: int
) -> FidelityScores:
  n_real, n_fake, dim = len(real), len(fake), real.shape[1]
  notes: dict[str, str] = {}

  def enough(least_real: int, least_fake: int, *figures: str) -> bool:
    if n_real >= least_real and n_fake >= least_fake:
      return True
    reason = f'needs {least_real} real and {least_fake} synthetic images; there are {n_real} and {n_fake}'
    notes.update(dict.fromkeys(figures, reason))
    return False

  fid = frechet_distance(real, fake) if enough(2, 2, 'fid') else None
  kid = None
  if enough(2, 2, 'kid', 'kid_sd', 'kid_subset_size'):
    kid = kernel_distance(real, fake, subsets, subset_size, seed)
    if kid.sd is None:
      notes['kid_sd'] = 'both sets are no larger than a subset: there is one subset'
  precision = recall = density = coverage = None
  if enough(k + 1, k + 1, 'precision', 'recall'):
    precision, recall = precision_recall(real, fake, k)
  if enough(k_coverage + 1, 1, 'density', 'coverage'):
    density, coverage = density_coverage(real, fake, k_coverage)
  if fid is not None and min(n_real, n_fake) <= dim:
    notes['fid'] = (
      f'fewer images than the {dim} features: far above its value for many; compare at equal n only'
    )
  return FidelityScores(
    n_real=n_real,
    n_fake=n_fake,
    fid=fid,
    kid=kid and kid.mean,
    kid_sd=kid and kid.sd,
    kid_subset_size=kid and kid.subset_size,
    precision=precision,
    recall=recall,
    density=density,
    coverage=coverage,
    notes=notes,
  )
