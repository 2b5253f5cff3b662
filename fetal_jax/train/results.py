"""metrics.json: how one classifier was trained and how good it is; and where the runs of the classify stage lie.

It is the seal of the predictions.csv beside it, which is read here too.
"""

import pathlib
from typing import NamedTuple

import msgspec
import numpy as np

from fetal_jax.runtime import records
from fetal_jax.runtime.errors import DamagedFile, UserError
from fetal_jax.runtime.files import PathLike
from fetal_jax.runtime.fingerprint import Fingerprint
from fetal_jax.train import predictions as predictions_lib
from fetal_jax.train.predictions import Predictions

NAME = 'metrics.json'


class RunName(NamedTuple):
  """The name of one training of a classifier.

  Attributes:
    model: key of `models.CLASSIFIERS`.
    regime: see `train.regimes`.
    seed: number of the training among those of its model and regime, from 0.
  """

  model: str
  regime: str
  seed: int

  def folder(self, workdir: PathLike) -> pathlib.Path:
    """Returns the folder of this run in a workdir."""
    return pathlib.Path(workdir) / 'classify' / self.model / self.regime / f'seed_{self.seed}'

  @classmethod
  def of(cls, folder: PathLike) -> 'RunName':
    """Returns the run whose folder this is; UserError if it is none."""
    model, regime, seed = pathlib.Path(folder).parts[-3:]
    number = seed.removeprefix('seed_')
    if not number.isdecimal():
      raise UserError(f'{folder}: must be named seed_<number>; rename it, or move it elsewhere')
    return cls(model, regime, int(number))


class EpochRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
  """One epoch of a run, counted from 1; rates are fractions in [0, 1].

  Attributes:
    epoch: its number.
    step: optimiser steps at its end.
    train_loss, train_accuracy: means over its batches.
    validation_accuracy: of the images that choose the epoch (protocol `honest`).
    test_accuracy: likewise (protocol `paper`).
    score: the one of the two by which the epoch is chosen.
  """

  epoch: int
  step: int
  train_loss: float
  train_accuracy: float
  validation_accuracy: float | None = None
  test_accuracy: float | None = None
  score: float


class InitialWeights(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
  """The file of weights that a run started from: its name, the SHA-256 of its bytes, and which part of it was loaded."""

  file: str
  sha256: str
  part: str = ''


class Normalisation(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
  """What a classifier sees of an image: its pixels in [0, 1] less `mean`, over `std`; 0 and 1 leave them as they are."""

  mean: float = 0.0
  std: float = 1.0


class ClassifierMetrics(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
  """The metrics.json of one run.

  Attributes:
    model, regime, seed: the run.
    protocol: `honest` or `paper`.
    epochs: number of epochs; `selected_epoch` is the best of them, from 1.
    steps, batch_size: number of optimiser steps, and images in each.
    real_images, synthetic_images: number of training images.
    parameters: number of parameters of the network.
    train_accuracy, validation_accuracy: of the selected epoch; None under the protocol `paper`.
    test_accuracy, test_accuracy_last: with the weights of the selected epoch and of the last one.
    seconds: time for training and judging.
    initialised_from: the regime whose selected weights it started from, or None.
    init_from: the file of weights that it started from, or None.
    normalisation: of the images that it was trained on; whoever predicts with it uses the same.
    settings: a hash of everything that decides the result; see `train.classify`.
    split_hash: of the split that it was trained and tested on.
    rounds: number of a synthetic round, as text -> hash of the round, of all that it has seen.
    predictions: of the predictions.csv beside it.
    history: the epochs, in order.
  """

  model: str
  regime: str
  seed: int
  protocol: str
  epochs: int
  selected_epoch: int
  steps: int
  batch_size: int
  real_images: int
  synthetic_images: int
  parameters: int
  train_accuracy: float
  validation_accuracy: float | None
  test_accuracy: float
  test_accuracy_last: float
  seconds: float
  initialised_from: str | None
  init_from: InitialWeights | None
  normalisation: Normalisation
  settings: str
  split_hash: str
  rounds: dict[str, str]
  predictions: Fingerprint
  history: list[EpochRow]


def write(folder: PathLike, metrics: ClassifierMetrics) -> None:
  """Writes the metrics.json of the run in `folder`."""
  records.write(pathlib.Path(folder) / NAME, metrics)


def read(folder: PathLike) -> ClassifierMetrics:
  """Reads the metrics.json of the run in `folder`.

  Raises:
    FileNotFoundError: it is missing.
    DamagedFile: it is not what was written, or of another run than its folder says.
  """
  path = pathlib.Path(folder) / NAME
  found = records.read(path, ClassifierMetrics, remedy=predictions_lib.REMEDY)
  name = RunName(found.model, found.regime, found.seed)
  if name != RunName.of(folder):
    raise DamagedFile(
      f'{path}: is of {" ".join(map(str, name))}, a copy in the wrong place; {predictions_lib.REMEDY}'
    )
  return found


def read_predictions(folder: PathLike, metrics: ClassifierMetrics) -> Predictions:
  """Reads the predictions.csv of the run in `folder`.

  Args:
    folder: of the run.
    metrics: of the same run, whose seal it must fit.

  Raises:
    DamagedFile: it is missing or is not what was written, or does not give the test accuracy of the metrics.
  """
  path = pathlib.Path(folder) / predictions_lib.NAME
  if damage := metrics.predictions.damage(path):
    raise DamagedFile(f'{path}: {damage}; {predictions_lib.REMEDY}')
  found = predictions_lib.read_csv(path)
  right = float(np.mean(found.probabilities.argmax(-1) == found.labels))
  if abs(right - metrics.test_accuracy) > _ties(found) + 1e-6:
    raise DamagedFile(
      f'{path}: gives the accuracy {right:.4f}, {NAME} has {metrics.test_accuracy:.4f}; {predictions_lib.REMEDY}'
    )
  return found


def _ties(predictions: Predictions) -> float:
  """Returns the share of images whose two highest probabilities are the same in the six digits that are kept."""
  highest = np.sort(predictions.probabilities, axis=-1)[:, -2:]
  return float(np.mean(highest[:, 0] == highest[:, -1])) if highest.shape[1] == 2 else 0.0


def find(workdir: PathLike) -> list[pathlib.Path]:
  """Returns the folders of all runs that have left metrics.json or predictions.csv, sorted."""
  runs = pathlib.Path(workdir).glob('classify/*/*/seed_*')
  names = (NAME, predictions_lib.NAME)
  return sorted(run for run in runs if any((run / name).is_file() for name in names))
