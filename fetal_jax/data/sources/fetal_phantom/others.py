"""The class 'other': whatever else is kept of a visit."""

import math

import numpy as np

from fetal_jax.data.sources.fetal_phantom.anatomy import BONE, FLUID, level, trunk, vertebra, womb
from fetal_jax.data.sources.fetal_phantom.canvas import Canvas, Frame
from fetal_jax.data.sources.fetal_phantom.cohort import Patient


def vessel(canvas: Canvas, patient: Patient, rng: np.random.Generator, x: float, y: float, size: float):
  """Draws a maternal artery along its length, under a linear probe: dark lumen between two bright walls."""
  canvas.level[:] = level(patient, -24) + 3 * canvas.texture
  frame = Frame(canvas, x, y, size, rng.normal(0, 0.08), bend=0.02)
  for q in np.sort(rng.uniform(-1.1, -0.4, 4)).tolist():
    canvas.line(
      frame.segment((-3, q), (3, q), bow=rng.normal(0, 0.05)), level(patient, rng.uniform(-20, -6)), 0.05
    )
  lumen = rng.uniform(0.26, 0.36)
  artery = frame.segment((-4, 0), (4, 0), lumen, rng.normal(0, 0.06))
  canvas.fill(artery, FLUID + 6, attenuation=-0.8, edge=0.03)
  canvas.line(artery, BONE - 4, 0.03, floor=0.6)
  media = artery.widened(0.09)
  canvas.line(media, level(patient, -12), 0.03, floor=0.6)


def limbs(canvas: Canvas, patient: Patient, rng: np.random.Generator, x: float, y: float, size: float):
  """Draws a forearm or leg with hand or foot in fluid: short bones side by side, fingers as dots."""
  womb(canvas, patient, rng, x, y, size * 1.2)
  frame = Frame(canvas, x, y, size, rng.normal(0, 0.7), bend=0.05)
  flesh = frame.segment((-0.9, 0), (0.35, 0), rng.uniform(0.22, 0.3), rng.normal(0, 0.1))
  palm = frame.ellipse(0.55, 0, 0.32, 0.26)
  for part in (flesh, palm):
    canvas.fill(part, level(patient, -28), texture=2)
    canvas.line(part, level(patient, -11), 0.05, floor=0.15)
  for q in (-0.1, 0.12):
    bone = frame.segment((-0.8, q), (0.2, q * 0.8), 0.02)
    canvas.line(bone.solid(), BONE - 2, 0.06, floor=0.3, shadow=8)
  for finger in (np.linspace(-0.5, 0.5, 5) + rng.normal(0, 0.05, 5)).tolist():
    for reach in (0.62, 0.82, 1.0):
      p, q = 0.3 + reach * math.cos(finger) * 0.75, reach * math.sin(finger)
      joint = frame.ellipse(p, q, 0.05, 0.025, finger)
      canvas.line(joint.solid(), BONE - 5, 0.06, floor=0.5, shadow=3)


def profile(canvas: Canvas, patient: Patient, rng: np.random.Generator, x: float, y: float, size: float):
  """Draws the face from the side: forehead, nose, lips and chin against fluid, the skull behind."""
  womb(canvas, patient, rng, x, y, size * 1.15)
  frame = Frame(canvas, x, y, size, rng.choice([0, math.pi]) + rng.normal(0, 0.4), bend=0.02)
  head = frame.ellipse(-0.2, -0.1, 0.78, 0.7)
  nose = rng.uniform(0.05, 0.1)
  face = [
    frame.ellipse(0.1, 0.35, 0.4, 0.5, 0.2),
    frame.ellipse(0.52, 0.22, 0.08 + nose, 0.07, 0.5),
    frame.ellipse(0.5, 0.42, 0.1, 0.06),
    frame.ellipse(0.46, 0.55, 0.1, 0.06),
    frame.ellipse(0.34, 0.76, 0.14, 0.11),
  ]
  # Skin first: what is filled after it wipes out the lines inside, and the outline of the whole is left.
  for part in (*face, head):
    canvas.line(part, level(patient, -10), 0.05, floor=0.15)
  for part in (*face, head):
    canvas.fill(part, level(patient, -29), texture=3)
  for start, end in (((0.42, 0.1), (0.54, 0.2)), ((0.15, 0.42), (0.42, 0.42)), ((0.08, 0.7), (0.34, 0.72))):
    bone = frame.segment(start, end, bow=rng.normal(0, 0.02))  # nasal bone, palate, jaw
    canvas.line(bone, BONE - 3, 0.05, floor=0.35, shadow=rng.uniform(1, 6))
  skull = frame.ellipse(-0.2, -0.1, 0.74, 0.66)
  canvas.fill(skull, level(patient, -38), texture=3)
  canvas.line(skull, BONE - 1, 0.07, floor=0.2, shadow=2, where=frame.about(-2.0, 1.8))


