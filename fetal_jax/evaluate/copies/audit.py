"""The search for copies of training images, judged by what fresh real images do.

The figures flag copies, they do not prove them: a generator that blurs is near to everything in pixels, and a speckled copy
in other speckle is far. So the closest pairs are drawn for people to look at.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image

from fetal_jax.data.grid import grid
from fetal_jax.evaluate.copies import search, statistics
from fetal_jax.evaluate.copies.search import Features, Images, Nearest, Pixels, Space, Transform
from fetal_jax.evaluate.copies.statistics import RATE, Distances
from fetal_jax.evaluate.neighbours import TILE
from fetal_jax.evaluate.results import CopiesAudit, Histogram, Pair, Ratio, SpaceAudit
from fetal_jax.runtime.errors import UserError

QUANTILES = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)
BINS = 50
ROW = 96  # least height in pixels of the rows of `draw_pairs`

Labels = Int[np.ndarray, ' n']


def audit(
  synthetic: Images,
  train: Images,
  heldout: Images,
  *,
  encoder: Callable[[Images], Float[np.ndarray, 'n d']] | None = None,
  synthetic_labels: Labels | None = None,
  heldout_labels: Labels | None = None,
  heldout_unseen: bool | None = True,
  shortlist: int = 8,
  pairs: int = 20,
  tile: int = TILE,
) -> CopiesAudit:
  """Looks for copies in pixels and, given an encoder, in its features.

  The held-out images should be as fresh to the generator as can be: where they show patients who are also in `train`,
  they are nearer than fresh ones and copies stand out less.

  Args:
    synthetic: the images in question; may be memory-mapped, as the others.
    train: images that the generator was trained on.
    heldout: real images that it was not trained on.
    encoder: `evaluate.encoders.Encoder`, not trained on `heldout` or `synthetic`; None: pixels only.
    synthetic_labels: classes. Some classes look more alike than others, and a set with more of such a class would seem
      copied. With both labels given, `heldout` is thinned to the class shares of `synthetic`, or `synthetic` to those
      of `heldout` where that leaves too few.
    heldout_labels: likewise.
    heldout_unseen: whether `heldout` shows patients whom the generator has not seen, None if nobody knows; recorded with the
      result.
    shortlist: of `search.Pixels`; 0 compares every training image at 32 x 32.
    pairs: how many of the closest to list.
    tile: images a side of the tiles of distances.

  Raises:
    UserError: no synthetic or no training images, or images or labels that do not fit together.
  """
  search.check(synthetic, heldout, train)
  if not len(synthetic):
    raise UserError('there are no synthetic images to audit; run --stage=sample first')
  judged: Labels | None = None
  notes: dict[str, str] = {}
  if synthetic_labels is not None and heldout_labels is not None:
    _check_labels(len(synthetic), len(heldout), len(synthetic_labels), len(heldout_labels))
    judged, chosen, notes = _balance(synthetic_labels, heldout_labels)
    heldout = heldout if chosen is None else np.asarray(heldout[chosen])
  spaces: dict[str, SpaceAudit | None] = {
    'pixel': compare(synthetic, train, heldout, Pixels(shortlist, tile), pairs, judged)
  }
  if encoder is None:
    spaces['feature'], notes['feature'] = None, 'no encoder was given'
  else:
    spaces['feature'] = compare(synthetic, train, heldout, Features(encoder, tile), pairs, judged)
  return CopiesAudit(
    n_synthetic=len(synthetic),
    n_train=len(train),
    n_heldout=len(heldout),
    n_judged=len(synthetic) if judged is None else len(judged),
    copied=_verdict([space for space in spaces.values() if space]),
    spaces=spaces,
    notes=notes,
    heldout_unseen=heldout_unseen,
  )


def _check_labels(synthetic: int, heldout: int, synthetic_labels: int, heldout_labels: int) -> None:
  if (synthetic, heldout) != (synthetic_labels, heldout_labels):
    raise UserError(
      f'{synthetic} synthetic and {heldout} held-out images have {synthetic_labels} and {heldout_labels} labels; give '
      'one each'
    )


def _balance(
  synthetic: Labels, heldout: Labels
) -> tuple[Int[np.ndarray, ' m'] | None, Int[np.ndarray, ' h'] | None, dict[str, str]]:
  """Returns which synthetic and which held-out images to compare, None for all, and notes on what was left out."""
  chosen = matched(heldout, synthetic)
  if len(chosen) < min(len(heldout), 1 / RATE):
    # A class is too rare among the held-out images: the synthetic side gives way.
    judged = matched(synthetic, heldout)
    note = (
      f'{len(judged)} of {len(synthetic)} synthetic images, drawn to have the class shares of the held-out ones; '
      'the closest pairs are of all'
    )
    return judged, None, {'n_judged': note}
  if len(chosen) < len(heldout):
    note = f'{len(chosen)} of {len(heldout)}, drawn to have the class shares of the synthetic set'
    return None, chosen, {'n_heldout': note}
  return None, None, {}


def matched(heldout: Labels, synthetic: Labels, seed: int = 0) -> Int[np.ndarray, ' m']:
  """Draws as many held-out images as have the class shares of the synthetic set.

  Args:
    heldout: labels of the images to draw from.
    synthetic: labels whose shares are wanted.
    seed: of the draw.

  Returns:
    Indices into `heldout`, ascending.
  """
  heldout = np.asarray(heldout)
  classes, counts = np.unique(synthetic, return_counts=True)
  present = np.array([np.equal(heldout, c).sum() for c in classes])
  # The class that runs out first says how many images there can be.
  wanted = (counts * (present / counts).min(initial=np.inf)).round().astype(int) if len(classes) else counts
  rng = np.random.default_rng(seed)
  drawn = [
    rng.choice(np.flatnonzero(heldout == c), n, replace=False) for c, n in zip(classes, wanted, strict=True)
  ]
  return np.sort(np.concatenate([np.empty(0, int), *drawn]))


def _verdict(spaces: Sequence[SpaceAudit]) -> bool | None:
  verdicts = [space.near.copied for space in spaces if space.near]
  # One duplicate is enough; that there is none says nothing of shares.
  verdicts += [True for space in spaces if space.duplicates and space.duplicates.count]
  return any(verdicts) if verdicts else None


def compare(
  synthetic: Images,
  train: Images,
  heldout: Images,
  space: Space,
  pairs: int = 20,
  judged: Int[np.ndarray, ' m'] | None = None,
) -> SpaceAudit:
  """Computes the figures of one space.

  Args:
    synthetic, train, heldout: as of `audit`.
    space: where distances are measured.
    pairs: how many of the closest to list, of all synthetic images.
    judged: indices of the synthetic images that the other figures are about; None: all.
  """
  members = space.members(train)
  closest = space.nearest(space.queries(synthetic), members)
  found = closest if judged is None else closest.take(judged)
  fresh = space.nearest(space.queries(heldout), members)
  median = float(np.median(fresh.distances)) if len(heldout) else None
  near = statistics.near_share(found.distances, fresh.distances)
  single = statistics.duplicates(closest.distances, fresh.distances)
  authpct, authpct_heldout = _authenticity(found, fresh, members, space)
  c_t, nearer = statistics.copying_score(found.distances, fresh.distances)
  ratio, histogram = _ratios(found.distances, fresh.distances, median)
  notes = _missing_heldout(len(heldout), median)
  if near is None:
    notes['near'] = _why_not_near(len(heldout))
  if single is None:
    least = 10 * statistics.LEAST_IN_TAIL
    notes['duplicates'] = f'needs {least} held-out images that are not in the training set'
  if len(train) < 2:
    notes |= dict.fromkeys(('authpct', 'authpct_heldout'), 'needs two training images')
  if len(heldout) and c_t is None:
    notes['c_t'] = 'all distances are equal'
  return SpaceAudit(
    name=space.name,
    description=space.description,
    unit=space.unit,
    n_synthetic=len(found.distances),
    n_train=len(train),
    n_heldout=len(heldout),
    median_heldout=median,
    ratio=ratio,
    histogram=histogram,
    authpct=authpct,
    authpct_heldout=authpct_heldout,
    c_t=c_t,
    nearer=nearer,
    near=near,
    duplicates=single,
    pairs=_closest(closest, fresh.distances, median, pairs),
    notes=notes,
  )


def _missing_heldout(n: int, median: float | None) -> dict[str, str]:
  """Says which figures the held-out images are too few or too near for."""
  if not n:
    figures = ('median_heldout', 'ratio', 'histogram', 'authpct_heldout', 'c_t', 'nearer')
    return dict.fromkeys(figures, 'no held-out images')
  if not median:
    return dict.fromkeys(
      ('ratio', 'histogram'), 'half of the held-out images are themselves in the training set'
    )
  return {}


def _why_not_near(n: int) -> str:
  least = math.ceil(1 / RATE) - 1
  if n < least:
    return f'needs {least} held-out images, there are {n}'
  return 'the nearest of the held-out images are themselves in the training set'


def _authenticity(
  found: Nearest, fresh: Nearest, members: np.ndarray, space: Space
) -> tuple[float | None, float | None]:
  """Computes AuthPct of the synthetic and of the held-out images; None where it is undefined."""
  if len(members) < 2:
    return None, None
  # Of the training images only those that are somebody's nearest are needed.
  own = np.unique(np.concatenate([found.indices, fresh.indices]))
  to_another = np.full(len(members), np.nan, np.float32)
  to_another[own] = space.nearest(space.as_queries(members[own]), members, own).distances
  of_found, of_fresh = (
    100 * float(statistics.authentic(x.distances, to_another[x.indices]).mean()) if len(x.indices) else None
    for x in (found, fresh)
  )
  return of_found, of_fresh


def _ratios(
  synthetic: Distances, heldout: Distances, median: float | None
) -> tuple[Ratio | None, Histogram | None]:
  if not median:
    return None, None
  of_synthetic, of_heldout = synthetic / median, heldout / median
  edges = np.linspace(0, max(of_synthetic.max(), of_heldout.max()), BINS + 1)
  ratio = Ratio(
    quantiles=list(QUANTILES),
    synthetic=np.quantile(of_synthetic, QUANTILES).tolist(),
    heldout=np.quantile(of_heldout, QUANTILES).tolist(),
  )
  histogram = Histogram(
    edges=edges.tolist(),
    synthetic=np.histogram(of_synthetic, edges)[0].tolist(),
    heldout=np.histogram(of_heldout, edges)[0].tolist(),
  )
  return ratio, histogram


def _closest(found: Nearest, heldout: Distances, median: float | None, pairs: int) -> list[Pair]:
  order = np.argsort(found.distances, kind='stable')[:pairs]
  nearer = np.searchsorted(np.sort(heldout), found.distances[order])
  return [
    Pair(
      synthetic=int(i),
      train=int(found.indices[i]),
      flip=found.transforms[i].flip,
      shift=(found.transforms[i].down, found.transforms[i].right),
      distance=float(found.distances[i]),
      ratio=float(found.distances[i]) / median if median else None,
      heldout_percentile=100 * int(count) / len(heldout) if len(heldout) else None,
    )
    for i, count in zip(order, nearer, strict=True)
  ]


def draw_pairs(
  synthetic: Images, train: Images, pairs: Sequence[Pair], *, show_training: bool = True
) -> Image.Image:
  """Draws one row a pair: the synthetic image, the training image, and the latter flipped and shifted as it was found.

  Args:
    synthetic: the set that was audited.
    train: the training images that it was compared with.
    pairs: as the audit lists them.
    show_training: False leaves grey boxes, for pages that may not show original images.

  Raises:
    UserError: there are no pairs.
  """
  if not pairs:
    raise UserError('there are no pairs to draw; ask the audit for some')
  rows, labels = [], []
  for pair in pairs:
    original = np.asarray(train[pair.train])
    found = search.transformed(original, Transform(pair.flip, *pair.shift))
    if not show_training:
      original = found = np.full_like(original, 128)
    rows.append([np.asarray(synthetic[pair.synthetic]), original, found])
    labels.append(_label(pair))
  cells: UInt8[np.ndarray, 'r c h w ch'] = np.array(rows)
  factor = math.ceil(ROW / cells.shape[2])
  return grid(cells.repeat(factor, axis=2).repeat(factor, axis=3), labels)


def _label(pair: Pair) -> str:
  down, right = pair.shift
  flip = '' if pair.flip == 'none' else f', flip {pair.flip}'
  shift = f', shift {down:+d} {right:+d}' if down or right else ''
  return f'synthetic {pair.synthetic}, training {pair.train}{flip}{shift}: {pair.distance:.3g}'
