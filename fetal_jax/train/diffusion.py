"""The diffusion stage: the UNet and its guide, trained simultaneously in one jitted step (paper, section 3.1)."""

import functools
import pathlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
from absl import logging
from jax.sharding import Mesh
from PIL import Image

from fetal_jax import config as config_lib
from fetal_jax import parallel
from fetal_jax.data import loader, prepare
from fetal_jax.diffusion import gaussian
from fetal_jax.diffusion.schedule import Process
from fetal_jax.errors import UserError
from fetal_jax.files import PathLike
from fetal_jax.grid import grid
from fetal_jax.progress import duration
from fetal_jax.synthesis.sampling import image_keys, make_sample, to_float
from fetal_jax.train import ema, loop, networks, overview
from fetal_jax.train.checkpoint import Checkpointer, log_resumption
from fetal_jax.train.state import DiffusionState
from fetal_jax.train.writers import MetricWriter

QUARTILES = 4
Networks = Mapping[str, Any]  # linen modules 'unet' and 'guide', those that are trained


def make_optimizer(
  learning_rate: float, weight_decay: float, warmup_steps: int, grad_clip: float
) -> optax.GradientTransformation:
  """AdamW with a linear warm-up after clipping by the global norm."""
  schedule = optax.linear_schedule(0.0, learning_rate, warmup_steps) if warmup_steps else learning_rate
  return optax.chain(optax.clip_by_global_norm(grad_clip), optax.adamw(schedule, weight_decay=weight_decay))


def make_optimizers(config: ml_collections.ConfigDict) -> dict[str, optax.GradientTransformation]:
  """One optimiser a network, by the config's rates."""
  c = config.diffusion
  return {
    'unet': make_optimizer(c.learning_rate, c.weight_decay, c.warmup_steps, c.grad_clip),
    'guide': make_optimizer(c.guide_learning_rate, c.guide_weight_decay, c.warmup_steps, c.grad_clip),
  }


def make_networks(config: ml_collections.ConfigDict, num_classes: int) -> dict[str, Any]:
  """The networks that `config.diffusion.train` names."""
  nets = {'unet': networks.make_unet(config, num_classes), 'guide': networks.make_guide(config, num_classes)}
  return nets if config.diffusion.train == 'both' else {config.diffusion.train: nets[config.diffusion.train]}


def init_state(
  key: jax.Array,
  nets: Networks,
  optimizers: Mapping[str, optax.GradientTransformation],
  *,
  image_shape: tuple[int, int, int],
  ema_rates: tuple[float, ...],
) -> DiffusionState:
  """Fresh parameters, optimisers and averages; pure, for `jax.jit` or `jax.eval_shape`."""
  x, t = jnp.zeros((1, *image_shape)), jnp.zeros((1,), jnp.int32)
  inputs = {'unet': (x, t, t), 'guide': (x, t)}
  params = {
    name: net.init(jax.random.fold_in(key, number), *inputs[name])['params']
    for number, (name, net) in enumerate(sorted(nets.items()))
  }
  return DiffusionState(
    step=jnp.zeros((), jnp.int32),
    params=params,
    opt_state={name: optimizers[name].init(params[name]) for name in params},
    ema=tuple(params['unet'] for _ in ema_rates) if 'unet' in params else (),
  )


def loss_fns(nets: Networks, process: Process) -> dict[str, Callable[..., Any]]:
  """The training loss of each network: `loss(params, x_0, labels, t, noise, key) -> (mean loss, sums)`.

  `unet`: the hybrid loss of Improved DDPM (Nichol & Dhariwal 2021, eq. 16), noise MSE plus the variational
  bound of the learned variance. `guide`: cross-entropy on x_t (Dhariwal & Nichol 2021, section 4).
  """

  def unet_loss(params, x_0, labels, t, noise, key):
    net = nets['unet']
    x_t = gaussian.q_sample(process, x_0, t, noise)
    output = net.apply({'params': params}, x_t, t, labels, train=True, rngs={'dropout': key})
    losses = gaussian.training_losses(process, output, x_0, x_t, t, noise)
    sums = {f'unet/{name}': _by_quartile(value, t, len(process.betas)) for name, value in losses.items()}
    return losses['loss'].mean(), sums

  def guide_loss(params, x_0, labels, t, noise, key):
    x_t = gaussian.q_sample(process, x_0, t, noise)
    logits = nets['guide'].apply({'params': params}, x_t, t, train=True, rngs={'dropout': key})
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    correct = (logits.argmax(-1) == labels).astype(jnp.float32)
    sums = {'guide/loss': losses, 'guide/accuracy': correct}
    return losses.mean(), {k: _by_quartile(v, t, len(process.betas)) for k, v in sums.items()}

  return {'unet': unet_loss, 'guide': guide_loss}


