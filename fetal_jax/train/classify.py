"""The classify stage: every model in every regime, pretraining shared, with the paper's or an honest protocol."""

import dataclasses
import math
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import msgspec
from absl import logging
from jax.sharding import Mesh

from fetal_jax import config as config_lib
from fetal_jax import networks
from fetal_jax.data import loader, prepared
from fetal_jax.runtime import devices
from fetal_jax.runtime.errors import UserError
from fetal_jax.runtime.files import PathLike
from fetal_jax.train import classify_run, initial, judge_parts, regimes, results, synthetic_sets
from fetal_jax.train.classify_run import RunPlan
from fetal_jax.train.classify_step import Task, make_task
from fetal_jax.train.results import Normalisation, RunName
from fetal_jax.train.synthetic_sets import SyntheticSets


def run(config: ml_collections.ConfigDict, workdir: PathLike) -> bool:
  """Trains and judges all models x regimes x seeds that are not done yet.

  Leaves `classify/<model>/<regime>/seed_<k>/` with metrics.json, predictions.csv and the selected weights, and the same of
  the judge (`train.judge_parts`) in `judge/`. Regimes on filtered images wait for the filter stage, which needs the judge.

  Returns:
    Whether there was anything to do.

  Raises:
    UserError: data or synthetic rounds are missing, or a run was done with other settings.
  """
  return train_all(config, workdir, kept=False)


def train_all(config: ml_collections.ConfigDict, workdir: PathLike, *, kept: bool) -> bool:
  """Does `run` for the regimes on filtered images (`kept`) or for all others; returns false if there are none."""
  workdir, stage = pathlib.Path(workdir), 'filter' if kept else 'classify'
  runs = _runs(config.classify, kept=kept)
  judge = None if kept else judge_parts.model_of(config)
  if not runs and judge is None:
    return False
  data = prepared.load(workdir)
  synthetic = _load_synthetic(config, workdir, runs, data.records.class_names, kept=kept)
  weights = _initial_weights(config, len(data.records.class_names), data.images.shape[1:])
  plans = [_plan(config, workdir, run, data, synthetic, weights.get(run.model)) for run in runs]
  if judge is not None:
    plans += _judge_plans(config, workdir, judge, data, synthetic, weights.get(judge))
  todo = [plan for plan in plans if not _is_done(plan)]
  if not todo:
    logging.info('%s: done before (%d runs).', stage, len(runs))
    return False
  logging.info('%s: %d of %d runs to do.', stage, len(todo), len(runs))
  mesh = devices.make_mesh(config.mesh.data, config.mesh.fsdp)
  devices.check_batch(mesh, config.classify.batch_size, 'classify.batch_size')
  for model in dict.fromkeys(plan.name.model for plan in todo):
    seen = normalisation(config.classify, weights.get(model))
    task = _task(config, model, len(data.records.class_names), data.images.shape[1:], seen, mesh)
    for plan in todo:
      if plan.name.model == model:
        classify_run.train(task, plan)
  return True


def _runs(classify: ml_collections.ConfigDict, *, kept: bool) -> list[RunName]:
  """Returns all runs that the config asks for, each after the one whose weights it starts from."""
  return [
    RunName(model, regime, seed)
    for model in classify.models
    for seed in range(classify.num_seeds)
    for regime in regimes.of_model(model, classify.regimes, classify.curve, classify.curve_models)
    if regimes.synthetic(regime).kept == kept
  ]


def _load_synthetic(
  config: ml_collections.ConfigDict,
  workdir: pathlib.Path,
  runs: list[RunName],
  class_names: tuple[str, ...],
  *,
  kept: bool,
) -> SyntheticSets:
  """Reads the synthetic images that the runs need."""
  return synthetic_sets.load(
    workdir,
    regimes.rounds_needed((run.regime for run in runs), config.sample.rounds),
    class_names,
    image_size=config.data.image_size,
    channels=config.data.channels,
    kept=kept,
  )


def _initial_weights(
  config: ml_collections.ConfigDict, num_classes: int, image_shape: tuple[int, int, int]
) -> dict[str, initial.Weights]:
  """Reads the files of `init_from`; returns them by the model that they are for."""
  if not config.classify.init_from:
    return {}
  images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
  shapes = {
    name: jax.eval_shape(networks.make_classifier(config, name, num_classes).init, jax.random.key(0), images)
    for name in config.classify.models
  }
  return initial.assign(config.classify.init_from, shapes)


def _task(
  config: ml_collections.ConfigDict,
  model: str,
  num_classes: int,
  image_shape: tuple[int, int, int],
  seen: Normalisation,
  mesh: Mesh,
) -> Task:
  classify = config.classify
  return make_task(
    model,
    networks.make_classifier(config, model, num_classes),
    image_shape,
    mesh,
    learning_rate=classify.learning_rate,
    mean=seen.mean,
    std=seen.std,
    rotation_degrees=classify.rotation_degrees,
    flips=classify.flips,
    skip_nonfinite=classify.skip_nonfinite > 0,
  )


def normalisation(classify: ml_collections.ConfigDict, weights: initial.Weights | None) -> Normalisation:
  """Returns what a model sees: [0, 1] as in the paper, or what published `weights` that it starts from have seen."""
  return Normalisation(mean=classify.mean, std=classify.std) if weights else Normalisation()


