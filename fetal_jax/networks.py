"""Networks and diffusion process from a config: the one place that knows both."""

from typing import Any

import ml_collections
from flax import linen as nn

from fetal_jax import models
from fetal_jax.diffusion.schedule import Process, make_process
from fetal_jax.runtime.devices import compute_dtype


def make_unet(config: ml_collections.ConfigDict, num_classes: int) -> nn.Module:
  """Returns the denoiser: `apply(variables, x, t, y) -> [B, H, W, C or 2 C]`."""
  unet, channels = config.diffusion.unet, config.data.channels
  return models.create(
    'unet',
    out_channels=2 * channels if config.diffusion.learn_sigma else channels,
    num_heads=unet.num_heads,
    num_head_channels=unet.num_head_channels or None,
    num_classes=num_classes if config.diffusion.class_cond else None,
    **_encoder(config, unet),
  )


def make_guide(config: ml_collections.ConfigDict, num_classes: int) -> nn.Module:
  """Returns the classifier of noisy images: `apply(variables, x, t) -> logits [B, num_classes]`."""
  guide = config.diffusion.guide
  return models.create(
    'half_unet',
    image_size=config.data.image_size,
    num_classes=num_classes,
    num_head_channels=guide.num_head_channels,
    pool=guide.pool,
    **_encoder(config, guide),
  )


def _encoder(config: ml_collections.ConfigDict, network: ml_collections.ConfigDict) -> dict[str, Any]:
  """Returns the arguments that the UNet and the half U-Net share; `network` is the section of one of them."""
  return {
    'width': network.width,
    'channel_mult': tuple(network.channel_mult),
    'num_res_blocks': network.num_res_blocks,
    'attention_downsamples': tuple(config.data.image_size // side for side in network.attention_resolutions),
    'norm_groups': network.norm_groups,
    'dropout': network.dropout,
    'resblock_updown': network.resblock_updown,
    'use_scale_shift_norm': network.use_scale_shift_norm,
    'dtype': compute_dtype(config.dtype),
    'remat': config.diffusion.remat,
  }


def make_diffusion_networks(config: ml_collections.ConfigDict, num_classes: int) -> dict[str, nn.Module]:
  """Returns `unet` and `guide`, or the one of them that `config.diffusion.train` names."""
  nets = {'unet': make_unet(config, num_classes), 'guide': make_guide(config, num_classes)}
  train = config.diffusion.train
  return nets if train == 'both' else {train: nets[train]}


def make_training_process(config: ml_collections.ConfigDict) -> Process:
  """Returns the process of all T steps."""
  return make_process(config.diffusion.schedule, config.diffusion.timesteps)


def make_sampling_process(config: ml_collections.ConfigDict, method: str, steps: int) -> Process:
  """Returns the respaced process of `steps` steps, spaced as suits the method.

  `ancestral` evenly, as guided-diffusion does. `ddim` takes every n-th step where n is whole, else evenly.
  `dpmpp_2m` quadratically, denser towards the data: evenly spaced it gains nothing over DDIM.
  """
  timesteps = config.diffusion.timesteps
  if method == 'ddim' and timesteps % steps == 0:
    respacing = f'ddim{steps}'
  else:
    respacing = f'quad{steps}' if method == 'dpmpp_2m' else str(steps)
  return make_process(config.diffusion.schedule, timesteps, respacing)


def make_classifier(config: ml_collections.ConfigDict, name: str, num_classes: int) -> nn.Module:
  """Returns a classifier: `apply(variables, images, train=False) -> logits [B, num_classes]`."""
  arguments = dict(config.classify.model_args[name])
  if name == 'vit_b_32':
    arguments.setdefault('image_size', config.data.image_size)
  return models.create(name, num_classes=num_classes, dtype=compute_dtype(config.dtype), **arguments)
