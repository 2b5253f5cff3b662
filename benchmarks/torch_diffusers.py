"""The UNet of `diffusers` nearest to the ADM UNet of the same settings.

The same levels, widths, residual blocks, scale-and-shift conditioning, resampling blocks and attention. It differs in
that attention heads have 64 channels at every level, and that its skip is projected in resampling blocks too.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn


class Denoiser(nn.Module):
  """x, t, labels → float32 noise and variance."""

  def __init__(self, config: Mapping[str, Any]) -> None:
    super().__init__()
    from diffusers import UNet2DModel

    levels = len(config['channel_mult'])
    attends = [2**level in config['attention_resolutions'] for level in range(levels)]
    # What is called "skip" in the names of blocks is another architecture; these are the plain ones.
    self.net = UNet2DModel(
      sample_size=config['image_size'],
      in_channels=config['in_channels'],
      out_channels=config['out_channels'],
      layers_per_block=config['num_res_blocks'],
      block_out_channels=tuple(config['model_channels'] * mult for mult in config['channel_mult']),
      down_block_types=tuple('AttnDownBlock2D' if a else 'ResnetDownsampleBlock2D' for a in attends),
      up_block_types=tuple('AttnUpBlock2D' if a else 'ResnetUpsampleBlock2D' for a in reversed(attends)),
      downsample_type='resnet',
      upsample_type='resnet',
      resnet_time_scale_shift='scale_shift',
      attention_head_dim=64,
      num_class_embeds=config['num_classes'],
      norm_num_groups=32,
      freq_shift=0,
    )

  def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
    return self.net(x.to(self.net.dtype), t, class_labels=y, return_dict=False)[0].float()


def create(config: Mapping[str, Any]) -> nn.Module:
  """Builds the network with weights of its own."""
  return Denoiser(config)
