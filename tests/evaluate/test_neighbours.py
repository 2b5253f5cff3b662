"""Neighbours by tiles against all distances at once in float64."""

import numpy as np
import pytest

from fetal_jax.evaluate import neighbours


def points(n, d=3, seed=0):
  return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)


def squared_distances(a, b):
  return np.square(a[:, None].astype(np.float64) - b[None]).sum(-1)


@pytest.mark.parametrize('tile', [8, 64, 2048])
@pytest.mark.parametrize('k', [1, 3])
def test_neighbours_in_the_own_set(tile, k):
  x = points(50)
  every = squared_distances(x, x)
  np.fill_diagonal(every, np.inf)
  found = neighbours.neighbour_distances(x, k, tile=tile)
  np.testing.assert_allclose(found, np.sort(every, axis=1)[:, k - 1], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize('tile', [8, 2048])
@pytest.mark.parametrize(('n', 'm'), [(50, 21), (21, 50), (1, 40), (40, 1)])
def test_nearest_of_the_others_and_balls(tile, n, m):
  x, y = points(n), points(m, seed=1)
  x[0] = 0  # where a tile's padding lies
  every = squared_distances(x, y)
  found = neighbours.nearest_distances(x, y, tile=tile)
  np.testing.assert_allclose(found, every.min(axis=1), rtol=1e-4, atol=1e-6)
  radii = np.random.default_rng(2).uniform(0, 6, m)
  counts = neighbours.balls_around(x, y, radii, tile=tile)
  np.testing.assert_array_equal(counts, (every <= radii).sum(axis=1))


@pytest.mark.parametrize('tile', [8, 2048])
def test_which_they_are(tile):
  x, y = points(50), points(21, seed=1)
  every = squared_distances(x, y)
  found = neighbours.nearest(x, y, 4, tile=tile)
  np.testing.assert_array_equal(found.indices, np.argsort(every, axis=1)[:, :4])
  np.testing.assert_allclose(found.squared, np.sort(every, axis=1)[:, :4], rtol=1e-4, atol=1e-6)


def test_of_equals_the_first_is_told_whatever_the_tile():
  y = np.repeat(points(3), 5, axis=0)
  for tile in (4, 8, 2048):
    np.testing.assert_array_equal(
      neighbours.nearest(points(3), y, 2, tile=tile).indices, [[0, 1], [5, 6], [10, 11]]
    )


def scaled(members, version):
  return members * (1 + version)


@pytest.mark.parametrize('tile', [4, 2048])
def test_versions_and_oneself(tile):
  x, y = points(9), points(13, seed=1)
  own = np.arange(9)[::-1] + 4  # the points are no members, but may be told to be
  every = np.stack([squared_distances(x, v * y) for v in (1, 2, 3)], axis=-1)
  every[np.arange(9), own] = np.inf
  found = neighbours.nearest(x, y, 3, own=own, version=scaled, versions=3, tile=tile)
  np.testing.assert_array_equal(found.indices, np.argsort(every.min(-1), axis=1)[:, :3])
  match = neighbours.compare(x, y, found.indices, version=scaled, versions=3)
  np.testing.assert_array_equal(match.indices, found.indices[:, 0])
  np.testing.assert_array_equal(match.versions, every.argmin(-1)[np.arange(9), match.indices])
  np.testing.assert_allclose(match.squared, every.min((1, 2)), rtol=1e-5)


def test_compare_knows_equals_and_chunks(monkeypatch):
  x = points(11) + 1e3  # where sums of squares have no digits left
  candidates = np.stack([np.arange(11), np.arange(11)[::-1]], axis=1)
  whole = neighbours.compare(x, x, candidates)
  monkeypatch.setattr(neighbours, '_CHUNK', 4)
  for match in (whole, neighbours.compare(x, x, candidates)):
    np.testing.assert_array_equal(match.squared, 0)
    np.testing.assert_array_equal(match.indices, np.arange(11))


def test_a_copy_is_a_neighbour_and_oneself_is_not():
  x = np.concatenate([points(9), points(2)])  # the first two twice, in different tiles
  found = neighbours.neighbour_distances(x, 1, tile=4)
  assert (found[[0, 1, 9, 10]] < 1e-6).all()
  assert (found[2:9] > 1e-3).all()


def test_the_surface_of_a_ball_belongs_to_it():
  centres = np.array([[3.0, 4.0], [0.0, 5.5]], np.float32)
  assert neighbours.balls_around(np.zeros((1, 2), np.float32), centres, np.array([25.0, 25.0])) == 1


def test_what_is_not_there_is_refused():
  with pytest.raises(ValueError, match='5 vectors have no neighbour number 5'):
    neighbours.neighbour_distances(points(5), 5)
  with pytest.raises(ValueError, match='no neighbour number 0'):
    neighbours.neighbour_distances(points(5), 0)
  with pytest.raises(ValueError, match='no vectors'):
    neighbours.nearest_distances(points(5), points(0))
  with pytest.raises(ValueError, match='of 4 vectors there is no neighbour number 4'):
    neighbours.nearest(points(4), points(4), 4, own=np.arange(4))
