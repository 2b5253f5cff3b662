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
