"""A picture in beam coordinates: tissue, reflectors and attenuation, drawn with ellipses and bent lines.

Levels are decibels below the brightest echo. `x` is lateral and `y` depth, in cm from the middle of the
probe's face.
"""

import dataclasses
import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import ndimage

Field = Float[np.ndarray, 'beams samples']
Real = float | int  # run-time checks take `float` at its word
Point = tuple[Real, Real]
MARGIN = 0.35  # cm beyond its outline that a shape is evaluated: edges and lines are thinner


@dataclasses.dataclass(frozen=True)
class Fan:
  """The field of view: beams leave a circle of `radius` cm at angles centre ± half_angle (radians)."""

  radius: float
  half_angle: float
  near: float  # cm along the beam at which the picture begins
  far: float
  centre: float = 0.0  # steering: the angle of the middle beam


class Shape(NamedTuple):
  """Signed distance to an outline in cm (negative inside) and how squarely the beam meets it (0 ... 1),
  within `box`.
  """

  distance: Field
  facing: Field
  box: tuple[slice, slice]

  def widened(self, by: Real) -> 'Shape':
    """Returns the outline moved outwards by `by` cm."""
    return self._replace(distance=self.distance - by)

  def ring(self, half_width: Real) -> 'Shape':
    """Returns the band of `half_width` cm around the outline."""
    return self._replace(distance=np.abs(self.distance) - half_width)

  def solid(self) -> 'Shape':
    """Returns the same with distance 0 inside: what `Canvas.line` then draws is filled."""
    return self._replace(distance=np.maximum(self.distance, 0))


def between(first: Real, last: Real, size: int) -> slice:
  """Returns the indices from `first` to `last`, as far as there are any in 0 ... size - 1."""
  return slice(min(max(math.floor(first), 0), size), min(max(math.ceil(last) + 1, 0), size))


def stretch(coarse: Float[np.ndarray, 'coarse rest'], size: int) -> Float[np.ndarray, 'size rest']:
  """Interpolates linearly along the first axis, from the first value to the last."""
  places = np.linspace(0, len(coarse) - 1, size, dtype=np.float32)[:, None]
  below = np.minimum(places.astype(int), len(coarse) - 2)
  share = places - below.astype(np.float32)
  return coarse[below[:, 0]] * (1 - share) + coarse[below[:, 0] + 1] * share


