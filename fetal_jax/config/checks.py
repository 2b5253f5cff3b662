"""Checks of a config, before anything is read or compiled."""

from typing import Any

import ml_collections

from fetal_jax.config.settings import SETTINGS, Setting
from fetal_jax.config.values import get
from fetal_jax.runtime.errors import UserError


def validate(config: ml_collections.ConfigDict) -> None:
  """Refuses what cannot run.

  Raises:
    UserError: names the key, its value, and what it may be.
  """
  check_values(config)
  _check_networks(config)
  _check_diffusion(config)
  _check_sample(config)


def check_values(config: ml_collections.ConfigDict, section: str = '') -> None:
  """Refuses a value that the table of settings does not allow.

  Args:
    config: has at least the section.
    section: the only one to look at, for example `data`; all where empty.

  Raises:
    UserError: names the key, its value, and what it may be.
  """
  for setting in SETTINGS:
    if (
      setting.allowed and (not section or setting.name.startswith(f'{section}.')) and counts(setting, config)
    ):
      value = get(config, setting.name)
      for one in value if setting.allowed.each else (value,):
        if not setting.allowed.holds(one):
          raise UserError(f'config.{setting.name}={one!r}: {setting.allowed.words}')
  if section in ('', 'data') and config.data.source == 'image_folder' and not config.data.path:
    raise UserError(
      'config.data.path is empty: set --config.data.path to a folder with a sub-folder for each class'
    )


def counts(setting: Setting, config: ml_collections.ConfigDict) -> bool:
  """Returns whether a config's other settings let this one count, such as the data source."""
  return all(get(config, other) in values for other, values in setting.only.items())


def _check_networks(config: ml_collections.ConfigDict) -> None:
  """Refuses an image size that the UNet's or the guide's levels do not divide."""
  size = config.data.image_size
  for name in ('unet', 'guide'):
    network: Any = config.diffusion[name]
    halvings = len(network.channel_mult) - 1
    if size % 2**halvings:
      raise UserError(
        f'config.data.image_size={size}: must be divisible by {2**halvings}, because '
        f'config.diffusion.{name}.channel_mult={tuple(network.channel_mult)} halves it {halvings} times'
      )
    for side in network.attention_resolutions:
      if side < 1 or size % side:
        raise UserError(
          f'config.diffusion.{name}.attention_resolutions: {side} px is not a feature-map side of a {size} px image'
        )


def _check_diffusion(config: ml_collections.ConfigDict) -> None:
  """Refuses batches, steps and previews that do not go together."""
  diffusion = config.diffusion
  if diffusion.batch_size % diffusion.microbatches:
    raise UserError(
      f'config.diffusion.microbatches={diffusion.microbatches}: must divide '
      f'config.diffusion.batch_size={diffusion.batch_size}'
    )
  if diffusion.steps % diffusion.steps_per_call:
    raise UserError(
      f'config.diffusion.steps={diffusion.steps}: must be a multiple of '
      f'config.diffusion.steps_per_call={diffusion.steps_per_call}'
    )
  if diffusion.preview_steps > diffusion.timesteps:
    raise UserError(
      f'config.diffusion.preview_steps={diffusion.preview_steps}: at most {diffusion.timesteps}'
    )


def _check_sample(config: ml_collections.ConfigDict) -> None:
  """Refuses a sampler that does not go with the diffusion model."""
  sample, diffusion = config.sample, config.diffusion
  if sample.steps > diffusion.timesteps:
    raise UserError(
      f'config.sample.steps={sample.steps}: at most config.diffusion.timesteps={diffusion.timesteps}'
    )
  if sample.guidance_scale and diffusion.train == 'unet':
    raise UserError('config.diffusion.train=unet trains no guide: set config.sample.guidance_scale=0')
