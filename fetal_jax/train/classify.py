"""The classify stage: every model in every regime, pretraining shared, with the paper's or an honest protocol."""

import csv
import dataclasses
import functools
import pathlib
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
from absl import logging
from flax import linen as nn
from jax.sharding import Mesh

from fetal_jax import config as config_lib
from fetal_jax import parallel
from fetal_jax.data import decode, loader, prepare
from fetal_jax.data.augment import augment
from fetal_jax.errors import UserError
from fetal_jax.files import PathLike, read_json, replacing, write_json
from fetal_jax.progress import duration
from fetal_jax.train import loop, networks, overview
from fetal_jax.train.checkpoint import Checkpointer, log_resumption
from fetal_jax.train.regimes import REGIMES, rounds_needed, with_starts
from fetal_jax.train.state import ClassifierState
from fetal_jax.train.writers import MetricWriter

_STAGE_KEY = 3


def normalise(images: jax.Array, mean: float, std: float) -> jax.Array:
  """[0, 1] to what the classifiers see."""
  return (images - mean) / std


def init_state(
  key: jax.Array, net: nn.Module, optimizer: optax.GradientTransformation, image_shape: tuple[int, int, int]
) -> ClassifierState:
  """Fresh weights and optimiser; pure."""
  variables = net.init(key, jnp.zeros((1, *image_shape)))
  return ClassifierState(
    step=jnp.zeros((), jnp.int32), variables=dict(variables), opt_state=optimizer.init(variables['params'])
  )


def make_update(
  net: Any,
  optimizer: optax.GradientTransformation,
  *,
  mean: float,
  std: float,
  rotation_degrees: float,
  flips: bool,
) -> Callable[[ClassifierState, Any, jax.Array], tuple[ClassifierState, Any]]:
  """Builds `update(state, batch, key) -> (state, sums)`: K optimiser steps with cross-entropy.

  The batch holds `images` uint8 [K, B, H, W, C], `labels` int32 [K, B] and `real` bool [K, B]; real images
  are augmented, synthetic ones are not.
  """

  def one_step(key: jax.Array, state: ClassifierState, batch: Any) -> tuple[ClassifierState, Any]:
    key_augment, key_dropout = jax.random.split(jax.random.fold_in(key, state.step))
    images = augment(
      key_augment,
      batch['images'].astype(jnp.float32) / 255.0,
      batch['real'],
      rotation_degrees=rotation_degrees,
      flips=flips,
    )
    statistics = {k: v for k, v in state.variables.items() if k != 'params'}

    def loss_fn(params: Any) -> tuple[jax.Array, Any]:
      logits, changed = net.apply(
        {'params': params, **statistics},
        normalise(images, mean, std),
        train=True,
        mutable=['batch_stats'],
        rngs={'dropout': key_dropout},
      )
      loss = optax.softmax_cross_entropy_with_integer_labels(logits, batch['labels']).mean()
      return loss, (logits, changed)

    (loss, (logits, changed)), grads = jax.value_and_grad(loss_fn, has_aux=True)(state.variables['params'])
    updates, opt_state = optimizer.update(grads, state.opt_state, state.variables['params'])
    params = optax.apply_updates(state.variables['params'], updates)
    one = jnp.ones(())
    sums = {
      'loss': (loss, one),
      'accuracy': ((logits.argmax(-1) == batch['labels']).mean(), one),
      'grad_norm': (optax.tree.norm(grads), one),
    }
    variables = {**state.variables, **changed, 'params': params}
    return ClassifierState(step=state.step + 1, variables=variables, opt_state=opt_state), sums

  def update(state: ClassifierState, batch: Any, key: jax.Array) -> tuple[ClassifierState, Any]:
    step = functools.partial(one_step, key)
    if batch['labels'].shape[0] == 1:  # a loop of one is dearer than none on the CPU
      return step(state, jax.tree.map(lambda a: a[0], batch))
    return jax.lax.scan(step, state, batch)

  return update


