"""The search for copies against all flips and shifts written out in numpy."""

import jax.numpy as jnp
import numpy as np
import pytest

from fetal_jax.evaluate import encoders
from fetal_jax.evaluate.copies import search
from fetal_jax.evaluate.copies.search import Transform
from fetal_jax.runtime.errors import UserError

SHIFTS = range(-2, 3)


def blobs(n, size=32, channels=1, seed=0):
  """Smooth random pictures: neighbouring pixels are alike, as in images."""
  coarse = np.random.default_rng(seed).integers(0, 256, (n, 8, 8, channels))
  fine = coarse.repeat(size // 8, 1).repeat(size // 8, 2).astype(float)
  for axis in (1, 2):
    fine = (np.roll(fine, 1, axis) + fine + np.roll(fine, -1, axis)) / 3
  return fine.astype(np.uint8)


def flipped(x, flip):
  """Of [..., h, w]."""
  x = x[..., ::-1] if flip in ('horizontal', 'both') else x
  return x[..., ::-1, :] if flip in ('vertical', 'both') else x


def brute_force(queries, train, own=None):
  """(distances [n, m] with the nearest transform, its number [n, m]), over images [n, 32, 32]."""
  transforms = [Transform(flip, d, r) for flip in search.FLIPS for d in SHIFTS for r in SHIFTS]
  middle = np.s_[:, 2:-2, 2:-2]
  every = []
  for t in transforms:
    moved = np.roll(flipped(train, t.flip), (t.down, t.right), (1, 2))[middle]
    every.append(np.sqrt(np.square(queries[middle][:, None] - moved[None]).mean((2, 3))))
  every = np.array(every)
  if own is not None:
    every[:, np.arange(len(queries)), own] = np.inf
  best = every.argmin(0)
  return every.min(0), [[transforms[v] for v in row] for row in best]


@pytest.mark.parametrize('tile', [4, 2048])
@pytest.mark.parametrize('own', [False, True])
def test_the_full_search_is_all_flips_and_shifts(tile, own):
  train = blobs(9)
  queries = train[:7] if own else blobs(7, seed=1)
  mine = np.arange(7) if own else None
  x, y = (np.float64(a[..., 0]) for a in (queries, train))
  distances, transforms = brute_force(x, y, mine)
  space = search.Pixels(shortlist=0, tile=tile)
  found = space.nearest(space.queries(queries), space.members(train), mine)
  np.testing.assert_array_equal(found.indices, distances.argmin(1))
  np.testing.assert_allclose(found.distances, distances.min(1), rtol=1e-4)
  assert found.transforms == [transforms[i][j] for i, j in enumerate(found.indices)]


@pytest.mark.parametrize('size', [32, 64, 128])
@pytest.mark.parametrize('shortlist', [0, 3])
def test_every_transform_is_undone(size, shortlist):
  train, f = blobs(6, size, seed=2), size // 32
  transforms = [Transform(flip, d, r) for flip in search.FLIPS for d in SHIFTS for r in SHIFTS]
  made = np.stack([search.transformed(train[i % 6], t) for i, t in enumerate(transforms)])
  found = search.nearest(made, train, search.Pixels(shortlist))
  np.testing.assert_array_equal(found.indices, np.arange(100) % 6)
  np.testing.assert_allclose(found.distances, 0, atol=1e-4)
  assert found.transforms == transforms
  # And `transformed` is what it says.
  there = np.roll(train[0, ::-1, ..., 0], (2 * f, -f), (0, 1))
  there[: 2 * f], there[:, -f:] = 0, 0
  np.testing.assert_array_equal(search.transformed(train[0], Transform('vertical', 2, -1))[..., 0], there)


def test_a_shortlist_finds_what_the_full_search_finds():
  """Of images without a copy, for which ranks are close; `docs` of the class say what it saves."""
  train, queries = blobs(300, seed=3), blobs(100, seed=4)
  full, short = (search.nearest(queries, train, search.Pixels(k)) for k in (0, 8))
  same = full.indices == short.indices
  assert same.mean() >= 0.9
  # Eight candidates and four are two programs: equal up to rounding.
  np.testing.assert_allclose(short.distances[same], full.distances[same], rtol=1e-6)
  assert (short.distances >= full.distances * (1 - 1e-6)).all()
  assert (short.distances <= 1.1 * full.distances).all()


def test_grey_levels_are_averages_over_areas():
  images = np.random.default_rng(0).integers(0, 256, (3, 48, 64, 3), np.uint8)
  # 48 / 32 = 3 / 2: doubled rows fall into threes.
  doubled = images.astype(float).mean(-1).repeat(2, axis=1)
  expected = doubled.reshape(3, 32, 3, 32, 2).mean((2, 4))
  np.testing.assert_allclose(search.grey(images), expected, rtol=1e-5)
  np.testing.assert_array_equal(search.grey(images[:, :32, :32, :1]), images[:, :32, :32, 0])


def test_memory_mapped_images_and_chunks(tmp_path, monkeypatch):
  images = blobs(9, 64)
  np.save(tmp_path / 'images.npy', images)
  expected = search.grey(images)
  monkeypatch.setattr(search, '_CHUNK', 4)
  np.testing.assert_array_equal(search.grey(np.load(tmp_path / 'images.npy', mmap_mode='r')), expected)


# Features


def corners(weight, images):
  """Left half, right half, top half."""
  x, half = images[..., 0].astype(jnp.float32), images.shape[1] // 2
  return weight * jnp.stack(
    [x[:, :, :half].mean((1, 2)), x[:, :, half:].mean((1, 2)), x[:, :half].mean((1, 2))], 1
  )


ENCODER = encoders.Encoder('corners', 'means of halves', 3, corners, jnp.float32(1))


@pytest.mark.parametrize('tile', [4, 2048])
@pytest.mark.parametrize('own', [False, True])
def test_features_are_compared_in_all_flips(tile, own):
  train = blobs(15, seed=5)
  queries = train[:11] if own else blobs(11, seed=6)
  mine = np.arange(11) if own else None
  encoded = ENCODER(queries).astype(float)
  versions = [ENCODER(np.ascontiguousarray(flipped(train[..., 0], f))[..., None]) for f in search.FLIPS]
  every = np.linalg.norm(encoded[None, :, None] - np.array(versions)[:, None], axis=-1)
  if own:
    every[:, np.arange(11), np.arange(11)] = np.inf
  space = search.Features(ENCODER, tile)
  members = space.members(train)
  found = space.nearest(space.as_queries(members)[:11] if own else space.queries(queries), members, mine)
  np.testing.assert_array_equal(found.indices, every.min(0).argmin(1))
  np.testing.assert_allclose(found.distances, every.min((0, 2)), rtol=1e-4)
  best = every[:, np.arange(11), found.indices].argmin(0)
  assert found.transforms == [Transform(search.FLIPS[v]) for v in best]


def test_an_encoder_that_fails_is_named():
  encoder = encoders.Encoder('broken', '', 3, corners, jnp.float32(np.nan))
  with pytest.raises(UserError, match='encoder broken: some features are not finite'):
    search.nearest(blobs(2), blobs(2), search.Features(encoder))


@pytest.mark.parametrize(
  ('queries', 'train', 'said'),
  [
    (blobs(2), blobs(2, 64), 'one size; given are uint8 2 x 32 x 32 x 1, uint8 2 x 64 x 64 x 1'),
    (blobs(2) / 255.0, blobs(2), 'float64'),
    (blobs(2)[..., 0], blobs(2)[..., 0], '2 x 32 x 32'),
    (blobs(2), blobs(0), 'no training images'),
  ],
)
def test_what_cannot_be_compared_is_refused(queries, train, said):
  with pytest.raises(UserError, match=said):
    search.nearest(queries, train)
