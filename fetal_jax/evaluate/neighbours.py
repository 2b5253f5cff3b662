"""Nearest neighbours between sets of feature vectors: brute force on the device, a tile at a time.

Memory does not grow with the number of pairs: 60,000 against 10,000 is possible on a laptop. Squared distances are exact to
about 1e-7 of the vectors' squared lengths, so centre them first.
"""

import functools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

TILE = 2048  # points a side of the tiles of distances: 16 MiB each, whatever the sets' sizes


def neighbour_distances(
  points: Float[np.ndarray, 'n d'], k: int, *, tile: int = TILE
) -> Float[np.ndarray, ' n']:
  """Squared distance of every point to its k-th nearest among the others; float32.

  Raises:
    ValueError: there are not more than k points.
  """
  if not 1 <= k < len(points):
    raise ValueError(f'{len(points)} vectors have no neighbour number {k}')
  return _nearest(points, points, k, tile, same=True)


def nearest_distances(
  points: Float[np.ndarray, 'n d'], others: Float[np.ndarray, 'm d'], *, tile: int = TILE
) -> Float[np.ndarray, ' n']:
  """Squared distance of every point to the nearest of `others`; float32.

  Raises:
    ValueError: there are no others.
  """
  if not len(others):
    raise ValueError('no vectors to be near to')
  return _nearest(points, others, 1, tile, same=False)


def balls_around(
  points: Float[np.ndarray, 'n d'],
  centres: Float[np.ndarray, 'm d'],
  squared_radii: Float[np.ndarray, ' m'],
  *,
  tile: int = TILE,
) -> Int[np.ndarray, ' n']:
  """In how many balls (their surfaces included) every point lies."""
  counts = np.zeros(len(points), np.int64)
  size = _tile_size(tile, points, centres)
  for start, x in _tiles(points, size):
    rows = slice(start, start + size)
    for first, y in _tiles(centres, size):
      # Padding has a radius that no distance is within.
      radii = _padded(squared_radii[first : first + size], size, -1.0)
      counts[rows] += np.asarray(_count_tile(x, y, radii))[: len(counts[rows])]
  return counts


def _nearest(points: np.ndarray, others: np.ndarray, k: int, tile: int, *, same: bool) -> np.ndarray:
  """Squared distances to the k-th nearest, tile by tile; a point is no neighbour of itself if the sets are the `same`."""
  result = np.empty(len(points), np.float32)
  size = _tile_size(tile, points, others)
  for start, x in _tiles(points, size):
    best = jnp.full((size, k), jnp.inf, jnp.float32)
    for first, y in _tiles(others, size):
      valid = np.arange(size) < len(others) - first
      best = _nearest_tile(best, x, y, valid, same and start == first)
    rows = slice(start, start + size)
    result[rows] = np.asarray(best[:, -1])[: len(result[rows])]
  return result


def _tile_size(tile: int, *sets: np.ndarray) -> int:
  """`tile`, or less for small sets: powers of two, so that classes of many sizes share a few programs."""
  return min(tile, 1 << (max(map(len, sets)) - 1).bit_length())


def _tiles(points: np.ndarray, size: int) -> Iterator[tuple[int, np.ndarray]]:
  """(start, float32 [size, d]) one after the other; the last is padded, so that one program serves all."""
  for start in range(0, len(points), size):
    yield start, _padded(points[start : start + size], size, 0.0)


def _padded(array: np.ndarray, size: int, value: float) -> np.ndarray:
  pads = ((0, size - len(array)), *((0, 0),) * (array.ndim - 1))
  return np.pad(np.asarray(array, np.float32), pads, constant_values=value)


def products(x: Float[Array, 'n d'], y: Float[Array, 'm d']) -> Float[Array, 'n m']:
  """x·y of all pairs, in float32 also where a device would rather round its inputs."""
  return jnp.matmul(x, y.T, precision=jax.lax.Precision.HIGHEST)


def _squared_distances(x: Float[Array, 'n d'], y: Float[Array, 'm d']) -> Float[Array, 'n m']:
  squares = jnp.square(x).sum(1)[:, None] + jnp.square(y).sum(1)
  return jnp.maximum(squares - 2 * products(x, y), 0)


@functools.partial(jax.jit, donate_argnums=0)
def _nearest_tile(
  best: Float[Array, 'n k'],
  x: Float[Array, 'n d'],
  y: Float[Array, 'm d'],
  valid: Bool[Array, ' m'],
  diagonal: Bool[Array, ''],
) -> Float[Array, 'n k']:
  """The k smallest of what is in `best` and of the distances to the tile `y`, ascending; donates `best`."""
  itself = diagonal & jnp.eye(len(x), len(y), dtype=bool)
  distances = jnp.where(valid & ~itself, _squared_distances(x, y), jnp.inf)
  candidates = jnp.concatenate([best, distances], axis=1)
  return -jax.lax.top_k(-candidates, best.shape[1])[0]


@jax.jit
def _count_tile(
  x: Float[Array, 'n d'], y: Float[Array, 'm d'], squared_radii: Float[Array, ' m']
) -> Int[Array, ' n']:
  return (_squared_distances(x, y) <= squared_radii).sum(1)
