"""Copies are caught, fresh images are not, and the figures are those of the distances."""

import jax.numpy as jnp
import msgspec
import numpy as np
import pytest
from PIL import Image
from scipy import stats

from fetal_jax.data.sources.fetal_phantom import CLASS_NAMES, cohort, draw
from fetal_jax.evaluate import encoders
from fetal_jax.evaluate.copies import audit, search
from fetal_jax.evaluate.copies.search import Transform
from fetal_jax.evaluate.results import CopiesAudit
from fetal_jax.runtime.errors import UserError

# Whole audits, of drawn planes

TRAIN, HELDOUT, FRESH = 120, 250, 150


def plane(number):
  """One plane of a patient of its own, 64 x 64."""
  rng = np.random.default_rng(number)
  label = CLASS_NAMES[rng.integers(len(CLASS_NAMES))]
  image = draw(label, cohort.draw_patient(0, number), rng, brain_plane='Trans-thalamic', size=64)
  return np.asarray(Image.fromarray(image).resize((64, 64)))


@pytest.fixture(scope='module')
def planes():
  """Images of the training set, held-out ones and fresh ones: all of the same distribution."""
  images = np.stack([plane(i) for i in range(TRAIN + HELDOUT + FRESH)])[..., None]
  return np.split(images, [TRAIN, TRAIN + HELDOUT])


def projected(weights, images):
  x = images.astype(jnp.float32).reshape(-1, 8, 8, 8, 8).mean((2, 4)).reshape(-1, 64) / 255
  return jnp.tanh(x @ weights)


ENCODER = encoders.Encoder(
  'projection', 'random weights', 24, projected, np.float32(np.random.default_rng(0).normal(0, 0.3, (64, 24)))
)

# Number of the training image, and what happened to it: shifts in pixels of 64 x 64.
COPIES = [
  (11, lambda x: x),
  (7, lambda x: x[:, ::-1]),
  (110, lambda x: x[::-1]),
  (23, lambda x: x[::-1, ::-1]),
  (42, lambda x: np.roll(x, (2, -4), (0, 1))),
  (99, lambda x: np.roll(x[:, ::-1], (-2, 2), (0, 1))),
  (117, lambda x: np.clip(x + np.random.default_rng(1).normal(0, 4, x.shape), 0, 255)),
]
TRANSFORMS = [
  ('none', (0, 0)),
  ('horizontal', (0, 0)),
  ('vertical', (0, 0)),
  ('both', (0, 0)),
  ('none', (1, -2)),
  ('horizontal', (-1, 1)),
  ('none', (0, 0)),
]


def test_deliberate_copies_top_the_list_with_what_was_done_to_them(planes):
  train, heldout, fresh = planes
  synthetic = fresh.copy()
  places = [3 + 20 * i for i in range(len(COPIES))]
  for place, (source, change) in zip(places, COPIES, strict=True):
    synthetic[place] = change(train[source])
  found = audit.audit(synthetic, train, heldout).spaces['pixel'].pairs
  assert len(found) == 20
  assert [p.distance for p in found] == sorted(p.distance for p in found)
  caught = {p.synthetic: (p.train, p.flip, p.shift) for p in found[: len(COPIES)]}
  expected = zip(places, COPIES, TRANSFORMS, strict=True)
  assert caught == {place: (source, *transform) for place, (source, _), transform in expected}
  for pair in found[: len(COPIES)]:
    assert pair.ratio < 0.2
    assert pair.heldout_percentile == 0
  assert found[len(COPIES)].ratio > 0.3


@pytest.fixture(scope='module')
def of_fresh(planes):
  """The audit of the fresh images."""
  train, heldout, fresh = planes
  return audit.audit(fresh, train, heldout, encoder=ENCODER)


