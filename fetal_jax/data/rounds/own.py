"""Whether a round was drawn by the run that it lies in: of the same split, model, seed and sampler."""

import pathlib
from typing import Any

import ml_collections
import msgspec

from fetal_jax import config as config_lib
from fetal_jax.data import prepared
from fetal_jax.data.rounds.manifest import Manifest, SamplerSettings
from fetal_jax.runtime import files, records, run
from fetal_jax.runtime.errors import UserError


class _Meta(msgspec.Struct):
  """What a checkpoint of the diffusion model says of itself, as far as it counts here."""

  config: dict[str, Any]
  split_hash: str


def check(workdir: files.PathLike, manifests: dict[pathlib.Path, Manifest]) -> None:
  """Compares finished rounds with the run's split, settings and checkpoint, as far as they are there, and each other.

  Args:
    workdir: of the run.
    manifests: by the folder of the round.

  Raises:
    UserError: a round is another run's, or of other settings.
  """
  if not manifests:
    return
  wanted = _wanted(pathlib.Path(workdir))
  first = next(iter(manifests.values()))
  for folder, manifest in manifests.items():
    found = _origin(manifest)
    for what, value in {
      **_origin(first),
      **wanted,
      **_of_checkpoint(pathlib.Path(workdir), manifest),
    }.items():
      if found[what] != value:
        raise UserError(
          f'{folder}: not drawn by this run (its {what}: {found[what]}, here: {value}); put the right folder there, or '
          'delete it and run --stage=sample'
        )


def _origin(manifest: Manifest) -> dict[str, Any]:
  """Returns what decides the images of a round."""
  return {
    'seed': manifest.seed,
    'split': manifest.checkpoint.split_hash,
    'classes': ', '.join(manifest.class_names),
    'images of a class': next(iter(manifest.counts.values())),
    'image size': (manifest.image_size, manifest.channels),
    **_by_name(manifest.sampler),
    'checkpoint': f'step {manifest.checkpoint.step}, EMA {manifest.checkpoint.ema_rate}',
    'model': manifest.config_hash,
  }


def _wanted(workdir: pathlib.Path) -> dict[str, Any]:
  """Returns the same of the run, as far as split.json and config.json tell."""
  wanted: dict[str, Any] = {}
  try:
    info = prepared.read_info(workdir)
    wanted |= {'split': info.split_hash, 'classes': ', '.join(info.class_names)}
  except FileNotFoundError:
    pass
  try:
    config = config_lib.from_dict(run.read(workdir).config)
  except FileNotFoundError:
    return wanted
  return wanted | {
    'seed': config.seed,
    'images of a class': config.sample.per_class,
    'image size': (config.data.image_size, config.data.channels),
    **_by_name(SamplerSettings.asked(config.sample, has_guide=config.diffusion.train == 'both')),
  }


def _by_name(sampler: SamplerSettings) -> dict[str, Any]:
  return {f'sampler.{name}': value for name, value in msgspec.structs.asdict(sampler).items()}


def _of_checkpoint(workdir: pathlib.Path, manifest: Manifest) -> dict[str, Any]:
  """Returns the hash of the model that is at the round's step; nothing where no such checkpoint is there any more."""
  path = workdir / 'diffusion' / 'checkpoints' / str(manifest.checkpoint.step) / 'meta' / 'metadata'
  remedy = 'run --stage=diffusion, which resumes from the checkpoint before'
  try:
    found = files.read_json(path, remedy=remedy)  # as orbax writes JSON
  except FileNotFoundError:
    return {}
  meta = records.from_json(found, _Meta, f'{path}', remedy=remedy)
  return {'model': model_hash(config_lib.from_dict(meta.config), meta.split_hash)}


def model_hash(config: ml_collections.ConfigDict, split_hash: str) -> str:
  """Returns what identifies a diffusion model, but for its step.

  Args:
    config: that it was trained with.
    split_hash: of the split that it was trained on.
  """
  return config_lib.config_hash(config.diffusion, split_hash, config.seed)
