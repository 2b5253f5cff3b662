"""One image: choose the view, paint the anatomy, insonify it, show it as the machine would."""

import dataclasses
import functools
import math
from collections.abc import Callable

import numpy as np
from jaxtyping import UInt8

from fetal_jax.data.sources.fetal_phantom import anatomy, beam, others
from fetal_jax.data.sources.fetal_phantom.brain import brain
from fetal_jax.data.sources.fetal_phantom.canvas import Canvas, Fan
from fetal_jax.data.sources.fetal_phantom.cohort import Patient

BEAMS, SAMPLES = 96, 128


@dataclasses.dataclass(frozen=True)
class Machine:
  """How one make of scanner shows things."""

  aspect: float  # height / width of its images
  radius: float  # cm, of the curved abdominal probe
  half_angle: float  # radians, of that probe's fan
  gain: float  # dB
  dynamic_range: float  # dB
  gamma: float  # of the grey map
  axial: float  # samples, blur along the beam
  lateral: float  # beams, blur across it at the bottom
  marks: str  # what it writes on the picture: 'text', 'bar' (text and the scale of greys) or 'none'


MACHINES = {
  'Voluson E6': Machine(0.69, 4.6, 0.60, -2.0, 60.0, 2.2, 0.70, 1.1, 'text'),
  'Aloka': Machine(0.64, 6.0, 0.53, 0.0, 64.0, 2.0, 0.85, 1.5, 'bar'),
  'Voluson S10': Machine(0.69, 5.0, 0.66, -2.0, 54.0, 1.8, 0.75, 1.4, 'text'),
  'Other': Machine(0.75, 4.0, 0.56, -4.0, 50.0, 1.5, 1.00, 2.0, 'none'),
}
# Half the size of what is looked at, in cm, at 18 and at 40 weeks, and how closely the view is cut to it.
SIZES = {
  'abdomen': (1.9, 5.2, 1.05),
  'brain': (2.6, 5.8, 1.1),
  'femur': (1.3, 3.7, 1.2),
  'thorax': (1.6, 4.6, 1.25),
  'other': (1.8, 4.2, 1.0),
}


@dataclasses.dataclass(frozen=True)
class View:
  """Where the probe looks, in cm: the fan, the object (x, y) of half size `half`, the top of the picture."""

  fan: Fan
  x: float
  y: float
  half: float
  top: float


def draw(
  label: str, patient: Patient, rng: np.random.Generator, *, brain_plane: str = '', size: int = 160
) -> UInt8[np.ndarray, 'h w']:
  """Draws one plane of a patient.

  Args:
    label: class name.
    patient: traits that the patient's images share, among them the machine.
    rng: of this image: pose, anatomy, speckle.
    brain_plane: which, for label 'brain'.
    size: width in pixels, the longer side.

  Returns:
    Grey image [H, W], W = size, H as the machine has it.

  Raises:
    KeyError: no such class.
  """
  machine = MACHINES[patient.machine]
  paint = painter(label, patient, rng, brain_plane)
  view = VIEWS.get(paint, abdominal)(label, patient, machine, rng)
  fan = view.fan
  canvas = Canvas(fan, rng, BEAMS, SAMPLES)
  paint(canvas, patient, rng, view.x, view.y, view.half)
  decibels = beam.echo(
    canvas,
    rng,
    axial=machine.axial,
    near=0.6,
    far=machine.lateral,
    haze=patient.haze,
    noise=patient.noise,
    attenuation=patient.attenuation,
    contact=patient.contact,
  )
  grey = beam.compress(
    decibels,
    gain=machine.gain + patient.gain,
    dynamic_range=machine.dynamic_range + patient.dynamic_range,
    gamma=machine.gamma,
  )
  half_width = (fan.far - view.top) / machine.aspect / 2
  window = (-half_width, half_width, view.top, fan.far)
  image = beam.scan_convert(grey, fan, window, (round(size * machine.aspect), size))
  mark(image, machine.marks, rng)
  return image


def painter(label: str, patient: Patient, rng: np.random.Generator, brain_plane: str) -> Callable[..., None]:
  """Returns what paints the class: a function of (canvas, patient, rng, x, y, size)."""
  if label == 'brain':
    return functools.partial(brain, plane=brain_plane)
  if label == 'other':
    # Most 'other' images of one visit are of one kind.
    position = patient.other_kind if rng.random() < 0.7 else rng.random()
    kind = np.searchsorted(np.cumsum(list(others.KINDS.values())), position)
    return list(others.KINDS)[min(int(kind), len(others.KINDS) - 1)]
  return {
    'abdomen': anatomy.abdomen,
    'femur': anatomy.femur,
    'thorax': anatomy.thorax,
    'cervix': anatomy.cervix,
  }[label]


def abdominal(label: str, patient: Patient, machine: Machine, rng: np.random.Generator) -> View:
  """Looks through the mother's belly with a curved probe, the picture cut to the object or from the skin on."""
  small, large, zoom = SIZES[label]
  half = small + (large - small) * patient.growth
  height = 2 * half / (patient.fill * rng.uniform(0.85, 1.15) * zoom)
  near = 0.0 if rng.random() < 0.45 else rng.uniform(0.5, 4.0)
  if not near:
    height = max(1.15 * height, 1.7 * half + 2.0)
  fan = Fan(
    machine.radius, machine.half_angle * rng.uniform(0.8, 1.1), near, near + height, rng.normal(0, 0.05)
  )
  x = (patient.probe + rng.normal(0, 0.06)) * height
  return View(fan, x, near + height * rng.uniform(0.44, 0.6), half, near - 0.04 * height)


def transvaginal(label: str, patient: Patient, machine: Machine, rng: np.random.Generator) -> View:
  """Looks with a small round probe with a very wide fan."""
  del label, machine
  depth = rng.uniform(5.0, 8.0)
  fan = Fan(rng.uniform(0.9, 1.3), rng.uniform(1.0, 1.3), 0.0, depth, rng.normal(0, 0.08))
  return View(fan, patient.probe * depth, depth * rng.uniform(0.4, 0.5), depth * 0.5, -0.4)


def vascular(label: str, patient: Patient, machine: Machine, rng: np.random.Generator) -> View:
  """Looks with a linear probe on a vessel below the skin: parallel beams, to within a circle of 5 m."""
  del label, patient, machine
  depth = rng.uniform(2.2, 3.2)
  fan = Fan(500.0, depth * rng.uniform(0.5, 0.65) / 500, 0.0, depth)
  return View(fan, 0.0, depth * rng.uniform(0.42, 0.55), depth * 0.6, 0.0)


VIEWS = {anatomy.cervix: transvaginal, others.vessel: vascular}  # all else is abdominal


def mark(image: UInt8[np.ndarray, 'h w'], style: str, rng: np.random.Generator) -> None:
  """Writes on the picture what a machine does, in place: ticks of depth, lines of text, the scale of greys."""
  if style == 'none':
    return
  height, width = image.shape
  image[height // 8 :: height // 8, 1] = 120
  if style == 'bar':
    scale = np.linspace(230, 10, height // 5).astype(np.uint8)
    image[2 : 2 + len(scale), 3:6] = scale[:, None]
  left = math.ceil(width * 0.86)
  for row in range(2, 2 + 3 * int(rng.integers(2, 5)), 3):
    letters = rng.random(width - left - 2) < 0.7
    letters[: rng.integers(0, 8)] = False
    text = image[row, left : width - 2]
    text[letters] = np.maximum(text[letters], 110)