def _by_quartile(values: jax.Array, t: jax.Array, timesteps: int) -> tuple[jax.Array, jax.Array]:
  """(sums [4], counts [4]) of per-example values over the quarters of t."""
  quartile = t * QUARTILES // timesteps
  one_hot = jax.nn.one_hot(quartile, QUARTILES, dtype=jnp.float32)
  return values @ one_hot, one_hot.sum(0)


def make_update(
  nets: Networks,
  optimizers: Mapping[str, optax.GradientTransformation],
  process: Process,
  *,
  key: jax.Array,
  microbatches: int,
  random_flip: bool,
  ema_rates: tuple[float, ...],
  ema_warmup: bool,
) -> Callable[[DiffusionState, Any], tuple[DiffusionState, Any]]:
  """Builds `update(state, batch) -> (state, sums)`: K optimiser steps of every network.

  The batch holds `images` uint8 [K, B, H, W, C] and `labels` int32 [K, B]. Each network draws its own t and
  noise; all randomness is folded from `key` and the step, so a resumed run draws the same.
  """
  losses = loss_fns(nets, process)

  def gradients(name: str, params: Any, x_0: jax.Array, labels: jax.Array, key: jax.Array) -> Any:
    key_t, key_noise, key_dropout = jax.random.split(key, 3)
    t = jax.random.randint(key_t, labels.shape, 0, len(process.betas))
    noise = jax.random.normal(key_noise, x_0.shape)
    value_and_grad = jax.value_and_grad(losses[name], has_aux=True)
    if microbatches == 1:
      (_, sums), grads = value_and_grad(params, x_0, labels, t, noise, key_dropout)
      return sums, grads
    # Everything random was drawn for the whole batch, so the parts make up the same step.
    parts = jax.tree.map(lambda a: a.reshape(microbatches, -1, *a.shape[1:]), (x_0, labels, t, noise))

    def accumulate(total, part):
      index, (x_0, labels, t, noise) = part
      (_, sums), grads = value_and_grad(params, x_0, labels, t, noise, jax.random.fold_in(key_dropout, index))
      return jax.tree.map(jnp.add, total, grads), sums

    zeros = jax.tree.map(jnp.zeros_like, params)
    total, sums = jax.lax.scan(accumulate, zeros, (jnp.arange(microbatches), parts))
    return jax.tree.map(lambda s: s.sum(0), sums), jax.tree.map(lambda g: g / microbatches, total)

  def one_step(state: DiffusionState, batch: Any) -> tuple[DiffusionState, Any]:
    key_step = jax.random.fold_in(key, state.step)
    x_0, labels = to_float(batch['images']), batch['labels']
    if random_flip:
      flip = jax.random.bernoulli(jax.random.fold_in(key_step, 0), 0.5, labels.shape)
      x_0 = jnp.where(flip[:, None, None, None], x_0[:, :, ::-1], x_0)
    params: dict[str, Any] = {}
    opt_state: dict[str, Any] = {}
    all_sums: dict[str, Any] = {}
    for number, name in enumerate(sorted(nets), start=1):
      sums, grads = gradients(name, state.params[name], x_0, labels, jax.random.fold_in(key_step, number))
      updates, opt_state[name] = optimizers[name].update(grads, state.opt_state[name], state.params[name])
      params[name] = optax.apply_updates(state.params[name], updates)
      all_sums |= _named(sums) | {f'grad_norm/{name}': (optax.tree.norm(grads), jnp.ones(()))}
    averages = (
      tuple(
        ema.update(average, params['unet'], ema.decay(state.step, rate, warmup=ema_warmup))
        for average, rate in zip(state.ema, ema_rates, strict=True)
      )
      if 'unet' in nets
      else ()
    )
    return DiffusionState(step=state.step + 1, params=params, opt_state=opt_state, ema=averages), all_sums

  def update(state: DiffusionState, batch: Any) -> tuple[DiffusionState, Any]:
    if batch['labels'].shape[0] == 1:  # a loop of one is dearer than none on the CPU
      return one_step(state, jax.tree.map(lambda a: a[0], batch))
    return jax.lax.scan(one_step, state, batch)

  return update


