"""Does the host's memory stay flat over a long round? Draws 2,000 images of smoke size and compares image 500.

    python -m benchmarks.host_memory

Prints the resident memory at image 500 and at image 2,000, which must be within 5 %, and how busy the device was.
The weights are random: what is measured does not depend on them.
"""

import functools
import logging as python_logging
import os
import pathlib
import sys
import tempfile

import jax
from absl import logging

from fetal_jax import config as config_lib
from fetal_jax import networks
from fetal_jax.runtime import progress
from fetal_jax.runtime.checkpoint import Checkpointer
from fetal_jax.sample import stage as sample_stage
from fetal_jax.train import diffusion_step

PER_CLASS = 334  # 2,004 images of six classes
CLASS_NAMES = ('abdomen', 'brain', 'femur', 'thorax', 'cervix', 'other')
EARLY, LIMIT = 500, 0.05


def resident_mib() -> float:
  """Memory of this process that is in RAM; Linux only."""
  pages = int(pathlib.Path('/proc/self/statm').read_text().split()[1])
  return pages * os.sysconf('SC_PAGE_SIZE') / 2**20


def write_checkpoint(folder: pathlib.Path, config) -> None:
  """Makes a diffusion model with random weights, as the diffusion stage would leave it."""
  size = config.data.image_size
  state = diffusion_step.init_state(
    jax.random.key(0),
    networks.make_diffusion_networks(config, len(CLASS_NAMES)),
    diffusion_step.make_optimizers(config),
    image_shape=(size, size, config.data.channels),
    ema_rates=tuple(config.diffusion.ema_rates),
  )
  meta = {'config': config_lib.to_dict(config), 'class_names': CLASS_NAMES, 'split_hash': 'none'}
  with Checkpointer(folder / 'diffusion' / 'checkpoints') as checkpointer:
    checkpointer.save(config.diffusion.steps, state, meta)


class Recorder(progress.Progress):
  """Progress that notes the memory whenever images are handed over to be written."""

  seen: list[tuple[int, float]]  # (images, MiB), of all instances

  @functools.wraps(progress.Progress.update)
  def update(self, done: int, note: str = '', **values: float) -> None:
    self.seen.append((done, resident_mib()))
    super().update(done, note, **values)


def main() -> int:
  """Returns 1 where the memory grew by more than it may."""
  handler = python_logging.StreamHandler(sys.stderr)
  handler.addFilter(lambda record: record.pathname.endswith(('sample/stage.py', 'runtime/progress.py')))
  python_logging.basicConfig(level=python_logging.INFO, handlers=[handler], format='%(message)s', force=True)
  logging.set_verbosity(logging.INFO)
  config = config_lib.load_file(str(pathlib.Path(__file__).parent.parent / 'configs' / 'smoke.py'))
  config.sample.update(rounds=1, per_class=PER_CLASS, shard_size=100)
  Recorder.seen = []
  sample_stage.Progress = Recorder  # type: ignore[misc]
  with tempfile.TemporaryDirectory() as folder:
    write_checkpoint(pathlib.Path(folder), config)
    sample_stage.run(config, folder)
  early = next(entry for entry in Recorder.seen if entry[0] >= EARLY)
  late = Recorder.seen[-1]
  growth = late[1] / early[1] - 1
  print(f'image {early[0]}: {early[1]:.0f} MiB, image {late[0]}: {late[1]:.0f} MiB ({growth:+.1%})')
  return int(growth > LIMIT)


if __name__ == '__main__':
  sys.exit(main())
