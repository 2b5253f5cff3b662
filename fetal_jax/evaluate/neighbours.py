"""Nearest neighbours between sets of feature vectors: brute force on the device, a tile at a time.

Memory does not grow with the number of pairs: 60,000 against 10,000 is possible on a laptop. Squared distances are exact to
about 1e-7 of the vectors' squared lengths, so centre them first; `compare` has no such error.
"""

import functools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from numpy.typing import DTypeLike

TILE = 2048  # points a side of the tiles of distances: 16 MiB each, whatever the sets' sizes
_CHUNK = 256  # points that `compare` looks at together

# A set's member may come in several versions (flipped, shifted): its distance is then that of the nearest one. A function
# (members [m, ...], number of the version) -> vectors [m, d] makes them, on the device, where they are needed.
Version = Callable[[Array, Array], Array]


class Neighbours(NamedTuple):
  """The k nearest of every point: squared distances, float32 [n, k], ascending, and indices, int32 [n, k]."""

  squared: np.ndarray
  indices: np.ndarray


class Match(NamedTuple):
  """The best candidate of every point: squared distance float32, index and version int32; all [n]."""

  squared: np.ndarray
  indices: np.ndarray
  versions: np.ndarray


def as_they_are(members: Float[Array, 'm d'], version: Int[Array, '']) -> Float[Array, 'm d']:
  """Returns plain vectors, which have one version only."""
  del version
  return members


def nearest(
  points: Float[np.ndarray, 'n d'],
  others: Float[np.ndarray, 'm ...'],
  k: int = 1,
  *,
  own: Int[np.ndarray, ' n'] | None = None,
  version: Version = as_they_are,
  versions: int = 1,
  tile: int = TILE,
) -> Neighbours:
  """Finds the k nearest of `others`, each in the version that is nearest; of equals, the first.

  Args:
    points: whose neighbours are wanted.
    others: the candidates.
    k: how many.
    own: index of the other that each point is itself, which is no neighbour of it in any version; None: none.
    version: makes a version of a tile of `others`; a function of a module, for it is compiled in.
    versions: how many there are.
    tile: points a side of the tiles.

  Raises:
    ValueError: fewer than k others.
  """
  if not 1 <= k <= len(others) - (own is not None):
    raise ValueError(f'of {len(others)} vectors there is no neighbour number {k}')
  squared, indices = np.empty((len(points), k), np.float32), np.empty((len(points), k), np.int32)
  size = _tile_size(tile, points, others)
  for start, x in _tiles(points, size):
    rows = slice(start, start + size)
    mine = np.full(size, -1) if own is None else _padded(own[rows], size, -1, np.int64)
    best = (jnp.full((size, k), jnp.inf, jnp.float32), jnp.full((size, k), -1, jnp.int32))
    for first, y in _tiles(others, size):
      # Where in this tile the others end, and where the points themselves are.
      ends, places = np.int32(len(others) - first), (mine - first).clip(-1, size).astype(np.int32)
      best = _nearest_tile(best, x, y, ends, places, np.int32(first), version, versions)
    squared[rows], indices[rows] = (np.asarray(a)[: len(squared[rows])] for a in best)
  return Neighbours(squared, indices)


def compare(
  points: Float[np.ndarray, 'n d'],
  others: Float[np.ndarray, 'm ...'],
  candidates: Int[np.ndarray, 'n k'],
  *,
  version: Version = as_they_are,
  versions: int = 1,
) -> Match:
  """Finds the nearest of every point's candidates, in all versions, by differences: equal vectors are at distance 0.

  Args:
    points: as in `nearest`.
    others: likewise.
    candidates: indices into `others`, such as those that `nearest` gives.
    version: as in `nearest`.
    versions: likewise; of equally near ones, the first.
  """
  match = Match(np.empty(len(points), np.float32), *(np.empty(len(points), np.int32) for _ in range(2)))
  size = _tile_size(_CHUNK, points)
  for start, x in _tiles(points, size):
    rows = slice(start, start + size)
    chosen = _padded(candidates[rows], size, 0, np.int32)
    found = _compare_chunk(x, np.asarray(others[chosen], np.float32), chosen, version, versions)
    for whole, part in zip(match, found, strict=True):
      whole[rows] = np.asarray(part)[: len(whole[rows])]
  return match


def neighbour_distances(
  points: Float[np.ndarray, 'n d'], k: int, *, tile: int = TILE
) -> Float[np.ndarray, ' n']:
  """Computes the squared distance of every point to its k-th nearest among the others; float32.

  Raises:
    ValueError: there are not more than k points.
  """
  if not 1 <= k < len(points):
    raise ValueError(f'{len(points)} vectors have no neighbour number {k}')
  return nearest(points, points, k, own=np.arange(len(points)), tile=tile).squared[:, -1]


def nearest_distances(
  points: Float[np.ndarray, 'n d'], others: Float[np.ndarray, 'm d'], *, tile: int = TILE
) -> Float[np.ndarray, ' n']:
  """Computes the squared distance of every point to the nearest of `others`; float32.

  Raises:
    ValueError: there are no others.
  """
  if not len(others):
    raise ValueError('no vectors to be near to')
  return nearest(points, others, tile=tile).squared[:, 0]


