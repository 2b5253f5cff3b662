"""The classify stage: every model in every regime, pretraining shared, with the paper's or an honest protocol."""

import csv
import dataclasses
import pathlib
import shutil
import time
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from absl import logging

from fetal_jax import config as config_lib
from fetal_jax import networks
from fetal_jax.data import loader, prepare
from fetal_jax.runtime import devices
from fetal_jax.runtime.checkpoint import Checkpointer, log_resumption
from fetal_jax.runtime.errors import UserError
from fetal_jax.runtime.files import PathLike, read_json, replacing, write_json
from fetal_jax.runtime.metrics import MetricWriter
from fetal_jax.runtime.progress import duration
from fetal_jax.train import initial, loop, overview, regimes, synthetic_sets
from fetal_jax.train.classify_step import Task, accuracy, make_task, predict
from fetal_jax.train.state import ClassifierState
from fetal_jax.train.synthetic_sets import SyntheticSets

_STAGE_KEY = 3


@dataclasses.dataclass(frozen=True)
class Sources:
  """What a run may train on and is judged by: `train` by regime, `select` chooses the epoch, `test` reports."""

  train: Mapping[str, list[loader.Source]]
  select: loader.Source
  test: loader.Source


def make_sources(
  config: ml_collections.ConfigDict,
  data: prepare.Prepared,
  synthetic: SyntheticSets,
  names: Iterable[str],
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
    train={name: [real] * regimes.get(name).real + synthetic.sources(name) for name in names},
    select=loader.Source(data.images, labels, split.validation) if honest else test,
    test=test,
  )


def run(config: ml_collections.ConfigDict, workdir: PathLike) -> bool:
  """Trains and judges all models x regimes x seeds that are not done yet.

  Leaves `classify/<model>/<regime>/seed_<k>/` with metrics.json, predictions.csv and the selected weights. Regimes on
  filtered images wait for the filter stage, whose judge is trained here.

  Returns:
    Whether there was anything to do.

  Raises:
    UserError: data or synthetic rounds are missing, or a run was done with other settings.
  """
  return train_all(config, workdir, kept=False)


def train_all(config: ml_collections.ConfigDict, workdir: PathLike, *, kept: bool) -> bool:
  """`run` for the regimes on filtered images (`kept`) or for all others; without any, false."""
  workdir, c = pathlib.Path(workdir), config.classify
  stage = 'filter' if kept else 'classify'
  runs = [
    (model, seed, regime)
    for model in c.models
    for seed in range(c.num_seeds)
    for regime in regimes.of_model(c, model)
    if regimes.synthetic(regime).kept == kept
  ]
  if not runs:
    return False
  data = prepare.load(workdir)
  names = list(dict.fromkeys(regime for _, _, regime in runs))
  synthetic = synthetic_sets.load(
    workdir,
    config,
    regimes.rounds_needed(names, config.sample.rounds),
    data.records.class_names,
    kept=kept,
  )
  weights = _initial_weights(config, len(data.records.class_names), data.images.shape[1:])
  settings = {
    run: _settings(config, run[0], data.info['split_hash'], weights.get(run[0]))
    + synthetic.fingerprint(run[2])
    for run in runs
  }
  todo = [run for run in runs if not _is_done(_folder(workdir, *run), settings[run])]
  if not todo:
    logging.info('%s: done before (%d runs).', stage, len(runs))
    return False
  logging.info('%s: %d of %d runs to do.', stage, len(todo), len(runs))
  mesh = devices.make_mesh(config.mesh.data, config.mesh.fsdp)
  devices.check_batch(mesh, c.batch_size, 'classify.batch_size')
  sources = make_sources(config, data, synthetic, names)
  for model in dict.fromkeys(run[0] for run in todo):
    task = make_task(config, model, len(data.records.class_names), data.images.shape[1:], mesh)
    for run in todo:
      if run[0] == model:
        train_one(config, workdir, task, run[2], run[1], sources, data, settings[run], weights.get(model))
  return True


def _initial_weights(
  config: ml_collections.ConfigDict, num_classes: int, image_shape: tuple[int, int, int]
) -> dict[str, initial.Weights]:
  """The files of `init_from` by the model that they are for."""
  if not config.classify.init_from:
    return {}
  images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
  shapes = {
    name: jax.eval_shape(networks.make_classifier(config, name, num_classes).init, jax.random.key(0), images)
    for name in config.classify.models
  }
  return initial.assign(config.classify.init_from, shapes)


def _settings(
  config: ml_collections.ConfigDict, model: str, split_hash: str, weights: initial.Weights | None
) -> str:
  """A fingerprint of everything but the images that decides what a run of `model` learns."""
  c = config_lib.to_dict(config.classify)
  decisive = {k: v for k, v in c.items() if config_lib.DECIDES.get(f'classify.{k}', ('classify',))}
  start = weights.sha256 if weights else ''
  return config_lib.config_hash(decisive, c['model_args'][model], split_hash, config.seed, start)


