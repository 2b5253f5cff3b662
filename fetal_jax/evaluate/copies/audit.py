"""Whether synthetic images are copies of training images, judged by what fresh real images do.

A synthetic image always has some nearest training image. What counts is whether it is nearer than that of a real image which
the generator has not seen: all figures compare with held-out real images. They flag, they do not prove: a generator that
blurs is near to everything in pixels, and a speckled copy in other speckle is far. So the closest pairs are there to be seen.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image
from scipy import stats

from fetal_jax.data.grid import grid
from fetal_jax.evaluate.copies import search
from fetal_jax.evaluate.copies.duplicates import duplicates
from fetal_jax.evaluate.copies.neighbours import TILE
from fetal_jax.evaluate.copies.search import Features, Images, Nearest, Pixels, Space, Transform
from fetal_jax.runtime.errors import UserError

RATE = 0.01  # of fresh real images that are called near
LEVEL = 0.025  # one-sided, of the verdict: as that of a 95 % interval
QUANTILES = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)
BINS = 50
ROW = 96  # pixels, that the rows of `draw_pairs` are high at least

Distances = Float[np.ndarray, ' n']


def audit(
  synthetic: Images,
  train: Images,
  heldout: Images,
  *,
  encoder: Callable[[Images], Float[np.ndarray, 'n d']] | None = None,
  synthetic_labels: Int[np.ndarray, ' n'] | None = None,
  heldout_labels: Int[np.ndarray, ' h'] | None = None,
  shortlist: int = 8,
  pairs: int = 20,
  tile: int = TILE,
) -> dict[str, Any]:
  """Looks for copies in pixels and, given an encoder, in its features.

  The held-out images must be as fresh to the generator as can be: where they show patients who are also in `train`, they
  are nearer than fresh ones and copies stand out less.

  Args:
    synthetic: the images in question; may be memory-mapped, as the others.
    train: what the generator was trained on.
    heldout: real images that it was not.
    encoder: `evaluate.features.Encoder`, not trained on `heldout` or `synthetic`; None: pixels only.
    synthetic_labels: classes. Some classes look more alike than others: with both labels given, `heldout` is thinned to
      the class shares of `synthetic`, or `synthetic` to those of `heldout` where that leaves too few; or else a set with
      more of such a class would seem copied.
    heldout_labels: likewise.
    shortlist: of `search.Pixels`; 0 compares every training image at 32 x 32.
    pairs: how many of the closest to list.
    tile: images a side of the tiles of distances.

  Returns:
    A dict that JSON can hold: `n_synthetic`, `n_train`, `n_heldout` (those compared with), `n_judged`, `copied` (whether one of the
    spaces says so; None: none can say), `notes` by figure, and `spaces`: `pixel` and `feature`, each None or as
    `compare` returns it.

  Raises:
    UserError: no synthetic or no training images, or images or labels that do not fit together.
  """
  search.check(synthetic, heldout, train)
  if not len(synthetic):
    raise UserError('there are no synthetic images to audit; run --stage=sample first')
  notes: dict[str, str] = {}
  judged = None
  if synthetic_labels is not None and heldout_labels is not None:
    if len(synthetic_labels) != len(synthetic) or len(heldout_labels) != len(heldout):
      raise UserError(
        f'{len(synthetic)} synthetic and {len(heldout)} held-out images have {len(synthetic_labels)} and '
        f'{len(heldout_labels)} labels; give one each'
      )
    chosen = matched(heldout_labels, synthetic_labels)
    if len(chosen) < min(
      len(heldout), 1 / RATE
    ):  # a class is too rare among them: the synthetic side gives way
      judged = matched(synthetic_labels, heldout_labels)
      notes['n_judged'] = (
        f'{len(judged)} of {len(synthetic)} synthetic images, drawn to have the class shares of the held-out ones; '
        'the closest pairs are of all'
      )
    elif len(chosen) < len(heldout):
      notes['n_heldout'] = (
        f'{len(chosen)} of {len(heldout)}, drawn to have the class shares of the synthetic set'
      )
      heldout = np.asarray(heldout[chosen])
  spaces: dict[str, Any] = {
    'pixel': compare(synthetic, train, heldout, Pixels(shortlist, tile), pairs, judged)
  }
  if encoder is None:
    spaces['feature'], notes['feature'] = None, 'no encoder was given'
  else:
    spaces['feature'] = compare(synthetic, train, heldout, Features(encoder, tile), pairs, judged)
  examined = [space for space in spaces.values() if space]
  verdicts = [space['near']['copied'] for space in examined if space['near']]
  # One copy is enough; that there is none says nothing of shares.
  verdicts += [True for space in examined if space['duplicates'] and space['duplicates']['count']]
  return {
    'n_synthetic': len(synthetic),
    'n_train': len(train),
    'n_heldout': len(heldout),
    'n_judged': len(synthetic) if judged is None else len(judged),
    'copied': any(verdicts) if verdicts else None,
    'spaces': spaces,
    'notes': notes,
  }


def matched(
  heldout_labels: Int[np.ndarray, ' h'], synthetic_labels: Int[np.ndarray, ' n'], seed: int = 0
) -> Int[np.ndarray, ' m']:
  """Indices of as many held-out images as have the class shares of the synthetic set, drawn at random, ascending."""
  heldout_labels = np.asarray(heldout_labels)
  classes, counts = np.unique(synthetic_labels, return_counts=True)
  there = np.array([np.equal(heldout_labels, c).sum() for c in classes])
  # The class that runs out first says how many images there can be.
  wanted = (counts * (there / counts).min(initial=np.inf)).round().astype(int) if len(classes) else counts
  rng = np.random.default_rng(seed)
  drawn = [
    rng.choice(np.flatnonzero(heldout_labels == c), n, replace=False)
    for c, n in zip(classes, wanted, strict=True)
  ]
  return np.sort(np.concatenate([np.empty(0, int), *drawn]))


def compare(
  synthetic: Images,
  train: Images,
  heldout: Images,
  space: Space,
  pairs: int = 20,
  judged: Int[np.ndarray, ' m'] | None = None,
) -> dict[str, Any]:
  """The figures of one space; d is the distance to the nearest training image.

  Args:
    synthetic, train, heldout: as of `audit`.
    space: where distances are measured.
    pairs: how many of the closest to list, of all synthetic images.
    judged: indices of the synthetic images that the other figures are about; None: all.

  Returns:
    A dict that JSON can hold; a figure that the sets are too small for is None, and `notes` says why, by figure.
    `name`, `description`, `unit` of the distances;
    `median_heldout`: d of held-out images;
    `ratio`: d over that median, `quantiles` with the values of `synthetic` and `heldout`;
    `histogram` of the ratio: bin `edges`, counts of `synthetic` and `heldout`;
    `authpct`, `authpct_heldout`: `authentic`, as percentages;
    `c_t`, `nearer`: see `copying_score`, and the probability that a synthetic image is nearer than a held-out one;
    `near`: see `near_share`; `duplicates`: see `duplicates.duplicates`, of all synthetic images;
    `pairs`: of the closest, ascending: `synthetic` and `train` (indices), `flip` and `shift` [down, right] in pixels of
    32 x 32 that the training image goes through, `distance`, `ratio`, and `heldout_percentile`: of held-out images
    that are nearer.
  """
  members = space.members(train)
  closest = space.nearest(space.queries(synthetic), members)
  found = closest if judged is None else closest.take(judged)
  fresh = space.nearest(space.queries(heldout), members)
  notes: dict[str, str] = {}
  n = len(heldout)
  median = float(np.median(fresh.distances)) if n else 0.0
  near = near_share(found.distances, fresh.distances)
  alone = duplicates(closest.distances, fresh.distances)
  if not n:
    notes |= dict.fromkeys(
      ('median_heldout', 'ratio', 'histogram', 'authpct_heldout', 'c_t', 'nearer'), 'no held-out images'
    )
  elif not median:
    notes |= dict.fromkeys(
      ('ratio', 'histogram'), 'half of the held-out images are themselves in the training set'
    )
  if near is None:
    least = int(np.ceil(1 / RATE)) - 1
    notes['near'] = (
      f'needs {least} held-out images, there are {n}'
      if n < least
      else 'the nearest of the held-out images are themselves in the training set'
    )
  if alone is None:
    notes['duplicates'] = 'needs 100 held-out images that are not in the training set'
  authentic_found, authentic_fresh = _authenticity(found, fresh, members, space)
  if authentic_found is None:
    notes |= dict.fromkeys(('authpct', 'authpct_heldout'), 'needs two training images')
  score = copying_score(found.distances, fresh.distances)
  if n and score[0] is None:
    notes['c_t'] = 'all distances are equal'
  return {
    'name': space.name,
    'description': space.description,
    'unit': space.unit,
    'n_synthetic': len(found.distances),
    'n_train': len(train),
    'n_heldout': n,
    'median_heldout': median if n else None,
    **_ratios(found.distances, fresh.distances, median),
    'authpct': _percentage(authentic_found),
    'authpct_heldout': _percentage(authentic_fresh),
    'c_t': score[0],
    'nearer': score[1],
    'near': near,
    'duplicates': alone,
    'pairs': _closest(closest, fresh.distances, median, pairs),
    'notes': notes,
  }


def authentic(distances: Distances, to_another: Float[np.ndarray, ' n']) -> Bool[np.ndarray, ' n']:
  """Whether an image is farther from its nearest training image than that is from its own nearest other one.

  Alaa et al., 2022, "How faithful is your synthetic data?" (arXiv:2102.08921). AuthPct is the percentage of
  authentic images. Fresh images do not reach 100 either, so it is told for held-out ones beside.

  Args:
    distances: of every image to its nearest training image.
    to_another: of those training images to the nearest other training image.
  """
  return distances > to_another


def copying_score(synthetic: Distances, heldout: Distances) -> tuple[float | None, float | None]:
  """C_T of Meehan et al., 2020 (arXiv:2004.05675), and what it tests.

  The z-score of the Mann-Whitney U that a synthetic image is farther from the training set than a held-out one; with one
  cell, the whole space. Below -2 or so: synthetic images are systematically nearer, copying; well above 0: farther,
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


