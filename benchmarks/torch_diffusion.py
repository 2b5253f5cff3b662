"""Guided sampling and training of the diffusion model in plain PyTorch, as `fetal_jax` does them."""

import copy
import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Tables = Mapping[str, Tensor]  # float32 [K], of the process


def at(table: Tensor, t: Tensor) -> Tensor:
  """Returns a table's values for a batch of indices, [B, 1, 1, 1]."""
  return table[t][:, None, None, None]


def read(tables: Tables, output: Tensor, x_t: Tensor, t: Tensor, *, clip: bool) -> tuple[Tensor, Tensor]:
  """Returns mean and log variance of p(x_{t-1} | x_t) from the network's noise and variance."""
  eps, v = output.chunk(2, dim=1)
  x_0 = at(tables['x0_of_x'], t) * x_t - at(tables['x0_of_eps'], t) * eps
  x_0 = x_0.clamp(-1, 1) if clip else x_0
  mean = at(tables['mean_of_x0'], t) * x_0 + at(tables['mean_of_x'], t) * x_t
  low, high = at(tables['posterior_log_variance'], t), at(tables['log_beta'], t)
  return mean, low + (v + 1) / 2 * (high - low)


class Guided:
  """One guided ancestral step (arXiv:2105.05233, algorithm 1)."""

  def __init__(
    self, unet: nn.Module, guide: nn.Module, tables: Tables, labels: Tensor, scale: float, *, compiled: bool
  ) -> None:
    self.unet, self.guide = unet.eval().requires_grad_(False), guide.eval().requires_grad_(False)
    if compiled:
      self.unet, self.guide = torch.compile(self.unet), torch.compile(self.guide)
    self.tables, self.labels, self.scale = tables, labels, scale

  def gradient(self, x: Tensor, t: Tensor) -> Tensor:
    """Returns the gradient of log p(y | x_t) with respect to x_t."""
    x = x.detach().requires_grad_(True)
    log_likelihood = -F.cross_entropy(self.guide(x, t), self.labels, reduction='sum')
    return torch.autograd.grad(log_likelihood, x)[0]

  def step(self, x: Tensor, i: int, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns x_{t-1}, and the network's output and gradient that it comes from."""
    index = torch.full((len(x),), i, device=x.device)
    t = self.tables['timesteps'][index]
    with torch.no_grad():
      output = self.unet(x, t, self.labels)
    gradient = self.gradient(x, t)
    mean, log_variance = read(self.tables, output, x, index, clip=True)
    mean = mean + log_variance.exp() * self.scale * gradient
    return (mean + (0.5 * log_variance).exp() * noise if i else mean), output, gradient


def hybrid_loss(tables: Tables, output: Tensor, x_0: Tensor, x_t: Tensor, t: Tensor, noise: Tensor) -> Tensor:
  """Computes Improved DDPM, equation 16: squared error of the noise, plus the bound's term in bits for the variance."""
  eps, v = output.chunk(2, dim=1)
  true_mean = at(tables['mean_of_x0'], t) * x_0 + at(tables['mean_of_x'], t) * x_t
  true_log = at(tables['posterior_log_variance'], t)
  mean, log_variance = read(tables, torch.cat([eps.detach(), v], dim=1), x_t, t, clip=False)
  kl = 0.5 * (
    log_variance - true_log - 1 + (true_log - log_variance).exp()
    + (true_mean - mean) ** 2 * (-log_variance).exp()
  )  # fmt: skip
  cdf = lambda z: 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)))  # noqa: E731
  upper = cdf((x_0 - mean + 1 / 255) * (-0.5 * log_variance).exp())
  lower = cdf((x_0 - mean - 1 / 255) * (-0.5 * log_variance).exp())
  probability = torch.where(x_0 < -0.999, upper, torch.where(x_0 > 0.999, 1 - lower, upper - lower))
  nll = -probability.clamp(min=1e-12).log()
  bound = torch.where((t == 0)[:, None, None, None], nll, kl).mean((1, 2, 3)) / math.log(2)
  return ((noise - eps) ** 2).mean((1, 2, 3)) + bound


class Training:
  """The joint training step: both networks, AdamW after clipping, warm-up, an average of the UNet's weights."""

  def __init__(
    self, unet: nn.Module, guide: nn.Module, tables: Tables, settings: Mapping[str, Any], *, autocast: bool
  ) -> None:
    self.nets = {'unet': unet.train(), 'guide': guide.train()}
    self.tables, self.settings, self.autocast = tables, settings, autocast
    self.average = copy.deepcopy(unet).requires_grad_(False)
    self.optimizers = {
      name: torch.optim.AdamW(
        net.parameters(), lr=1e-8, weight_decay=settings[f'{name}_weight_decay'], fused=True
      )
      for name, net in self.nets.items()
    }
    self.done = 0

  def losses(self, x_0: Tensor, labels: Tensor, t: Mapping[str, Tensor], noise: Mapping[str, Tensor]) -> Any:
    """Mean loss of each network."""
    x_t = {
      name: at(self.tables['x_of_x0'], t[name]) * x_0 + at(self.tables['x_of_eps'], t[name]) * noise[name]
      for name in self.nets
    }
    with torch.autocast(x_0.device.type, torch.bfloat16, enabled=self.autocast):
      output = self.nets['unet'](x_t['unet'], t['unet'], labels)
      logits = self.nets['guide'](x_t['guide'], t['guide'])
    unet = hybrid_loss(self.tables, output, x_0, x_t['unet'], t['unet'], noise['unet']).mean()
    return {'unet': unet, 'guide': F.cross_entropy(logits, labels)}

  def step(self, images: Tensor, labels: Tensor) -> Tensor:
    """One optimiser step of both networks on uint8 [B, C, H, W]."""
    x_0 = images.float() / 127.5 - 1
    flip = torch.rand(len(x_0), 1, 1, 1, device=x_0.device) < 0.5
    x_0 = torch.where(flip, x_0.flip(-1), x_0)
    count = len(self.tables['timesteps'])
    t = {name: torch.randint(0, count, labels.shape, device=labels.device) for name in self.nets}
    noise = {name: torch.randn_like(x_0) for name in self.nets}
    total = sum(self.losses(x_0, labels, t, noise).values())
    total.backward()
    self.done += 1
    for name, net in self.nets.items():
      torch.nn.utils.clip_grad_norm_(net.parameters(), self.settings['grad_clip'])
      for group in self.optimizers[name].param_groups:
        group['lr'] = self.settings[f'{name}_lr'] * min(1, self.done / self.settings['warmup_steps'])
      self.optimizers[name].step()
      self.optimizers[name].zero_grad(set_to_none=True)
    rate = min(self.settings['ema_rate'], (1 + self.done) / (10 + self.done))
    torch._foreach_lerp_(
      list(self.average.parameters()), [p.detach() for p in self.nets['unet'].parameters()], 1 - rate
    )
    return total