def train_one(
  config: ml_collections.ConfigDict,
  workdir: pathlib.Path,
  task: Task,
  regime: str,
  seed: int,
  sources: Sources,
  data: prepare.Prepared,
  settings: str,
  weights: initial.Weights | None = None,
) -> None:
  """One model, regime and seed: trains (or goes on), selects an epoch, tests, and writes the results."""
  c, folder = config.classify, _folder(workdir, task.name, seed, regime)
  title = f'{task.name} {regime} seed {seed}'
  train_sources = sources.train[regime]
  images = sum(len(s.indices) for s in train_sources)
  epoch_steps = max(1, round(images / (c.batch_size * c.steps_per_call))) * c.steps_per_call
  synthetic_only = not regimes.get(regime).real
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
      resumed = meta.get('loop', {})
      log_resumption(title, start, epochs * epoch_steps)
    else:
      state = task.init(key_init)
      if pretraining := regimes.get(regime).start:
        variables = _load_selected(_folder(workdir, task.name, seed, pretraining), task)
        state = dataclasses.replace(state, variables=variables)
      elif weights:
        fresh = devices.to_host(task.mesh, state.variables)
        variables = initial.classifier_variables(task.name, weights, fresh)
        state = dataclasses.replace(state, variables=devices.put_like(variables, state.variables))
      best, history, seconds, resumed = jax.tree.map(jnp.copy, state.variables), [], 0.0, {}
    selected = max((row['score'] for row in history), default=-1.0)

    with MetricWriter(
      workdir / 'logs' / 'classify' / task.name / regime / f'seed_{seed}', start_step=start
    ) as writer:
      row: dict[str, Any] = {}

      def log(step: int, means: dict[str, float]) -> str:
        checkpointer.check()
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

      def save(step: int, state: ClassifierState, account: dict[str, Any]) -> None:
        checkpointer.save(
          step,
          {'state': state, 'best': best},
          {
            'config': config_lib.to_dict(config),
            'settings': settings,
            'loader': batches.get_state(),
            'loop': account,
            'history': history,
            'seconds': seconds + time.monotonic() - clock,
          },
        )

      state = loop.train(
        state,
        lambda state, batch: task.update(state, batch, key_train),
        devices.put_batches(task.mesh, batches, ('images', 'labels', 'real')),
        title=title,
        start=start,
        steps=epochs * epoch_steps,
        steps_per_call=c.steps_per_call,
        images_per_step=c.batch_size,
        log_every=epoch_steps,
        on_log=log,
        actions=((epoch_steps, select),),
        save_every=c.checkpoint_epochs * epoch_steps,
        save=save,
        resumed=resumed,
        skip_nonfinite=c.skip_nonfinite,
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
    'initialised_from': regimes.get(regime).start,
    'init_from': weights and {'file': weights.path.name, 'sha256': weights.sha256},
    'settings': settings,
    'history': history,
  }
  if jax.process_index() == 0:
    _write_predictions(folder / 'predictions.csv', data, sources.test, test_probabilities)
  with Checkpointer(folder / 'selected', keep=1) as selected_checkpoint:
    selected_checkpoint.save(
      best_row['step'],
      best,
      {
        'config': config_lib.to_dict(config),
        'settings': settings,
        'split_hash': data.info['split_hash'],
      },
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
  remedy = f'delete {folder} and run --stage=classify again'
  with Checkpointer(folder / 'selected', keep=1, remedy=remedy) as checkpointer:
    step = checkpointer.latest_step()
    if step is None:
      raise UserError(
        f'{folder}: no selected weights to start from; delete this folder and run classify again'
      )
    return checkpointer.restore(step, task.like.variables)[0]


def _write_predictions(
  path: pathlib.Path, data: prepare.Prepared, source: loader.Source, probabilities: np.ndarray
) -> None:
  records, names = data.records, data.records.class_names
  with replacing(path) as temporary, open(temporary, 'w', newline='', encoding='utf-8') as f:
    writer = csv.writer(f)
    about = ('image', 'patient', 'machine', 'operator', 'brain_plane')
    writer.writerow([*about, 'label', 'predicted', *(f'p_{name}' for name in names)])
    for index, row in zip(source.indices, probabilities, strict=True):
      writer.writerow(
        [
          records.names[index],
          records.patients[index],
          records.machines[index],
          records.operators[index],
          records.brain_planes[index],
          names[records.labels[index]],
          names[row.argmax()],
          *(f'{p:.6f}' for p in row),
        ]
      )