def test_fresh_images_are_not_called_copies(of_fresh):
  found = of_fresh
  assert (found.n_synthetic, found.n_train, found.n_heldout) == (FRESH, TRAIN, HELDOUT)
  assert found.copied is False
  for space in found.spaces.values():
    near = space.near
    low, high = near.interval
    assert low <= 0.01 <= high
    assert near.rate == 2 / 251
    assert space.duplicates.count == 0
    assert abs(space.c_t) < 3
    assert abs(space.authpct - space.authpct_heldout) < 15
    assert not space.notes


def test_a_single_copy_is_a_verdict_that_no_share_would_be(planes):
  train, heldout, fresh = planes
  synthetic = fresh.copy()
  synthetic[40] = np.clip(train[7, :, ::-1].astype(int) + 3, 0, 255)  # mirrored, and a little brighter
  found = audit.audit(synthetic, train, heldout)
  space = found.spaces['pixel']
  assert space.near.copied is False
  assert space.duplicates.indices == [40]
  assert found.copied is True


@pytest.mark.slow
def test_one_copy_in_ten_is_a_verdict_in_both_spaces(planes):
  train, heldout, fresh = planes
  synthetic = fresh.copy()
  synthetic[::10] = train[: FRESH // 10, :, ::-1]
  found = audit.audit(synthetic, train, heldout, encoder=ENCODER)
  assert found.copied is True
  for name, space in found.spaces.items():
    assert space.name == name
    assert space.near.copied is True
    assert space.near.count >= 15
    assert space.near.interval[0] > 0.01
    assert [p.flip for p in space.pairs[:15]] == ['horizontal'] * 15
    assert {(p.synthetic, p.train) for p in space.pairs[:15]} == {(10 * i, i) for i in range(15)}
  assert msgspec.json.decode(msgspec.json.encode(found), type=CopiesAudit) == found


def test_figures_are_those_of_the_distances(planes):
  train, heldout, fresh = (x[:n] for x, n in zip(planes, (30, 120, 40), strict=True))
  found = audit.compare(fresh, train, heldout, search.Features(ENCODER), pairs=3)
  encoded = np.stack([ENCODER(v) for v in (train, train[:, :, ::-1], train[:, ::-1], train[:, ::-1, ::-1])])
  distance = lambda x: np.linalg.norm(ENCODER(x)[:, None, None] - encoded, axis=-1).min(1)  # noqa: E731
  to_train, of_heldout, among = distance(fresh), distance(heldout).min(1), distance(train)
  np.fill_diagonal(among, np.inf)
  median = np.median(of_heldout)
  assert found.median_heldout == pytest.approx(median, rel=1e-5)
  quantiles = found.ratio.quantiles
  np.testing.assert_allclose(
    found.ratio.synthetic, np.quantile(to_train.min(1), quantiles) / median, rtol=1e-4
  )
  np.testing.assert_allclose(found.ratio.heldout, np.quantile(of_heldout, quantiles) / median, rtol=1e-4)
  assert sum(found.histogram.synthetic) == 40
  assert sum(found.histogram.heldout) == 120
  assert len(found.histogram.edges) == len(found.histogram.heldout) + 1
  real = to_train.argmin(1)
  assert found.authpct == 100 * np.mean(to_train.min(1) > among.min(1)[real])
  u = float(stats.mannwhitneyu(to_train.min(1), of_heldout).statistic)
  assert found.nearer == pytest.approx(1 - u / (40 * 120), rel=1e-6)
  order = np.argsort(to_train.min(1))[:3]
  assert [(p.synthetic, p.train) for p in found.pairs] == [(i, real[i]) for i in order]
  percentiles = [100 * np.mean(of_heldout < to_train.min(1)[i]) for i in order]
  assert [p.heldout_percentile for p in found.pairs] == pytest.approx(percentiles)


@pytest.mark.slow
def test_tiles_change_nothing(planes):
  train, heldout, fresh = planes
  whole, tiled = (
    audit.audit(fresh[:50], train[:90], heldout[:120], encoder=ENCODER, tile=tile) for tile in (2048, 32)
  )
  for name in ('pixel', 'feature'):
    a, b = whole.spaces[name], tiled.spaces[name]
    assert a.authpct == b.authpct
    assert a.near.count == b.near.count
    assert a.near.threshold == pytest.approx(b.near.threshold, rel=1e-5)
    np.testing.assert_allclose(a.ratio.synthetic, b.ratio.synthetic, rtol=1e-5)
    assert [(p.synthetic, p.train, p.flip, p.shift) for p in a.pairs] == [
      (p.synthetic, p.train, p.flip, p.shift) for p in b.pairs
    ]


def test_authenticity_is_the_papers_by_loops():
  """In the plane, points against points."""
  rng = np.random.default_rng(0)
  real, fake = (
    rng.standard_normal((30, 2)).astype(np.float32),
    rng.standard_normal((20, 2)).astype(np.float32),
  )
  fake[:5] = real[:5] + 0.01

  class Plane:
    name, unit, description = 'plane', '', ''
    queries = members = as_queries = staticmethod(lambda points: points)

    def nearest(self, queries, members, own=None):
      every = np.linalg.norm(queries[:, None] - members, axis=-1)
      if own is not None:
        every[np.arange(len(own)), own] = np.inf
      return search.Nearest(every.min(1), every.argmin(1), [Transform('none')] * len(queries))

  expected = []
  for x in fake:
    nearest = min(range(30), key=lambda j: np.linalg.norm(x - real[j]))
    other = min(np.linalg.norm(real[nearest] - real[j]) for j in range(30) if j != nearest)
    expected.append(np.linalg.norm(x - real[nearest]) > other)
  found = audit.compare(fake, real, rng.standard_normal((9, 2)), Plane())
  assert found.authpct == 100 * np.mean(expected)
  assert 0 < found.authpct <= 75


# What is missing


def test_small_sets_say_why(planes):
  train, heldout, fresh = planes
  found = audit.audit(fresh[:3], train[:1], heldout[:0])
  space = found.spaces['pixel']
  assert found.copied is None
  assert found.notes['feature'] == 'no encoder was given'
  missing = ('near', 'c_t', 'ratio', 'histogram', 'authpct', 'authpct_heldout', 'median_heldout', 'nearer')
  for name in missing:
    assert getattr(space, name) is None
    assert space.notes[name]
  assert space.notes['near'] == 'needs 99 held-out images, there are 0'
  assert [p.train for p in space.pairs] == [0, 0, 0]
  assert space.pairs[0].heldout_percentile is None


def test_held_out_images_that_are_in_the_training_set(planes):
  train, _, fresh = planes
  space = audit.audit(fresh[:20], train[:120], train[:120]).spaces['pixel']
  assert (space.near, space.ratio) == (None, None)
  assert 'themselves in the training set' in space.notes['near']
  assert 'themselves in the training set' in space.notes['ratio']
  equal = audit.audit(train[:5], train[:9], train[:9]).spaces['pixel']
  assert equal.c_t is None
  assert equal.notes['c_t'] == 'all distances are equal'
  assert equal.authpct == 0


def test_nothing_to_audit_is_refused(planes):
  train, heldout, fresh = planes
  with pytest.raises(UserError, match='no synthetic images'):
    audit.audit(fresh[:0], train, heldout)
  with pytest.raises(UserError, match='no training images'):
    audit.audit(fresh, train[:0], heldout)
  with pytest.raises(UserError, match=r'given are .* 250 x 32 x 64 x 1'):
    audit.audit(fresh, train, heldout[:, ::2])
  with pytest.raises(UserError, match='150 synthetic and 250 held-out images have 3 and 250 labels'):
    audit.audit(fresh, train, heldout, synthetic_labels=np.zeros(3, int), heldout_labels=np.zeros(250, int))


# Classes


def test_held_out_images_are_thinned_to_the_shares_of_the_synthetic_classes():
  heldout = np.repeat([0, 1, 2, 3], [100, 40, 70, 9])
  chosen = audit.matched(heldout, np.repeat([0, 1, 2], [10, 20, 10]))
  assert np.bincount(heldout[chosen], minlength=4).tolist() == [20, 40, 20, 0]
  assert (np.diff(chosen) > 0).all()
  np.testing.assert_array_equal(chosen, audit.matched(heldout, np.repeat([0, 1, 2], [10, 20, 10])))
  assert not len(audit.matched(heldout, np.array([0, 7])))  # a class without held-out images
  np.testing.assert_array_equal(audit.matched(heldout, heldout), np.arange(219))


@pytest.mark.slow
def test_a_class_of_near_images_is_no_alarm_when_labels_are_given(planes):
  train, heldout, fresh = (x.copy() for x in planes)
  # A class of dark images, nearly alike; few of the held-out images, most of the synthetic ones.
  for images in (train[:100], heldout[:2], fresh[:110]):
    images[:] = images // 16
  train, heldout = train, np.concatenate([heldout, planes[1][:100] // 16])
  labels, of_heldout = np.arange(FRESH) >= 110, np.r_[0, 0, np.ones(248, int), np.zeros(100, int)]
  blind = audit.audit(fresh, train, heldout[:250])
  found = audit.audit(fresh, train, heldout, synthetic_labels=labels.astype(int), heldout_labels=of_heldout)
  assert blind.copied is True
  assert found.copied is False
  assert found.n_heldout == 102 + round(102 / 110 * 40)
  assert found.notes['n_heldout'].startswith('139 of 350')


def test_where_a_class_is_rare_among_held_out_images_the_synthetic_side_gives_way(planes, of_fresh):
  train, heldout, fresh = planes
  labels, of_heldout = np.arange(FRESH) % 2, (np.arange(HELDOUT) >= 20).astype(int)  # 20 of one class
  found = audit.audit(fresh, train, heldout, synthetic_labels=labels, heldout_labels=of_heldout)
  rare = round(FRESH // 2 * 20 / (HELDOUT - 20))  # as many as go with all of the common class
  assert found.n_heldout == HELDOUT
  assert found.n_judged == FRESH // 2 + rare
  assert found.notes['n_judged'].startswith(f'{FRESH // 2 + rare} of {FRESH} synthetic images')
  assert found.spaces['pixel'].near is not None
  pairs = of_fresh.spaces['pixel'].pairs
  assert [p.synthetic for p in found.spaces['pixel'].pairs] == [p.synthetic for p in pairs]


# Pictures


def test_pairs_are_drawn_side_by_side(planes):
  train, heldout, fresh = planes
  synthetic = fresh[:5].copy()
  synthetic[2] = np.roll(train[42][::-1], (2, -4), (0, 1))
  pairs = audit.audit(synthetic, train, heldout[:0], pairs=2).spaces['pixel'].pairs
  picture = np.asarray(audit.draw_pairs(synthetic, train, pairs))
  side, margin = 128, 2  # twice the images' size: rows of 96 pixels at least
  assert picture.shape[0] == 2 * (side + margin) + margin
  left = picture.shape[1] - 3 * (side + margin)
  cells = [
    picture[margin : margin + side : 2, left + i * (side + margin) :][:, : 2 * 64 : 2] for i in range(3)
  ]
  np.testing.assert_array_equal(cells[0], synthetic[2, ..., 0])
  np.testing.assert_array_equal(cells[1], train[42, ..., 0])
  np.testing.assert_array_equal(cells[2][4:-4, 4:-4], synthetic[2, 4:-4, 4:-4, 0])  # in place
  assert (picture[:side, : left - margin] < 128).any()  # its label

  hidden = np.asarray(audit.draw_pairs(synthetic, train, pairs, show_training=False))
  assert (hidden[margin : margin + side, left + side + margin :][:, :side] == 128).all()
  with pytest.raises(UserError, match='no pairs'):
    audit.draw_pairs(synthetic, train, [])
