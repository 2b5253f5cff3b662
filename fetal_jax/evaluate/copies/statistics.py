"""The tests for copies, as functions of distances to the nearest training image.

A synthetic image always has some nearest training image. What counts is whether it is nearer than that of real images which
the generator has not seen: every test compares synthetic with held-out real images.
"""

import numpy as np
from jaxtyping import Bool, Float
from scipy import stats

from fetal_jax.evaluate.results import Duplicates, Near

RATE = 0.01  # of fresh real images that are called near
LEVEL = 0.025  # of `near_share`, one-sided: as that of a 95 % interval
DUPLICATE_LEVEL = 0.005  # probability that even one of as many fresh images were as near
_TAIL = 0.1  # of the held-out images: it tells how distances thin out towards 0
LEAST_IN_TAIL = 10

Distances = Float[np.ndarray, ' n']


def near_share(synthetic: Distances, heldout: Distances, rate: float = RATE) -> Near | None:
  """Counts the synthetic images that are nearer to the training set than the nearest `rate` of held-out real images.

  The threshold is the r-th smallest of the n held-out distances, r = ⌊rate (n + 1)⌋, so that a fresh real image falls
  below it with probability r / (n + 1), exactly. Given the threshold the count is binomial: so is the interval. The
  threshold is itself an estimate, and over both the count is beta-binomial: so is `p`. Without it a large synthetic set
  would be called copied by a threshold from few held-out images. Images are taken as independent; those of one patient
  are not quite.

  Returns:
    The share, with `copied` where the interval lies above the rate and p is below `LEVEL`. None: fewer than
    1 / rate - 1 held-out images, or a threshold of 0, below which nothing can be.
  """
  m, n = len(synthetic), len(heldout)
  r = int(rate * (n + 1) + 1e-9)
  threshold = float(np.sort(heldout)[r - 1]) if r else 0.0
  if not m or not threshold:
    return None
  count = int((synthetic < threshold).sum())
  low, high = stats.binomtest(count, m).proportion_ci(0.95, method='exact')  # Clopper and Pearson
  expected = r / (n + 1)
  p = float(stats.betabinom.sf(count - 1, m, r, n + 1 - r))
  return Near(
    rate=expected,
    threshold=threshold,
    count=count,
    share=count / m,
    interval=(float(low), float(high)),
    p=p,
    copied=bool(low > expected and p < LEVEL),
  )


def duplicates(synthetic: Distances, heldout: Distances, level: float = DUPLICATE_LEVEL) -> Duplicates | None:
  """Finds synthetic images nearer than m fresh images would come, all together, but with probability `level`.

  `near_share` does not see a handful of copies among thousands of images; this test does. Near 0 the share of fresh
  images within a distance r grows like r^k, where k is the number of dimensions that images vary in. From the nearest
  tenth of the held-out distances k is estimated by maximum likelihood (Levina and Bickel, 2004, "Maximum likelihood
  estimation of intrinsic dimension"; the same as Hill's estimator of a tail), and the share is followed down to where it
  is `level / m`.

  Args:
    synthetic: distances of the synthetic images to their nearest training images.
    heldout: the same of real images that the generator has not seen.
    level: see above.

  Returns:
    The duplicates. None: fewer than 100 held-out images, or a tenth of them are in the training set themselves.
  """
  m, n = len(synthetic), len(heldout)
  j = int(_TAIL * n)
  if not m or j < LEAST_IN_TAIL:
    return None
  *tail, edge = np.sort(heldout.astype(np.float64))[: j + 1]
  if not tail[0] or tail[0] == edge:
    return None
  dimension = 1 / np.log(edge / np.array(tail)).mean()
  threshold = edge * (level / m / (j / n)) ** (1 / dimension)
  found = np.flatnonzero(synthetic < threshold)
  return Duplicates(
    count=len(found),
    indices=found.tolist(),
    threshold=float(threshold),
    dimension=float(dimension),
    level=level,
  )


def copying_score(synthetic: Distances, heldout: Distances) -> tuple[float | None, float | None]:
  """Computes C_T of Meehan et al., 2020 (arXiv:2004.05675), and the probability that it tests.

  The z-score of the Mann-Whitney U that a synthetic image is farther from the training set than a held-out one; with one
  cell, the whole space. Below about -2 synthetic images are systematically nearer: copying. Well above 0 they are farther:
  underfitting. It grows with the root of the number of images; the probability beside it does not.

  Returns:
    The score (None: an empty set, or all distances equal), and the probability that a synthetic image is nearer than a
    held-out one, ties counting half (None: an empty set).
  """
  m, n = len(synthetic), len(heldout)
  if not m or not n:
    return None, None
  ranks = stats.rankdata(np.concatenate([synthetic, heldout]))
  u = float(ranks[:m].sum()) - m * (m + 1) / 2
  variance = m * n * (m + n + 1) / 12 * stats.tiecorrect(ranks)
  score = (u - m * n / 2) / np.sqrt(variance) if variance > 0 else None
  return None if score is None else float(score), 1 - u / (m * n)


def authentic(distances: Distances, to_another: Float[np.ndarray, ' n']) -> Bool[np.ndarray, ' n']:
  """Returns whether each image is farther from its nearest training image than that is from its own nearest other one.

  Alaa et al., 2022, "How faithful is your synthetic data?" (arXiv:2102.08921). AuthPct is the percentage of
  authentic images. Fresh images do not reach 100 either, so held-out ones are judged beside them.

  Args:
    distances: of every image to its nearest training image.
    to_another: of those training images to the nearest other training image.
  """
  return distances > to_another
