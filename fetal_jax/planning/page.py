"""A plan, and its text for a terminal."""

import dataclasses
import math
import textwrap
from collections.abc import Sequence

import ml_collections

from fetal_jax.planning import machines
from fetal_jax.planning.images import Images
from fetal_jax.planning.machines import Device
from fetal_jax.planning.stages import Memory, Stages
from fetal_jax.runtime.units import duration, size

WIDTH = 110
# The share of a device's memory that programs can fill: fragmentation takes the rest.
_FILL = 0.9


@dataclasses.dataclass(frozen=True)
class Column:
  """Cost of a run on one machine.

  Attributes:
    device: the machine.
    seconds: time of every row of `Stages.works`, compilation included.
    activations: bytes of every row of `Stages.memories`, on each of its devices.
  """

  device: Device
  seconds: tuple[float, ...]
  activations: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class Plan:
  """Cost of a run: the first column is this machine, the others are published devices."""

  config: ml_collections.ConfigDict
  images: Images
  stages: Stages
  columns: tuple[Column, ...]


def text(plan: Plan) -> str:
  """Returns the whole page."""
  config, images = plan.config, plan.images
  held_out = f'{images.validation:,} validation' if images.validation else 'none for validation'
  side, channels = config.data.image_size, config.data.channels
  return '\n'.join(
    [
      f'Plan of {config.name}: {images.total:,} images ({config.data.source}, {images.origin}) of {images.classes} classes at '
      f'{side} x {side} x {channels}:',
      f'{images.train:,} train, {held_out}, {images.test:,} test.',
      '',
      *_parameters(plan),
      '',
      *_time(plan),
      '',
      *_memory(plan),
      '',
      *_disk(plan),
      '',
      *_assumptions(plan),
    ]
  )


def _parameters(plan: Plan) -> list[str]:
  parameters = [f'{name} {number(count)}' for name, count in plan.stages.parameters.items()]
  return textwrap.wrap(f'Parameters: {", ".join(parameters)}.', WIDTH)


def _time(plan: Plan) -> list[str]:
  header = ('time', '', 'FLOPs', *(column.device.name for column in plan.columns))
  flops = [work.cost().flops for work in plan.stages.works]
  rows = [
    (work.stage, work.what, number(flops[i]), *(duration(column.seconds[i]) for column in plan.columns))
    for i, work in enumerate(plan.stages.works)
  ]
  total = ('all', '', number(sum(flops)), *(duration(sum(column.seconds)) for column in plan.columns))
  return table([header, *rows, total], left=2)


def _memory(plan: Plan) -> list[str]:
  names = [column.device.name.split(' x ')[-1] for column in plan.columns]
  sizes = [f', {size(column.device.memory)}' if column.device.memory else '' for column in plan.columns]
  rows: list[tuple[str, ...]] = [('memory of a device', 'state', *map(str.__add__, names, sizes))]
  advice = []
  for i, memory in enumerate(plan.stages.memories):
    cells = []
    for column in plan.columns:
      # The mesh of the config is that of this machine, so only here are weights spread over devices.
      state = memory.state / (plan.config.mesh.fsdp if column is plan.columns[0] else 1)
      room = _FILL * (column.device.memory or math.inf) - state
      fits = column.activations[i] <= room
      cells.append(f'{"" if fits else "! "}{size(state + column.activations[i])}')
      if not fits:
        advice.append(
          f'! {memory.what} on {column.device.name}: '
          f'{_remedy(memory, column.activations[i], room, column.device.count)}'
        )
    rows.append((f'{memory.what}, batch {memory.batch}', size(memory.state), *cells))
  return [*table(rows, left=1), *advice]


def _remedy(memory: Memory, activations: float, room: float, devices: int) -> str:
  """Returns the setting with which it fits: of each part, every device computes the same number of images."""
  if memory.what == 'diffusion':
    whole = activations * memory.parts
    for parts in range(memory.parts + 1, memory.batch + 1):
      if memory.batch % (parts * devices) == 0 and whole / parts <= room:
        return f'--config.diffusion.microbatches={parts}, or fewer with --config.diffusion.remat=true'
    return '--config.diffusion.remat=true, and more devices with --config.mesh.fsdp'
  if memory.what == 'sample':
    return '--config.sample.batch_size=0 finds a batch that fits'
  return 'a smaller --config.classify.batch_size'


def _disk(plan: Plan) -> list[str]:
  disk = plan.stages.disk
  what = {
    'data': 'the source, and its images as training reads them',
    'diffusion': f'{plan.config.diffusion.keep_checkpoints} checkpoints, and one that is being written',
    'synthetic': 'PNGs',
    'classify': 'the selected weights of every run',
  }
  rows = [(name, what[name], size(count)) for name, count in disk.items()]
  return table([('disk', '', ''), *rows, ('all', '', size(sum(disk.values())))], left=2)


def _assumptions(plan: Plan) -> list[str]:
  here = plan.columns[0].device
  compiling = sum(work.compiled for work in plan.stages.works) * machines.COMPILE_SECONDS
  accelerators = f'{machines.REACH:.0%} of the published peak, the bandwidth of the memory, {1e6 * machines.LAUNCH:g} µs an operation'
  measured = (
    f'here {here.flops * here.count / 1e12:.3g} TFLOP/s, as a matrix product has just reached, '
    f'{here.bandwidth * here.count / 1e9:.3g} GB/s, {1e6 * here.launch:g} µs'
  )
  words = (
    'Estimates from shapes: nothing was compiled, no step was run, nothing was written. FLOPs are those of '
    'convolutions and matrix products, two a multiply-add. Time is FLOPs, bytes that operations write, and '
    f'operations, one after the other: {accelerators}{"" if here.fused else f"; {measured}"}. It includes '
    f'compiling, about {duration(compiling)}, which happens once. Expect half to twice as much, and downloads on '
    'top; `make bench` measures a machine. Of the memory, state (weights, optimiser, averages) is exact, and '
    'the rest, activations, may be a quarter of it or twice as much.'
  )
  return textwrap.wrap(words, WIDTH)


def number(value: float) -> str:
  """Formats a count, for example `105 M` or `3.1 E`; `-` for 0."""
  for power, letter in ((18, 'E'), (15, 'P'), (12, 'T'), (9, 'G'), (6, 'M'), (3, 'k')):
    if value >= 10**power:
      return f'{value / 10**power:.3g} {letter}'
  return f'{value:.3g}' if value else '-'


def table(rows: Sequence[Sequence[str]], left: int) -> list[str]:
  """Returns lines of aligned columns, the first `left` of them to the left, a rule under the header."""
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  lines = [
    '  '.join(
      cell.ljust(width) if i < left else cell.rjust(width)
      for i, (cell, width) in enumerate(zip(row, widths, strict=True))
    ).rstrip()
    for row in rows
  ]
  return [lines[0], '-' * (sum(widths) + 2 * (len(widths) - 1)), *lines[1:]]
