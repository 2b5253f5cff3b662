"""The sample stage: draws the label plan round by round and stores it as TFDS data sets.

Processes do not talk to each other while they draw: each draws the shards it owns on its own devices. They meet
before a round, when the first process has taken stock of its folder, and after it, to finish it.
"""

import contextlib
import functools
import pathlib
import time
from collections.abc import Callable
from typing import Any

import jax
import ml_collections
import msgspec
import numpy as np
from absl import logging
from jaxtyping import Int

from fetal_jax import config as config_lib
from fetal_jax.data import prepared, rounds
from fetal_jax.data.rounds import CheckpointMark, SamplerSettings
from fetal_jax.data.rounds.own import model_hash
from fetal_jax.data.rounds.plan import Plan
from fetal_jax.data.rounds.writer import RoundWriter
from fetal_jax.runtime import devices, hosts
from fetal_jax.runtime.errors import UserError
from fetal_jax.runtime.files import PathLike
from fetal_jax.runtime.progress import Progress
from fetal_jax.runtime.units import duration
from fetal_jax.sample.busy import BusyClock
from fetal_jax.sample.sampler import Sampler
from fetal_jax.sample.trained import Description, describe, load_trained


def run(config: ml_collections.ConfigDict, workdir: PathLike) -> bool:
  """Draws `config.sample.rounds` rounds of `per_class` images a class, or what is missing of them.

  Leaves `synthetic/round_<r>/`: a TFDS data set (array_record), manifest.json and preview.png.

  Returns:
    Whether there was anything to do.

  Raises:
    UserError: the diffusion model is not trained to its end, or not by this run; or a round was drawn with other
      settings.
  """
  about = describe(workdir)
  check_own(config, workdir, about)
  if about.step < config.diffusion.steps:
    raise UserError(
      f'{workdir}: the diffusion model is at step {about.step} of {config.diffusion.steps}; '
      'run --stage=diffusion to its end first'
    )

  @functools.cache  # the weights are read once, and only where there is something to draw
  def sampler() -> Sampler:
    return Sampler(load_trained(workdir, mesh=devices.make_local_mesh(config.mesh.fsdp)))

  drawn = [
    _draw_round(config, about, sampler, number, rounds.folder_of(workdir, number))
    for number in range(1, config.sample.rounds + 1)
  ]
  return any(drawn)


def check_own(config: ml_collections.ConfigDict, workdir: PathLike, about: Description) -> None:
  """Refuses a diffusion model of another split or of other settings than this run's: a copy from elsewhere.

  Args:
    config: of the run.
    workdir: of the run; where it has no prepared data any more, only the settings are compared.
    about: the model.

  Raises:
    UserError: it names what differs.
  """
  there, asked = (config_lib.decisive(one, 'diffusion') for one in (about.config, config))
  differs = [*config_lib.differences(there, asked).values()]
  with contextlib.suppress(FileNotFoundError):
    info = prepared.read_info(workdir)
    if (about.split_hash, about.class_names) != (info.split_hash, info.class_names):
      differs.insert(0, 'another split of the data')
  if differs:
    raise UserError(
      f'{about.folder}: not trained by this run ({"; ".join(differs[:5])}); put its own checkpoints back, or use a new '
      '--workdir'
    )


def _draw_round(
  config: ml_collections.ConfigDict,
  about: Description,
  sampler: Callable[[], Sampler],
  number: int,
  folder: pathlib.Path,
) -> bool:
  """Draws what is missing of one round; returns whether anything was."""
  plan = Plan(number, about.class_names, config.sample.per_class, shard_size=config.sample.shard_size)
  settings = SamplerSettings.asked(config.sample, has_guide=about.has_guide)
  open_writer = functools.partial(
    RoundWriter,
    folder,
    plan,
    seed=config.seed,
    checkpoint=CheckpointMark(
      step=about.step, ema_rate=about.config.diffusion.ema_rates[0], split_hash=about.split_hash
    ),
    config_hash=model_hash(about.config, about.split_hash),
    sampler=settings,
    image_size=config.data.image_size,
    channels=config.data.channels,
    share=(jax.process_index(), jax.process_count()),
  )
  with hosts.first_host_first(open_writer) as writer:
    if writer.complete:
      logging.info('sample: round %d done before (%d images).', number, plan.num_images)
      return False
    with hosts.together():
      if missing := len(writer.missing()):
        counts = number, missing, len(writer.own())
        logging.info('sample: round %d, %d of %d images to draw, %s', *counts, _in_words(settings))
        _draw_missing(sampler(), writer, settings, seed=config.seed, batch_size=config.sample.batch_size)
      writer.close()
    hosts.on_one_host(writer.finish)
  return True


