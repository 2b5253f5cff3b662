"""Predictions made up for tests of scores and their uncertainty."""

import numpy as np

from fetal_jax.data import patients as patients_lib
from fetal_jax.train.predictions import Predictions

NAMES = ('abdomen', 'brain', 'femur')


def make(labels, probabilities, patients, *, machines=None, images=None):
  unknown = np.full(len(labels), '')
  images = [f'image_{i:04d}' for i in range(len(labels))] if images is None else images
  return Predictions(
    images=np.array(images),
    patients=np.array(patients_lib.named(np.asarray(patients).astype(str), images)),
    machines=unknown if machines is None else np.asarray(machines),
    operators=unknown,
    brain_planes=unknown,
    labels=np.asarray(labels, np.int32),
    probabilities=np.asarray(probabilities, np.float64),
    class_names=NAMES[: np.shape(probabilities)[1]],
  )


def right_or_wrong(right, patients, **more):
  """Two classes, every image an abdomen, sure answers."""
  return make(np.zeros(len(right), int), np.eye(2)[1 - np.asarray(right, int)], patients, **more)


def soft(n=120, patients=20, seed=0, skill=0.4):
  rng = np.random.default_rng(seed)
  labels = np.random.default_rng(99).integers(0, 3, n)
  # Two digits, so that there are ties.
  probabilities = (rng.dirichlet(np.ones(3), n) + skill * np.eye(3)[labels]).round(2) / (1 + skill)
  return make(labels, probabilities, np.random.default_rng(98).permutation(np.arange(n) % patients))


def right(n, seed=0):
  """Predictions of 40 images of 20 patients of which `n` are right, the same first ones for every `n` of a seed."""
  answers = np.zeros(40, bool)
  answers[np.random.default_rng(seed).permutation(40)[:n]] = True
  return right_or_wrong(answers, np.repeat(np.arange(20), 2))


def runs(**numbers):
  """{regime: {seed 0: predictions with so many right}}."""
  return {regime: {0: right(n)} for regime, n in numbers.items()}
