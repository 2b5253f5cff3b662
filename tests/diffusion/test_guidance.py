"""Classifier guidance on a classifier whose gradient is known."""

import jax
import jax.numpy as jnp
import numpy as np

from fetal_jax.diffusion.guidance import classifier_guidance

MEANS = jnp.array([-1.0, 0.0, 2.0])


def classifier(x, t):
  """Unit Gaussians around the classes' means, pixel by pixel, further apart at low t."""
  distance = (x[..., None] - MEANS) ** 2
  return -distance.sum(axis=(1, 2, 3)) / (2 + 2 * t[:, None])


def test_gradient_is_that_of_the_asked_class_for_each_image():
  x = jax.random.normal(jax.random.key(0), (4, 2, 2, 1))
  t, y = jnp.array([0, 1, 0, 3]), jnp.array([0, 2, 1, 2])
  gradient = classifier_guidance(classifier, y)(x, t)

  probs = jax.nn.softmax(classifier(x, t))
  expected = (MEANS[y] - probs @ MEANS) / (1 + t)  # by hand: d log p / dx = (m_y - E[m]) / variance
  np.testing.assert_allclose(gradient, np.broadcast_to(expected[:, None, None, None], x.shape), atol=1e-5)
