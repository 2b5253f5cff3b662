"""The standard planes but the brain's: what a sonographer looks for in each.

A painter gets the canvas, the patient's traits and a random stream, and where the body part is: its middle
(x, y) and half size in cm. Levels are dB below the brightest echo, see `canvas`.
"""

import math

import numpy as np

from fetal_jax.data.sources.fetal_phantom.canvas import Canvas, Frame, Point, Real, Shape
from fetal_jax.data.sources.fetal_phantom.cohort import Patient

FLUID = -74.0
BONE = 3.0


def level(patient: Patient, value: Real) -> float:
  """Returns the level of a soft tissue in this patient: `value` dB in the typical one."""
  return -27.0 + patient.contrast * (value + 27.0) + patient.echogenicity


def womb(canvas: Canvas, patient: Patient, rng: np.random.Generator, x: float, y: float, size: float):
  """Draws the mother's layers of skin, fat and muscle, the wall of the uterus, and the fluid around the fetus."""
  canvas.level[:] = level(patient, -26) + 3.0 * canvas.texture
  depth = 0.0
  for _ in range(rng.integers(2, 5)):
    depth += rng.uniform(0.25, 0.8)
    wave = 0.1 * np.sin(canvas.x * rng.uniform(0.5, 1.5) + rng.uniform(0, 6))
    sheet = Shape(canvas.ranges + wave - depth, np.ones_like(canvas.x), (slice(None), slice(None)))
    canvas.line(sheet, level(patient, rng.uniform(-20, -12)), rng.uniform(0.05, 0.1))
  # The placenta is what the cavity leaves of the wall: thick in front or behind.
  room = rng.uniform(0.95, 1.5)
  shift = rng.uniform(0, 0.35) * size * (1 if patient.anterior_placenta else -1)
  cavity = Frame(canvas, x + rng.normal(0, 0.25) * size, y + shift, size, rng.normal(0, 0.4), bend=0.12)
  outline = cavity.ellipse(0, 0, room * rng.uniform(1.0, 1.6), room)
  canvas.fill(outline, FLUID, attenuation=-0.8, edge=0.1)
  canvas.line(outline, level(patient, -16), 0.06, floor=0.08)


def vertebra(frame: Frame, patient: Patient, p: float, q: float, angle: float, size: float = 0.1):
  """Draws three ossification centres around the cord, with their shadow; `angle` is the way to the back."""
  canvas = frame.canvas
  cos, sin = math.cos(angle), math.sin(angle)
  for along, across in ((-0.9, 0.0), (0.8, 0.9), (0.8, -0.9)):
    u, v = p + size * (along * cos - across * sin), q + size * (along * sin + across * cos)
    bone = frame.ellipse(u, v, 0.55 * size, 0.4 * size, angle)
    canvas.line(bone.solid(), BONE - 4, 0.06, floor=0.6, shadow=6)


def trunk(
  canvas: Canvas, patient: Patient, rng: np.random.Generator, x: float, y: float, size: float, *, ribs: Real
) -> tuple[Frame, float]:
  """Draws a cross-section of the trunk: skin, wall, ribs and spine. Returns its frame (+p is the front) and
  its width.
  """
  womb(canvas, patient, rng, x, y, size)
  frame = Frame(canvas, x, y, size, patient.lie + rng.normal(0, 0.35), bend=0.035)
  width = rng.uniform(0.84, 1.0)
  skin = frame.ellipse(0, 0, 1, width)
  canvas.fill(skin, level(patient, -27), texture=1.8, attenuation=rng.uniform(0.2, 0.9))
  canvas.line(skin, level(patient, -7), 0.05 * size**0.5, floor=0.15, shadow=rng.uniform(0, 1.5))
  inner = frame.ellipse(0, 0, 0.88, 0.88 * width)
  canvas.fill(inner.ring(0.03 * size), level(patient, -36))
  for side in (-1, 1):
    for position in rng.uniform(0.8, 2.7, rng.poisson(ribs)).tolist():
      arc = frame.about(side * position, rng.uniform(0.08, 0.3))
      canvas.line(inner, BONE - 3, 0.045 * size**0.5, floor=0.3, shadow=rng.uniform(2, 12), where=arc)
  vertebra(frame, patient, -0.74, rng.normal(0, 0.04), math.pi, 0.11)
  return frame, width


