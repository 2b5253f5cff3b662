"""Classifiers of raw pixels, no network: what a network must beat before its accuracy means anything.

Majority class, nearest neighbour, logistic regression and random forest of scikit-learn, on the same split as the networks,
and on their images, averaged down to 64 x 64 pixels where they are larger. `evaluate/baselines.json` keeps what they reach.
The evaluate stage and the report stage train them where that file is missing or is about other images: a second for
hundreds of images of 32 px, some minutes for ten thousand of 64 px on two CPU cores.
"""

import pathlib
import time
import warnings
from typing import Any

import ml_collections
import msgspec
import numpy as np
from absl import logging
from jaxtyping import Float, Int, UInt8

from fetal_jax.data import prepared
from fetal_jax.data.prepared import Prepared, SplitFile
from fetal_jax.data.records import Records
from fetal_jax.evaluate import intervals
from fetal_jax.evaluate.intervals import Estimate
from fetal_jax.runtime import records as records_lib
from fetal_jax.runtime.files import PathLike
from fetal_jax.runtime.units import duration
from fetal_jax.train import predictions

# More pixels cost minutes and gain nothing: trained on 863 planes, all are as good at 32 px or better.
LARGEST_SIDE = 64
_TREES = 300
_ITERATIONS = (
  100  # of logistic regression: on 863 planes of 64 px within 0.5 points of its optimum, which takes 219
)
_SEED = 0  # of the random forest
_REMEDY = 'delete it and run --stage=report again'

Indices = Int[np.ndarray, ' n']


