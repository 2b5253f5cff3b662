"""The judge: a classifier that says which class a synthetic image shows, and that encodes images for distances.

`train.judge_parts` says which images it has seen, so that it is asked about no other.
"""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, Int, UInt8

from fetal_jax import config as config_lib
from fetal_jax import networks
from fetal_jax.data import prepared
from fetal_jax.evaluate import encoders
from fetal_jax.evaluate.encoders import Encoder
from fetal_jax.runtime import devices
from fetal_jax.runtime.checkpoint import Checkpointer
from fetal_jax.runtime.errors import UserError
from fetal_jax.runtime.files import PathLike
from fetal_jax.train import judge_parts
from fetal_jax.train import results as train_results
from fetal_jax.train.classify_step import normalise
from fetal_jax.train.judge_parts import Parts


@dataclasses.dataclass(frozen=True, eq=False)
class Judge:
  """A classifier that was trained to judge, on a part of the real training images alone.

  Attributes:
    model: its network.
    class_names: the K classes that it tells apart.
    parts: the images that it has seen, and those that it has not.
    encoder: the network up to its head.
    kernel, bias: of the head, [d, K] and [K].
  """

  model: str
  class_names: tuple[str, ...]
  parts: Parts
  encoder: Encoder
  kernel: Float[np.ndarray, 'd k'] = dataclasses.field(repr=False)
  bias: Float[np.ndarray, ' k'] = dataclasses.field(repr=False)

  @property
  def description(self) -> str:
    """Describes it in one sentence, for the report."""
    return self.encoder.description

  @property
  def split_hash(self) -> str | None:
    """Returns the hash of the split whose training side it has seen."""
    return self.encoder.split_hash

  def probabilities(self, encoded: Float[np.ndarray, 'n d']) -> Float[np.ndarray, 'n k']:
    """Computes the probabilities of the classes for images that `encoder` has encoded: the softmax of the head."""
    return np.asarray(jax.nn.softmax(encoded @ self.kernel + self.bias))

  def accuracy(self, encoded: Float[np.ndarray, 'n d'], labels: Int[np.ndarray, ' n']) -> float:
    """Computes the share of encoded images that the judge takes for what they are labelled."""
    return float((self.probabilities(encoded).argmax(-1) == labels).mean())


def exists(workdir: PathLike, model: str | None) -> bool:
  """Returns whether the classify stage has trained the judge `model` (see `judge_parts.model_of`)."""
  return model is not None and (judge_parts.folder_of(workdir, model) / train_results.NAME).is_file()


def load(workdir: PathLike, model: str | None, *, batch_size: int = 256) -> Judge:
  """Loads the judge: a classifier that the classify stage trained on half of the real training images for this purpose.

  Args:
    workdir: of a run whose classify stage is done.
    model: its network, see `judge_parts.model_of`.
    batch_size: images a dispatch, over all devices.

  Raises:
    UserError: there is no such judge, or it was trained on another split than the workdir's.
  """
  if model is None:
    raise UserError(
      'config.classify.models: no classifier that could judge; name one, or set config.evaluate.classifier'
    )
  data = prepared.load(workdir)
  parts = judge_parts.divide(data)
  class_names, image_shape, split_hash = (
    data.records.class_names,
    data.images.shape[1:],
    data.info.split_hash,
  )
  folder = judge_parts.folder_of(workdir, model) / 'selected'
  if parts is None or not folder.is_dir():
    raise UserError(
      f'{folder}: no judge; run --stage=classify, which trains it (--config.classify.regimes=real is enough)'
    )
  config, net, variables = _restore(folder, len(class_names), image_shape, split_hash)
  mean, std = config.classify.mean, config.classify.std

  def apply(variables: Any, images: UInt8[Array, 'b h w c']) -> Float[Array, 'b dim']:
    return penultimate(net, variables, normalise(images.astype(jnp.float32) / 255.0, mean, std))

  head = variables['params']['head']
  encoder = Encoder(
    name=model,
    description=(
      f'last hidden layer of {model}, trained by this run to judge, on {len(parts.fit):,} of the {len(data.split.train):,} '
      f'real training images (epoch chosen on {len(parts.choose):,} others, split {split_hash[:12]}); it is asked about '
      'images that are in neither'
    ),
    dim=head['kernel'].shape[0],
    apply=apply,
    variables=variables,
    image_shape=image_shape,
    split_hash=split_hash,
    batch_size=batch_size,
  )
  return Judge(
    model, tuple(class_names), parts, encoder, np.asarray(head['kernel']), np.asarray(head['bias'])
  )


def _restore(
  folder: pathlib.Path, num_classes: int, image_shape: Sequence[int], split_hash: str
) -> tuple[ml_collections.ConfigDict, nn.Module, Any]:
  """Restores a classifier: the config that it was trained with, the network in float32, its variables."""
  remedy = f'delete {folder.parent} and run --stage=classify again'
  with Checkpointer(folder, keep=1, alone=True, remedy=remedy) as checkpointer:  # the other hosts wait
    step = checkpointer.latest_step()
    if step is None:
      raise UserError(f'{folder}: no whole checkpoint; {remedy}')
    meta = checkpointer.restore_meta(step)
    if meta['split_hash'] != split_hash:
      raise UserError(f'{folder}: trained on another split than the one in the data folder; {remedy}')
    config = config_lib.from_dict(meta['config'])
    model = folder.parts[-4]
    net = networks.make_classifier(config, model, num_classes).clone(dtype=jnp.float32)
    shapes = dict(jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, *image_shape))))
    replicated = devices.replicated(devices.make_local_mesh())
    variables, _ = checkpointer.restore(
      step, devices.placed(shapes, jax.tree.map(lambda _: replicated, shapes))
    )
  return config, net, variables


def penultimate(net: nn.Module, variables: Any, images: Float[Array, 'b h w c']) -> Float[Array, 'b dim']:
  """Computes the input of the module named `head` of a classifier."""
  given = []

  def listen(call: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
    if context.module.path == ('head',) and context.method_name == '__call__':
      given.append(args[0])
    return call(*args, **kwargs)

  with nn.intercept_methods(listen):
    net.apply(variables, images, train=False)
  (features,) = given
  return features


def load_encoder(setting: str, judge: Judge) -> Encoder:
  """Loads the encoder that distances are measured in.

  Args:
    setting: of `config.evaluate.encoder`: `classifier` for the judge's own, `inception:FILE` or `dinov2:FILE` for
      published weights from a file.
    judge: the judge.

  Raises:
    UserError: an unknown encoder, or a file that cannot be read.
  """
  kind, _, path = setting.partition(':')
  if kind == 'classifier':
    return judge.encoder
  load_file = {'inception': encoders.inception_encoder, 'dinov2': encoders.dinov2_encoder}.get(kind)
  if load_file is None or not path:
    raise UserError(f'config.evaluate.encoder={setting}: must be classifier, inception:FILE or dinov2:FILE')
  return load_file(path)
