"""The diffusion stage: the UNet and its guide, trained simultaneously in one jitted step (paper, section 3.1)."""

import dataclasses
import functools
import pathlib
import time
from collections.abc import Callable, Mapping
from typing import Any

import grain.python as grain
import jax
import jax.numpy as jnp
import ml_collections
from absl import logging
from jax.sharding import Mesh

from fetal_jax import config as config_lib
from fetal_jax import networks
from fetal_jax.data import loader, prepared
from fetal_jax.data.rounds import SamplerSettings
from fetal_jax.diffusion.sample import make_sample
from fetal_jax.runtime import devices
from fetal_jax.runtime.checkpoint import Checkpointer, log_resumption
from fetal_jax.runtime.errors import UserError
from fetal_jax.runtime.files import PathLike
from fetal_jax.runtime.keys import stage_key
from fetal_jax.runtime.metrics import MetricWriter
from fetal_jax.runtime.units import duration
from fetal_jax.train import caught_up, diffusion_actions, diffusion_step, initial, loop, overview
from fetal_jax.train.diffusion_actions import Action
from fetal_jax.train.state import DiffusionState


def run(config: ml_collections.ConfigDict, workdir: PathLike) -> bool:
  """Trains the diffusion model on the training side of the split, or resumes where it stopped.

  A run that was asked to stop before the evaluation and previews of its last step makes up for them.

  Leaves `diffusion/checkpoints`, `diffusion/samples/step_*.png` and `logs/diffusion` in the workdir.

  Returns:
    Whether there was anything to do.

  Raises:
    UserError: the data is not prepared, the loss is not finite, or the checkpoint is of another config.
  """
  workdir, diffusion = pathlib.Path(workdir), config.diffusion
  with Checkpointer(workdir / 'diffusion' / 'checkpoints', keep=diffusion.keep_checkpoints) as checkpointer:
    start = checkpointer.latest_step() or 0
    if _is_done(config, workdir, checkpointer, start):
      logging.info('diffusion: done before (%d steps).', start)
      return False

    data = prepared.load(workdir)
    # The training side only: the generator and its guide never see a test image.
    source = loader.Source(data.images, data.records.labels, data.split.train)
    batches = loader.training_batches(
      [source],
      batch_size=diffusion.batch_size,
      steps_per_call=diffusion.steps_per_call,
      seed=config.seed,
    )
    training = _build(config, data)
    begun = (
      _resume(config, workdir, training, data, checkpointer, start, batches)
      if start
      else _start(config, training)
    )
    clock = time.monotonic()
    compiled = _compile(config, training, data.images.shape[1:], start)

    logged = loop.logged_step(start, begun.account)
    with MetricWriter(workdir / 'logs' / 'diffusion', start_step=logged) as writer:
      log = _Log(checkpointer, writer)
      loop.train(
        begun.state,
        compiled,
        devices.put_batches(training.mesh, batches, ('images', 'labels')),
        loop.Schedule(
          start=start,
          steps=diffusion.steps,
          steps_per_call=diffusion.steps_per_call,
          images_per_step=diffusion.batch_size,
          log_every=diffusion.log_every,
          save_every=diffusion.checkpoint_every,
        ),
        loop.Hooks(
          log=log,
          actions=_actions(config, training, data, writer, workdir / 'diffusion' / 'samples'),
          save=functools.partial(_save, checkpointer, _about(config, data, begun), batches),
        ),
        title='diffusion',
        resumed=begun.account,
        skip_nonfinite=diffusion.skip_nonfinite,
        log_seconds=0.0,
      )
    if 'due' in begun.account and start >= diffusion.steps:
      caught_up.write(workdir, start)
  logging.info(
    'diffusion: %s steps in %s, %s; checkpoint %s',
    f'{max(0, diffusion.steps - start):,}',
    duration(time.monotonic() - clock),
    log.status,
    checkpointer.directory / str(max(start, diffusion.steps)),
  )
  return True


# MARK: Networks, first state, compilation


@dataclasses.dataclass(frozen=True)
class _Training:
  """The networks in training and the functions that train them.

  Attributes:
    mesh: the devices.
    nets: linen modules by name.
    init: makes the first state from a key; jitted.
    shapes: shapes and shardings of the state.
    update: see `diffusion_step.make_update`; jitted, the state donated.
    key_init, key_held_out, key_preview: of the first weights, of the held-out images' noise, of the previews'.
  """

  mesh: Mesh
  nets: Mapping[str, Any]
  init: Callable[[jax.Array], DiffusionState]
  shapes: DiffusionState
  update: jax.stages.Wrapped
  key_init: jax.Array
  key_held_out: jax.Array
  key_preview: jax.Array