class PixelBaseline(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
  """One of these classifiers on the test images.

  Attributes:
    name: in words.
    side: of the images that it saw, in pixels.
    accuracy, balanced_accuracy: fractions in [0, 1], see `scores` for both.
    intervals: of the two, by name, as those of the networks: see `intervals.bootstrap_interval`.
  """

  name: str
  side: int
  accuracy: float
  balanced_accuracy: float
  intervals: dict[str, Estimate] = {}


class Baselines(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
  """evaluate/baselines.json: the classifiers, and what they were made from.

  Attributes:
    split_hash: which image is on which side.
    images_sha256: of the prepared images.
    protocol: `config.classify.protocol`, which decides whether validation images are trained on.
    train_images: number of them.
    baselines: from the weakest kind to the strongest.
  """

  split_hash: str
  images_sha256: str
  protocol: str
  train_images: int
  baselines: list[PixelBaseline]

  def is_of(self, info: SplitFile) -> bool:
    """Returns whether these are about the prepared data that `info` describes."""
    return (self.split_hash, self.images_sha256) == (info.split_hash, info.images_sha256)


def path(workdir: PathLike) -> pathlib.Path:
  """Returns the file of a run's baselines."""
  return pathlib.Path(workdir) / 'evaluate' / 'baselines.json'


def write(workdir: PathLike, found: Baselines) -> None:
  """Writes evaluate/baselines.json, whole or not at all."""
  records_lib.write(path(workdir), found)


def read(workdir: PathLike) -> Baselines:
  """Reads evaluate/baselines.json.

  Raises:
    FileNotFoundError: it is missing.
    DamagedFile: it is not what was written.
  """
  return records_lib.read(path(workdir), Baselines, remedy=_REMEDY)


def ensure(config: ml_collections.ConfigDict, workdir: PathLike) -> bool:
  """Trains and tests the classifiers where that has not been done yet on the prepared data of the workdir.

  Returns:
    Whether there was anything to do; nothing without prepared data.

  Raises:
    DamagedFile: the prepared data, or what was written before, is damaged.
  """
  protocol = config.classify.protocol
  try:
    info = prepared.read_info(workdir)
  except FileNotFoundError:
    return False
  if path(workdir).is_file():
    before = read(workdir)
    if before.is_of(info) and before.protocol == protocol:
      return False
  data = prepared.load(workdir)
  train = _trained_on(data, protocol)
  found = Baselines(
    split_hash=info.split_hash,
    images_sha256=info.images_sha256,
    protocol=protocol,
    train_images=len(train),
    baselines=compute(data.images, data.records, train, data.split.test),
  )
  write(workdir, found)
  return True


def _trained_on(data: Prepared, protocol: str) -> Indices:
  """Returns the real images that networks train on under this protocol, see `train.classify`."""
  return data.split.train if protocol == 'honest' else data.split.train_side


def compute(
  images: UInt8[np.ndarray, 'N h h c'],
  records: Records,
  train: Indices,
  test: Int[np.ndarray, ' m'],
  *,
  resamples: int = intervals.RESAMPLES,
) -> list[PixelBaseline]:
  """Trains and tests all of them.

  Args:
    images: those of the data set.
    records: what is known of each of them.
    train, test: indices of the images of both sides.
    resamples: of the intervals.

  Returns:
    One entry a classifier, in the order of `_classifiers`.
  """
  seen, unseen = pixels(images[train]), pixels(images[test])
  side = min(images.shape[1], LARGEST_SIDE)
  logging.info(
    'pixel baselines: scikit-learn on raw pixels, %d training and %d test images of %d x %d.',
    *(len(train), len(test), side, side),
  )
  tested, found = records.take(test), []
  for name, classifier in _classifiers().items():
    clock = time.monotonic()
    predicted = _predict(classifier, seen, records.labels[train], unseen)
    one = _scored(name, side, tested, predicted, resamples)
    found.append(one)
    logging.info(
      'pixel baselines: %s %.1f %% right, balanced %.1f %% (%s).',
      *(name, 100 * one.accuracy, 100 * one.balanced_accuracy, duration(time.monotonic() - clock)),
    )
  return found


def _classifiers() -> dict[str, Any]:
  """Returns the classifiers of scikit-learn, untrained, by name."""
  from sklearn.dummy import DummyClassifier
  from sklearn.ensemble import RandomForestClassifier
  from sklearn.linear_model import LogisticRegression
  from sklearn.neighbors import KNeighborsClassifier

  return {
    'majority class': DummyClassifier(),
    'nearest neighbour': KNeighborsClassifier(1),
    'logistic regression': LogisticRegression(max_iter=_ITERATIONS),
    'random forest': RandomForestClassifier(_TREES, random_state=_SEED, n_jobs=-1),
  }


def _predict(
  classifier: Any, seen: np.ndarray, labels: Int[np.ndarray, ' n'], unseen: np.ndarray
) -> Int[np.ndarray, ' m']:
  """Trains a classifier and returns what it predicts for the unseen images."""
  from sklearn.exceptions import ConvergenceWarning
  from threadpoolctl import threadpool_limits

  if len(np.unique(labels)) == 1:  # logistic regression refuses this, the others say the same
    return np.full(len(unseen), labels[0])
  # One thread for matrices of this size: waiting for each other takes longer, and the sums would be rounded differently.
  with warnings.catch_warnings(), threadpool_limits(1, 'blas'):
    warnings.simplefilter('ignore', ConvergenceWarning)  # stopping early is meant, see _ITERATIONS
    return classifier.fit(seen, labels).predict(unseen)


def _scored(
  name: str, side: int, tested: Records, predicted: Int[np.ndarray, ' m'], resamples: int
) -> PixelBaseline:
  """Scores the predicted classes of the test images."""
  answers = predictions.of(tested, np.eye(len(tested.class_names))[predicted])
  found = {
    metric: intervals.bootstrap_interval(answers, metric, resamples=resamples)
    for metric in ('accuracy', 'balanced_accuracy')
  }
  values = {metric: float(estimate.value or 0) for metric, estimate in found.items()}
  return PixelBaseline(name=name, side=side, intervals=found, **values)


def pixels(images: UInt8[np.ndarray, 'n h h c']) -> Float[np.ndarray, 'n f']:
  """Returns the images as float32 rows in [0, 1], averaged over areas down to `LARGEST_SIDE` where they are larger."""
  number, side, _, channels = images.shape
  if side <= LARGEST_SIDE:
    return images.reshape(number, -1).astype(np.float32) / 255
  rows = np.empty((number, LARGEST_SIDE * LARGEST_SIDE * channels), np.float32)
  areas = _areas(side, LARGEST_SIDE)
  for i, image in enumerate(images):  # one at a time, for ten thousand of 128 px take 650 MB as floats
    rows[i] = np.einsum('ys,stc,xt->yxc', areas, image.astype(np.float32), areas, optimize=True).ravel()
  return rows / 255


def _areas(side: int, smaller: int) -> Float[np.ndarray, 'smaller side']:
  """Returns the share of each of `side` pixels in each of `smaller` equal parts of a row; rows sum to 1."""
  edges = np.arange(smaller + 1) * side / smaller
  pixel = np.arange(side)
  overlap = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)
  return (np.clip(overlap, 0, None) * smaller / side).astype(np.float32)
