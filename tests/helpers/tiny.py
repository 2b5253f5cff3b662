"""A workdir with a tiny diffusion model that nobody trained, for tests of what happens after training."""

import functools
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import msgspec
import numpy as np

from fetal_jax import config as config_lib
from fetal_jax import main, networks
from fetal_jax.data.prepared import SplitFile
from fetal_jax.data.rounds import CheckpointMark, Manifest, SamplerSettings
from fetal_jax.runtime.checkpoint import Checkpointer
from fetal_jax.runtime.fingerprint import Fingerprint
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
      nets=networks.make_diffusion_networks(config, len(CLASS_NAMES)),
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


def split_file(**changes: Any) -> SplitFile:
  """split.json of ten images in two classes, with `changes`."""
  fields = {
    'source': 'fetal_phantom', 'phantom_images': 10, 'phantom_seed': 0, 'image_size': 8, 'channels': 1,
    'resize': 'stretch', 'split': 'paper', 'seed': 0, 'class_names': ('round', 'square'), 'num_images': 10,
    'intake': None, 'split_hash': 'a split', 'images_sha256': '0', 'records_sha256': '1',
    'images': {side: {'round': n, 'square': n} for side, n in (('train', 3), ('validation', 1), ('test', 1))},
    'totals': {'train': 6, 'validation': 2, 'test': 2}, 'patients': {'train': 6, 'validation': 2, 'test': 2},
    'patients_known': True, 'images_of_unknown_patients': 0, 'shared_patients': 0, 'test_patient_overlap': 0.0, 'test_patient_class_overlap': 0.0,
    'train': [0, 1, 2, 5, 6, 7], 'validation': [3, 8], 'test': [4, 9],
  }  # fmt: skip
  return SplitFile(**{**fields, **changes})


def manifest(
  number: int = 1, class_names: Sequence[str] = CLASS_NAMES, per_class: int = 2, **changes: Any
) -> Manifest:
  """The manifest of a finished round, one shard a class, whose files are nowhere; with `changes`."""
  fields = {
    'round': number, 'seed': 0, 'class_names': tuple(class_names),
    'counts': dict.fromkeys(class_names, per_class), 'shard_size': per_class, 'image_size': 8, 'channels': 1,
    'sampler': SamplerSettings(steps=3), 'config_hash': '0123', 'complete': False, 'shards': (), 'files': {},
    'checkpoint': CheckpointMark(step=40, ema_rate=0.999, split_hash='a split'),
  }  # fmt: skip
  begun = Manifest(**{**fields, **changes})
  shards = [
    begun.entry(shard, Fingerprint(bytes=9, sha256=f'{number}{shard.index}')) for shard in begun.plan.shards()
  ]
  preview = {'preview.png': Fingerprint(bytes=9, sha256='0')}
  return msgspec.structs.replace(begun, complete=True, shards=tuple(shards), files=preview)
