"""Who judges synthetic images: a classifier of this run, and the encoder that distances are measured in."""

import jax
import ml_collections
import numpy as np
from jaxtyping import Float, Int

from fetal_jax.data import prepare
from fetal_jax.evaluate import encoders
from fetal_jax.evaluate.encoders import Encoder
from fetal_jax.runtime.errors import UserError
from fetal_jax.runtime.files import PathLike
from fetal_jax.train import results
from fetal_jax.train.results import ClassifierMetrics, RunName


def has_judge(config: ml_collections.ConfigDict, workdir: PathLike) -> bool:
  """Whether the run has a classifier that `load_judge` would take, or names one."""
  return config.evaluate.classifier != 'auto' or any(_candidates(workdir))


def _candidates(workdir: PathLike) -> list[ClassifierMetrics]:
  """Reads the metrics of the classifiers that were trained on real images alone."""
  named = [(folder, RunName.of(folder)) for folder in results.find(workdir)]
  real = [folder for folder, name in named if (name.regime, name.seed) == ('real', 0)]
  return [results.read(folder) for folder in real if (folder / results.NAME).is_file()]


def load_judge(config: ml_collections.ConfigDict, workdir: PathLike) -> Encoder:
  """The classifier that says what a synthetic image shows: trained by this run on real training images alone.

  `config.evaluate.classifier` names it; `auto` takes the one that its validation images speak for.

  Raises:
    UserError: no such classifier is trained yet.
  """
  model = config.evaluate.classifier
  if model == 'auto':
    scores = {found.model: max(row.score for row in found.history) for found in _candidates(workdir)}
    if not scores:
      raise UserError(
        f'{workdir}: no classifier trained on real images to judge with; run --stage=classify first '
        '(--config.classify.regimes=real is enough)'
      )
    model = max(scores, key=lambda name: scores[name])
  return encoders.classifier_encoder(workdir, model)


def load_encoder(config: ml_collections.ConfigDict, judge: Encoder) -> Encoder:
  """The encoder that `config.evaluate.encoder` names: the judge itself, or published weights from a file.

  Raises:
    UserError: an unknown encoder, or a file that cannot be read.
  """
  kind, _, path = config.evaluate.encoder.partition(':')
  if kind == 'classifier':
    return judge
  load = {'inception': encoders.inception_encoder, 'dinov2': encoders.dinov2_encoder}.get(kind)
  if load is None or not path:
    raise UserError(
      f'config.evaluate.encoder={config.evaluate.encoder}: must be classifier, inception:FILE or dinov2:FILE'
    )
  return load(path)


def probabilities(judge: Encoder, encoded: Float[np.ndarray, 'n d']) -> Float[np.ndarray, 'n k']:
  """What the judge makes of images that it has encoded: the softmax of its head."""
  head = judge.variables['params']['head']
  return np.asarray(jax.nn.softmax(encoded @ np.asarray(head['kernel']) + np.asarray(head['bias'])))


def accuracy(judge: Encoder, encoded: Float[np.ndarray, 'n d'], labels: Int[np.ndarray, ' n']) -> float:
  """The share of encoded images that the judge takes for what they are labelled."""
  return float((probabilities(judge, encoded).argmax(-1) == labels).mean())


def check_split(data: prepare.Prepared, split_hash: str | None, what: str) -> None:
  """Refuses to judge with, or to judge, what was trained on another split: it may have seen the test side.

  Args:
    data: the prepared data.
    split_hash: of the split whose training side `what` has seen; None where it has seen none of the data.
    what: for the message.

  Raises:
    UserError: the splits differ.
  """
  if split_hash is not None and split_hash != data.info['split_hash']:
    raise UserError(
      f'{what} was trained on split {split_hash[:12]}, the prepared data has split '
      f'{data.info["split_hash"][:12]}: it may have seen test images; train it in this workdir'
    )
