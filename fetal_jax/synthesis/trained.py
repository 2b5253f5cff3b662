"""A trained diffusion model, read back from its checkpoint together with the config it was trained with."""

import dataclasses
import functools
import pathlib
from typing import Any

import jax
import ml_collections
from flax import linen as nn
from jax.sharding import Mesh

from fetal_jax import config as config_lib
from fetal_jax import parallel
from fetal_jax.errors import UserError
from fetal_jax.files import PathLike
from fetal_jax.train import diffusion_step
from fetal_jax.train.checkpoint import Checkpointer


@dataclasses.dataclass(frozen=True)
class Trained:
  """Networks with their weights.

  Attributes:
    config: what the checkpoint was trained with.
    unet: the denoiser.
    guide: the classifier on noisy images, or None where none was trained.
    params: {'unet': averaged weights, 'guide': weights}, on the mesh.
    class_names: label order.
    step: optimiser steps.
    split_hash: of the split whose training side it saw.
    mesh: the devices it lies on.
  """

  config: ml_collections.ConfigDict
  unet: nn.Module
  guide: nn.Module | None
  params: dict[str, Any]
  class_names: tuple[str, ...]
  step: int
  split_hash: str
  mesh: Mesh

  @property
  def image_shape(self) -> tuple[int, int, int]:
    """(H, W, C)."""
    size = self.config.data.image_size
    return size, size, self.config.data.channels


def load_trained(
  workdir_or_checkpoints: PathLike, *, mesh: Mesh | None = None, ema_index: int = 0
) -> Trained:
  """Reads the newest checkpoint of a run.

  Args:
    workdir_or_checkpoints: a workdir, or its `diffusion/checkpoints` folder.
    mesh: where the weights go; all devices by default.
    ema_index: which of `config.diffusion.ema_rates`.

  Raises:
    UserError: there is no checkpoint, it holds no UNet, or it cannot be read.
  """
  path = pathlib.Path(workdir_or_checkpoints)
  nested = path / 'diffusion' / 'checkpoints'
  folder = nested if nested.is_dir() else path
  if not folder.is_dir():
    raise UserError(f'{path}: no such workdir or checkpoint folder; run --stage=diffusion first')
  with Checkpointer(folder, keep=None) as checkpointer:
    step = checkpointer.latest_step()
    if step is None:
      raise UserError(f'{folder}: no checkpoint; run --stage=diffusion first')
    meta = checkpointer.restore_meta(step)
    config, class_names = config_lib.from_dict(meta['config']), tuple(meta['class_names'])
    nets = diffusion_step.make_networks(config, len(class_names))
    if 'unet' not in nets:
      raise UserError(f'{folder}: trained with config.diffusion.train=guide, there is no UNet to sample from')
    mesh = mesh or parallel.make_mesh()
    size = config.data.image_size
    init = functools.partial(
      diffusion_step.init_state,
      nets=nets,
      optimizers=diffusion_step.make_optimizers(config),
      image_shape=(size, size, config.data.channels),
      ema_rates=tuple(config.diffusion.ema_rates),
    )
    shapes = jax.eval_shape(init, jax.random.key(0))
    whole = jax.tree.map(lambda _: parallel.replicated(mesh), shapes)
    state, _ = checkpointer.restore(step, parallel.placed(shapes, whole))
  params = {'unet': state.ema[ema_index]}
  if 'guide' in nets:
    params['guide'] = state.params['guide']
  return Trained(config, nets['unet'], nets.get('guide'), params, class_names, step, meta['split_hash'], mesh)
