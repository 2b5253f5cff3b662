"""Axial sections of the head: the planes in which the brain is measured."""

import math

import numpy as np

from fetal_jax.data.sources.fetal_phantom.anatomy import BONE, FLUID, level, womb
from fetal_jax.data.sources.fetal_phantom.canvas import Canvas, Frame
from fetal_jax.data.sources.fetal_phantom.cohort import Patient


def brain(
  canvas: Canvas, patient: Patient, rng: np.random.Generator, x: float, y: float, size: float, plane: str = ''
):
  """Draws an axial section of the head; `plane` names it, as its landmarks differ."""
  womb(canvas, patient, rng, x, y, size)
  near_side = float(rng.choice([0.0, math.pi]))
  frame = Frame(canvas, x, y, size, near_side + rng.normal(0, 0.3), bend=0.02)
  width = rng.uniform(0.7, 0.84)
  scalp, skull = frame.ellipse(0, 0, 1.05, width + 0.05), frame.ellipse(0, 0, 0.99, width - 0.01)
  canvas.fill(scalp, level(patient, -24))
  canvas.fill(skull, level(patient, rng.uniform(-42, -34)), texture=3.0, attenuation=0.3)
  for _ in range(rng.integers(14, 26)):  # gyri, vessels
    p, q = rng.uniform(-0.85, 0.85), rng.uniform(-0.85, 0.85) * width
    if (p * p + (q / width) ** 2) < 0.8:
      turn, length = rng.uniform(0, math.pi), rng.uniform(0.05, 0.16)
      end = p + length * math.cos(turn), q + length * math.sin(turn)
      canvas.line(
        frame.segment((p, q), end, bow=rng.normal(0, 0.04)), level(patient, rng.uniform(-26, -17)), 0.05
      )
  PLANES.get(plane, oblique)(canvas, patient, rng, frame, width)
  # The near hemisphere drowns in the skull's reverberation.
  above = np.clip((y - canvas.y[skull.box]) / size, 0, 1) * np.clip(-skull.distance, 0, 1)
  canvas.level[skull.box] += rng.uniform(0, 12) * above
  canvas.line(
    skull, BONE, rng.uniform(0.04, 0.065) * size**0.5, floor=rng.uniform(0.04, 0.25), shadow=rng.uniform(1, 5)
  )


def midline(
  canvas: Canvas, patient: Patient, rng: np.random.Generator, frame: Frame, gaps: tuple[float, float]
):
  """Draws the falx, an echo from front to back but for the part between `gaps`."""
  for start, end in ((-0.88, gaps[0]), (gaps[1], 0.9)):
    canvas.line(frame.segment((start, 0), (end, 0)), level(patient, rng.uniform(-13, -7)), 0.05, floor=0.2)


def cavum(canvas: Canvas, patient: Patient, frame: Frame, p: float = 0.45):
  """Draws the cavum septi pellucidi: a dark box between two short lines across the front of the midline."""
  canvas.fill(frame.segment((p - 0.11, 0), (p + 0.11, 0), 0.055), FLUID + 15, edge=0.05)
  for q in (-0.06, 0.06):
    canvas.line(frame.segment((p - 0.12, q), (p + 0.12, q)), level(patient, -11), 0.04, floor=0.2)


def thalamic(canvas: Canvas, patient: Patient, rng: np.random.Generator, frame: Frame, width: float):
  """Draws two dark thalami astride the midline, the third ventricle's slit, the cavum."""
  midline(canvas, patient, rng, frame, (-0.25, 0.58))
  for side in (-1, 1):
    thalamus = frame.ellipse(-0.05, side * 0.16, 0.24, 0.13, side * 0.5)
    canvas.fill(thalamus, level(patient, -48), edge=0.08)
    canvas.line(thalamus, level(patient, rng.uniform(-20, -14)), 0.05, floor=0.4)
    insula = frame.segment((-0.2, side * 0.62 * width), (0.25, side * 0.62 * width), bow=-side * 0.06)
    canvas.line(insula, level(patient, rng.uniform(-26, -9)), 0.055, floor=0.2)
  canvas.line(frame.segment((-0.2, 0), (0.1, 0)), level(patient, -15), 0.03)
  cavum(canvas, patient, frame)


def cerebellar(canvas: Canvas, patient: Patient, rng: np.random.Generator, frame: Frame, width: float):
  """Draws the cerebellum's two round lobes at the back, the dark cistern behind; thalami and cavum in front."""
  midline(canvas, patient, rng, frame, (-0.3, 0.58))
  canvas.fill(frame.ellipse(-0.82, 0, 0.14, 0.36 * width), FLUID + 6, edge=0.1)  # cisterna magna
  lobe = rng.uniform(0.19, 0.26)
  for side in (-1, 1):
    hemisphere = frame.ellipse(-0.56, side * lobe * 0.95, lobe * 0.78, lobe, side * 0.3)
    canvas.fill(hemisphere, level(patient, -32), texture=2, edge=0.06)
    canvas.line(hemisphere, level(patient, -6), 0.06, floor=0.45)
    canvas.fill(frame.ellipse(-0.08, side * 0.14, 0.2, 0.11, side * 0.5), level(patient, -48), edge=0.08)
  canvas.fill(frame.ellipse(-0.58, 0, 0.1, 0.08), level(patient, -13), edge=0.08)  # vermis
  cavum(canvas, patient, frame, 0.5)


def ventricular(canvas: Canvas, patient: Patient, rng: np.random.Generator, frame: Frame, width: float):
  """Draws the lateral ventricle with bright walls, filled at the back by the bright choroid plexus."""
  midline(canvas, patient, rng, frame, (0.38, 0.6))
  cavum(canvas, patient, frame, 0.5)
  for side in (-1, 1):
    start, end = (-0.62, side * 0.4 * width), (0.3, side * 0.22 * width)
    wide = rng.uniform(0.07, 0.12)
    ventricle = frame.segment(start, end, wide, side * 0.12)
    canvas.line(ventricle, level(patient, -8), 0.05, floor=0.3)
    canvas.fill(ventricle, FLUID + 12, edge=0.05)
    plexus = frame.segment(
      (-0.45, side * 0.42 * width), (-0.08, side * 0.4 * width), wide * 0.75, side * 0.06
    )
    canvas.fill(plexus, level(patient, -12), texture=2, edge=0.06)


def oblique(canvas: Canvas, patient: Patient, rng: np.random.Generator, frame: Frame, width: float):
  """Draws no standard plane: the midline off its place, one thing or another in view."""
  shift = rng.normal(0, 0.15)
  canvas.line(frame.segment((-0.8, shift), (0.8, -shift), bow=0.05), level(patient, -14), 0.05, floor=0.2)
  for _ in range(3):
    p, q = rng.uniform(-0.5, 0.5, 2).tolist()
    blob = frame.ellipse(p, q * width, rng.uniform(0.1, 0.25), rng.uniform(0.06, 0.12), rng.uniform(0, 3))
    canvas.fill(blob, float(rng.choice([FLUID + 10, level(patient, -18)])), edge=0.1)


PLANES = {
  'Trans-thalamic': thalamic,
  'Trans-cerebellum': cerebellar,
  'Trans-ventricular': ventricular,
  'Other': oblique,
}
