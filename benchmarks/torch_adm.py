"""The ADM UNet and its half as a classifier in plain PyTorch: the peer that has the same weights.

Dhariwal & Nichol 2021, arXiv:2105.05233, appendix A. Modules are named so that the state dicts are those of
guided-diffusion's checkpoints, which `fetal_jax.convert.guided_diffusion.to_torch` writes. Only what the benchmarks
need: scale-and-shift conditioning, resampling in residual blocks, the new order of queries, keys and values, the
attention pool.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Norm(nn.GroupNorm):
  """GroupNorm of 32 groups that keeps the dtype of its input; PyTorch computes the statistics in float32."""

  def __init__(self, channels: int) -> None:
    super().__init__(math.gcd(32, channels), channels)

  def forward(self, x: Tensor) -> Tensor:
    return F.group_norm(x, self.num_groups, self.weight.to(x.dtype), self.bias.to(x.dtype), self.eps)


def resampled(x: Tensor, resample: str | None) -> Tensor:
  """Nearest neighbour to twice the size, mean of 2x2 to half of it, or as it is."""
  if resample == 'up':
    return F.interpolate(x, scale_factor=2, mode='nearest')
  return F.avg_pool2d(x, 2) if resample == 'down' else x


def attend(qkv: Tensor, heads: int) -> Tensor:
  """Self-attention of [B, 3C, N], channels laid out [q|k|v][head]."""
  b, channels, n = qkv.shape
  q, k, v = qkv.reshape(b, 3, heads, channels // 3 // heads, n).transpose(-1, -2).unbind(1)
  return F.scaled_dot_product_attention(q, k, v).transpose(-1, -2).reshape(b, channels // 3, n)


class ResBlock(nn.Module):
  """Residual block; the resampling sits between the first activation and its convolution."""

  def __init__(self, channels: int, features: int, emb: int, resample: str | None = None) -> None:
    super().__init__()
    self.resample = resample
    self.in_layers = nn.Sequential(Norm(channels), nn.SiLU(), nn.Conv2d(channels, features, 3, padding=1))
    self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(emb, 2 * features))
    self.out_layers = nn.Sequential(
      Norm(features), nn.SiLU(), nn.Identity(), nn.Conv2d(features, features, 3, padding=1)
    )
    self.skip_connection = nn.Identity() if channels == features else nn.Conv2d(channels, features, 1)

  def forward(self, x: Tensor, emb: Tensor) -> Tensor:
    norm, activation, conv = self.in_layers
    h = conv(resampled(activation(norm(x)), self.resample))
    scale, shift = self.emb_layers(emb).to(h.dtype)[:, :, None, None].chunk(2, dim=1)
    norm, activation, _, conv = self.out_layers
    h = conv(activation(norm(h) * (1 + scale) + shift))
    return self.skip_connection(resampled(x, self.resample)) + h


class AttentionBlock(nn.Module):
  """Residual self-attention over all pixels."""

  def __init__(self, channels: int, heads: int) -> None:
    super().__init__()
    self.heads = heads
    self.norm = Norm(channels)
    self.qkv = nn.Conv1d(channels, 3 * channels, 1)
    self.proj_out = nn.Conv1d(channels, channels, 1)

  def forward(self, x: Tensor) -> Tensor:
    h = attend(self.qkv(self.norm(x).flatten(2)), self.heads)
    return x + self.proj_out(h).reshape(x.shape)


class Stack(nn.ModuleList):
  """Layers one after the other; residual blocks are given the embedding too."""

  def forward(self, x: Tensor, emb: Tensor) -> Tensor:
    for layer in self:
      x = layer(x, emb) if isinstance(layer, ResBlock) else layer(x)
    return x


class AttentionPool(nn.Module):
  """Attention over the pixels and their mean, whose output counts."""

  def __init__(self, pixels: int, channels: int, heads: int, features: int) -> None:
    super().__init__()
    self.heads = heads
    self.positional_embedding = nn.Parameter(torch.randn(channels, pixels + 1) / channels**0.5)
    self.qkv_proj = nn.Conv1d(channels, 3 * channels, 1)
    self.c_proj = nn.Conv1d(channels, features, 1)

  def forward(self, x: Tensor) -> Tensor:
    tokens = x.flatten(2)
    tokens = torch.cat([tokens.mean(-1, keepdim=True), tokens], dim=-1)
    tokens = tokens + self.positional_embedding.to(tokens.dtype)
    return self.c_proj(attend(self.qkv_proj(tokens), self.heads))[:, :, 0]


class Network(nn.Module):
  """Embedding, encoder and middle: what the UNet and its half share."""

  def __init__(self, config: Mapping[str, Any]) -> None:
    super().__init__()
    self.width = config['model_channels']
    emb = 4 * self.width
    per_head = config['num_head_channels']
    self.heads = lambda channels: channels // per_head if per_head > 0 else config['num_heads']
    self.time_embed = nn.Sequential(nn.Linear(self.width, emb), nn.SiLU(), nn.Linear(emb, emb))
    channels = self.width * config['channel_mult'][0]
    self.input_blocks = nn.ModuleList([Stack([nn.Conv2d(config['in_channels'], channels, 3, padding=1)])])
    self.skip_channels = [channels]
    for level, mult in enumerate(config['channel_mult']):
      for _ in range(config['num_res_blocks']):
        layers: list[nn.Module] = [ResBlock(channels, self.width * mult, emb)]
        channels = self.width * mult
        if 2**level in config['attention_resolutions']:
          layers.append(AttentionBlock(channels, self.heads(channels)))
        self.input_blocks.append(Stack(layers))
        self.skip_channels.append(channels)
      if level < len(config['channel_mult']) - 1:
        self.input_blocks.append(Stack([ResBlock(channels, channels, emb, 'down')]))
        self.skip_channels.append(channels)
    self.middle_block = Stack(
      [
        ResBlock(channels, channels, emb),
        AttentionBlock(channels, self.heads(channels)),
        ResBlock(channels, channels, emb),
      ]
    )
    self.channels = channels

  @property
  def dtype(self) -> torch.dtype:
    """Returns the dtype of the convolutions in blocks."""
    return self.input_blocks[0][0].weight.dtype

  def embed(self, t: Tensor) -> Tensor:
    """Embeds the timestep: sinusoids, cosines first, through two layers."""
    half = self.width // 2
    frequencies = torch.exp(-math.log(10000) / half * torch.arange(half, device=t.device))
    angles = t.float()[:, None] * frequencies
    sinusoids = torch.cat([angles.cos(), angles.sin()], dim=-1)
    return self.time_embed(sinusoids.to(self.time_embed[0].weight.dtype))

  def encode(self, x: Tensor, emb: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Features after the middle, and the skips."""
    h, skips = x.to(self.dtype), []
    for block in self.input_blocks:
      h = block(h, emb)
      skips.append(h)
    return self.middle_block(h, emb), skips


