"""The classifiers of a workdir: which of them count, how they were trained, and what they predicted."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

import msgspec

from fetal_jax.data.records import Records
from fetal_jax.evaluate import scores as scores_lib
from fetal_jax.evaluate.comparisons import AllPredictions
from fetal_jax.evaluate.scores import Scores
from fetal_jax.report.names import model_title, order
from fetal_jax.runtime.errors import DamagedFile
from fetal_jax.train import predictions as predictions_lib
from fetal_jax.train import regimes as regimes_lib
from fetal_jax.train import results as results_lib
from fetal_jax.train.predictions import Predictions
from fetal_jax.train.results import ClassifierMetrics, EpochRow, InitialWeights, RunName

IMAGE_SIZE = 128  # of the paper's images, in pixels
# Parameters of the published networks, for images of 128 px in colour and six classes.
PUBLISHED = {
  'resnet50': 23_520_326,
  'densenet169': 12_494_470,
  'vit_b_32': 87_434_502,
  'swin_t': 27_523_968,
  'medmamba_t': 14_457_222,
  'medmamba_s': 18_625_158,
  'medmamba_b': 39_864_838,
}
_SAME_SIZE = 0.95  # of them; other classes, channels and image sizes change less


class ClassifierRun(msgspec.Struct, frozen=True, kw_only=True):
  """One classifier, see `train.results.ClassifierMetrics`; tests of the report know less of it.

  Attributes:
    reduced: see `is_reduced`.
    scores: from its predictions.
  """

  model: str
  regime: str
  seed: int
  protocol: str
  reduced: bool = False
  epochs: int | None = None
  selected_epoch: int | None = None
  steps: int | None = None
  batch_size: int | None = None
  real_images: int | None = None
  synthetic_images: int | None = None
  parameters: int | None = None
  train_accuracy: float | None = None
  validation_accuracy: float | None = None
  test_accuracy: float | None = None
  test_accuracy_last: float | None = None
  seconds: float | None = None
  initialised_from: str | None = None
  init_from: InitialWeights | None = None
  settings: str | None = None
  history: list[EpochRow] = []
  scores: Scores | None = None


class LeftOut(msgspec.Struct, frozen=True, kw_only=True):
  """A classifier that is in no figure, and why."""

  model: str
  regime: str
  seed: int
  left_out: str


@dataclasses.dataclass(frozen=True)
class Here:
  """What the classifiers of a workdir must have been made from, as far as it is there.

  Attributes:
    split_hash: of the split; None without prepared data.
    image_size: in pixels; None without prepared data.
    test: the images that classifiers are tested on; None without prepared data.
    rounds: number of a round, as text -> its hash.
  """

  split_hash: str | None
  image_size: int | None
  test: Records | None
  rounds: Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class Found:
  """The classifiers of a workdir, in the paper's order.

  Attributes:
    runs: those that count.
    predictions: of each of them.
    left_out: the others.
  """

  runs: list[ClassifierRun]
  predictions: AllPredictions
  left_out: list[LeftOut]


def read(workdir: pathlib.Path, classify: Mapping[str, Any], here: Here, missing: list[str]) -> Found:
  """Reads all classifiers of a workdir.

  Args:
    workdir: of the run.
    classify: the settings of this name, as they were asked.
    here: what the classifiers must have been made from.
    missing: a sentence is added for each that is left out, and for what has not run.

  Raises:
    DamagedFile: a metrics.json is not what was written.
  """
  found: dict[RunName, tuple[ClassifierRun, Predictions]] = {}
  left_out = []
  for folder in results_lib.find(workdir):
    name = RunName.of(folder)
    metrics = results_lib.read(folder) if (folder / results_lib.NAME).is_file() else None
    try:
      found[name] = _read_one(folder, metrics, here)
    except DamagedFile as error:
      why = str(error).replace(f'{workdir}/', '')
      left_out.append(LeftOut(**name._asdict(), left_out=why))
      missing.append(f'Left out of every figure: {why}.')
  names = sorted(found, key=lambda name: (*order(name.model, name.regime), name.seed))
  if found or left_out:
    missing += _unfinished(
      classify, {*found, *(RunName(one.model, one.regime, one.seed) for one in left_out)}
    )
  else:
    missing.append(
      'Classifiers: no classify/<model>/<regime>/seed_<k>/predictions.csv; run the classify stage.'
    )
  ordered: dict[str, dict[str, dict[int, Predictions]]] = {}
  for name in names:
    ordered.setdefault(name.model, {}).setdefault(name.regime, {})[name.seed] = found[name][1]
  return Found([found[name][0] for name in names], ordered, left_out)


def _read_one(
  folder: pathlib.Path, metrics: ClassifierMetrics | None, here: Here
) -> tuple[ClassifierRun, Predictions]:
  """Reads one classifier; DamagedFile, which says why, if it must not count."""
  path, remedy = folder / predictions_lib.NAME, predictions_lib.REMEDY
  if metrics is None:
    raise DamagedFile(
      f'{path}: nothing tells whether it is whole, since {results_lib.NAME} is missing; {remedy}'
    )
  predictions = results_lib.read_predictions(folder, metrics)
  if here.split_hash not in (None, metrics.split_hash):
    raise DamagedFile(f'{folder}: was trained on another split than the one in data/split.json; {remedy}')
  if here.test is not None and not predictions.is_of(here.test):
    raise DamagedFile(f'{path}: is not about the test images of data/split.json; {remedy}')
  for number, mark in metrics.rounds.items():
    if here.rounds.get(number, mark) != mark:
      raise DamagedFile(
        f'{folder}: was trained on another round {number} than synthetic/round_{number}; {remedy}'
      )
  scores = scores_lib.evaluate(predictions.labels, predictions.probabilities, predictions.class_names)
  known = {key: getattr(metrics, key) for key in ClassifierRun.__struct_fields__ if hasattr(metrics, key)}
  reduced = is_reduced(metrics.model, metrics.parameters, here.image_size)
  return ClassifierRun(**known, reduced=reduced, scores=scores), predictions


def is_reduced(model: str, parameters: int, image_size: int | None) -> bool:
  """Returns whether a network is smaller than the published one of its name, or sees images smaller than the paper's.

  A model without a published size (one of the user's own) is judged by its images alone.
  """
  smaller = parameters < _SAME_SIZE * PUBLISHED.get(model, 0)
  return smaller or (image_size is not None and image_size < IMAGE_SIZE)


def _unfinished(classify: Mapping[str, Any], done: set[RunName]) -> list[str]:
  """Returns sentences on what was asked for and is missing."""
  seeds = range(classify.get('num_seeds') or 1)
  sentences = []
  for model in classify.get('models') or ():
    absent = [
      f'{regime} (seed {seed})'
      for regime in classify.get('regimes') or ()
      if regimes_lib.is_main(regime)
      for seed in seeds
      if RunName(model, regime, seed) not in done
    ]
    if absent:
      sentences.append(f'Not finished for {model_title(model)}: {", ".join(absent)}.')
  known = [regime for regime in classify.get('regimes') or () if regimes_lib.find(regime)]
  further = {
    RunName(model, regime, seed)
    for model in classify.get('models') or ()
    for regime in regimes_lib.of_model(
      model, known, classify.get('curve') or (), classify.get('curve_models') or ()
    )
    if not regimes_lib.is_main(regime)
    for seed in seeds
  }
  if further - done:
    sentences.append(
      f'Not finished of the regimes by number of synthetic images and with the filter: {len(further - done):,} of '
      f'{len(further):,} runs.'
    )
  return sentences
