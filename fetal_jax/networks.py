"""Networks and diffusion process from a config: the one place that knows both."""

from typing import Any

import ml_collections
from flax import linen as nn

from fetal_jax import models
from fetal_jax.diffusion.schedule import Process, make_process
from fetal_jax.runtime.devices import compute_dtype


def make_unet(config: ml_collections.ConfigDict, num_classes: int) -> nn.Module:
  """The denoiser: `apply(variables, x, t, y) -> [B, H, W, C or 2 C]`."""
  c, size, channels = config.diffusion, config.data.image_size, config.data.channels
  return models.create(
    'unet',
    out_channels=channels * (2 if c.learn_sigma else 1),
    width=c.unet.width,
    channel_mult=tuple(c.unet.channel_mult),
    num_res_blocks=c.unet.num_res_blocks,
    attention_downsamples=tuple(size // side for side in c.unet.attention_resolutions),
    num_heads=c.unet.num_heads,
    num_head_channels=c.unet.num_head_channels or None,
    num_classes=num_classes if c.class_cond else None,
    norm_groups=c.unet.norm_groups,
    dropout=c.unet.dropout,
    dtype=compute_dtype(config.dtype),
    remat=c.remat,
  )


def make_guide(config: ml_collections.ConfigDict, num_classes: int) -> nn.Module:
  """The classifier on noisy images: `apply(variables, x, t) -> logits [B, num_classes]`."""
  c, size = config.diffusion, config.data.image_size
  return models.create(
    'half_unet',
    image_size=size,
    num_classes=num_classes,
    width=c.guide.width,
    channel_mult=tuple(c.guide.channel_mult),
    num_res_blocks=c.guide.num_res_blocks,
    attention_downsamples=tuple(size // side for side in c.guide.attention_resolutions),
    num_head_channels=c.guide.num_head_channels,
    pool=c.guide.pool,
    norm_groups=c.guide.norm_groups,
    dropout=c.guide.dropout,
    dtype=compute_dtype(config.dtype),
    remat=c.remat,
  )


def make_training_process(config: ml_collections.ConfigDict) -> Process:
  """The process of all T steps."""
  return make_process(config.diffusion.schedule, config.diffusion.timesteps)


def make_sampling_process(config: ml_collections.ConfigDict, method: str, steps: int) -> Process:
  """The respaced process of `steps` steps, spaced as suits the method.

  `ancestral` evenly, as guided-diffusion does. `ddim` takes every n-th step, where n is whole (evenly
  otherwise). `dpmpp_2m` quadratically, denser towards the data: evenly spaced it gains nothing over DDIM.
  """
  timesteps = config.diffusion.timesteps
  if method == 'ddim' and timesteps % steps == 0:
    respacing = f'ddim{steps}'
  else:
    respacing = f'quad{steps}' if method == 'dpmpp_2m' else str(steps)
  return make_process(config.diffusion.schedule, timesteps, respacing)


def make_classifier(config: ml_collections.ConfigDict, name: str, num_classes: int) -> nn.Module:
  """A classifier: `apply(variables, images, train=False) -> logits [B, num_classes]`."""
  kwargs: dict[str, Any] = dict(config.classify.model_args[name])
  if name == 'vit_b_32':
    kwargs.setdefault('image_size', config.data.image_size)
  return models.create(name, num_classes=num_classes, dtype=compute_dtype(config.dtype), **kwargs)
