"""The classifier's step and its predictions, with a network as small as can be."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from fetal_jax.data.loader import Source
from fetal_jax.runtime.devices import make_mesh, put_batch
from fetal_jax.train import classify_step
from fetal_jax.train.state import ClassifierState

SHAPE = (2, 2, 1)
MEAN, STD = 0.5, 0.25


class Linear(nn.Module):
  """Logits that are linear in the image."""

  @nn.compact
  def __call__(self, x, train=False):
    return nn.Dense(2, name='head')(x.reshape(len(x), -1))


@functools.cache
def task():
  return classify_step.make_task(
    'linear',
    Linear(),
    SHAPE,
    make_mesh(),
    learning_rate=0.01,
    mean=MEAN,
    std=STD,
    rotation_degrees=0.0,
    flips=False,
  )


def images(n=5):
  return np.random.default_rng(0).integers(0, 256, (n, *SHAPE)).astype(np.uint8)


def expected_probabilities(variables, pixels):
  head = jax.device_get(variables['params']['head'])
  x = (pixels.reshape(len(pixels), -1) / 255.0 - MEAN) / STD
  logits = x @ head['kernel'] + head['bias']
  return np.exp(logits) / np.exp(logits).sum(1, keepdims=True)


def test_predictions_are_of_all_images_in_order():
  pixels, state = images(), task().init(jax.random.key(0))
  source = Source(pixels, np.zeros(5, np.int32), np.array([4, 0, 2, 1]))
  found = classify_step.predict(task(), state.variables, source, batch_size=3)
  np.testing.assert_allclose(found, expected_probabilities(state.variables, pixels[[4, 0, 2, 1]]), rtol=1e-5)


def test_accuracy_is_of_the_images_of_the_source():
  source = Source(images(), np.array([0, 1, 1, 0, 1], np.int32), np.array([4, 0, 2]))
  probabilities = np.array([[0.4, 0.6], [0.1, 0.9], [0.2, 0.8]])
  assert classify_step.accuracy(probabilities, source) == pytest.approx(2 / 3)


def test_a_step_is_one_of_gradient_descent_on_the_cross_entropy():
  """With plain gradient descent: parameters move by the rate times the gradient, written out."""
  optimizer = optax.sgd(0.5)
  update = classify_step.make_update(
    Linear(), optimizer, mean=MEAN, std=STD, rotation_degrees=0.0, flips=False
  )
  state = classify_step.init_state(jax.random.key(0), Linear(), optimizer, SHAPE)
  pixels = images(4)
  p = expected_probabilities(state.variables, pixels)
  labels = p.argmax(1).astype(np.int32) ^ np.array([1, 0, 0, 0], np.int32)  # three of four are right
  batch = {'images': pixels[None], 'labels': labels[None], 'real': np.ones((1, 4), bool)}
  after, sums = jax.jit(update)(state, batch, jax.random.key(1))

  x = (pixels.reshape(4, -1) / 255.0 - MEAN) / STD
  errors = (p - np.eye(2)[labels]) / 4
  before, head = state.variables['params']['head'], after.variables['params']['head']
  np.testing.assert_allclose(head['kernel'], before['kernel'] - 0.5 * x.T @ errors, atol=1e-5)
  np.testing.assert_allclose(head['bias'], before['bias'] - 0.5 * errors.sum(0), atol=1e-5)
  norm = np.sqrt(np.square(x.T @ errors).sum() + np.square(errors.sum(0)).sum())
  assert float(sums['grad_norm'][0]) == pytest.approx(norm, rel=1e-4)
  assert float(sums['loss'][0]) == pytest.approx(-np.log(p[np.arange(4), labels]).mean(), rel=1e-5)
  assert float(sums['accuracy'][0]) == 0.75
  assert after.step == 1


def test_scanned_steps_are_single_steps():
  rng = np.random.default_rng(1)
  batch = {
    'images': rng.integers(0, 256, (2, 4, *SHAPE)).astype(np.uint8),
    'labels': rng.integers(0, 2, (2, 4)).astype(np.int32),
    'real': np.ones((2, 4), bool),
  }
  mesh, key = task().mesh, jax.random.key(1)
  both, sums = task().update(task().init(jax.random.key(0)), put_batch(mesh, batch, axis=1), key)
  single: ClassifierState = task().init(jax.random.key(0))
  for k in range(2):
    part = {name: value[k : k + 1] for name, value in batch.items()}
    single, _ = task().update(single, put_batch(mesh, part, axis=1), key)
  assert sums['loss'][0].shape == (2,)
  assert both.step == single.step == 2
  jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-6), both.variables, single.variables)


def test_synthetic_images_are_not_augmented():
  """Rotated and flipped, but only where `real` says so: then the loss differs."""
  update = classify_step.make_update(
    Linear(), optax.sgd(0.0), mean=MEAN, std=STD, rotation_degrees=30.0, flips=True
  )
  state = classify_step.init_state(jax.random.key(0), Linear(), optax.sgd(0.0), SHAPE)
  pixels, labels = images(4), np.array([0, 1, 1, 0], np.int32)
  p = expected_probabilities(state.variables, pixels)
  plain = -np.log(p[np.arange(4), labels]).mean()
  for real in (False, True):
    batch = {'images': pixels[None], 'labels': labels[None], 'real': np.full((1, 4), real)}
    _, sums = jax.jit(update)(state, batch, jax.random.key(1))
    assert (abs(float(sums['loss'][0]) - plain) > 1e-3) == real


def test_normalised_images_have_the_mean_at_0():
  assert classify_step.normalise(jnp.array([0.25, 0.5, 0.75]), 0.5, 0.25).tolist() == [-1, 0, 1]