class UNet(Network):
  """x, t, labels → float32 noise and variance."""

  def __init__(self, config: Mapping[str, Any]) -> None:
    super().__init__(config)
    emb, channels, skips = 4 * self.width, self.channels, list(self.skip_channels)
    self.label_emb = nn.Embedding(config['num_classes'], emb)
    self.output_blocks = nn.ModuleList()
    for level, mult in reversed(list(enumerate(config['channel_mult']))):
      for block in range(config['num_res_blocks'] + 1):
        layers: list[nn.Module] = [ResBlock(channels + skips.pop(), self.width * mult, emb)]
        channels = self.width * mult
        if 2**level in config['attention_resolutions']:
          layers.append(AttentionBlock(channels, self.heads(channels)))
        if level and block == config['num_res_blocks']:
          layers.append(ResBlock(channels, channels, emb, 'up'))
        self.output_blocks.append(Stack(layers))
    self.out = nn.Sequential(
      Norm(channels), nn.SiLU(), nn.Conv2d(channels, config['out_channels'], 3, padding=1)
    )

  def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
    emb = self.embed(t) + self.label_emb(y)
    h, skips = self.encode(x, emb)
    for block in self.output_blocks:
      h = block(torch.cat([h, skips.pop()], dim=1), emb)
    return self.out(h).float()


class HalfUNet(Network):
  """x, t → float32 logits."""

  def __init__(self, config: Mapping[str, Any]) -> None:
    super().__init__(config)
    side = config['image_size'] // 2 ** (len(config['channel_mult']) - 1)
    pool = AttentionPool(side**2, self.channels, self.heads(self.channels), config['out_channels'])
    self.out = nn.Sequential(Norm(self.channels), nn.SiLU(), pool)

  def forward(self, x: Tensor, t: Tensor) -> Tensor:
    h, _ = self.encode(x, self.embed(t))
    return self.out(h).float()