class Canvas:
  """What the beams meet, all [beams, samples]: `level` dB of scatterers, `reflector` amplitude of surfaces,
  and `attenuation` dB/cm beyond what the machine makes up for.
  """

  def __init__(self, fan: Fan, rng: np.random.Generator, beams: int, samples: int):
    self.fan, self.rng = fan, rng
    sweep = np.linspace(-fan.half_angle, fan.half_angle, beams, dtype=np.float32)
    self.angles = (sweep + np.float32(fan.centre))[:, None]
    self.ranges = np.linspace(fan.near, fan.far, samples, dtype=np.float32)[None]
    self.beam_x, self.beam_y = np.sin(self.angles), np.cos(self.angles)
    self.x = (fan.radius + self.ranges) * self.beam_x
    self.y = (fan.radius + self.ranges) * self.beam_y - fan.radius
    self.level = np.zeros_like(self.x)
    self.reflector = np.zeros_like(self.x)
    self.attenuation = np.zeros_like(self.x)
    # Tissue is uneven over millimetres: one field of unit variance, weighted by each tissue.
    coarse = rng.standard_normal((beams // 4, samples // 4), np.float32)
    coarse += 3 * ndimage.gaussian_filter(coarse, 1.5)
    self.texture = stretch(stretch(coarse / coarse.std(), beams).T, samples).T

  def box(self, x: Real, y: Real, reach: Real) -> tuple[slice, slice]:
    """Returns the beams and samples that meet the disc of radius `reach` cm around (x, y)."""
    fan, (beams, samples) = self.fan, self.x.shape
    distance = math.hypot(x, y + fan.radius)
    spread = math.asin(min(reach / distance, 1.0)) if distance > reach else math.pi
    middle = math.atan2(x, y + fan.radius) - fan.centre
    per_radian = (beams - 1) / (2 * fan.half_angle)
    per_cm = (samples - 1) / (fan.far - fan.near)
    angle = middle + fan.half_angle
    depth = distance - fan.radius - fan.near
    return (
      between((angle - spread) * per_radian, (angle + spread) * per_radian, beams),
      between((depth - reach) * per_cm, (depth + reach) * per_cm, samples),
    )

  def fill(
    self, shape: Shape, level: Real, *, texture: Real = 0.0, attenuation: Real = 0.0, edge: Real = 0.05
  ):
    """Replaces what is inside by tissue of `level` dB with `texture` dB of unevenness; border ± `edge` cm."""
    inside = np.clip(0.5 - shape.distance * (0.5 / edge), 0, 1)
    target = level + texture * self.texture[shape.box] if texture else level
    self.level[shape.box] += inside * (target - self.level[shape.box])
    self.attenuation[shape.box] += inside * (attenuation - self.attenuation[shape.box])
    self.reflector[shape.box] *= 1 - inside

  def line(
    self,
    shape: Shape,
    level: Real,
    thickness: Real,
    *,
    floor: Real = 0.15,
    shadow: Real = 0.0,
    where: Field | None = None,
  ):
    """Adds a reflecting outline of `level` dB and `thickness` cm; along the beam `floor` of it comes back.

    `where` [beams, samples] is a weight 0 ... 1. What lies behind is dimmed by `shadow` dB.
    """
    profile = np.exp(-np.square(shape.distance * (1 / thickness)))
    if where is not None:
      profile *= where[shape.box]
    strength = np.square(np.square(shape.facing)) * (1 - floor) + floor
    amplitude = profile * strength * 10 ** (level / 20)
    reflector, scatter = self.reflector[shape.box], self.level[shape.box]
    np.maximum(reflector, amplitude, out=reflector)
    # Part of what a surface sends back is scattered: its echo is speckled too.
    np.maximum(scatter, 20 * np.log10(0.5 * amplitude + 1e-5), out=scatter)
    if shadow:
      self.attenuation[shape.box] += profile * (shadow / (math.sqrt(math.pi) * thickness))


class Frame:
  """A body part's own coordinates (p, q): origin (x, y) cm, unit `scale` cm, p at `angle` from lateral.

  Slightly bent by `bend`, as nothing in a body is straight.
  """

  def __init__(self, canvas: Canvas, x: Real, y: Real, scale: Real, angle: Real, bend: Real = 0.04):
    self.canvas, self.x, self.y, self.scale, self.bend = canvas, x, y, scale, bend
    self.cos, self.sin = math.cos(angle), math.sin(angle)
    dx, dy = (canvas.x - x) / scale, (canvas.y - y) / scale
    p, q = self.cos * dx + self.sin * dy, self.cos * dy - self.sin * dx
    phase = canvas.rng.uniform(0, 2 * math.pi, 4).tolist()
    self.p = p + bend * (np.sin(2.1 * q + phase[0]) + 0.5 * np.sin(4.7 * q + 2.0 * p + phase[1]))
    self.q = q + bend * (np.sin(2.3 * p + phase[2]) + 0.5 * np.sin(5.1 * p - 1.7 * q + phase[3]))
    self.beam_p = self.cos * canvas.beam_x + self.sin * canvas.beam_y
    self.beam_q = self.cos * canvas.beam_y - self.sin * canvas.beam_x

  def _box(self, p: Real, q: Real, reach: Real) -> tuple[slice, slice]:
    x = self.x + self.scale * (self.cos * p - self.sin * q)
    y = self.y + self.scale * (self.sin * p + self.cos * q)
    return self.canvas.box(x, y, (reach + 1.5 * self.bend) * self.scale + MARGIN)

  def ellipse(self, p: Real, q: Real, a: Real, b: Real, angle: Real = 0.0) -> Shape:
    """Returns an ellipse: centre (p, q), half axes a and b, the first at `angle` from p."""
    box = self._box(p, q, max(a, b))
    beams = box[0]
    cos, sin = math.cos(angle), math.sin(angle)
    dp, dq = self.p[box] - p, self.q[box] - q
    u, v = (cos * dp + sin * dq) / a, (cos * dq - sin * dp) / b
    radius = np.sqrt(u * u + v * v)
    u, v = u / a, v / b  # now along the normal
    length = np.sqrt(u * u + v * v) + 1e-6
    beam_u = cos * self.beam_p[beams] + sin * self.beam_q[beams]
    beam_v = cos * self.beam_q[beams] - sin * self.beam_p[beams]
    # The first-order distance to the outline: (r - 1) / |grad r|, grad r = (u, v) / r.
    return Shape((radius - 1) * radius / length * self.scale, np.abs(u * beam_u + v * beam_v) / length, box)

  def segment(self, start: Point, end: Point, radius: Real = 0.0, bow: Real = 0.0) -> Shape:
    """Returns a capsule of `radius` around the line from start to end, its middle pushed sideways by `bow`."""
    middle = (start[0] + end[0]) / 2, (start[1] + end[1]) / 2
    half = math.hypot(end[0] - start[0], end[1] - start[1]) / 2 + 1e-6
    box = self._box(*middle, half + radius + abs(bow))
    cos, sin = (end[0] - start[0]) / (2 * half), (end[1] - start[1]) / (2 * half)
    dp, dq = self.p[box] - middle[0], self.q[box] - middle[1]
    u, v = cos * dp + sin * dq, cos * dq - sin * dp
    if bow:
      v = v - bow * (1 - np.square(np.clip(u / half, -1.2, 1.2)))
    beyond = np.maximum(np.abs(u) - half, 0)
    distance = (np.sqrt(beyond * beyond + v * v) - radius) * self.scale
    facing = np.abs(cos * self.beam_q[box[0]] - sin * self.beam_p[box[0]])
    return Shape(distance, np.broadcast_to(facing, distance.shape), box)

  def about(self, angle: Real, width: Real) -> Field:
    """Returns a weight [beams, samples] that falls off with the angle from the direction `angle` at the origin."""
    away = np.arctan2(self.q, self.p) - angle
    away = np.mod(away + math.pi, 2 * math.pi) - math.pi
    return np.exp(-np.square(away / width))
