"""Classifiers of raw pixels: what any network must beat before its accuracy means anything.

Majority class, nearest neighbour, logistic regression and random forest of scikit-learn, on the same images and the same
split as the networks, in seconds to minutes.
"""

from typing import Any

import msgspec
import numpy as np
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

# Larger images are averaged down to this side: what more pixels add here is time.
LARGEST_SIDE = 64


class PixelBaseline(msgspec.Struct, frozen=True, kw_only=True):
  """One of these classifiers on the test images.

  Attributes:
    name: in words.
    side: of the images that it saw, in pixels.
    accuracy, balanced_accuracy: fractions in [0, 1]; the second is the mean recall of the classes that are in the test set.
  """

  name: str
  side: int
  accuracy: float
  balanced_accuracy: float


def classifiers(seed: int) -> dict[str, Any]:
  """Returns the classifiers, by name."""
  return {
    'majority class': DummyClassifier(),
    'nearest neighbour': KNeighborsClassifier(1),
    'logistic regression': LogisticRegression(max_iter=1000),
    'random forest': RandomForestClassifier(300, random_state=seed, n_jobs=-1),
  }


def compute(
  train_images: np.ndarray,
  train_labels: np.ndarray,
  test_images: np.ndarray,
  test_labels: np.ndarray,
  *,
  seed: int = 0,
) -> list[PixelBaseline]:
  """Trains and tests all of them.

  Args:
    train_images, test_images: uint8 [N, H, W, C].
    train_labels, test_labels: integers [N].
    seed: of the random forest.

  Returns:
    One entry a classifier, in the order of `classifiers`.
  """
  train, test = pixels(train_images), pixels(test_images)
  side = round((train.shape[1] / train_images.shape[-1]) ** 0.5)
  found = []
  for name, classifier in classifiers(seed).items():
    predicted = classifier.fit(train, train_labels).predict(test)
    recalls = [np.mean(predicted[test_labels == k] == k) for k in np.unique(test_labels)]
    found.append(
      PixelBaseline(
        name=name,
        side=side,
        accuracy=float(np.mean(predicted == test_labels)),
        balanced_accuracy=float(np.mean(recalls)),
      )
    )
  return found


def pixels(images: np.ndarray) -> np.ndarray:
  """Returns uint8 [N, S, S, C] as float32 [N, features] in [0, 1], averaged over blocks down to `LARGEST_SIDE` or less."""
  number, side, _, channels = images.shape
  factor = next(f for f in range(-(-side // LARGEST_SIDE), side + 1) if side % f == 0)
  blocks = images.reshape(number, side // factor, factor, side // factor, factor, channels)
  return blocks.mean((2, 4), dtype=np.float32).reshape(number, -1) / 255