def _named(sums: Mapping[str, tuple[jax.Array, jax.Array]]) -> dict[str, tuple[jax.Array, jax.Array]]:
  """Adds the quarters of t under names of their own: `_q0` holds the least noisy."""
  named = dict(sums)
  for name, (total, count) in sums.items():
    named |= {f'{name}_q{q}': (total[q], count[q]) for q in range(QUARTILES)}
  return named


def make_held_out_accuracy(guide: Any, process: Process, key: jax.Array) -> Callable[..., Any]:
  """Builds `accuracy(params, batch, number) -> sums` of the guide on held-out images, each at four noise levels.

  The levels and the noise are the same at every call, so that curves over training compare like with like.
  """

  @jax.jit
  def accuracy(params: Any, batch: Any, number: jax.Array) -> Any:
    x_0, labels, mask = to_float(batch['images']), batch['labels'], batch['mask'].astype(jnp.float32)
    width = len(process.betas) // QUARTILES
    sums: dict[str, Any] = {}
    for quartile in range(QUARTILES):
      key_t, key_noise = jax.random.split(jax.random.fold_in(jax.random.fold_in(key, number), quartile))
      t = quartile * width + jax.random.randint(key_t, labels.shape, 0, width)
      x_t = gaussian.q_sample(process, x_0, t, jax.random.normal(key_noise, x_0.shape))
      correct = (guide.apply({'params': params}, x_t, t).argmax(-1) == labels) * mask
      sums[f'guide/heldout_accuracy_q{quartile}'] = (correct.sum(), mask.sum())
    sums['guide/heldout_accuracy'] = tuple(map(sum, zip(*sums.values(), strict=True)))
    return sums

  return accuracy


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
      _check_same(config, checkpointer.restore_meta(start)['config'], checkpointer.directory)
    if start >= c.steps:
      logging.info('diffusion: done before (%d steps).', start)
      return False

    data = prepare.load(workdir)
    num_classes = len(data.records.class_names)
    mesh = parallel.make_mesh(config.mesh.data, config.mesh.fsdp)
    parallel.check_batch(mesh, c.batch_size // c.microbatches, 'diffusion.batch_size')
    nets, optimizers = make_networks(config, num_classes), make_optimizers(config)
    process = networks.make_training_process(config)
    key = jax.random.fold_in(jax.random.key(config.seed), _STAGE_KEY)
    init = functools.partial(
      init_state,
      nets=nets,
      optimizers=optimizers,
      image_shape=data.images.shape[1:],
      ema_rates=tuple(c.ema_rates),
    )
    key_init, key_train, key_held_out, key_preview = jax.random.split(key, 4)
    shapes = jax.eval_shape(init, key_init)
    sharding = parallel.state_sharding(mesh, shapes)

    # The training side only: the generator and its guide never see a test image.
    source = loader.Source(data.images, data.records.labels, data.split.train)
    batches = loader.training_batches(
      [source], batch_size=c.batch_size, steps_per_call=c.steps_per_call, seed=config.seed
    )
    if start:
      like = jax.tree.map(lambda s, d: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=d), shapes, sharding)
      state, meta = checkpointer.restore(start, like)
      batches.set_state(meta['loader'])
      log_resumption('diffusion', start, c.steps)
    else:
      state = jax.jit(init, out_shardings=sharding)(key_init)

    update = make_update(
      nets,
      optimizers,
      process,
      key=key_train,
      microbatches=c.microbatches,
      random_flip=c.random_flip,
      ema_rates=tuple(c.ema_rates),
      ema_warmup=c.ema_warmup,
    )
    batch_sharding = parallel.batch_sharding(mesh, axis=1)
    # The state is donated: a step updates it in place. Batches are spread over all devices.
    update_jit = jax.jit(
      update,
      donate_argnums=0,
      in_shardings=(sharding, batch_sharding),
      out_shardings=(sharding, parallel.replicated(mesh)),
    )
    example = {
      'images': jax.ShapeDtypeStruct((c.steps_per_call, c.batch_size, *data.images.shape[1:]), jnp.uint8),
      'labels': jax.ShapeDtypeStruct((c.steps_per_call, c.batch_size), jnp.int32),
    }
    clock = time.monotonic()
    compiled = update_jit.lower(shapes, example).compile()
    logging.info('diffusion: compiled in %s.', duration(time.monotonic() - clock))
    overview.log_parameters(state.params)
    overview.log_cost(
      'diffusion', update, shapes, example, compiled, steps=c.steps_per_call, microbatches=c.microbatches
    )

    with MetricWriter(workdir / 'logs' / 'diffusion', start_step=start) as writer:

      def log(step: int, means: dict[str, float]) -> str:
        writer.write_scalars(step, means)
        logging.info('diffusion: step %d of %d, %s', step, c.steps, _status(means))
        return _status(means)

      def save(step: int, state: DiffusionState) -> None:
        checkpointer.save(
          step,
          state,
          {
            'config': config_lib.to_dict(config),
            'class_names': list(data.records.class_names),
            'split_hash': data.info['split_hash'],
            'loader': batches.get_state(),
          },
        )

      actions: list[tuple[int, Callable[[int, DiffusionState], None]]] = []
      if 'guide' in nets and len(data.split.validation):
        actions.append(
          (c.eval_every, _held_out(config, nets['guide'], process, data, mesh, key_held_out, writer))
        )
      if 'unet' in nets:
        actions.append((c.preview_every, _preview(config, nets, data, mesh, key_preview, writer, workdir)))
      actions.append((c.checkpoint_every, save))
      loop.train(
        state,
        compiled,
        _on_mesh(batches, mesh),
        title='diffusion',
        start=start,
        steps=c.steps,
        steps_per_call=c.steps_per_call,
        images_per_step=c.batch_size,
        log_every=c.log_every,
        on_log=log,
        actions=actions,
        log_lines=False,
      )
  return True


