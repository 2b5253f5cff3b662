"""The same classifiers from torchvision with one input channel, and their training step."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STEMS = {
  'resnet50': 'conv1',
  'densenet169': 'features.conv0',
  'vit_b_32': 'conv_proj',
  'swin_t': 'features.0.0',
}


def create(name: str, classes: int, side: int) -> nn.Module:
  """torchvision's network for grey images.

  Raises:
    LookupError: it has none of that name.
  """
  if name not in STEMS:
    raise LookupError(f'torchvision has no {name}')
  import torchvision

  size = {'image_size': side} if name == 'vit_b_32' else {}
  net = getattr(torchvision.models, name)(num_classes=classes, **size)
  parent_name, _, child = STEMS[name].rpartition('.')
  parent = net.get_submodule(parent_name)
  stem: Any = getattr(parent, child)
  grey = nn.Conv2d(
    1, stem.out_channels, stem.kernel_size, stem.stride, stem.padding, bias=stem.bias is not None
  )
  setattr(parent, child, grey)
  return net


class Training:
  """One step as `fetal_jax` does it: rotation and flips of uint8 images on the device, cross-entropy, Adam."""

  def __init__(self, net: nn.Module, *, autocast: bool, mean: float, std: float, degrees: float) -> None:
    self.net, self.autocast = net.train(), autocast
    self.mean, self.std, self.degrees = mean, std, degrees
    self.optimizer = torch.optim.Adam(net.parameters(), lr=1e-4, fused=True)

  def augmented(self, images: Tensor) -> Tensor:
    """Rotated by up to `degrees` and flipped along both axes."""
    angle = (2 * torch.rand(len(images), device=images.device) - 1) * math.radians(self.degrees)
    flip_x, flip_y = (torch.randint(0, 2, (2, len(images)), device=images.device) * 2 - 1).float()
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    rows = [torch.stack([flip_x * cos, -sin, zero], -1), torch.stack([sin, flip_y * cos, zero], -1)]
    grid = F.affine_grid(torch.stack(rows, 1), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)

  def step(self, images: Tensor, labels: Tensor) -> Tensor:
    """One optimiser step on uint8 [B, 1, H, W]."""
    x = (self.augmented(images.float() / 255) - self.mean) / self.std
    x = x.contiguous(memory_format=torch.channels_last) if x.is_cuda else x
    with torch.autocast(x.device.type, torch.bfloat16, enabled=self.autocast):
      logits = self.net(x)
    loss = F.cross_entropy(logits.float(), labels)
    loss.backward()
    self.optimizer.step()
    self.optimizer.zero_grad(set_to_none=True)
    return loss