def near_share(synthetic: Distances, heldout: Distances, rate: float = RATE) -> dict[str, Any] | None:
  """How many synthetic images are nearer to the training set than the nearest `rate` of held-out real images.

  The threshold is the r-th smallest of the n held-out distances, r = ⌊rate (n + 1)⌋, so that a fresh real image falls
  below it with probability r / (n + 1), exactly. Given the threshold the count is binomial (the interval's view); as the
  threshold is itself an estimate, over both it is beta-binomial (that of `p`). Without the latter a large synthetic set
  would be called copied by a threshold from few held-out images. Images are taken as independent; those of one patient
  are not quite.

  Returns:
    `rate` expected of fresh images, `threshold`, `count` and `share` below it, `interval` (Clopper-Pearson, 95 %), `p`
    (probability of so many, were they fresh), and `copied`: the interval lies above the rate, and p is below 0.025.
    None: fewer than 1 / rate - 1 held-out images, or a threshold of 0, below which nothing can be.
  """
  m, n = len(synthetic), len(heldout)
  r = int(rate * (n + 1) + 1e-9)
  threshold = float(np.sort(heldout)[r - 1]) if r else 0.0
  if not m or not threshold:
    return None
  count = int((synthetic < threshold).sum())
  low, high = stats.binomtest(count, m).proportion_ci(0.95, method='exact')
  expected = r / (n + 1)
  p = float(stats.betabinom.sf(count - 1, m, r, n + 1 - r))
  return {
    'rate': expected,
    'threshold': threshold,
    'count': count,
    'share': count / m,
    'interval': [float(low), float(high)],
    'p': p,
    'copied': bool(low > expected and p < LEVEL),
  }


