"""The search for copies: the nearest training image of every image, in pixels or in features.

A copy may be flipped, and in pixels also shifted: a training image is as near as its nearest version. Both spaces have the
same functions: `queries` and `members` turn images into arrays, `nearest` compares them.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from fetal_jax.evaluate import neighbours
from fetal_jax.evaluate.neighbours import TILE
from fetal_jax.runtime.errors import UserError

SIDE = 32  # pixels: images are averaged down to this side before their pixels are compared
REACH = 2  # a copy may be shifted by so many of these pixels, in both directions
_CHUNK = 256  # images that are averaged down together

Images = UInt8[np.ndarray, 'n h w c']


class Transform(NamedTuple):
  """The change that makes a training image look like the other: first the flip, then the shift, in pixels of 32 x 32."""

  flip: str  # 'none', 'horizontal' (left becomes right), 'vertical' or 'both'
  down: int = 0
  right: int = 0


FLIPS = ('none', 'horizontal', 'vertical', 'both')


def _transforms(reach: int) -> tuple[Transform, ...]:
  """Lists all flips with all shifts of up to `reach`, small ones first: of equally good ones the first is reported."""
  steps = range(-reach, reach + 1)
  shifts = sorted(((down, right) for down in steps for right in steps), key=lambda s: abs(s[0]) + abs(s[1]))
  return tuple(Transform(flip, *shift) for flip in FLIPS for shift in shifts)


class Nearest(NamedTuple):
  """The nearest training image of every image: distances float32 [n], indices int32 [n], and transforms."""

  distances: np.ndarray
  indices: np.ndarray
  transforms: list[Transform]

  def take(self, indices: Int[np.ndarray, ' m']) -> 'Nearest':
    """Returns those of some images."""
    return Nearest(self.distances[indices], self.indices[indices], [self.transforms[i] for i in indices])


class Space(Protocol):
  """A space that images are compared in."""

  @property
  def name(self) -> str:
    """Returns a short name, for tables."""

  @property
  def unit(self) -> str:
    """Returns the unit of the distances; may be empty."""

  @property
  def description(self) -> str:
    """Says for the report what is compared, and what a distance is."""

  def queries(self, images: Images) -> np.ndarray:
    """Turns images into the arrays that are looked for."""

  def members(self, images: Images) -> np.ndarray:
    """Turns training images into the arrays that are searched."""

  def as_queries(self, members: np.ndarray) -> np.ndarray:
    """Returns the `queries` of training images, from their `members`."""

  def nearest(self, queries: np.ndarray, members: np.ndarray, own: np.ndarray | None = None) -> Nearest:
    """Finds the nearest member of every query; `own` [n] says which member a query is itself, which it must not find."""


def nearest(queries: Images, train: Images, space: Space | None = None) -> Nearest:
  """Finds the nearest training image of every image.

  Args:
    queries: any images.
    train: the images that they may be copies of.
    space: where they are compared; None: `Pixels()`.

  Raises:
    UserError: there are no training images, or the images are not uint8 or not all of one shape.
  """
  check(queries, train)
  chosen: Space = space or Pixels()
  return chosen.nearest(chosen.queries(queries), chosen.members(train))


def check(*sets: Images) -> None:
  """Refuses sets of images that cannot be compared; only the last must not be empty."""
  shapes = {images.shape[1:] for images in sets}
  if len(shapes) > 1 or any(images.ndim != 4 or images.dtype != np.uint8 for images in sets):
    given = ', '.join(f'{images.dtype} {" x ".join(map(str, images.shape))}' for images in sets)
    raise UserError(f'copies are looked for among uint8 images [n, h, w, c] of one size; given are {given}')
  if not len(sets[-1]):
    raise UserError('there are no training images to be copied; give those that the generator was trained on')


# MARK: Pixels


def grey(images: Images, side: int = SIDE) -> Float[np.ndarray, 'n side side']:
  """Computes grey levels 0 ... 255, averaged over the areas of side x side equal rectangles; images may be memory-mapped."""
  rows, columns = (_areas(size, side) for size in images.shape[1:3])
  result = np.empty((len(images), side, side), np.float32)
  for start in range(0, len(images), _CHUNK):
    chunk = np.asarray(images[start : start + _CHUNK]).mean(axis=-1, dtype=np.float32)
    result[start : start + _CHUNK] = rows @ chunk @ columns.T
  return result


def _areas(size: int, parts: int) -> Float[np.ndarray, 'parts size']:
  """Computes the share of each of `size` pixels in each of `parts` equal stretches."""
  edges = np.linspace(0, size, parts + 1)[:, None]
  pixels = np.arange(size)
  overlap = np.minimum(edges[1:], pixels + 1) - np.maximum(edges[:-1], pixels)
  return (overlap.clip(min=0) * (parts / size)).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class Pixels:
  """The space of grey levels at 32 x 32.

  An image's middle 28 x 28 is looked for in every training image: in its four flips, each at the 25 shifts of up to 2
  pixels. So all comparisons are of equally many pixels, and none of padding.

  The distance is the root of the mean squared difference, in grey levels of 0 ... 255.

  Attributes:
    shortlist: a first pass at 16 x 16, with the flips and the 9 shifts of up to a pixel of those, picks this many
      training images for each; only they are compared at 32 x 32. 0: all are. For 60,000 images against 10,000 the first
      pass is about 10^13 operations, some minutes on two CPU cores; without it there are ten times as many. Against
      959 real images, 8 found 295 of 300 copies that were flipped, shifted and noised, as did the full search; of 392
      images that were no copies they found the nearest for 97 in 100, and for the others one at most 7 % farther.
      Memory does not grow with the number of pairs: it is a few times that of the images at 32 x 32, and a few tiles.
    tile: images a side of the tiles.
  """

  shortlist: int = 8
  tile: int = TILE
  name = 'pixel'
  unit = 'grey levels'

  @property
  def description(self) -> str:
    """Says for the report what is compared."""
    how = f'a shortlist of {self.shortlist} from 16 x 16' if self.shortlist else 'no shortlist'
    return (
      f'grey levels at {SIDE} x {SIDE}, root mean squared difference over the middle {SIDE - 2 * REACH} x '
      f'{SIDE - 2 * REACH}; flips and shifts of up to {REACH} pixels of those are searched ({how})'
    )

  def queries(self, images: Images) -> Float[np.ndarray, 'n 32 32']:
    """Averages the images down to 32 x 32."""
    return grey(images)

  members = queries

  def as_queries(self, members: Float[np.ndarray, 'm 32 32']) -> Float[np.ndarray, 'm 32 32']:
    """Returns the same."""
    return members

  def nearest(
    self,
    queries: Float[np.ndarray, 'n 32 32'],
    members: Float[np.ndarray, 'm 32 32'],
    own: Int[np.ndarray, ' n'] | None = None,
  ) -> Nearest:
    """Finds the nearest training image of every image, see `Space`."""
    level = members.mean(dtype=np.float64).astype(
      np.float32
    )  # differences stay, and sums of squares are smaller
    queries, members = queries - level, members - level
    # Without a shortlist a few are still compared again: the first pass rounds.
    halvings = 1 if self.shortlist else 0
    found = neighbours.nearest(
      _middle(_halved(queries, halvings)),
      _halved(members, halvings),
      min(self.shortlist or 4, len(members) - (own is not None)),
      own=own,
      version=_window,
      versions=len(_transforms(REACH >> halvings)),
      tile=self.tile,
    )
    versions = _transforms(REACH)
    middles = _middle(queries)
    match = neighbours.compare(middles, members, found.indices, version=_window, versions=len(versions))
    distances = np.sqrt(match.squared / middles.shape[1])
    return Nearest(distances, match.indices, [versions[v] for v in match.versions])


def _halved(images: Float[np.ndarray, 'n s s'], times: int) -> Float[np.ndarray, 'n t t']:
  n, side, _ = images.shape
  t, f = side >> times, 1 << times
  return images.reshape(n, t, f, t, f).mean(axis=(2, 4))


def _reach(side: int) -> int:
  """Returns how far windows may be shifted in an image of this side."""
  return side * REACH // SIDE


def _middle(images: Float[np.ndarray, 'n s s']) -> Float[np.ndarray, 'n d']:
  """Cuts off a margin as wide as the reach of the shifts."""
  n, side, _ = images.shape
  r = _reach(side)
  return images[:, r:-r, r:-r].reshape(n, (side - 2 * r) ** 2)


def _window(images: Float[Array, 'm s s'], version: Int[Array, '']) -> Float[Array, 'm d']:
  """Returns the middle of the images after transform number `version`: another window of the flipped image."""
  m, side, _ = images.shape
  reach = _reach(side)
  transforms = _transforms(reach)
  flips = jnp.array([FLIPS.index(t.flip) for t in transforms])
  starts = jnp.array([(reach - t.down, reach - t.right) for t in transforms])
  flipped = jax.lax.switch(
    flips[version],
    [lambda x: x, lambda x: x[:, :, ::-1], lambda x: x[:, ::-1], lambda x: x[:, ::-1, ::-1]],
    images,
  )
  size = side - 2 * reach
  window = jax.lax.dynamic_slice(flipped, (0, *starts[version]), (m, size, size))
  return window.reshape(m, -1)


# MARK: Features


@dataclasses.dataclass(frozen=True)
class Features:
  """The space of an encoder's features; training images are encoded in their four flips. The distance is Euclidean.

  Attributes:
    encoder: images -> features; `evaluate.encoders.Encoder`.
    tile: images a side of the tiles.
  """

  encoder: Callable[[Images], Float[np.ndarray, 'n d']]
  tile: int = TILE
  name = 'feature'
  unit = ''

  @property
  def description(self) -> str:
    """Says for the report what is compared."""
    encoder = getattr(self.encoder, 'description', 'an encoder')
    return f'Euclidean distance of features: {encoder}; flips are searched'

  def queries(self, images: Images) -> Float[np.ndarray, 'n d']:
    """Encodes the images.

    Raises:
      UserError: they are not finite, or the encoder is not made for such images.
    """
    features = self.encoder(images)
    if not np.isfinite(features).all():
      raise UserError(
        f'encoder {getattr(self.encoder, "name", "given")}: some features are not finite; train it again, or choose '
        'another encoder'
      )
    return features

  def members(self, images: Images) -> Float[np.ndarray, 'm 4 d']:
    """Encodes the images in all flips, in the order of `FLIPS`."""
    flipped = (images, images[:, :, ::-1], images[:, ::-1], images[:, ::-1, ::-1])
    return np.stack([self.queries(view) for view in flipped], axis=1)

  def as_queries(self, members: Float[np.ndarray, 'm 4 d']) -> Float[np.ndarray, 'm d']:
    """Returns the features of the images as they are."""
    return members[:, 0]

  def nearest(
    self,
    queries: Float[np.ndarray, 'n d'],
    members: Float[np.ndarray, 'm 4 d'],
    own: Int[np.ndarray, ' n'] | None = None,
  ) -> Nearest:
    """Finds the nearest training image of every image, see `Space`."""
    centre = members[:, 0].mean(axis=0)
    queries, members = queries - centre, members - centre
    k = min(4, len(members) - (own is not None))  # a few, because the first pass rounds
    found = neighbours.nearest(
      queries, members, k, own=own, version=_flip, versions=len(FLIPS), tile=self.tile
    )
    match = neighbours.compare(queries, members, found.indices, version=_flip, versions=len(FLIPS))
    return Nearest(np.sqrt(match.squared), match.indices, [Transform(FLIPS[v]) for v in match.versions])


def _flip(members: Float[Array, 'm 4 d'], version: Int[Array, '']) -> Float[Array, 'm d']:
  return members[:, version]


# MARK: Pictures


def transformed(image: UInt8[np.ndarray, 'h w c'], transform: Transform) -> UInt8[np.ndarray, 'h w c']:
  """Applies a transform to an image: the flip, then the shift; pixels from outside are black."""
  height, width = image.shape[:2]
  vertical, horizontal = transform.flip in ('vertical', 'both'), transform.flip in ('horizontal', 'both')
  image = image[:: -1 if vertical else 1, :: -1 if horizontal else 1]
  down, right = round(transform.down * height / SIDE), round(transform.right * width / SIDE)
  result = np.zeros_like(image)
  result[max(down, 0) : height + min(down, 0), max(right, 0) : width + min(right, 0)] = image[
    max(-down, 0) : height + min(-down, 0), max(-right, 0) : width + min(-right, 0)
  ]
  return result
