"""The sample stage: draws the label plan round by round and stores it as TFDS data sets."""

import pathlib
import time
from typing import Any

import jax
import ml_collections
import numpy as np
from absl import logging

from fetal_jax import config as config_lib
from fetal_jax.errors import UserError
from fetal_jax.files import PathLike
from fetal_jax.progress import Progress, duration
from fetal_jax.synthesis.api import Sampler
from fetal_jax.synthesis.plan import Plan
from fetal_jax.synthesis.store import RoundStore, is_complete
from fetal_jax.synthesis.trained import Trained, load_trained


def run(config: ml_collections.ConfigDict, workdir: PathLike) -> bool:
  """Draws `config.sample.rounds` rounds of `per_class` images a class, or what is missing of them.

  Leaves `synthetic/round_<r>/`: a TFDS data set (array_record), manifest.json and preview.png.

  Returns:
    Whether there was anything to do.

  Raises:
    UserError: the diffusion model is not trained to its end, or a round was drawn with other settings.
  """
  workdir, c = pathlib.Path(workdir), config.sample
  folders = {r: workdir / 'synthetic' / f'round_{r}' for r in range(1, c.rounds + 1)}
  trained = load_trained(workdir)
  if trained.step < config.diffusion.steps:
    raise UserError(
      f'{workdir}: the diffusion model is at step {trained.step} of {config.diffusion.steps}; '
      'run --stage=diffusion to its end first'
    )
  sampler = Sampler(trained)
  drawn = [_draw_round(config, sampler, number, folder) for number, folder in folders.items()]
  return any(drawn)


def sampler_settings(config: ml_collections.ConfigDict, trained: Trained) -> dict[str, Any]:
  """What decides an image beside its key, for the manifest."""
  c = config.sample
  return {
    'method': c.method,
    'steps': c.steps,
    'guidance_scale': c.guidance_scale if trained.guide is not None else 0.0,
    'interval': tuple(c.guidance_interval) or None,
    'guidance_at': c.guidance_at,
    'eta': c.eta,
    'clip': None if c.clip == 'none' else c.clip,
  }


def _draw_round(
  config: ml_collections.ConfigDict, sampler: Sampler, number: int, folder: pathlib.Path
) -> bool:
  """Draws what is missing of one round; whether anything was."""
  c, trained = config.sample, sampler.trained
  plan = Plan(number, trained.class_names, c.per_class, shard_size=c.shard_size)
  settings = sampler_settings(config, trained)
  complete = is_complete(folder)
  with RoundStore(
    folder,
    plan,
    seed=config.seed,
    checkpoint={'step': trained.step, 'ema_rate': trained.config.diffusion.ema_rates[0]},
    config_hash=config_lib.config_hash(trained.config.diffusion, trained.split_hash, trained.config.seed),
    sampler=settings,
    image_size=config.data.image_size,
    channels=config.data.channels,
  ) as store:
    missing = store.missing()
    if complete and not len(missing):
      logging.info('sample: round %d done before (%d images).', number, plan.num_images)
      return False
    logging.info(
      'sample: round %d, %d of %d images to draw, %s',
      number,
      len(missing),
      plan.num_images,
      _describe(settings),
    )
    clock, done, previous = time.monotonic(), 0, None
    with Progress(f'sample round {number}', len(missing), 'images') as progress:
      batches = sampler.batches(
        plan.labels()[missing],
        indices=missing,
        batch_size=c.batch_size,
        seed=config.seed,
        round=number,
        **settings,
      )
      for count, images in batches:
        indices = missing[done : done + count]
        consecutive = np.split(np.arange(count), np.flatnonzero(np.diff(indices) != 1) + 1)
        if len(consecutive) == 1 and count == len(images):
          store.put(
            indices[0], images
          )  # still on the device: the writer's thread waits for it, this one does not
        else:
          host = np.asarray(images)
          for rows in consecutive:
            store.put(indices[rows[0]], host[rows])
        if previous is not None:  # the device has the next batch already: waiting costs nothing
          jax.block_until_ready(previous)
          progress.update(done, f'{done / (time.monotonic() - clock):.3g} img/s')
        previous, done = images, done + count
    store.finish()
  seconds = time.monotonic() - clock
  logging.info(
    'sample: round %d, %d images in %s (%.3g img/s).', number, done, duration(seconds), done / seconds
  )
  return True


def _describe(settings: dict[str, Any]) -> str:
  return ', '.join(f'{name} {value}' for name, value in settings.items() if value not in (None, 0.0))