def abdomen(canvas: Canvas, patient: Patient, rng: np.random.Generator, x: float, y: float, size: float):
  """Draws a round section at the height of the liver: stomach bubble, umbilical vein as a J, aorta, cava."""
  frame, width = trunk(canvas, patient, rng, x, y, size, ribs=1.2)
  side = int(rng.choice([-1, 1]))  # of the stomach
  liver = frame.ellipse(0.18, -0.3 * side, 0.62, 0.55 * width)
  canvas.fill(liver, level(patient, -25), texture=1.2, edge=0.2)
  if rng.random() < 0.9:
    stomach = frame.ellipse(
      rng.uniform(-0.2, 0.15),
      side * width * rng.uniform(0.42, 0.55),
      rng.uniform(0.18, 0.3),
      rng.uniform(0.12, 0.2),
      rng.normal(0, 0.5),
    )
    canvas.fill(stomach, FLUID, attenuation=-1.5, edge=0.04)
    canvas.line(stomach, level(patient, -15), 0.035, floor=0.15)
  # The vein enters from the front and turns to the right side of the liver, away from the stomach.
  bow = side * rng.uniform(0.02, 0.1)
  start, bend, end = (rng.uniform(0.3, 0.62), 0.0), (0.08, -0.04 * side), (-0.08, -0.3 * side)
  radius = rng.uniform(0.04, 0.075)
  for vessel in (frame.segment(start, bend, radius, bow), frame.segment(bend, end, radius * 1.1, -bow)):
    canvas.line(vessel, level(patient, -14), 0.04, floor=0.1)
  for vessel in (frame.segment(start, bend, radius, bow), frame.segment(bend, end, radius * 1.1, -bow)):
    canvas.fill(vessel, FLUID + 12, edge=0.04)
  for p, q, r in ((-0.5, 0.1 * side, 0.07), (-0.38, -0.18 * side, 0.05)):  # aorta, cava
    vessel = frame.ellipse(p, q, r, r)
    canvas.line(vessel, level(patient, -17), 0.03)
    canvas.fill(vessel, FLUID + 10, edge=0.04)
  for _ in range(rng.integers(2, 7)):  # bowel and vessels of the liver
    p, q = rng.uniform(-0.5, 0.6), rng.uniform(-0.6, 0.6)
    spot = frame.ellipse(p, q, rng.uniform(0.03, 0.12), rng.uniform(0.02, 0.05), rng.uniform(0, 3))
    canvas.fill(spot, level(patient, float(rng.choice([-40, -17]))), edge=0.05)


def thorax(canvas: Canvas, patient: Patient, rng: np.random.Generator, x: float, y: float, size: float):
  """Draws the four-chamber view: the heart a third of the chest, its axis to the left, between lungs and ribs."""
  frame, width = trunk(canvas, patient, rng, x, y, size, ribs=2.2)
  lungs = frame.ellipse(0, 0, 0.8, 0.8 * width)
  canvas.fill(lungs, level(patient, -23), texture=1.5, edge=0.1)
  left = int(rng.choice([-1, 1]))
  tilt = left * rng.uniform(0.55, 1.0)
  reach = rng.uniform(0.44, 0.6)
  middle = 0.16 + rng.normal(0, 0.04), left * (0.16 + rng.normal(0, 0.04))
  heart = frame.ellipse(*middle, reach, reach * rng.uniform(0.68, 0.8), tilt)
  canvas.fill(heart, level(patient, -30), edge=0.05)
  canvas.line(heart, level(patient, -16), 0.05, floor=0.2)
  cos, sin = math.cos(tilt), math.sin(tilt)

  def at(u: Real, v: Real) -> Point:
    return middle[0] + reach * (u * cos - v * sin), middle[1] + reach * (u * sin + v * cos)

  beat = rng.uniform(-0.05, 0.05)  # ventricles fill while atria empty
  for u, v, a, b in (
    (0.3, 0.31, 0.42 + beat, 0.2 + beat),
    (0.3, -0.31, 0.45 + beat, 0.19 + beat),
    (-0.48, 0.3, 0.25 - beat, 0.23 - beat),
    (-0.48, -0.3, 0.25 - beat, 0.24 - beat),
  ):
    chamber = frame.ellipse(*at(u, v), a * reach, b * reach, tilt + rng.normal(0, 0.08))
    canvas.fill(chamber, FLUID + 8, attenuation=-0.6, edge=0.04)
  septum = frame.segment(at(-0.12, 0), at(0.9, 0), 0.045 * reach)
  canvas.line(septum.solid(), level(patient, -13), 0.05, floor=0.45)
  canvas.line(frame.segment(at(-0.95, 0), at(-0.45, 0)), level(patient, -16), 0.04, floor=0.4)
  for v in (-1, 1):  # the valves make the cross
    valve = frame.segment(at(-0.15, 0.06 * v), at(-0.15 + rng.uniform(-0.05, 0.25), 0.55 * v), bow=0.05 * v)
    canvas.line(valve, level(patient, -12), 0.045, floor=0.45)
  aorta = frame.ellipse(-0.5, left * 0.14, 0.085, 0.085)
  canvas.line(aorta, level(patient, -15), 0.035, floor=0.3)
  canvas.fill(aorta, FLUID + 8, edge=0.04)