def _draw_missing(
  sampler: Sampler, writer: RoundWriter, settings: SamplerSettings, *, seed: int, batch_size: int
) -> None:
  """Draws what this process's share lacks, with smaller batches where the device's memory turns out too small.

  Args:
    sampler: of the trained model.
    writer: of the round.
    settings: of the sampler.
    seed: of the run.
    batch_size: images a dispatch; 0 finds one that fills the device.
  """
  keywords = msgspec.structs.asdict(settings)
  # As many images as the whole round has for a process: a resumed run must find the same batch size.
  share = -(-writer.plan.num_images // jax.process_count())
  batch_size = batch_size or sampler.find_batch_size(share, **keywords)
  while True:
    batch_size = sampler.whole_devices(batch_size)
    try:
      _draw_in_batches(sampler, writer, batch_size, seed=seed, keywords=keywords)
      return
    except jax.errors.JaxRuntimeError as error:
      if 'RESOURCE_EXHAUSTED' not in str(error):
        raise
      if batch_size == sampler.whole_devices(1):
        raise UserError(
          'the memory of the device is too small to draw one image at a time: use a device with more, or '
          'spread the weights over several with --config.mesh.fsdp'
        ) from error
      logging.warning(
        'sample: the device ran out of memory with %d images a dispatch: half of it.', batch_size
      )
      batch_size //= 2


def _draw_in_batches(
  sampler: Sampler, writer: RoundWriter, batch_size: int, *, seed: int, keywords: dict[str, Any]
) -> None:
  """Draws a batch ahead of what is stored: the device computes while the host copies, encodes and writes."""
  missing = np.zeros(writer.plan.num_images, bool)
  missing[writer.missing()] = True
  todo = _whole_batches(writer.own(), missing, batch_size)
  total, done, number = int(missing[todo].sum()), 0, writer.plan.round
  sampler.compiled(batch_size, **keywords)
  begun = time.monotonic()
  with BusyClock() as clock, Progress(f'sample round {number}', total, 'images') as progress:
    previous: tuple[Int[np.ndarray, ' b'], jax.Array] | None = None
    batches = sampler.batches(
      writer.plan.labels()[todo], indices=todo, batch_size=batch_size, seed=seed, round=number, **keywords
    )
    for start in range(0, len(todo), batch_size):
      dispatched = time.monotonic()
      count, images = next(batches)
      clock.watch(images, since=dispatched)
      images.copy_to_host_async()
      if previous is not None:
        done += _hand_over(writer, missing, *previous)
        progress.update(done, f'{done / (time.monotonic() - begun):.3g} img/s')
      previous = todo[start : start + count], images
    if previous is not None:
      done += _hand_over(writer, missing, *previous)
  writer.close()
  seconds = time.monotonic() - begun
  logging.info(
    'sample: round %d, %d images in %s (%.3g img/s, device busy %.1f %% of the time).',
    number,
    done,
    duration(seconds),
    done / seconds,
    100 * clock.busy / seconds,
  )


def _whole_batches(own: Int[np.ndarray, ' n'], missing: np.ndarray, batch_size: int) -> Int[np.ndarray, ' m']:
  """Returns the images of `own` in whole batches, without the batches that lack nothing.

  Batches begin where those of an undisturbed run do, so that an image is always in the same place of the same
  batch: kernels may round another place differently.
  """
  batches = [own[start : start + batch_size] for start in range(0, len(own), batch_size)]
  return np.concatenate([batch for batch in batches if missing[batch].any()])


def _hand_over(
  writer: RoundWriter, missing: np.ndarray, indices: Int[np.ndarray, ' b'], images: jax.Array
) -> int:
  """Gives the writer the images of a batch that are missing; returns how many."""
  jax.block_until_ready(images)  # the device has the next batch already: waiting costs nothing
  rows = np.flatnonzero(missing[indices])
  for run in np.split(rows, np.flatnonzero((np.diff(rows) != 1) | (np.diff(indices[rows]) != 1)) + 1):
    writer.put(indices[run[0]], _Rows(images, int(run[0]), int(run[-1]) + 1))
  return len(rows)


class _Rows:
  """Some rows of a batch, as an array that is copied from the device by the thread that reads it."""

  def __init__(self, images: jax.Array, start: int, stop: int) -> None:
    self._images, self._rows = images, slice(start, stop)
    self.dtype, self.shape = images.dtype, (stop - start, *images.shape[1:])

  def __len__(self) -> int:
    return self.shape[0]

  def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
    return np.asarray(self._images)[self._rows]


def _in_words(settings: SamplerSettings) -> str:
  values = msgspec.structs.asdict(settings).items()
  return ', '.join(f'{name} {value}' for name, value in values if value not in (None, 0.0))
