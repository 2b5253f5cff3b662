"""The diffusion stage: the UNet and its guide, trained simultaneously in one jitted step (paper, section 3.1)."""

import dataclasses
import functools
import pathlib
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from absl import logging
from jax.sharding import Mesh
from PIL import Image

from fetal_jax import config as config_lib
from fetal_jax import networks
from fetal_jax.data import loader, prepare
from fetal_jax.data.grid import grid
from fetal_jax.diffusion.sample import image_keys, make_sample
from fetal_jax.runtime import devices
from fetal_jax.runtime.checkpoint import Checkpointer, log_resumption
from fetal_jax.runtime.errors import UserError
from fetal_jax.runtime.files import PathLike
from fetal_jax.runtime.metrics import MetricWriter
from fetal_jax.runtime.progress import duration
from fetal_jax.train import diffusion_step, initial, loop, overview
from fetal_jax.train.state import DiffusionState


def run(config: ml_collections.ConfigDict, workdir: PathLike) -> bool:
  """Trains the diffusion model on the training side of the split, or goes on where it stopped.

  Leaves `diffusion/checkpoints`, `diffusion/samples/step_*.png` and `logs/diffusion` in the workdir.

  Returns:
    Whether there was anything to do.

  Raises:
    UserError: the data is not prepared, the loss is not finite, or the checkpoint is of another config.
  """
  workdir = pathlib.Path(workdir)
  c = config.diffusion
  with Checkpointer(workdir / 'diffusion' / 'checkpoints', keep=c.keep_checkpoints) as checkpointer:
    start = checkpointer.latest_step() or 0
    if start:
      meta = checkpointer.restore_meta(start)
      _check_same(config, meta['config'], checkpointer.directory)
    if start >= c.steps:
      logging.info('diffusion: done before (%d steps).', start)
      return False

    data = prepare.load(workdir)
    num_classes = len(data.records.class_names)
    mesh = devices.make_mesh(config.mesh.data, config.mesh.fsdp)
    devices.check_batch(mesh, c.batch_size // c.microbatches, 'diffusion.batch_size')
    nets, optimizers = (
      diffusion_step.make_networks(config, num_classes),
      diffusion_step.make_optimizers(config),
    )
    process = networks.make_training_process(config)
    key = jax.random.fold_in(jax.random.key(config.seed), _STAGE_KEY)
    init = functools.partial(
      diffusion_step.init_state,
      nets=nets,
      optimizers=optimizers,
      image_shape=data.images.shape[1:],
      ema_rates=tuple(c.ema_rates),
    )
    key_init, key_train, key_held_out, key_preview = jax.random.split(key, 4)
    shapes = jax.eval_shape(init, key_init)
    sharding = devices.state_sharding(mesh, shapes)

    # The training side only: the generator and its guide never see a test image.
    source = loader.Source(data.images, data.records.labels, data.split.train)
    batches = loader.training_batches(
      [source], batch_size=c.batch_size, steps_per_call=c.steps_per_call, seed=config.seed
    )
    accounts: dict[str, Any] = {}
    resumed: dict[str, Any] = {}
    if start:
      _check_same_data(meta, data, checkpointer.directory)
      accounts, resumed = meta.get('init_from', {}), meta.get('loop', {})
      state, _ = checkpointer.restore(start, devices.placed(shapes, sharding))
      batches.set_state(meta['loader'])
      log_resumption('diffusion', start, c.steps)
    else:
      state = jax.jit(init, out_shardings=sharding)(key_init)
      if c.init_from:
        state, accounts = _start_from_files(config, nets, state, data.images.shape[1:], mesh)
    update = diffusion_step.make_update(
      nets,
      optimizers,
      process,
      key=key_train,
      microbatches=c.microbatches,
      random_flip=c.random_flip,
      ema_rates=tuple(c.ema_rates),
      ema_warmup=c.ema_warmup,
      skip_nonfinite=c.skip_nonfinite > 0,
    )
    batch_sharding = devices.batch_sharding(mesh, axis=1)
    # The state is donated: a step updates it in place. Batches are spread over all devices.
    update_jit = jax.jit(
      update,
      donate_argnums=0,
      in_shardings=(sharding, batch_sharding),
      out_shardings=(sharding, devices.replicated(mesh)),
    )
    example = {
      'images': jax.ShapeDtypeStruct((c.steps_per_call, c.batch_size, *data.images.shape[1:]), jnp.uint8),
      'labels': jax.ShapeDtypeStruct((c.steps_per_call, c.batch_size), jnp.int32),
    }
    clock = time.monotonic()
    lowered = update_jit.lower(shapes, example)
    compiled = lowered.compile()
    logging.info('diffusion: compiled in %s.', duration(time.monotonic() - clock))
    overview.log_parameters(state.params)
    overview.log_cost('diffusion', lowered, compiled, steps=c.steps_per_call, microbatches=c.microbatches)

    status = ''
    with MetricWriter(workdir / 'logs' / 'diffusion', start_step=start) as writer:

      def log(step: int, means: dict[str, float]) -> str:
        nonlocal status
        checkpointer.check()
        writer.write_scalars(step, means)
        status = _status(means)
        return status

      def save(step: int, state: DiffusionState, account: dict[str, Any]) -> None:
        checkpointer.save(
          step,
          state,
          {
            'config': config_lib.to_dict(config),
            'class_names': list(data.records.class_names),
            'split_hash': data.info['split_hash'],
            'init_from': accounts,
            'loader': batches.get_state(),
            'loop': account,
          },
        )

      actions: list[tuple[int, Callable[[int, DiffusionState], None]]] = []
      if 'guide' in nets and len(data.split.validation):
        actions.append(
          (c.eval_every, _held_out(config, nets['guide'], process, data, mesh, key_held_out, writer))
        )
      if 'unet' in nets:
        actions.append((c.preview_every, _preview(config, nets, data, mesh, key_preview, writer, workdir)))
      loop.train(
        state,
        compiled,
        devices.put_batches(mesh, batches, ('images', 'labels')),
        title='diffusion',
        start=start,
        steps=c.steps,
        steps_per_call=c.steps_per_call,
        images_per_step=c.batch_size,
        log_every=c.log_every,
        on_log=log,
        actions=actions,
        save_every=c.checkpoint_every,
        save=save,
        resumed=resumed,
        skip_nonfinite=c.skip_nonfinite,
        log_seconds=0.0,
      )
  logging.info(
    'diffusion: %s steps in %s, %s; checkpoint %s',
    f'{c.steps - start:,}',
    duration(time.monotonic() - clock),
    status,
    checkpointer.directory / str(c.steps),
  )
  return True


def _start_from_files(
  config: ml_collections.ConfigDict,
  nets: Mapping[str, Any],
  state: DiffusionState,
  image_shape: tuple[int, int, int],
  mesh: Mesh,
) -> tuple[DiffusionState, dict[str, Any]]:
  """The state with the weights of `init_from`, which are also where the averages start; and its account."""
  params, accounts = initial.diffusion_params(config, nets, devices.to_host(mesh, state.params), image_shape)
  averages = tuple(params['unet'] for _ in state.ema)
  return dataclasses.replace(
    state, params=devices.put_like(params, state.params), ema=devices.put_like(averages, state.ema)
  ), accounts


_STAGE_KEY = 1  # folded into the run's key; the sample stage folds 2, classifiers 3


def _status(means: Mapping[str, float]) -> str:
  names = {
    'unet/loss': 'loss',
    'guide/loss': 'guide loss',
    'guide/accuracy': 'guide accuracy',
    'img_per_s': 'img/s',
  }
  return ', '.join(f'{title} {means[name]:.4g}' for name, title in names.items() if name in means)


def _held_out(config, guide, process, data, mesh, key, writer) -> Callable[[int, DiffusionState], None]:
  source = loader.Source(data.images, data.records.labels, data.split.validation)
  accuracy = diffusion_step.make_held_out_accuracy(guide, process, key)
  # Rounded up to whole devices; the padding is masked.
  size = -(-min(config.diffusion.batch_size, len(source.indices)) // mesh.size) * mesh.size

  def evaluate(step: int, state: DiffusionState) -> None:
    sums = []
    for number, batch in enumerate(loader.evaluation_batches(source, batch_size=size)):
      del batch['real']
      sums.append(accuracy(state.params['guide'], devices.put_batch(mesh, batch), number))
    means = loop.average(sums)
    writer.write_scalars(step, means)
    quarters = ' '.join(
      f'{means[f"guide/heldout_accuracy_q{q}"]:.2f}' for q in range(diffusion_step.QUARTILES)
    )
    logging.info('diffusion: step %d, held-out accuracy of the guide by quarter of t: %s', step, quarters)

  return evaluate


def _preview(config, nets, data, mesh, key, writer, workdir) -> Callable[[int, DiffusionState], None]:
  c = config.diffusion
  num_classes, rows = len(data.records.class_names), c.preview_per_class
  scale = config.sample.guidance_scale if 'guide' in nets else 0.0
  sample = jax.jit(
    make_sample(
      nets['unet'],
      nets.get('guide'),
      networks.make_sampling_process(config, 'ddim', c.preview_steps),
      image_shape=data.images.shape[1:],
      method='ddim',
      guidance_scale=scale,
    ),
    out_shardings=devices.replicated(mesh),
  )
  total = num_classes * rows
  padded = -(-total // mesh.size) * mesh.size
  indices = np.arange(padded)
  labels = devices.put_batch(mesh, np.minimum(indices // rows, num_classes - 1).astype(np.int32))
  keys = image_keys(key, jnp.asarray(indices))

  def draw(step: int, state: DiffusionState) -> None:
    params = {'unet': state.ema[0], **({'guide': state.params['guide']} if scale else {})}
    images = np.asarray(sample(params, keys, labels))[:total]
    picture: Image.Image = grid(
      images.reshape(num_classes, rows, *images.shape[1:]), data.records.class_names
    )
    if jax.process_index() == 0:
      folder = pathlib.Path(workdir) / 'diffusion' / 'samples'
      folder.mkdir(parents=True, exist_ok=True)
      picture.save(folder / f'step_{step:07d}.png')
      writer.write_images(step, {'samples': np.asarray(picture.convert('RGB'))})

  return draw


def _check_same_data(meta: dict[str, Any], data: prepare.Prepared, directory: pathlib.Path) -> None:
  """A checkpoint goes on only with the classes and the split that it was trained on."""
  names = list(data.records.class_names)
  if meta['class_names'] != names:
    raise UserError(
      f'{directory}: trained on {len(meta["class_names"])} classes ({", ".join(meta["class_names"])}), the prepared '
      f'data has {len(names)} ({", ".join(names)}); use a new --workdir'
    )
  if meta['split_hash'] != data.info['split_hash']:
    raise UserError(f'{directory}: trained on another split of the data; use a new --workdir')


def _check_same(config: ml_collections.ConfigDict, old: dict[str, Any], directory: pathlib.Path) -> None:
  """A checkpoint goes on only with the settings that it was trained with."""
  now, before = (
    {k: v for k, v in config_lib.decisive(c, 'diffusion').items() if not k.startswith('data.')}
    for c in (config, config_lib.from_dict(old))
  )
  changed = [f'{k}: was {before.get(k)}, is {now[k]}' for k in now if now[k] != before.get(k)]
  if changed:
    raise UserError(f'{directory}: trained with other settings ({"; ".join(changed)}); use a new --workdir')
