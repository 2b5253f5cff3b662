"""Sizes of the measurements: sizes for a CPU, for an accelerator, and tiny ones that only show that it runs."""

import dataclasses

import ml_collections

from benchmarks import ROOT
from fetal_jax import config as config_lib

CLASSES = 6


@dataclasses.dataclass(frozen=True)
class Sizes:
  """Sizes of all parts.

  Attributes:
    networks: names of `diffusion_config`, the most important one first.
    batches: images a guided step, swept in the part `sampling`.
    batch: images a guided step beside the peers.
    training_batch: images a training step; on a GPU both libraries' states and activations must fit.
    method_batch: images a batch when samplers are compared; None for the best of the sweep.
    scanned_steps: length of the reverse process that is timed.
    steps_per_call: optimiser steps a dispatch.
    rounds: interleaved rounds.
    calls: dispatches a measurement.
    classifiers: image side, batch sizes, and whether in their full size.
    scans: batch (four directions x images), channels, states, lengths of the selective scan.
    matmul: sides of the square matrices.
    convolutions: (batch, side, channels) of the 3x3 convolutions.
    dtypes: of the peaks.
    compile_peers: whether PyTorch is also measured with `torch.compile`, which takes minutes.
  """

  networks: tuple[str, ...]
  batches: tuple[int, ...]
  batch: int
  training_batch: int
  method_batch: int | None
  scanned_steps: int
  steps_per_call: int
  rounds: int
  calls: int
  classifier_side: int
  classifier_batches: tuple[int, ...]
  small_classifiers: bool
  scan_batch: int
  scan_channels: int
  scan_states: int
  scan_lengths: tuple[int, ...]
  matmul: tuple[int, ...]
  convolutions: tuple[tuple[int, int, int], ...]
  dtypes: tuple[str, ...]
  compile_peers: bool = True


CPU = Sizes(
  networks=('cpu64',),
  batches=(8,),
  batch=8,
  training_batch=8,
  method_batch=8,
  scanned_steps=10,
  steps_per_call=4,
  rounds=7,
  calls=1,
  classifier_side=128,
  classifier_batches=(8,),
  small_classifiers=False,
  scan_batch=8,
  scan_channels=96,
  scan_states=16,
  scan_lengths=(256, 1024, 4096),
  matmul=(1024, 2048, 4096),
  convolutions=((8, 64, 64), (8, 32, 128), (8, 16, 192), (8, 8, 256)),
  dtypes=('float32',),
)
ACCELERATOR = Sizes(
  networks=('w256', 'w128'),
  batches=(16, 32, 64, 128, 256, 512),
  batch=64,
  training_batch=32,
  method_batch=None,
  scanned_steps=10,
  steps_per_call=10,
  rounds=7,
  calls=5,
  classifier_side=128,
  classifier_batches=(32, 256),
  small_classifiers=False,
  scan_batch=128,
  scan_channels=96,
  scan_states=16,
  scan_lengths=(256, 1024, 4096),
  matmul=(4096, 8192, 16384),
  convolutions=((64, 128, 256), (64, 64, 256), (64, 32, 512), (64, 16, 768)),
  dtypes=('bfloat16', 'float32'),
)
QUICK = Sizes(
  networks=('quick',),
  batches=(2, 4),
  batch=2,
  training_batch=2,
  method_batch=2,
  scanned_steps=2,
  steps_per_call=2,
  rounds=2,
  calls=1,
  classifier_side=32,
  classifier_batches=(2,),
  small_classifiers=True,
  scan_batch=2,
  scan_channels=4,
  scan_states=2,
  scan_lengths=(100,),
  matmul=(128,),
  convolutions=((2, 8, 16),),
  dtypes=('float32',),
  compile_peers=False,
)


def choose(backend: str, *, quick: bool) -> Sizes:
  """Returns the sizes for a JAX backend."""
  if quick:
    return QUICK
  return CPU if backend == 'cpu' else ACCELERATOR


def diffusion_config(name: str) -> ml_collections.ConfigDict:
  """The networks under test.

  `w128`, `w256`: `configs/paper.py`, 128 px. `cpu64`: what two CPU cores can do, 64 px grey, four levels with one
  residual block, attention at 16 and 8 px, 64 channels in the UNet and 32 in the guide. `quick`: as small as
  guided-diffusion's weights can be laid out.
  """
  if name in ('w128', 'w256'):
    return config_lib.load_file(f'{ROOT / "configs" / "paper.py"}:{name}')
  config = config_lib.default_config()
  config.name = name
  side, mult, attention = (64, (1, 2, 3, 4), (16, 8)) if name == 'cpu64' else (16, (1, 2), (8,))
  config.data.image_size = side
  for network, width in ((config.diffusion.unet, 64), (config.diffusion.guide, 32)):
    network.update(width=width, channel_mult=mult, num_res_blocks=1, attention_resolutions=attention)
  config.diffusion.guide.num_head_channels = 32
  return config