def _authenticity(
  found: Nearest, fresh: Nearest, members: np.ndarray, space: Space
) -> tuple[np.ndarray | None, np.ndarray | None]:
  if len(members) < 2:
    return None, None
  # Of the training images only those that are somebody's nearest are needed.
  own = np.unique(np.concatenate([found.indices, fresh.indices]))
  among = space.nearest(space.as_queries(members[own]), members, own).distances
  to_another = np.full(len(members), np.nan, np.float32)
  to_another[own] = among
  of_found, of_fresh = (authentic(x.distances, to_another[x.indices]) for x in (found, fresh))
  return of_found, of_fresh


def _percentage(of: Bool[np.ndarray, ' n'] | None) -> float | None:
  return None if of is None or not len(of) else 100 * float(of.mean())


def _ratios(synthetic: Distances, heldout: Distances, median: float) -> dict[str, Any]:
  if not median:
    return {'ratio': None, 'histogram': None}
  ratios = {'synthetic': synthetic / median, 'heldout': heldout / median}
  edges = np.linspace(0, max(r.max() for r in ratios.values()), BINS + 1)
  return {
    'ratio': {
      'quantiles': list(QUANTILES),
      **{name: [float(q) for q in np.quantile(r, QUANTILES)] for name, r in ratios.items()},
    },
    'histogram': {
      'edges': edges.tolist(),
      **{name: np.histogram(r, edges)[0].tolist() for name, r in ratios.items()},
    },
  }