def femur(canvas: Canvas, patient: Patient, rng: np.random.Generator, x: float, y: float, size: float):
  """Draws the shaft of the femur, bright, a little bowed, its shadow below, the thigh around it."""
  womb(canvas, patient, rng, x, y, size * rng.uniform(0.7, 1.1))
  frame = Frame(canvas, x, y, size, rng.normal(0, 0.3), bend=0.02)
  thick = rng.uniform(0.4, 0.7)
  thigh = frame.segment((-1.3, rng.normal(0, 0.1)), (1.2, rng.normal(0.05, 0.1)), thick, rng.normal(0, 0.1))
  canvas.fill(thigh, level(patient, -29), texture=2.5, attenuation=0.4, edge=0.1)
  canvas.line(thigh, level(patient, -15), 0.04 * size**0.5, floor=0.05)
  for q in (rng.uniform(-0.9, 0.9, 7) * thick).tolist():  # sheets of muscle
    fascia = frame.segment(
      (rng.uniform(-1.1, -0.2), q), (rng.uniform(0.2, 1), q + rng.normal(0, 0.06)), bow=0.05
    )
    canvas.line(fascia, level(patient, rng.uniform(-24, -16)), 0.05, floor=0.1)
  for end in (-1, 1):  # cartilage of knee and hip
    canvas.fill(frame.ellipse(1.12 * end, 0, 0.2, 0.24), level(patient, -40), texture=2, edge=0.15)
  bow = int(rng.choice([-1, 1])) * rng.uniform(0.02, 0.12)
  shaft = frame.segment((-0.97, 0), (0.97, 0), rng.uniform(0.0, 0.02), bow).solid()
  canvas.line(shaft, BONE + 1, 0.045 * size**0.5, floor=0.2, shadow=rng.uniform(6, 22))
  for end in (-1, 1):  # its ends are wider
    head = frame.ellipse(0.95 * end, 0.02, 0.06, 0.05).solid()
    canvas.line(head, BONE - 2, 0.05, floor=0.6, shadow=4)


def cervix(canvas: Canvas, patient: Patient, rng: np.random.Generator, x: float, y: float, size: float):
  """Draws a transvaginal view: the cervix lies across the field, its canal a line; bladder and fetal head on one side."""
  side = 1 if rng.random() < 0.85 else -1  # the head is to the right as a rule
  canvas.level[:] = level(patient, -28) + 3.5 * canvas.texture
  frame = Frame(canvas, x, y, size, side * rng.normal(0.1, 0.15), bend=0.08)
  # Layers of muscle and mucosa run along the cervix.
  strata = np.sin(rng.uniform(10, 22) * frame.q + 3 * frame.p * frame.q + rng.uniform(0, 6))
  canvas.level += rng.uniform(0.5, 3) * strata
  body = frame.ellipse(-0.1 * side, -0.12, 0.95, rng.uniform(0.36, 0.5), side * rng.uniform(0.1, 0.5))
  canvas.fill(body, level(patient, -25), texture=2.5, edge=0.25)
  canvas.line(body, level(patient, -19), 0.08, floor=0.1)
  for _ in range(6):
    p, q = rng.uniform(-0.9, 0.3) * side, rng.uniform(-0.6, 0.8)
    strand = frame.segment(
      (p, q), (p + side * rng.uniform(0.3, 0.7), q + rng.uniform(-0.1, 0.35)), bow=0.1 * side
    )
    canvas.line(strand, level(patient, rng.uniform(-26, -17)), 0.06, floor=0.15)
  # External os near the probe, internal os deeper, towards the head.
  start = (-0.75 * side, rng.uniform(-0.35, 0.0))
  end = (rng.uniform(0.25, 0.5) * side, rng.uniform(-0.1, 0.3))
  bow = rng.uniform(-0.2, 0.2)
  gland = frame.segment(start, end, rng.uniform(0.06, 0.12), bow)
  canvas.fill(gland, level(patient, -38), texture=1, edge=0.1)
  canvas.line(frame.segment(start, end, 0, bow), level(patient, rng.uniform(-20, -10)), 0.05, floor=0.35)
  if rng.random() < 0.75:  # bladder, on the mother's front
    bladder = frame.ellipse(0.55 * side, -0.62, rng.uniform(0.2, 0.5), rng.uniform(0.08, 0.2), side * 0.7)
    canvas.fill(bladder, FLUID, attenuation=-1.5, edge=0.06)
    canvas.line(bladder, level(patient, -10), 0.05, floor=0.1)
  if rng.random() < 0.15:
    return  # the head is out of view
  reach = rng.uniform(0.7, 1.3)
  head_x, head_y = side * rng.uniform(0.8, 1.5), rng.uniform(0.4, 1.1)
  fluid = frame.ellipse(head_x, head_y, reach + rng.uniform(0.05, 0.25), reach + 0.12)
  canvas.fill(fluid, FLUID, edge=0.08)
  canvas.line(fluid, level(patient, -14), 0.06, floor=0.1)
  head = frame.ellipse(head_x + 0.05 * side, head_y + 0.05, reach, reach * 0.9)
  canvas.fill(head, level(patient, -42), texture=3)
  canvas.line(head, BONE - 2, 0.07, floor=0.05, shadow=rng.uniform(3, 15))
