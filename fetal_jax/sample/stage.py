"""The sample stage: draws the label plan round by round and stores it as TFDS data sets.

Sampling needs no word between processes: each draws the shards it owns on its own devices. They meet only
before a round, when the first process has taken stock of its directory, and after it, to finish it.
"""

import functools
import pathlib
import time
from collections.abc import Callable
from typing import Any

import jax
import ml_collections
import numpy as np
from absl import logging

from fetal_jax import config as config_lib
from fetal_jax.data.rounds.plan import Plan
from fetal_jax.data.rounds.writer import RoundStore
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
    UserError: the diffusion model is not trained to its end, or a round was drawn with other settings.
  """
  workdir, c = pathlib.Path(workdir), config.sample
  about = describe(workdir)
  if about.step < config.diffusion.steps:
    raise UserError(
      f'{workdir}: the diffusion model is at step {about.step} of {config.diffusion.steps}; '
      'run --stage=diffusion to its end first'
    )

  @functools.cache  # the weights are read once, and only where there is something to draw
  def sampler() -> Sampler:
    return Sampler(load_trained(workdir, mesh=devices.make_local_mesh(config.mesh.fsdp)))

  folders = {r: workdir / 'synthetic' / f'round_{r}' for r in range(1, c.rounds + 1)}
  drawn = [_draw_round(config, about, sampler, number, folder) for number, folder in folders.items()]
  return any(drawn)


def sampler_settings(config: ml_collections.ConfigDict, *, has_guide: bool) -> dict[str, Any]:
  """What decides an image beside its key, for the manifest."""
  c = config.sample
  return {
    'method': c.method,
    'steps': c.steps,
    'guidance_scale': c.guidance_scale if has_guide else 0.0,
    'interval': tuple(c.guidance_interval) or None,
    'guidance_at': c.guidance_at,
    'eta': c.eta,
    'clip': None if c.clip == 'none' else c.clip,
  }


def _draw_round(
  config: ml_collections.ConfigDict,
  about: Description,
  sampler: Callable[[], Sampler],
  number: int,
  folder: pathlib.Path,
) -> bool:
  """Draws what is missing of one round; whether anything was."""
  c = config.sample
  plan = Plan(number, about.class_names, c.per_class, shard_size=c.shard_size)
  settings = sampler_settings(config, has_guide=about.has_guide)
  open_store = functools.partial(
    RoundStore,
    folder,
    plan,
    seed=config.seed,
    checkpoint={
      'step': about.step,
      'ema_rate': about.config.diffusion.ema_rates[0],
      'split_hash': about.split_hash,
    },
    config_hash=config_lib.config_hash(about.config.diffusion, about.split_hash, about.config.seed),
    sampler=settings,
    image_size=config.data.image_size,
    channels=config.data.channels,
    share=(jax.process_index(), jax.process_count()),
  )
  with hosts.first_host_first(open_store) as store:
    if store.complete:
      logging.info('sample: round %d done before (%d images).', number, plan.num_images)
      return False
    with hosts.together():
      if missing := len(store.missing()):
        logging.info(
          'sample: round %d, %d of %d images to draw, %s',
          number,
          missing,
          len(store.own()),
          _describe(settings),
        )
        _draw_missing(config, sampler(), store, settings)
      store.close()
    hosts.on_one_host(store.finish)
  return True


def _draw_missing(
  config: ml_collections.ConfigDict, sampler: Sampler, store: RoundStore, settings: dict[str, Any]
) -> None:
  """Draws what this process's share lacks, with smaller batches where the device's memory turns out too small."""
  devices, plan = sampler.trained.mesh.size, store.plan
  # As many images as the whole round has for a process: a resumed run must find the same batch size.
  batch_size = config.sample.batch_size or sampler.find_batch_size(
    -(-plan.num_images // jax.process_count()), **settings
  )
  while True:
    batch_size = -(-batch_size // devices) * devices
    try:
      _draw_in_batches(sampler, store, batch_size, seed=config.seed, settings=settings)
      return
    except jax.errors.JaxRuntimeError as error:
      if 'RESOURCE_EXHAUSTED' not in str(error):
        raise
      if batch_size == devices:
        raise UserError(
          'the memory of the device is too small to draw one image at a time: use a device with more, or '
          'spread the weights over several with --config.mesh.fsdp'
        ) from error
      logging.warning(
        'sample: the device ran out of memory with %d images a dispatch: half of it.', batch_size
      )
      batch_size //= 2


def _draw_in_batches(
  sampler: Sampler, store: RoundStore, batch_size: int, *, seed: int, settings: dict[str, Any]
) -> None:
  """Draws, a batch ahead of what is stored: the device computes while the host copies, encodes and writes."""
  own, number = store.own(), store.plan.round
  missing = np.zeros(store.plan.num_images, bool)
  missing[store.missing()] = True
  # Batches begin where those of an undisturbed run do, so that an image is always in the same place of the
  # same batch: kernels may round another place differently.
  starts = [
    start for start in range(0, len(own), batch_size) if missing[own[start : start + batch_size]].any()
  ]
  todo = np.concatenate([own[start : start + batch_size] for start in starts])
  total, done = int(missing[todo].sum()), 0
  sampler.compiled(batch_size, **settings)
  begun = time.monotonic()
  with BusyClock() as clock, Progress(f'sample round {number}', total, 'images') as progress:

    def hand_over(indices: np.ndarray, images: jax.Array) -> int:
      jax.block_until_ready(images)  # the device has the next batch already: waiting costs nothing
      rows = np.flatnonzero(missing[indices])
      for run in np.split(rows, np.flatnonzero((np.diff(rows) != 1) | (np.diff(indices[rows]) != 1)) + 1):
        store.put(indices[run[0]], _Rows(images, int(run[0]), int(run[-1]) + 1))
      return len(rows)

    previous: tuple[np.ndarray, jax.Array] | None = None
    batches = sampler.batches(
      store.plan.labels()[todo], indices=todo, batch_size=batch_size, seed=seed, round=number, **settings
    )
    for start in range(0, len(todo), batch_size):
      dispatched = time.monotonic()
      count, images = next(batches)
      clock.watch(images, since=dispatched)
      images.copy_to_host_async()
      if previous is not None:
        done += hand_over(*previous)
        progress.update(done, f'{done / (time.monotonic() - begun):.3g} img/s')
      previous = todo[start : start + count], images
    if previous is not None:
      done += hand_over(*previous)
  store.close()
  seconds = time.monotonic() - begun
  logging.info(
    'sample: round %d, %d images in %s (%.3g img/s, device busy %.1f %% of the time).',
    number,
    done,
    duration(seconds),
    done / seconds,
    100 * clock.busy / seconds,
  )


class _Rows:
  """Some rows of a batch, as an array that is copied from the device by the thread that wants it."""

  def __init__(self, images: jax.Array, start: int, stop: int) -> None:
    self._images, self._rows = images, slice(start, stop)
    self.dtype, self.shape = images.dtype, (stop - start, *images.shape[1:])

  def __len__(self) -> int:
    return self.shape[0]

  def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
    return np.asarray(self._images)[self._rows]


def _describe(settings: dict[str, Any]) -> str:
  return ', '.join(f'{name} {value}' for name, value in settings.items() if value not in (None, 0.0))
