"""A workdir with a tiny diffusion model that nobody trained, for tests of what happens after training."""

import functools
import pathlib

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from fetal_jax import config as config_lib
from fetal_jax import main
from fetal_jax.runtime.checkpoint import Checkpointer
from fetal_jax.train import diffusion_step

# 8 px, no attention: what is left compiles in a second or two.
ARGUMENTS = (
  f'--config={pathlib.Path(__file__).resolve().parents[2] / "configs" / "smoke.py"}',
  '--config.data.image_size=8',
  *(
    f'--config.diffusion.{network}.{setting}'
    for network in ('unet', 'guide')
    for setting in ('width=8', 'channel_mult=(1,)', 'attention_resolutions=()', 'num_head_channels=8')
  ),
  '--config.diffusion.guide.pool=adaptive',
  '--config.sample.steps=3',
  '--config.sample.guidance_scale=2.0',
)
CLASS_NAMES = ('abdomen', 'brain', 'femur', 'thorax', 'cervix', 'other')


def make_config(*arguments: str) -> ml_collections.ConfigDict:
  """The config that `ARGUMENTS` and further flags make."""
  return main.parse([*ARGUMENTS, *arguments, '--workdir=unused'])[1]


def make_workdir(folder: pathlib.Path) -> pathlib.Path:
  """Writes a checkpoint of random weights, none of them zero, so that input, label and guide all matter."""
  config = make_config()
  shapes = jax.eval_shape(
    functools.partial(
      diffusion_step.init_state,
      nets=diffusion_step.make_networks(config, len(CLASS_NAMES)),
      optimizers=diffusion_step.make_optimizers(config),
      image_shape=(8, 8, 1),
      ema_rates=tuple(config.diffusion.ema_rates),
    ),
    jax.random.key(0),
  )
  rng = np.random.default_rng(0)
  state = jax.tree.map(lambda s: jnp.asarray(0.2 * rng.standard_normal(s.shape), s.dtype), shapes)
  meta = {
    'config': config_lib.to_dict(config),
    'class_names': list(CLASS_NAMES),
    'split_hash': 'a split',
    'loader': {},
  }
  with Checkpointer(folder / 'diffusion' / 'checkpoints') as checkpointer:
    checkpointer.save(config.diffusion.steps, state, meta)
  return folder