_STAGE_KEY = 1  # folded into the run's key; the sample stage folds 2, classifiers 3


def _on_mesh(batches: Iterator[dict[str, np.ndarray]], mesh: Mesh) -> Iterator[Any]:
  for batch in batches:
    yield parallel.put_batch(mesh, {name: batch[name] for name in ('images', 'labels')}, axis=1)


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
  accuracy = make_held_out_accuracy(guide, process, key)
  # Rounded up to whole devices; the padding is masked.
  size = -(-min(config.diffusion.batch_size, len(source.indices)) // mesh.size) * mesh.size

  def evaluate(step: int, state: DiffusionState) -> None:
    sums = []
    for number, batch in enumerate(loader.evaluation_batches(source, batch_size=size)):
      del batch['real']
      sums.append(accuracy(state.params['guide'], parallel.put_batch(mesh, batch), number))
    means = loop.average(sums)
    writer.write_scalars(step, means)
    quarters = ' '.join(f'{means[f"guide/heldout_accuracy_q{q}"]:.2f}' for q in range(QUARTILES))
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
    out_shardings=parallel.replicated(mesh),
  )
  total = num_classes * rows
  padded = -(-total // mesh.size) * mesh.size
  indices = np.arange(padded)
  labels = parallel.put_batch(mesh, np.minimum(indices // rows, num_classes - 1).astype(np.int32))
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


def _check_same(config: ml_collections.ConfigDict, old: dict[str, Any], directory: pathlib.Path) -> None:
  """A checkpoint goes on only with the settings that it was trained with."""
  harmless = ('log_every', 'eval_every', 'preview_', 'checkpoint_every', 'keep_checkpoints', 'steps', 'remat')

  def relevant(values: dict[str, Any]) -> dict[str, Any]:
    flat = dict(config_lib.flatten({'seed': values['seed'], 'diffusion': values['diffusion']}))
    return {k: v for k, v in flat.items() if not k.startswith(tuple(f'diffusion.{h}' for h in harmless))}

  now, before = relevant(config_lib.to_dict(config)), relevant(config_lib.to_dict(config_lib.from_dict(old)))
  changed = [f'{k}: was {before.get(k)}, is {now[k]}' for k in now if now[k] != before.get(k)]
  if changed:
    raise UserError(f'{directory}: trained with other settings ({"; ".join(changed)}); use a new --workdir')