def kidneys(canvas: Canvas, patient: Patient, rng: np.random.Generator, x: float, y: float, size: float):
  """Draws the trunk at the height of the kidneys: one on either side of the spine, dark pelvis inside."""
  frame, _ = trunk(canvas, patient, rng, x, y, size, ribs=0.6)
  for side in (-1, 1):
    kidney = frame.ellipse(-0.42, 0.38 * side, 0.25, 0.2, 0.4 * side)
    canvas.fill(kidney, level(patient, -33), texture=1)
    canvas.line(kidney, level(patient, -14), 0.05, floor=0.3)
    canvas.fill(frame.ellipse(-0.38, 0.32 * side, 0.1, 0.06), FLUID + 15, edge=0.05)
  for _ in range(9):  # bowel
    p, q = rng.uniform(-0.1, 0.7), rng.uniform(-0.6, 0.6)
    loop = frame.ellipse(p, q, rng.uniform(0.05, 0.13), rng.uniform(0.04, 0.08), rng.uniform(0, 3))
    canvas.fill(loop, level(patient, float(rng.choice([-38, -17, -15]))), edge=0.08)


def spine(canvas: Canvas, patient: Patient, rng: np.random.Generator, x: float, y: float, size: float):
  """Draws the spine along its length: two rows of vertebrae, ribs or nothing beside them."""
  womb(canvas, patient, rng, x, y, size)
  frame = Frame(canvas, x, y, size, rng.normal(0, 0.25), bend=0.03)
  back = frame.segment((-1.2, 0.1), (1.2, 0.1), 0.55)
  canvas.fill(back, level(patient, -28), texture=2)
  canvas.line(back, level(patient, -9), 0.06, floor=0.15)
  curve, gap = rng.normal(0, 0.12), rng.uniform(0.07, 0.11)
  for p in np.arange(-1.1, 1.1, rng.uniform(0.12, 0.17)).tolist():
    for q in (-gap, gap):
      bone = frame.ellipse(p, q + curve * (1 - p * p), 0.045, 0.03)
      canvas.line(bone.solid(), BONE - 3, 0.06, floor=0.6, shadow=7)


def placenta(canvas: Canvas, patient: Patient, rng: np.random.Generator, x: float, y: float, size: float):
  """Draws a thick granular placenta with its flat face to a pocket of fluid, a coil of cord in it."""
  womb(canvas, patient, rng, x, y, size * 1.6)
  frame = Frame(canvas, x, y, size, rng.normal(0, 0.25), bend=0.08)
  side = -1 if patient.anterior_placenta else 1
  slab = frame.segment((-2, side * 0.75), (2, side * 0.75), rng.uniform(0.35, 0.55), rng.normal(0, 0.2))
  canvas.fill(slab, level(patient, -22), texture=3.5, edge=0.12)
  canvas.line(slab, level(patient, -12), 0.05, floor=0.1)
  for p, q in rng.uniform((-0.8, -0.5), (0.8, 0.5), (6, 2)).tolist():
    loop = frame.ellipse(p, q - side * 0.3, 0.09, 0.09)
    canvas.fill(loop, level(patient, -30), edge=0.05)
    canvas.line(loop, level(patient, -12), 0.05, floor=0.3)
  if rng.random() < 0.6:
    part = frame.ellipse(rng.choice([-1, 1]) * 1.0, -side * 0.5, 0.55, 0.5)
    canvas.fill(part, level(patient, -27), texture=3)
    canvas.line(part, level(patient, -8), 0.06, floor=0.2, shadow=2)


def off_plane(canvas: Canvas, patient: Patient, rng: np.random.Generator, x: float, y: float, size: float):
  """Draws a trunk that shows no landmark, cut obliquely: what is mistaken for an abdomen or a thorax."""
  frame, width = trunk(canvas, patient, rng, x, y, size, ribs=rng.uniform(0, 3))
  for _ in range(rng.integers(2, 6)):
    p, q = rng.uniform(-0.55, 0.6), rng.uniform(-0.55, 0.55) * width
    blob = frame.ellipse(p, q, rng.uniform(0.08, 0.3), rng.uniform(0.05, 0.16), rng.uniform(0, 3))
    canvas.fill(
      blob, float(rng.choice([FLUID + 10, level(patient, -36), level(patient, -19)])), texture=1, edge=0.1
    )
  if rng.random() < 0.4:
    vertebra(frame, patient, rng.uniform(-0.7, -0.4), rng.normal(0, 0.2), math.pi, 0.14)


# Kinds and their shares.
KINDS = {
  vessel: 0.24,
  off_plane: 0.14,
  limbs: 0.14,
  placenta: 0.14,
  profile: 0.12,
  spine: 0.12,
  kidneys: 0.10,
}
