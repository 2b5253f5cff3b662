"""PyTorch in a process of its own: reads one JSON command a line, answers with one line. `benchmarks.peer` asks.

Every command names what it works on; `build_*` makes it, `time` runs it, `check` gives its numbers, `forget` frees it.
On a GPU: channels last and bfloat16, which is where PyTorch is fastest; on a CPU its defaults.
"""

import gc
import importlib
import json
import os
import pathlib
import sys
import tempfile
import time
from collections.abc import Mapping
from importlib import metadata
from typing import Any

import numpy as np


class Server:
  """Networks that have been built, by name."""

  def __init__(self) -> None:
    import torch

    self.torch = torch
    torch.set_num_threads(
      len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()
    )
    self.on_gpu = torch.cuda.is_available()
    self.device = torch.device('cuda' if self.on_gpu else 'cpu')
    torch.backends.cudnn.benchmark = True
    self.built: dict[str, Any] = {}
    self.runs: dict[str, Any] = {}
    self.folder = tempfile.TemporaryDirectory(prefix='benchmarks_torch_')

  def hello(self) -> dict[str, Any]:
    """Versions of what is installed."""
    found = {}
    for package in ('torch', 'torchvision', 'diffusers'):
      try:
        found[package] = metadata.version(package)
      except metadata.PackageNotFoundError:
        continue
    return {'versions': found, 'threads': self.torch.get_num_threads()}

  def build_step(
    self,
    name: str,
    library: str,
    unet: Mapping[str, Any],
    guide: Mapping[str, Any],
    arrays: str,
    scale: float,
    compiled: bool,
    channels_last: bool,
  ) -> dict[str, Any]:
    """Builds a guided step with our own weights ('adm') or with the UNet of `diffusers`."""
    from benchmarks import torch_diffusion

    weights, tables, data = self._load(arrays)
    nets = [self._network('diffusers_unet' if library == 'diffusers' else 'unet', unet, weights)]
    nets.append(self._network('guide', guide, weights))
    layout = self.torch.channels_last if channels_last else self.torch.contiguous_format
    dtype = self.torch.bfloat16 if self.on_gpu else self.torch.float32
    nets = [net.to(self.device, dtype, memory_format=layout) for net in nets]
    guided = torch_diffusion.Guided(*nets, tables, data['labels'], scale, compiled=compiled)
    x, i = data['x'].contiguous(memory_format=layout), int(data['i'])
    self.built[name] = (guided, x, i, data['noise'])
    self.runs[name] = lambda: guided.step(x, i, self.torch.randn_like(x))[0]
    return {'parameters': [sum(p.numel() for p in net.parameters()) for net in nets]}

  def check(self, name: str) -> dict[str, Any]:
    """x_{t-1}, the UNet's output and the guide's gradient, channels last."""
    guided, x, i, noise = self.built[name]
    after, output, gradient = guided.step(x, i, noise)
    path = pathlib.Path(self.folder.name) / 'from_peer.npz'
    values = {'x': after, 'output': output, 'gradient': gradient}
    np.savez(path, **{k: v.detach().float().permute(0, 2, 3, 1).cpu().numpy() for k, v in values.items()})
    return {'arrays': str(path)}

  def build_training(
    self,
    name: str,
    unet: Mapping[str, Any],
    guide: Mapping[str, Any],
    arrays: str,
    settings: Mapping[str, Any],
  ) -> dict[str, Any]:
    """Builds the joint training step; answers with the losses of given timesteps and noise, and their gradients' norms."""
    from benchmarks import torch_diffusion

    weights, tables, data = self._load(arrays)
    nets = {kind: self._network(kind, config, weights) for kind, config in (('unet', unet), ('guide', guide))}
    layout = self.torch.channels_last if self.on_gpu else self.torch.contiguous_format
    nets = {kind: net.to(self.device, memory_format=layout) for kind, net in nets.items()}
    training = torch_diffusion.Training(**nets, tables=tables, settings=settings, autocast=self.on_gpu)
    t = dict.fromkeys(nets, data['t'])
    noise = dict.fromkeys(nets, data['noise'])
    losses = training.losses(data['x'], data['labels'], t, noise)
    sum(losses.values()).backward()
    norms = {
      kind: float(self.torch.nn.utils.clip_grad_norm_(net.parameters(), float('inf')))
      for kind, net in nets.items()
    }
    for net in nets.values():
      net.zero_grad(set_to_none=True)
    self.runs[name] = lambda: training.step(data['images'], data['labels'])
    return {'losses': {kind: loss.item() for kind, loss in losses.items()}, 'norms': norms}

  def build_classifier(
    self, name: str, classes: int, side: int, batch: int, mean: float, std: float, degrees: float
  ) -> dict[str, Any]:
    """Builds a classifier's training step on noise."""
    from benchmarks import torch_classifiers

    net = torch_classifiers.create(name, classes, side)
    if self.on_gpu:
      net = net.to(self.device, memory_format=self.torch.channels_last)
    training = torch_classifiers.Training(net, autocast=self.on_gpu, mean=mean, std=std, degrees=degrees)
    images = self.torch.randint(0, 256, (batch, 1, side, side), dtype=self.torch.uint8, device=self.device)
    labels = self.torch.arange(batch, device=self.device) % classes
    self.runs[name] = lambda: training.step(images, labels)
    return {'library': 'torchvision', 'parameters': sum(p.numel() for p in net.parameters())}

  def time(self, name: str, calls: int) -> dict[str, Any]:
    """Wall seconds a call."""
    self._wait()
    clock = time.perf_counter()
    for _ in range(calls):
      self.runs[name]()
    self._wait()
    return {'seconds': (time.perf_counter() - clock) / calls}

  def forget(self, name: str) -> dict[str, Any]:
    """Frees it."""
    self.built.pop(name, None)
    self.runs.pop(name, None)
    gc.collect()
    if self.on_gpu:
      self.torch.cuda.empty_cache()
    return {}

  def _wait(self) -> None:
    if self.on_gpu:
      self.torch.cuda.synchronize()

  def _load(self, path: str) -> tuple[dict[str, dict[str, Any]], dict[str, Any], dict[str, Any]]:
    """Weights by network, tables, and everything else, images channels first."""
    weights: dict[str, dict[str, Any]] = {'unet': {}, 'guide': {}}
    tables: dict[str, Any] = {}
    data: dict[str, Any] = {}
    with np.load(path) as file:
      for key in file:
        tensor = self.torch.from_numpy(file[key])
        kind, _, rest = key.partition('/')
        if kind in weights:
          weights[kind][rest] = tensor
        elif kind == 'tables':
          tables[rest] = tensor.to(self.device)
        else:
          tensor = tensor.permute(0, 3, 1, 2).contiguous() if tensor.ndim == 4 else tensor
          data[key] = tensor.to(self.device)
    return weights, tables, data

  def _network(self, kind: str, config: Mapping[str, Any], weights: Mapping[str, Any]) -> Any:
    from benchmarks import torch_adm

    if kind == 'diffusers_unet':
      return importlib.import_module('benchmarks.torch_diffusers').create(config)
    net = {'unet': torch_adm.UNet, 'guide': torch_adm.HalfUNet}[kind](config)
    net.load_state_dict(weights[kind])
    return net


def main() -> None:
  # Libraries print to stdout; the answers have it for themselves.
  answers = os.fdopen(os.dup(1), 'w')
  os.dup2(2, 1)
  server: Server | None = None
  for line in sys.stdin:
    request = json.loads(line)
    try:
      server = server or Server()
      reply = getattr(server, request.pop('command'))(**request)
    except Exception as error:
      lines = str(error).strip().splitlines() or ['']
      reply = {'error': f'{type(error).__name__}: {lines[0][:200]}'}
    print(json.dumps(reply), file=answers, flush=True)


if __name__ == '__main__':
  main()
