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
from fetal_jax import networks
from fetal_jax.runtime import devices
from fetal_jax.runtime.checkpoint import SKIP, Checkpointer
from fetal_jax.runtime.errors import UserError
from fetal_jax.runtime.files import PathLike
from fetal_jax.train import diffusion_step

_REMEDY = 'run --stage=diffusion again, it resumes from the checkpoint before, or put a whole copy back'


@dataclasses.dataclass(frozen=True)
class Description:
  """The description in a checkpoint, read without its arrays.

  Attributes:
    folder: of the checkpoints.
    config: that it was trained with.
    class_names: label order.
    step: optimiser steps.
    split_hash: of the split whose training side it was trained on.
  """

  folder: pathlib.Path
  config: ml_collections.ConfigDict
  class_names: tuple[str, ...]
  step: int
  split_hash: str

  @property
  def has_guide(self) -> bool:
    return self.config.diffusion.train == 'both'


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
    split_hash: of the split whose training side it was trained on.
    mesh: the devices it lies on, of this process alone.
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
    """Returns (H, W, C)."""
    size = self.config.data.image_size
    return size, size, self.config.data.channels


def describe(workdir_or_checkpoints: PathLike) -> Description:
  """Reads the description of the newest checkpoint of a run.

  Args:
    workdir_or_checkpoints: a workdir, or its `diffusion/checkpoints` folder.

  Raises:
    UserError: there is no checkpoint, it holds no UNet, or its description is damaged.
  """
  path = pathlib.Path(workdir_or_checkpoints)
  nested = path / 'diffusion' / 'checkpoints'
  folder = nested if nested.is_dir() else path
  if not folder.is_dir():
    raise UserError(f'{path}: no such workdir or checkpoint folder; run --stage=diffusion first')
  with Checkpointer(folder, keep=None, alone=True, remedy=_REMEDY) as checkpointer:
    step = checkpointer.latest_step()
    if step is None:
      raise UserError(f'{folder}: no checkpoint; run --stage=diffusion first')
    meta = checkpointer.restore_meta(step)
  config = config_lib.from_dict(meta['config'])
  if config.diffusion.train == 'guide':
    raise UserError(f'{folder}: trained with config.diffusion.train=guide, there is no UNet to sample from')
  return Description(folder, config, tuple(meta['class_names']), step, meta['split_hash'])


def load_trained(
  workdir_or_checkpoints: PathLike, *, mesh: Mesh | None = None, ema_index: int = 0
) -> Trained:
  """Reads the parts of the newest checkpoint of a run that sampling needs: not the optimisers.

  Each process reads for itself, and needs no other one for that.

  Args:
    workdir_or_checkpoints: a workdir, or its `diffusion/checkpoints` folder.
    mesh: where the weights go, spread over its `fsdp` axis; this process's devices by default, each with
      all weights.
    ema_index: which of `config.diffusion.ema_rates`.

  Raises:
    UserError: there is no checkpoint, it holds no UNet, or a file of it is damaged.
  """
  about = describe(workdir_or_checkpoints)
  config, mesh = about.config, mesh or devices.make_local_mesh()
  rates, size = tuple(config.diffusion.ema_rates), config.data.image_size
  if not 0 <= ema_index < len(rates):
    raise UserError(
      f'ema_index={ema_index}: {about.folder} has the averages 0 … {len(rates) - 1}, of {rates}'
    )
  nets = networks.make_diffusion_networks(config, len(about.class_names))
  init = functools.partial(
    diffusion_step.init_state,
    nets=nets,
    optimizers=diffusion_step.make_optimizers(config),
    image_shape=(size, size, config.data.channels),
    ema_rates=rates,
  )
  shapes = jax.eval_shape(init, jax.random.key(0))
  wanted = devices.placed(shapes, devices.state_sharding(mesh, shapes))
  nothing = jax.tree.map(lambda _: SKIP, shapes)
  parts = dataclasses.replace(
    nothing,
    ema=(*nothing.ema[:ema_index], wanted.ema[ema_index], *nothing.ema[ema_index + 1 :]),
    params={name: wanted.params[name] if name == 'guide' else nothing.params[name] for name in nets},
  )
  with Checkpointer(about.folder, keep=None, alone=True, remedy=_REMEDY) as checkpointer:
    state, _ = checkpointer.restore(about.step, parts)
  params = {'unet': state.ema[ema_index]}
  if 'guide' in nets:
    params['guide'] = state.params['guide']
  return Trained(
    config, nets['unet'], nets.get('guide'), params, about.class_names, about.step, about.split_hash, mesh
  )
