"""The judge's images: those that it learns from, those that choose its epoch, and those that it has never seen.

The judge says which class an image shows, and its features are what distances are measured in. Whatever it has learned
from looks better to it than it is. So it is trained apart from all other classifiers, on half of the training images, whole
patients at a time where they are known; and only images of the rest are held against it, whatever the protocol.
"""

import pathlib
from typing import NamedTuple

import ml_collections
import numpy as np
from jaxtyping import Int

from fetal_jax.data import splits
from fetal_jax.data.prepared import Prepared
from fetal_jax.runtime.files import PathLike
from fetal_jax.train.results import RunName

AUTO = 'auto'
_PREFERRED = 'resnet50'  # a choice by accuracy would have to look at the images that are judged by
_REST = 0.4  # of the training images
_CHOOSE = 0.1

Indices = Int[np.ndarray, ' n']


class Parts(NamedTuple):
  """Indices of images, ascending; no image is in two parts, and no patient in two of the first three.

  Attributes:
    fit: training images that it learns from.
    choose: training images that choose its epoch.
    rest: training images that it has not seen.
    test: test images of patients whom it has not seen either; all test images where that leaves none.
  """

  fit: Indices
  choose: Indices
  rest: Indices
  test: Indices


def divide(data: Prepared) -> Parts | None:
  """Divides the training and test images of a run; None where there are too few patients for it.

  Validation images are in no part: they compare samplers, so the judge may not see them either.
  """
  rng = np.random.default_rng([data.info.seed, 2])
  train, records = data.split.train, data.records
  held = splits.hold_out(records.take(train), _REST, rng)
  rest, mine = train[held], train[~held]
  chosen = splits.hold_out(records.take(mine), _CHOOSE / (1 - _REST), rng)
  if not (held.any() and chosen.any() and (~chosen).any()):
    return None
  known = np.isin(records.patients[data.split.test], records.patients[mine])
  test = data.split.test if known.all() else data.split.test[~known]
  return Parts(mine[~chosen], mine[chosen], rest, test)


def model_of(config: ml_collections.ConfigDict) -> str | None:
  """Returns the network of the judge; None for a config without classifiers.

  `auto` takes ResNet50 if it is among the classifiers, else the first of them.
  """
  asked, models = config.evaluate.classifier, tuple(config.classify.models)
  if asked != AUTO:
    return str(asked)
  return _PREFERRED if _PREFERRED in models else next(iter(models), None)


def workdir_of(workdir: PathLike) -> pathlib.Path:
  """Returns the folder of a run's judges, which is laid out like a workdir."""
  return pathlib.Path(workdir) / 'judge'


def folder_of(workdir: PathLike, model: str) -> pathlib.Path:
  """Returns the folder of the judge `model` of a run."""
  return RunName(model, 'real', 0).folder(workdir_of(workdir))
