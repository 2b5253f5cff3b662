"""The plan stage: time, memory and disk of a run, before anything is spent. Prints; writes nothing."""

import ml_collections

from fetal_jax.data import splits
from fetal_jax.planning import images as images_lib
from fetal_jax.planning import machines, page
from fetal_jax.planning import stages as stages_lib
from fetal_jax.planning.machines import Device
from fetal_jax.planning.page import Column, Plan
from fetal_jax.planning.stages import Stages
from fetal_jax.runtime import devices, files


def run(config: ml_collections.ConfigDict, workdir: files.PathLike | None = None) -> bool:
  """Prints the plan of a run.

  Args:
    config: of the run.
    workdir: says how many images there are, if they are prepared; nothing is written there, and it may be missing.

  Returns:
    False: no later stage has anything to use.

  Raises:
    UserError: the source of the images is not as it must be.
  """
  print(page.text(make(config, workdir)))
  return False


def make(config: ml_collections.ConfigDict, workdir: files.PathLike | None = None) -> Plan:
  """Works out the plan, for this machine and for `machines.COLUMNS`."""
  data = config.data
  images = images_lib.find(
    workdir,
    source=data.source,
    path=data.path,
    split=data.split,
    seed=config.seed,
    test_fraction=data.test_fraction,
    phantom_images=data.phantom_images,
    validation=splits.has_validation(config.classify.protocol),
  )
  stages = stages_lib.make(config, images)
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
