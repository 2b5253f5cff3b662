"""From what the beams meet to the picture: speckle, shadows, log compression, scan conversion."""

import math

import numpy as np
from jaxtyping import Float, UInt8
from scipy import ndimage

from fetal_jax.data.sources.fetal_phantom.canvas import Canvas, Fan

Field = Float[np.ndarray, 'beams samples']
PER_DECIBEL = math.log(10) / 20  # amplitude = exp(PER_DECIBEL * level)


def point_spread(
  scatterers: Float[np.ndarray, 'parts beams samples'], axial: float, near: float, far: float
) -> Float[np.ndarray, 'parts beams samples']:
  """Smears scatterers: `axial` samples along the beam, across it `near` beams (top) to `far` (bottom).

  Gaussian kernels, standard deviations. White noise of unit variance comes out with unit variance.
  """
  along = ndimage.gaussian_filter1d(scatterers, axial, axis=2, mode='nearest', truncate=3)
  narrow = ndimage.gaussian_filter1d(along, near, axis=1, mode='nearest', truncate=3)
  wide = ndimage.gaussian_filter1d(along, far, axis=1, mode='nearest', truncate=3)
  depth = np.linspace(0, 1, scatterers.shape[2], dtype=np.float32)
  # Variances of white noise behind each kernel, and the covariance between the two that are mixed.
  variance_near, variance_far = (1 / (2 * math.sqrt(math.pi) * sigma) for sigma in (near, far))
  covariance = 1 / math.sqrt(2 * math.pi * (near**2 + far**2))
  across = (1 - depth) ** 2 * variance_near + depth**2 * variance_far + 2 * depth * (1 - depth) * covariance
  return ((1 - depth) * narrow + depth * wide) / np.sqrt(across / (2 * math.sqrt(math.pi) * axial))


def echo(
  canvas: Canvas,
  rng: np.random.Generator,
  *,
  axial: float,
  near: float,
  far: float,
  haze: float,
  noise: float,
  attenuation: float,
  contact: float,
) -> Field:
  """The envelope of the echoes, in dB.

  Scatterers are complex Gaussian, so the envelope of even tissue is Rayleigh distributed: fully developed
  speckle (Wagner et al., IEEE Transactions on Sonics and Ultrasonics 30(3), 1983). What the sound meets on
  its way dims all that lies behind.

  Args:
    canvas: levels, reflectors, attenuation.
    rng: of speckle, contact and noise.
    axial, near, far: of `point_spread`.
    haze: dB, reverberation at the probe's face.
    noise: dB, electronic noise at the deepest sample.
    attenuation: dB/cm which the gain over depth does not make up for.
    contact: dB, how much the beams differ where the probe touches the skin badly.
  """
  depth = canvas.ranges - canvas.fan.near
  beams = canvas.x.shape[0]
  knots = np.abs(rng.standard_normal(7))
  knots[1:-1] *= 0.5  # the rim of the probe lifts off first
  coupling = np.interp(np.linspace(0, 6, beams), np.arange(7), knots).astype(np.float32)[:, None]
  path = np.cumsum(canvas.attenuation, axis=1) * float(depth[0, 1]) + contact * coupling
  path += attenuation * (depth - depth[0, -1] / 2)
  passed = np.exp(-PER_DECIBEL * path)
  scatter = passed * np.exp(PER_DECIBEL * canvas.level)
  scatter += 10 ** (haze / 20) * np.exp(canvas.ranges * (-1 / 0.8))
  field = rng.standard_normal((2, *canvas.x.shape), np.float32) * scatter
  field[0] += 0.7 * canvas.reflector * passed
  field = point_spread(field, axial, near, far)
  envelope = np.hypot(field[0], field[1])
  relative = canvas.ranges / canvas.fan.far
  hiss = np.abs(rng.standard_normal(envelope.shape, np.float32))
  envelope += 10 ** (noise / 20) * (0.2 + relative * relative) * hiss
  return np.log(envelope + 1e-6) * (1 / PER_DECIBEL)


def compress(decibels: Field, *, gain: float, dynamic_range: float, gamma: float) -> Field:
  """Compresses logarithmically: [-dynamic_range, 0] dB after `gain` becomes grey 0 ... 1, bent by `gamma`."""
  grey = np.clip((decibels + (gain + dynamic_range)) / dynamic_range, 0, 1)
  return grey**gamma


def scan_convert(
  grey: Field, fan: Fan, window: tuple[float, float, float, float], shape: tuple[int, int]
) -> UInt8[np.ndarray, 'h w']:
  """Beams to the screen: the part (left, right, top, bottom) cm as [H, W] pixels, black off the fan."""
  left, right, top, bottom = window
  height, width = shape
  x = np.linspace(left, right, width, dtype=np.float32)[None]
  y = np.linspace(top, bottom, height, dtype=np.float32)[:, None] + fan.radius
  angle = np.arctan2(x, y) - fan.centre
  distance = np.hypot(x, y) - fan.radius
  beams, samples = grey.shape
  row = (angle / fan.half_angle + 1) * (0.5 * (beams - 1))
  column = (distance - fan.near) * ((samples - 1) / (fan.far - fan.near))
  image = ndimage.map_coordinates(grey, [row, column], order=1, mode='nearest', prefilter=False)
  seen = (row >= 0) & (row <= beams - 1) & (column >= 0) & (column <= samples - 1)
  return (image * seen * 255 + 0.5).astype(np.uint8)