@dataclasses.dataclass(frozen=True)
class Task:
  """One model, built and compiled once, trained many times.

  Attributes:
    name: key of `models.CLASSIFIERS`.
    init: key -> fresh state on the mesh.
    update: (state, batch, key) -> (state, sums), jitted, donating the state.
    probabilities: (variables, images uint8) -> float32 [B, K], jitted.
    like: shapes and shardings of the state, for restoring.
  """

  name: str
  mesh: Mesh
  init: Callable[[jax.Array], ClassifierState]
  update: Callable[[ClassifierState, Any, jax.Array], tuple[ClassifierState, Any]]
  probabilities: Callable[[Any, Any], jax.Array]
  like: ClassifierState


def make_task(
  config: ml_collections.ConfigDict,
  name: str,
  num_classes: int,
  image_shape: tuple[int, int, int],
  mesh: Mesh,
) -> Task:
  """Builds the model `name` and its jitted functions for this config."""
  c = config.classify
  net: Any = networks.make_classifier(config, name, num_classes)
  optimizer = optax.adam(c.learning_rate)
  init = functools.partial(init_state, net=net, optimizer=optimizer, image_shape=image_shape)
  shapes = jax.eval_shape(init, jax.random.key(0))
  sharding = parallel.state_sharding(mesh, shapes)
  replicated = parallel.replicated(mesh)
  update = make_update(
    net, optimizer, mean=c.mean, std=c.std, rotation_degrees=c.rotation_degrees, flips=c.flips
  )

  def probabilities(variables: Any, images: jax.Array) -> jax.Array:
    logits = net.apply(variables, normalise(images.astype(jnp.float32) / 255.0, c.mean, c.std), train=False)
    return jax.nn.softmax(logits.astype(jnp.float32))

  overview.log_parameters({name: shapes.variables['params']})
  return Task(
    name=name,
    mesh=mesh,
    init=jax.jit(init, out_shardings=sharding),
    update=jax.jit(
      update,
      donate_argnums=0,
      in_shardings=(sharding, parallel.batch_sharding(mesh, axis=1), replicated),
      out_shardings=(sharding, replicated),
    ),
    probabilities=jax.jit(probabilities, out_shardings=replicated),
    like=jax.tree.map(lambda s, d: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=d), shapes, sharding),
  )


