"""Checks of a config, before anything is read or compiled."""

import math
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
        if not _holds(setting, one):
          raise UserError(f'config.{setting.name}={one!r}: {setting.allowed.words}')
  if section in ('', 'data') and config.data.source == 'image_folder' and not config.data.path:
    raise UserError(
      'config.data.path is empty: set --config.data.path to a folder with a sub-folder for each class'
    )


def _holds(setting: Setting, value: Any) -> bool:
  """Returns whether a setting may have this value, or a tuple this item; nothing of another type can hold."""
  assert setting.allowed is not None
  try:
    return setting.allowed.holds(value)
  except (TypeError, ValueError, OSError):  # `'a' < 1`; a path with a NUL, or too long
    return False


def counts(setting: Setting, config: ml_collections.ConfigDict) -> bool:
  """Returns whether a config's other settings let this one count, such as the data source."""
  return all(get(config, other) in values for other, values in setting.only.items())


def _check_networks(config: ml_collections.ConfigDict) -> None:
  """Refuses a network of those that are trained which the image size, or its own channels, do not allow."""
  train = config.diffusion.train
  for name in ('unet', 'guide') if train == 'both' else (train,):
    _check_sides(f'config.diffusion.{name}', config.diffusion[name], config.data.image_size)
    _check_heads(f'config.diffusion.{name}', config.diffusion[name], config.data.image_size)


def _check_sides(name: str, network: Any, size: int) -> None:
  """Refuses levels that do not divide the image, and attention at a side that no level has."""
  halvings = len(network.channel_mult) - 1
  if size % 2**halvings:
    raise UserError(
      f'config.data.image_size={size}: must be divisible by {2**halvings}, because '
      f'{name}.channel_mult={tuple(network.channel_mult)} halves it {halvings} times'
    )
  sides = [size >> level for level in range(halvings + 1)]
  asked = tuple(network.attention_resolutions)
  wrong = [side for side in asked if side not in sides]
  if wrong:
    # The nearest level to each that was asked for, by ratio: at 224 px 28 for 32.
    nearest = dict.fromkeys(min(sides, key=lambda one: abs(math.log(one / side))) for side in asked)
    raise UserError(
      f'{name}.attention_resolutions={asked}: no feature map of a {size} px image has a side of '
      f'{", ".join(map(str, wrong))} px, only of {", ".join(map(str, sides))}; set '
      f'--{name}.attention_resolutions={",".join(map(str, nearest))}'
    )


def _check_heads(name: str, network: Any, size: int) -> None:
  """Refuses heads of attention that do not share out the channels of a level that has attention."""
  key = 'num_head_channels' if network.num_head_channels else 'num_heads'
  heads = network.get(key, 1)  # a guide without channels a head has one head
  for level, factor in enumerate(network.channel_mult):
    # Attention is where it was asked for, and always in the middle, which has the channels of the last level.
    attends = size >> level in network.attention_resolutions or level == len(network.channel_mult) - 1
    channels = int(network.width * factor)
    if attends and channels % heads:
      raise UserError(
        f'{name}.{key}={heads}: must divide the {channels} channels of level {level + 1} (width x channel_mult)'
      )


def _check_diffusion(config: ml_collections.ConfigDict) -> None:
  """Refuses batches and steps that do not go together."""
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


def _check_sample(config: ml_collections.ConfigDict) -> None:
  """Refuses a sampler that does not go with the diffusion model."""
  sample, diffusion = config.sample, config.diffusion
  if sample.steps > diffusion.timesteps:
    raise UserError(
      f'config.sample.steps={sample.steps}: at most config.diffusion.timesteps={diffusion.timesteps}'
    )
  if sample.eta and sample.method != 'ddim':
    raise UserError(
      f'config.sample.eta={sample.eta}: sample.method={sample.method} has no use for it, only ddim; set it to 0'
    )
  if sample.guidance_at == 'mean' and sample.method != 'ancestral':
    raise UserError(
      f'config.sample.guidance_at=mean: sample.method={sample.method} cannot do it, only ancestral; set it to x_t'
    )
  if sample.guidance_scale and diffusion.train == 'unet':
    raise UserError('config.diffusion.train=unet trains no guide: set config.sample.guidance_scale=0')