def _plan(
  config: ml_collections.ConfigDict,
  workdir: pathlib.Path,
  run: RunName,
  data: prepared.Prepared,
  synthetic: SyntheticSets,
  weights: initial.Weights | None,
) -> RunPlan:
  """Returns what one run does."""
  classify, regime = config.classify, regimes.get(run.regime)
  sides = _sides(data, classify.protocol)
  pretrains = not regime.real and classify.pretrain_epochs
  split_hash = data.info.split_hash
  settings = _settings(config, run.model, split_hash, weights) + synthetic.fingerprint(run.regime)
  control = (
    control_epoch_steps(config, len(data.records.class_names)) if run.regime == regimes.CONTROL else None
  )
  return RunPlan(
    name=run,
    workdir=workdir,
    train=[sides['train']] * regime.real + synthetic.sources(run.regime),
    select=sides['select'],
    test=sides['test'],
    records=data.records,
    seed=config.seed,
    protocol=classify.protocol,
    epochs=classify.pretrain_epochs if pretrains else classify.epochs,
    batch_size=classify.batch_size,
    steps_per_call=classify.steps_per_call,
    eval_batch_size=classify.eval_batch_size,
    checkpoint_epochs=classify.checkpoint_epochs,
    skip_nonfinite=classify.skip_nonfinite,
    weights=weights,
    normalisation=normalisation(classify, weights),
    settings=settings if control is None else f'{settings}-{control}',
    split_hash=split_hash,
    rounds=synthetic.seen_by(run.regime),
    config=config_lib.to_dict(config),
    control_epoch_steps=control,
  )


def control_epoch_steps(config: ml_collections.ConfigDict, num_classes: int) -> int:
  """Returns the steps of an epoch of the control, by the synthetic images that the config asks for."""
  classify, sample = config.classify, config.sample
  return regimes.control_epoch_steps(
    sample.rounds,
    sample.per_class * num_classes,
    epochs=classify.epochs,
    pretrain_epochs=classify.pretrain_epochs,
    batch_size=classify.batch_size,
    steps_per_call=classify.steps_per_call,
  )


def _judge_plans(
  config: ml_collections.ConfigDict,
  workdir: pathlib.Path,
  model: str,
  data: prepared.Prepared,
  synthetic: SyntheticSets,
  weights: initial.Weights | None,
) -> list[RunPlan]:
  """Returns the training of the judge: as many steps as a training on all real images takes, on half of them."""
  parts = judge_parts.divide(data)
  if parts is None:
    logging.warning(
      'classify: no judge, because the training side has too few patients to keep some from it.'
    )
    return []
  run = RunName(model, 'real', 0)
  plan = _plan(config, judge_parts.workdir_of(workdir), run, data, synthetic, weights)
  fit, choose, test = (
    loader.Source(data.images, data.records.labels, indices)
    for indices in (parts.fit, parts.choose, parts.test)
  )
  marks = config_lib.config_hash([part.tolist() for part in parts])
  return [
    dataclasses.replace(
      plan,
      train=[fit],
      select=choose,
      test=test,
      protocol='honest',
      epochs=math.ceil(plan.epochs * len(data.split.train) / len(parts.fit)),
      settings=f'{plan.settings}-{marks}',
      role='judge',
    )
  ]


def _sides(data: prepared.Prepared, protocol: str) -> Mapping[str, loader.Source]:
  """Returns the real images to `train` on, to `select` the epoch by and to `test`.

  `honest`: validation patients are held out of training and choose the epoch. `paper`: all of the training
  side trains, from which nothing was held out, and the test side chooses the epoch, as "best test accuracy" does.
  """
  split, honest = data.split, protocol == 'honest'
  if honest and not len(split.validation):
    raise UserError(
      'config.classify.protocol=honest: the data were prepared without validation patients; use '
      '--config.classify.protocol=paper, or a new --workdir'
    )
  chosen = {
    'train': split.train if honest else split.train_side,
    'select': split.validation if honest else split.test,
    'test': split.test,
  }
  return {side: loader.Source(data.images, data.records.labels, indices) for side, indices in chosen.items()}


def _settings(
  config: ml_collections.ConfigDict, model: str, split_hash: str, weights: initial.Weights | None
) -> str:
  """Returns a hash of everything but the synthetic images that decides what a run of `model` learns."""
  classify: dict[str, Any] = config_lib.to_dict(config.classify)
  decisive = {name: value for name, value in classify.items() if config_lib.decides(f'classify.{name}')}
  start = weights.sha256 if weights else ''
  seen = msgspec.to_builtins(normalisation(config.classify, weights))
  return config_lib.config_hash(decisive, classify['model_args'][model], split_hash, config.seed, start, seen)


def _is_done(plan: RunPlan) -> bool:
  """Returns whether the run has results; UserError if they are of other settings, or are not what was written."""
  try:
    found = results.read(plan.folder)
  except FileNotFoundError:
    return False
  if found.settings != plan.settings:
    raise UserError(
      f'{plan.folder}: done before with other settings or data; use a new --workdir or delete this folder'
    )
  results.read_predictions(plan.folder, found)
  return True