def predict(task: Task, variables: Any, source: loader.Source, *, batch_size: int) -> np.ndarray:
  """Class probabilities float32 [n, K] of all images of a source, in order."""
  batch_size = -(-min(batch_size, len(source.indices)) // task.mesh.size) * task.mesh.size
  results = []
  for batch in loader.evaluation_batches(source, batch_size=batch_size):
    probabilities = task.probabilities(variables, parallel.put_batch(task.mesh, batch['images']))
    results.append(np.asarray(probabilities)[batch['mask']])
  return np.concatenate(results)


def accuracy(probabilities: np.ndarray, source: loader.Source) -> float:
  """Share of a source's images whose most probable class is the label."""
  return float(np.mean(probabilities.argmax(-1) == source.labels[source.indices]))


@dataclasses.dataclass(frozen=True)
class Sources:
  """What a run may train on and is judged by: `train` by regime, `select` chooses the epoch, `test` reports."""

  train: Mapping[str, list[loader.Source]]
  select: loader.Source
  test: loader.Source


def make_sources(
  config: ml_collections.ConfigDict,
  data: prepare.Prepared,
  rounds: Mapping[int, loader.Source],
  regimes: Sequence[str],
) -> Sources:
  """The image sets of every regime under the config's protocol.

  `honest`: validation patients are held out of training and choose the epoch. `paper`: all of the training
  side trains, and the test side chooses the epoch, as "best test accuracy" does.
  """
  labels, split = data.records.labels, data.split
  honest = config.classify.protocol == 'honest'
  side = split.train if honest else np.sort(np.concatenate([split.train, split.validation]))
  if honest and not len(split.validation):
    raise UserError(
      'config.classify.protocol=honest: the split has no validation patients; use --config.classify.protocol=paper'
    )
  real = loader.Source(data.images, labels, side)
  test = loader.Source(data.images, labels, split.test)
  return Sources(
    train={name: [real] * REGIMES[name].real + [rounds[r] for r in REGIMES[name].rounds] for name in regimes},
    select=loader.Source(data.images, labels, split.validation) if honest else test,
    test=test,
  )


def run(config: ml_collections.ConfigDict, workdir: PathLike) -> bool:
  """Trains and judges all models x regimes x seeds that are not done yet.

  Leaves `classify/<model>/<regime>/seed_<k>/` with metrics.json, predictions.csv and the selected weights.

  Returns:
    Whether there was anything to do.

  Raises:
    UserError: data or synthetic rounds are missing, or a run was done with other settings.
  """
  workdir, c = pathlib.Path(workdir), config.classify
  data = prepare.load(workdir)
  regimes = with_starts(c.regimes)
  rounds, fingerprint = _load_rounds(workdir, config, rounds_needed(regimes), data.records.class_names)
  runs = [(model, seed, regime) for model in c.models for seed in range(c.num_seeds) for regime in regimes]
  settings = {run: _settings(config, run[0], data.info['split_hash']) + fingerprint(run[2]) for run in runs}
  todo = [run for run in runs if not _is_done(_folder(workdir, *run), settings[run])]
  if not todo:
    logging.info('classify: done before (%d runs).', len(runs))
    return False
  logging.info('classify: %d of %d runs to do.', len(todo), len(runs))
  mesh = parallel.make_mesh(config.mesh.data, config.mesh.fsdp)
  parallel.check_batch(mesh, c.batch_size, 'classify.batch_size')
  sources = make_sources(config, data, rounds, regimes)
  for model in dict.fromkeys(run[0] for run in todo):
    task = make_task(config, model, len(data.records.class_names), data.images.shape[1:], mesh)
    for run in todo:
      if run[0] == model:
        train_one(config, workdir, task, run[2], run[1], sources, data, settings[run])
  return True


def _settings(config: ml_collections.ConfigDict, model: str, split_hash: str) -> str:
  """A fingerprint of everything but the images that decides what a run of `model` learns."""
  c = config_lib.to_dict(config.classify)
  harmless = ('models', 'regimes', 'num_seeds', 'checkpoint_epochs', 'eval_batch_size', 'model_args')
  decisive = {k: v for k, v in c.items() if k not in harmless}
  return config_lib.config_hash(decisive, c['model_args'][model], split_hash, config.seed)


def train_one(
  config: ml_collections.ConfigDict,
  workdir: pathlib.Path,
  task: Task,
  regime: str,
  seed: int,
  sources: Sources,
  data: prepare.Prepared,
  settings: str,
) -> None:
  """One model, regime and seed: trains (or goes on), selects an epoch, tests, and writes the results."""
  c, folder = config.classify, _folder(workdir, task.name, seed, regime)
  title = f'{task.name} {regime} seed {seed}'
  train_sources = sources.train[regime]
  images = sum(len(s.indices) for s in train_sources)
  epoch_steps = max(1, round(images / (c.batch_size * c.steps_per_call))) * c.steps_per_call
  synthetic_only = not REGIMES[regime].real
  epochs = (c.pretrain_epochs or c.epochs) if synthetic_only else c.epochs
  # All regimes of a seed share their initial weights and their randomness: differences are the data's.
  key = jax.random.fold_in(jax.random.fold_in(jax.random.key(config.seed), _STAGE_KEY), seed)
  key_init, key_train = jax.random.split(key)
  batches = loader.training_batches(
    train_sources, batch_size=c.batch_size, steps_per_call=c.steps_per_call, seed=config.seed * 1000 + seed
  )
  clock = time.monotonic()
  with Checkpointer(folder / 'checkpoints', keep=1) as checkpointer:
    start = checkpointer.latest_step() or 0
    if start:
      like = {'state': task.like, 'best': task.like.variables}
      saved, meta = checkpointer.restore(start, like)
      if meta['settings'] != settings:
        raise UserError(f'{checkpointer.directory}: trained with other settings or data; use a new --workdir')
      state, best, history, seconds = saved['state'], saved['best'], meta['history'], meta['seconds']
      batches.set_state(meta['loader'])
      log_resumption(title, start, epochs * epoch_steps)
    else:
      state = task.init(key_init)
      if pretraining := REGIMES[regime].start:
        variables = _load_selected(_folder(workdir, task.name, seed, pretraining), task)
        state = dataclasses.replace(state, variables=variables)
      best, history, seconds = jax.tree.map(jnp.copy, state.variables), [], 0.0
    selected = max((row['score'] for row in history), default=-1.0)

    with MetricWriter(
      workdir / 'logs' / 'classify' / task.name / regime / f'seed_{seed}', start_step=start
    ) as writer:
      row: dict[str, Any] = {}

      def log(step: int, means: dict[str, float]) -> str:
        row.clear()
        row.update(
          epoch=step // epoch_steps, step=step, train_loss=means['loss'], train_accuracy=means['accuracy']
        )
        writer.write_scalars(step, means)
        return f'{means["img_per_s"]:.3g} img/s, loss {means["loss"]:.3f}, accuracy {means["accuracy"]:.3f}'

      def select(step: int, state: ClassifierState) -> None:
        nonlocal best, selected
        score = accuracy(
          predict(task, state.variables, sources.select, batch_size=c.eval_batch_size), sources.select
        )
        name = 'validation_accuracy' if c.protocol == 'honest' else 'test_accuracy'
        writer.write_scalars(step, {name: score})
        history.append({**row, name: score, 'score': score})
        if score > selected:
          # A copy, because the next step takes the state's buffers.
          selected, best = score, jax.tree.map(jnp.copy, state.variables)

      def save(step: int, state: ClassifierState) -> None:
        checkpointer.save(
          step,
          {'state': state, 'best': best},
          {
            'config': config_lib.to_dict(config),
            'settings': settings,
            'loader': batches.get_state(),
            'history': history,
            'seconds': seconds + time.monotonic() - clock,
          },
        )

      state = loop.train(
        state,
        lambda state, batch: task.update(state, batch, key_train),
        _on_mesh(batches, task.mesh),
        title=title,
        start=start,
        steps=epochs * epoch_steps,
        steps_per_call=c.steps_per_call,
        images_per_step=c.batch_size,
        log_every=epoch_steps,
        on_log=log,
        actions=((epoch_steps, select), (c.checkpoint_epochs * epoch_steps, save)),
      )

  test_probabilities = predict(task, best, sources.test, batch_size=c.eval_batch_size)
  test_last = predict(task, state.variables, sources.test, batch_size=c.eval_batch_size)
  best_row = max(history, key=lambda row: row['score'])  # the first of equals
  metrics = {
    'model': task.name,
    'regime': regime,
    'seed': seed,
    'protocol': c.protocol,
    'epochs': epochs,
    'selected_epoch': best_row['epoch'],
    'steps': epochs * epoch_steps,
    'batch_size': c.batch_size,
    'real_images': sum(len(s.indices) for s in train_sources if s.real),
    'synthetic_images': sum(len(s.indices) for s in train_sources if not s.real),
    'parameters': overview.count_parameters(task.like.variables['params']),
    'train_accuracy': best_row['train_accuracy'],
    'validation_accuracy': best_row.get('validation_accuracy'),
    'test_accuracy': accuracy(test_probabilities, sources.test),
    'test_accuracy_last': accuracy(test_last, sources.test),
    'seconds': seconds + time.monotonic() - clock,
    'initialised_from': REGIMES[regime].start,
    'settings': settings,
    'history': history,
  }
  if jax.process_index() == 0:
    _write_predictions(folder / 'predictions.csv', data, sources.test, test_probabilities)
  with Checkpointer(folder / 'selected', keep=1) as selected_checkpoint:
    selected_checkpoint.save(
      best_row['step'], best, {'config': config_lib.to_dict(config), 'settings': settings}
    )
  if jax.process_index() == 0:
    write_json(folder / 'metrics.json', metrics)  # last: it says that the run is whole
    shutil.rmtree(folder / 'checkpoints', ignore_errors=True)
  logging.info(
    '%s: test accuracy %.3f (epoch %d of %d, selection accuracy %.3f, %d real + %d synthetic images, %s)',
    title,
    metrics['test_accuracy'],
    metrics['selected_epoch'],
    epochs,
    best_row['score'],
    metrics['real_images'],
    metrics['synthetic_images'],
    duration(metrics['seconds']),
  )


def _on_mesh(batches: Iterator[dict[str, np.ndarray]], mesh: Mesh) -> Iterator[Any]:
  for batch in batches:
    yield parallel.put_batch(mesh, batch, axis=1)


def _folder(workdir: pathlib.Path, model: str, seed: int, regime: str) -> pathlib.Path:
  return workdir / 'classify' / model / regime / f'seed_{seed}'


def _is_done(folder: pathlib.Path, settings: str) -> bool:
  if not (folder / 'metrics.json').is_file():
    return False
  if read_json(folder / 'metrics.json').get('settings') != settings:
    raise UserError(
      f'{folder}: done before with other settings or data; use a new --workdir or delete this folder'
    )
  return True


def _load_selected(folder: pathlib.Path, task: Task) -> Any:
  with Checkpointer(folder / 'selected', keep=1) as checkpointer:
    step = checkpointer.latest_step()
    if step is None:
      raise UserError(
        f'{folder}: no selected weights to start from; delete this folder and run classify again'
      )
    return checkpointer.restore(step, task.like.variables)[0]


def _load_rounds(
  workdir: pathlib.Path, config: ml_collections.ConfigDict, count: int, class_names: Sequence[str]
) -> tuple[dict[int, loader.Source], Callable[[str], str]]:
  """The synthetic rounds as sources, and a function from a regime to the fingerprint of what it trains on."""
  rounds, fingerprints = {}, {}
  for r in range(1, count + 1):
    folder = workdir / 'synthetic' / f'round_{r}'
    if not (folder / 'manifest.json').is_file() or not read_json(folder / 'manifest.json').get('complete'):
      raise UserError(f'{folder}: no finished synthetic round; run --stage=sample first')
    manifest = read_json(folder / 'manifest.json')
    images, labels, _ = decode.read_images(folder, config.data.image_size, config.data.channels)
    rounds[r] = loader.Source(images, labels, np.arange(len(images)), real=False)
    fingerprints[r] = config_lib.config_hash([shard['sha256'] for shard in manifest['shards']])

  def fingerprint(regime: str) -> str:
    start = REGIMES[regime].start
    used = set(REGIMES[regime].rounds) | set(REGIMES[start].rounds if start else ())
    return ''.join('-' + fingerprints[r] for r in sorted(used))

  return rounds, fingerprint


def _write_predictions(
  path: pathlib.Path, data: prepare.Prepared, source: loader.Source, probabilities: np.ndarray
) -> None:
  records, names = data.records, data.records.class_names
  with replacing(path) as temporary, open(temporary, 'w', newline='', encoding='utf-8') as f:
    writer = csv.writer(f)
    writer.writerow(['image', 'patient', 'machine', 'label', 'predicted', *(f'p_{name}' for name in names)])
    for index, row in zip(source.indices, probabilities, strict=True):
      writer.writerow(
        [
          records.names[index],
          records.patients[index],
          records.machines[index],
          names[records.labels[index]],
          names[row.argmax()],
          *(f'{p:.6f}' for p in row),
        ]
      )
