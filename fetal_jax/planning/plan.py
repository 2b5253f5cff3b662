"""The plan stage: time, memory and disk of a run, before anything is spent. Prints; writes nothing."""

import dataclasses

import ml_collections

from fetal_jax.planning import machines, page
from fetal_jax.planning.images import Images, find
from fetal_jax.planning.machines import Device
from fetal_jax.planning.stages import Stages
from fetal_jax.planning.stages import make as make_stages
from fetal_jax.runtime import devices, files


@dataclasses.dataclass(frozen=True)
class Column:
  """What the run costs on a machine.

  Attributes:
    device: the machine.
    seconds: of every row of `Stages.works`, compilation included.
    activations: bytes of every row of `Stages.memories`, on each of its devices.
  """

  device: Device
  seconds: tuple[float, ...]
  activations: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class Plan:
  """What `run` prints: columns are this machine and then others."""

  config: ml_collections.ConfigDict
  images: Images
  stages: Stages
  columns: tuple[Column, ...]


def run(config: ml_collections.ConfigDict, workdir: files.PathLike | None = None) -> bool:
  """Prints the plan of a run.

  Args:
    config: of the run.
    workdir: looked into for the number of images, and otherwise left alone; may not exist.

  Returns:
    False: there is nothing that a later stage could use.

  Raises:
    UserError: the source of the images is not as it must be.
  """
  print(page.text(make(config, workdir)))
  return False


def make(config: ml_collections.ConfigDict, workdir: files.PathLike | None = None) -> Plan:
  """Works out the plan, for this machine and for `machines.COLUMNS`."""
  images = find(config, workdir)
  stages = make_stages(config, images)
  here = str(devices.compute_dtype(config.dtype))
  # On accelerators `auto` is bfloat16, whatever it is here.
  elsewhere = 'bfloat16' if config.dtype == 'auto' else here
  columns = [machines.here(here), *(machines.published(name, elsewhere) for name in machines.COLUMNS)]
  return Plan(config, images, stages, tuple(_column(stages, machine) for machine in columns))


def _column(stages: Stages, device: Device) -> Column:
  cores = machines.cpu_cores()
  return Column(
    device,
    tuple(
      device.seconds(work.cost(wide=device.wide))
      + work.core_seconds / cores
      + work.host_seconds
      + work.compiled * machines.COMPILE_SECONDS
      for work in stages.works
    ),
    tuple(
      memory.activations(fused=device.fused, wide=device.wide) / device.count for memory in stages.memories
    ),
  )