def _build(config: ml_collections.ConfigDict, data: prepared.Prepared) -> _Training:
  """Builds the networks and their training step for the prepared data."""
  diffusion = config.diffusion
  mesh = devices.make_mesh(config.mesh.data, config.mesh.fsdp)
  each = ' / config.diffusion.microbatches' if diffusion.microbatches > 1 else ''
  devices.check_batch(mesh, diffusion.batch_size // diffusion.microbatches, f'diffusion.batch_size{each}')
  nets = networks.make_diffusion_networks(config, len(data.records.class_names))
  optimizers, rates = diffusion_step.make_optimizers(config), tuple(diffusion.ema_rates)
  key_init, key_train, key_held_out, key_preview = jax.random.split(stage_key(config.seed, 'diffusion'), 4)
  init = functools.partial(
    diffusion_step.init_state,
    nets=nets,
    optimizers=optimizers,
    image_shape=data.images.shape[1:],
    ema_rates=rates,
  )
  shapes = jax.eval_shape(init, key_init)
  sharding = devices.state_sharding(mesh, shapes)
  update = diffusion_step.make_update(
    nets,
    optimizers,
    networks.make_training_process(config),
    key=key_train,
    microbatches=diffusion.microbatches,
    random_flip=diffusion.random_flip,
    ema_rates=rates,
    ema_warmup=diffusion.ema_warmup,
    skip_nonfinite=diffusion.skip_nonfinite > 0,
  )
  return _Training(
    mesh=mesh,
    nets=nets,
    init=jax.jit(init, out_shardings=sharding),
    shapes=devices.placed(shapes, sharding),
    update=jax.jit(
      update,
      donate_argnums=0,  # a step updates the state in place
      in_shardings=(sharding, devices.batch_sharding(mesh, axis=1)),  # batches are spread over all devices
      out_shardings=(sharding, devices.replicated(mesh)),
    ),
    key_init=key_init,
    key_held_out=key_held_out,
    key_preview=key_preview,
  )


def _compile(
  config: ml_collections.ConfigDict, training: _Training, image_shape: tuple[int, int, int], start: int
) -> Callable[..., Any]:
  """Compiles the training step, if a step is to come after `start`, and logs what it costs."""
  diffusion, clock = config.diffusion, time.monotonic()
  if start >= diffusion.steps:
    return training.update
  leading = (diffusion.steps_per_call, diffusion.batch_size)
  batch = {
    'images': jax.ShapeDtypeStruct((*leading, *image_shape), jnp.uint8),
    'labels': jax.ShapeDtypeStruct(leading, jnp.int32),
  }
  lowered = training.update.lower(training.shapes, batch)
  compiled = lowered.compile()
  logging.info('diffusion: compiled in %s.', duration(time.monotonic() - clock))
  overview.log_parameters(training.shapes.params)
  overview.log_cost(
    'diffusion',
    lowered,
    compiled,
    steps=diffusion.steps_per_call,
    microbatches=diffusion.microbatches,
  )
  return compiled


# MARK: Start, resume, save


@dataclasses.dataclass(frozen=True)
class _Begun:
  """The beginning of the training: fresh, or resumed.

  Attributes:
    state: of the first step.
    init_from: by network, the file that the very first weights came from.
    account: of the loop; see `loop.train`.
  """

  state: DiffusionState
  init_from: Mapping[str, initial.LoadedFile]
  account: loop.Account


def _start(config: ml_collections.ConfigDict, training: _Training) -> _Begun:
  """Makes the first state; weights of `init_from` are also where the averages start."""
  state = training.init(training.key_init)
  if not config.diffusion.init_from:
    return _Begun(state, {}, {})
  params, loaded = initial.diffusion_params(
    config.diffusion.init_from,
    training.nets,
    devices.to_host(training.mesh, state.params),
    (config.data.image_size, config.data.image_size, config.data.channels),
    new_attention_order=config.diffusion.init_new_attention_order,
  )
  averages = tuple(params['unet'] for _ in state.ema)
  state = dataclasses.replace(
    state, params=devices.put_like(params, state.params), ema=devices.put_like(averages, state.ema)
  )
  return _Begun(state, loaded, {})


def _is_done(
  config: ml_collections.ConfigDict, workdir: pathlib.Path, checkpointer: Checkpointer, start: int
) -> bool:
  """Returns whether nothing is left to do after `start` steps; refuses a checkpoint of other settings."""
  if not start:
    return False
  meta = checkpointer.restore_meta(start)
  _check_same(config, meta['config'], checkpointer.directory)
  return start >= config.diffusion.steps and ('due' not in meta['loop'] or caught_up.has(workdir, start))


def _resume(
  config: ml_collections.ConfigDict,
  workdir: pathlib.Path,
  training: _Training,
  data: prepared.Prepared,
  checkpointer: Checkpointer,
  step: int,
  batches: grain.DatasetIterator,
) -> _Begun:
  """Reads the checkpoint of `step`, and sets `batches` to it."""
  _check_same_data(checkpointer.restore_meta(step), data, checkpointer.directory)
  state, meta = checkpointer.restore(step, training.shapes)
  batches.set_state(meta['loader'])
  log_resumption('diffusion', step, config.diffusion.steps)
  account: loop.Account = meta['loop']
  if caught_up.has(workdir, step):
    account.pop('due', None)
  caught_up.forget(workdir)
  return _Begun(state, meta['init_from'], account)


def _check_same_data(meta: Mapping[str, Any], data: prepared.Prepared, directory: pathlib.Path) -> None:
  """Refuses to resume with other classes or another split than the checkpoint was trained on."""
  names = list(data.records.class_names)
  if meta['class_names'] != names:
    raise UserError(
      f'{directory}: trained on {len(meta["class_names"])} classes ({", ".join(meta["class_names"])}), the prepared '
      f'data has {len(names)} ({", ".join(names)}); use a new --workdir'
    )
  if meta['split_hash'] != data.info.split_hash:
    raise UserError(f'{directory}: trained on another split of the data; use a new --workdir')


def _check_same(config: ml_collections.ConfigDict, old: dict[str, Any], directory: pathlib.Path) -> None:
  """Refuses to resume with other settings than the checkpoint was trained with."""
  now, before = (
    {k: v for k, v in config_lib.decisive(c, 'diffusion').items() if not k.startswith('data.')}
    for c in (config, config_lib.from_dict(old))
  )
  changed = [f'{k}: was {before.get(k)}, is {now[k]}' for k in now if now[k] != before.get(k)]
  if changed:
    raise UserError(f'{directory}: trained with other settings ({"; ".join(changed)}); use a new --workdir')


def _about(config: ml_collections.ConfigDict, data: prepared.Prepared, begun: _Begun) -> dict[str, Any]:
  """Returns what all checkpoints of this training say, as JSON."""
  return {
    'config': config_lib.to_dict(config),
    'class_names': list(data.records.class_names),
    'split_hash': data.info.split_hash,
    'init_from': begun.init_from,
  }


def _save(
  checkpointer: Checkpointer,
  about: Mapping[str, Any],
  batches: grain.DatasetIterator,
  step: int,
  state: DiffusionState,
  account: loop.Account,
) -> None:
  """Writes a checkpoint with everything that `_resume` needs."""
  checkpointer.save(step, state, {**about, 'loader': batches.get_state(), 'loop': account})


# MARK: Logs, held-out images, previews


class _Log:
  """The log of the training; `status` is the last one in a few words."""

  def __init__(self, checkpointer: Checkpointer, writer: MetricWriter) -> None:
    self._checkpointer, self._writer = checkpointer, writer
    self.status = ''

  def __call__(self, step: int, means: dict[str, float]) -> str:
    """Writes means, and returns the most important ones in a few words."""
    self._checkpointer.check()
    self._writer.write_scalars(step, means)
    titles = {
      'unet/loss': 'loss',
      'guide/loss': 'guide loss',
      'guide/accuracy': 'guide accuracy',
      'img_per_s': 'img/s',
    }
    self.status = ', '.join(f'{title} {means[name]:.4g}' for name, title in titles.items() if name in means)
    return self.status


def _actions(
  config: ml_collections.ConfigDict,
  training: _Training,
  data: prepared.Prepared,
  writer: MetricWriter,
  folder: pathlib.Path,
) -> list[tuple[int, Action]]:
  """Returns the actions of this training: held-out accuracy of the guide, previews of the UNet."""
  diffusion, nets, mesh = config.diffusion, training.nets, training.mesh
  actions = []
  if 'guide' in nets and not len(data.split.validation):
    # Not on test images either: whatever looks at them before the test could be used to choose.
    logging.info(
      'diffusion: no image is held out (classify.protocol=paper): the accuracy of the guide is that in training.'
    )
  elif 'guide' in nets:
    process = networks.make_training_process(config)
    action = diffusion_actions.held_out_accuracy(
      diffusion_step.make_held_out_accuracy(nets['guide'], process, training.key_held_out),
      loader.Source(data.images, data.records.labels, data.split.validation),
      mesh,
      writer,
      batch_size=diffusion.batch_size,
    )
    actions.append((diffusion.eval_every, action))
  if 'unet' in nets:
    # As the sample stage draws, so that a preview shows what the data set would be.
    asked = SamplerSettings.asked(config.sample, has_guide='guide' in nets)
    sample = make_sample(
      nets['unet'],
      nets.get('guide'),
      networks.make_sampling_process(config, asked.method, asked.steps),
      image_shape=data.images.shape[1:],
      **asked.arguments(),
    )
    action = diffusion_actions.preview(
      sample,
      data.records.class_names,
      mesh,
      training.key_preview,
      writer,
      folder,
      per_class=diffusion.preview_per_class,
      guided=asked.guidance_scale > 0,
    )
    actions.append((diffusion.preview_every, action))
  return actions