def balls_around(
  points: Float[np.ndarray, 'n d'],
  centres: Float[np.ndarray, 'm d'],
  squared_radii: Float[np.ndarray, ' m'],
  *,
  tile: int = TILE,
) -> Int[np.ndarray, ' n']:
  """Counts the balls (their surfaces included) that every point lies in."""
  counts = np.zeros(len(points), np.int64)
  size = _tile_size(tile, points, centres)
  for start, x in _tiles(points, size):
    rows = slice(start, start + size)
    for first, y in _tiles(centres, size):
      # Padding has a radius that no distance is within.
      radii = _padded(squared_radii[first : first + size], size, -1.0)
      counts[rows] += np.asarray(_count_tile(x, y, radii))[: len(counts[rows])]
  return counts


def _tile_size(tile: int, *sets: np.ndarray) -> int:
  """Returns `tile`, or less for small sets: powers of two, so that classes of many sizes share a few programs."""
  return min(tile, 1 << (max(map(len, sets)) - 1).bit_length())


def _tiles(points: np.ndarray, size: int) -> Iterator[tuple[int, np.ndarray]]:
  """Yields (start, float32 [size, d]), one after the other; the last is padded, so that one program serves all."""
  for start in range(0, len(points), size):
    yield start, _padded(points[start : start + size], size, 0.0)


def _padded(array: np.ndarray, size: int, value: float, dtype: DTypeLike = np.float32) -> np.ndarray:
  pads = ((0, size - len(array)), *((0, 0),) * (array.ndim - 1))
  return np.pad(np.asarray(array, dtype), pads, constant_values=value)


def products(x: Float[Array, 'n d'], y: Float[Array, 'm d']) -> Float[Array, 'n m']:
  """Computes x·y of all pairs, in float32 also on devices that round the inputs of matmuls."""
  return jnp.matmul(x, y.T, precision=jax.lax.Precision.HIGHEST)


def _squared_distances(x: Float[Array, 'n d'], y: Float[Array, 'm d']) -> Float[Array, 'n m']:
  squares = jnp.square(x).sum(1)[:, None] + jnp.square(y).sum(1)
  return jnp.maximum(squares - 2 * products(x, y), 0)


@functools.partial(jax.jit, donate_argnums=0, static_argnames=('version', 'versions'))
def _nearest_tile(
  best: tuple[Float[Array, 'n k'], Int[Array, 'n k']],
  x: Float[Array, 'n d'],
  y: Float[Array, 'm ...'],
  ends: Int[Array, ''],
  places: Int[Array, ' n'],
  first: Int[Array, ''],
  version: Version,
  versions: int,
) -> tuple[Float[Array, 'n k'], Int[Array, 'n k']]:
  """Finds the k nearest of those in `best` and of the tile `y`, whose members are `first`, `first` + 1, …; donates `best`."""

  def nearer(v: Array, distances: Array) -> Array:
    return jnp.minimum(distances, _squared_distances(x, version(y, v)))

  columns = jnp.arange(len(y))
  distances = jax.lax.fori_loop(0, versions, nearer, jnp.full((len(x), len(y)), jnp.inf))
  distances = jnp.where((columns < ends) & (columns != places[:, None]), distances, jnp.inf)

  k = best[0].shape[1]
  negative, order = jax.lax.top_k(-jnp.concatenate([best[0], distances], axis=1), k)
  before = jnp.take_along_axis(best[1], jnp.minimum(order, k - 1), axis=1)
  return -negative, jnp.where(order < k, before, first + order - k)


@functools.partial(jax.jit, static_argnames=('version', 'versions'))
def _compare_chunk(
  x: Float[Array, 'n d'],
  y: Float[Array, 'n k ...'],
  candidates: Int[Array, 'n k'],
  version: Version,
  versions: int,
) -> tuple[Float[Array, ' n'], Int[Array, ' n'], Int[Array, ' n']]:
  """Computes squared distance, index and version of the nearest of every point's own candidates `y`."""
  n, k = candidates.shape
  members = y.reshape(n * k, *y.shape[2:])

  def nearer(v: Array, best: tuple[Array, Array]) -> tuple[Array, Array]:
    distances = jnp.square(x[:, None] - version(members, v).reshape(n, k, -1)).sum(-1)
    return jnp.minimum(best[0], distances), jnp.where(distances < best[0], v, best[1])

  nothing = (jnp.full((n, k), jnp.inf), jnp.zeros((n, k), jnp.int32))
  distances, which = jax.lax.fori_loop(0, versions, nearer, nothing)
  row, column = jnp.arange(n), distances.argmin(1)
  return distances[row, column], candidates[row, column], which[row, column]


@jax.jit
def _count_tile(
  x: Float[Array, 'n d'], y: Float[Array, 'm d'], squared_radii: Float[Array, ' m']
) -> Int[Array, ' n']:
  return (_squared_distances(x, y) <= squared_radii).sum(1)