def _closest(found: Nearest, heldout: Distances, median: float, pairs: int) -> list[dict[str, Any]]:
  order = np.argsort(found.distances, kind='stable')[:pairs]
  nearer = np.searchsorted(np.sort(heldout), found.distances[order])
  return [
    {
      'synthetic': int(i),
      'train': int(found.indices[i]),
      'flip': found.transforms[i].flip,
      'shift': [found.transforms[i].down, found.transforms[i].right],
      'distance': float(found.distances[i]),
      'ratio': float(found.distances[i]) / median if median else None,
      'heldout_percentile': 100 * int(count) / len(heldout) if len(heldout) else None,
    }
    for i, count in zip(order, nearer, strict=True)
  ]


def draw_pairs(
  synthetic: Images, train: Images, pairs: Sequence[dict[str, Any]], *, show_training: bool = True
) -> Image.Image:
  """One row a pair: the synthetic image, the training image, and the latter flipped and shifted as it was found.

  Args:
    synthetic: the set that was audited.
    train: what it was compared with.
    pairs: as the audit lists them.
    show_training: False leaves grey boxes, for pages that may not show original images.

  Raises:
    UserError: there are no pairs.
  """
  if not pairs:
    raise UserError('there are no pairs to draw; ask the audit for some')
  rows, labels = [], []
  for pair in pairs:
    original = np.asarray(train[pair['train']])
    found = search.transformed(original, Transform(pair['flip'], *pair['shift']))
    if not show_training:
      original = found = np.full_like(original, 128)
    rows.append([np.asarray(synthetic[pair['synthetic']]), original, found])
    labels.append(_label(pair))
  cells: UInt8[np.ndarray, 'r c h w ch'] = np.array(rows)
  factor = -(-ROW // cells.shape[2])
  return grid(cells.repeat(factor, axis=2).repeat(factor, axis=3), labels)


def _label(pair: dict[str, Any]) -> str:
  down, right = pair['shift']
  flip = '' if pair['flip'] == 'none' else f', flip {pair["flip"]}'
  shift = f', shift {down:+d} {right:+d}' if down or right else ''
  return f'synthetic {pair["synthetic"]}, training {pair["train"]}{flip}{shift}: {pair["distance"]:.3g}'
