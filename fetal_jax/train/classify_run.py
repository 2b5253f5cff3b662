"""One training of a classifier, from its first step to its results; resumes where it stopped."""

import dataclasses
import functools
import pathlib
import time
from typing import Any

import grain.python as grain
import jax
import jax.numpy as jnp
import msgspec
import numpy as np
from absl import logging

from fetal_jax.data.loader import Source, training_batches
from fetal_jax.data.records import Records
from fetal_jax.runtime import checkpoint, devices
from fetal_jax.runtime.checkpoint import Checkpointer, log_resumption
from fetal_jax.runtime.errors import UserError
from fetal_jax.runtime.fingerprint import Fingerprint
from fetal_jax.runtime.keys import stage_key
from fetal_jax.runtime.metrics import MetricWriter
from fetal_jax.runtime.units import duration
from fetal_jax.train import initial, loop, overview, predictions, regimes, results
from fetal_jax.train.classify_step import Task, accuracy, predict
from fetal_jax.train.results import ClassifierMetrics, EpochRow, InitialWeights, RunName
from fetal_jax.train.state import ClassifierState


@dataclasses.dataclass(frozen=True)
class RunPlan:
  """The plan of one training.

  Attributes:
    name: model, regime and seed.
    workdir: where its results go.
    train: the training images.
    select: the images that choose the epoch.
    test: the images that results are reported on.
    records: of all images of `test`, those that are not tested too.
    seed: of the whole run.
    protocol: `honest` or `paper`.
    epochs, batch_size, steps_per_call, eval_batch_size, checkpoint_epochs, skip_nonfinite: as in `config.classify`.
    weights: the file to start from, or None.
    settings: a hash of everything that decides the result.
    split_hash: of the split, for those who use the weights or the results.
    rounds: number -> hash of the synthetic rounds that it sees, those of its start included.
    config: of the whole run, as JSON, for the checkpoints.
    role: what logs put before its name: `judge` of the judge's training.
  """

  name: RunName
  workdir: pathlib.Path
  train: list[Source]
  select: Source
  test: Source
  records: Records
  seed: int
  protocol: str
  epochs: int
  batch_size: int
  steps_per_call: int
  eval_batch_size: int
  checkpoint_epochs: int
  skip_nonfinite: int
  weights: initial.Weights | None
  settings: str
  split_hash: str
  rounds: dict[int, str]
  config: dict[str, Any]
  role: str = ''

  @property
  def title(self) -> str:
    """Returns what logs call this training."""
    return ' '.join(filter(None, [self.role, f'{self.name.model} {self.name.regime} seed {self.name.seed}']))

  @property
  def folder(self) -> pathlib.Path:
    """Returns the folder of the results."""
    return self.name.folder(self.workdir)

  @property
  def epoch_steps(self) -> int:
    """Returns the steps of an epoch: the nearest number of whole dispatches, at least one."""
    dispatch = self.batch_size * self.steps_per_call
    return max(1, round(num_images(self.train) / dispatch)) * self.steps_per_call

  @property
  def steps(self) -> int:
    """Returns the steps of all epochs."""
    return self.epochs * self.epoch_steps

  def keys(self) -> tuple[jax.Array, jax.Array]:
    """Returns the keys of the initial weights and of the training.

    All regimes of a seed share them: what differs between their results is the data's doing.
    """
    key_init, key_train = jax.random.split(
      jax.random.fold_in(stage_key(self.seed, 'classify'), self.name.seed)
    )
    return key_init, key_train


def num_images(sources: list[Source], *, real: bool | None = None) -> int:
  """Returns the number of images, or of those that are `real` or not."""
  return sum(len(source.indices) for source in sources if real in (None, source.real))


def train(task: Task, plan: RunPlan) -> None:
  """Trains one classifier or resumes its training, selects an epoch, tests it, and writes the results.

  Raises:
    UserError: a checkpoint or results are of other settings, damaged or missing, or a loss is not finite.
  """
  clock = time.monotonic()
  batches = training_batches(
    plan.train,
    batch_size=plan.batch_size,
    steps_per_call=plan.steps_per_call,
    seed=plan.seed * 1000 + plan.name.seed,
  )
  key_init, key_train = plan.keys()
  with Checkpointer(plan.folder / 'checkpoints', keep=1) as checkpointer:
    begun = _resume(task, plan, checkpointer, batches) or _start(task, plan, key_init)
    clock -= begun.seconds
    logs = plan.workdir / 'logs' / plan.folder.relative_to(plan.workdir)
    with MetricWriter(logs, start_step=loop.logged_step(begun.step, begun.account)) as writer:
      epochs = EpochSelector(task, plan, begun, checkpointer, writer)
      state = loop.train(
        begun.state,
        lambda state, batch: task.update(state, batch, key_train),
        devices.put_batches(task.mesh, batches, ('images', 'labels', 'real')),
        loop.Schedule(
          start=begun.step,
          steps=plan.steps,
          steps_per_call=plan.steps_per_call,
          images_per_step=plan.batch_size,
          log_every=plan.epoch_steps,
          save_every=plan.checkpoint_epochs * plan.epoch_steps,
        ),
        loop.Hooks(
          log=epochs.log,
          actions=((plan.epoch_steps, epochs.select),),
          save=functools.partial(_save, checkpointer, plan, epochs, batches, clock),
        ),
        title=plan.title,
        resumed=begun.account,
        skip_nonfinite=plan.skip_nonfinite,
      )

  tested = predict(task, epochs.best, plan.test, batch_size=plan.eval_batch_size)
  tested_last = predict(task, state.variables, plan.test, batch_size=plan.eval_batch_size)
  _write_results(task, plan, epochs, tested, tested_last, time.monotonic() - clock)


# MARK: Start, resume, save


@dataclasses.dataclass(frozen=True)
class Begun:
  """The beginning of a training: fresh, or resumed.

  Attributes:
    step: steps done.
    state: of that step.
    best: variables of the best epoch so far.
    history: the epochs so far.
    seconds: spent so far.
    account: of the loop; see `loop.train`.
  """

  step: int
  state: ClassifierState
  best: Any
  history: list[EpochRow]
  seconds: float
  account: loop.Account


def _resume(
  task: Task, plan: RunPlan, checkpointer: Checkpointer, batches: grain.DatasetIterator
) -> Begun | None:
  """Reads the last checkpoint and sets `batches` to it; None if there is none."""
  step = checkpointer.latest_step()
  if not step:
    return None
  saved, meta = checkpointer.restore(step, {'state': task.like, 'best': task.like.variables})
  if meta['settings'] != plan.settings:
    raise UserError(f'{checkpointer.directory}: trained with other settings or data; use a new --workdir')
  batches.set_state(meta['loader'])
  log_resumption(plan.title, step, plan.steps)
  history = msgspec.convert(meta['history'], list[EpochRow])
  return Begun(step, saved['state'], saved['best'], history, meta['seconds'], meta['loop'])


def _start(task: Task, plan: RunPlan, key: jax.Array) -> Begun:
  """Makes the first state: of fresh weights, those of another regime, or those of a file."""
  state = task.init(key)
  if pretraining := regimes.get(plan.name.regime).start:
    folder = plan.name._replace(regime=pretraining).folder(plan.workdir)
    state = dataclasses.replace(state, variables=_load_selected(folder, task))
  elif plan.weights:
    fresh = devices.to_host(task.mesh, state.variables)
    variables = initial.classifier_variables(task.name, plan.weights, fresh)
    state = dataclasses.replace(state, variables=devices.put_like(variables, state.variables))
  return Begun(0, state, jax.tree.map(jnp.copy, state.variables), [], 0.0, {})


def _load_selected(folder: pathlib.Path, task: Task) -> Any:
  """Reads the selected weights of the run in `folder`."""
  remedy = f'delete {folder} and run --stage=classify again'
  with Checkpointer(folder / 'selected', keep=1, remedy=remedy) as checkpointer:
    step = checkpointer.latest_step()
    if step is None:
      raise UserError(f'{folder}: no selected weights to start from; {remedy}')
    return checkpointer.restore(step, task.like.variables)[0]


def _save(
  checkpointer: Checkpointer,
  plan: RunPlan,
  epochs: 'EpochSelector',
  batches: grain.DatasetIterator,
  clock: float,
  step: int,
  state: ClassifierState,
  account: loop.Account,
) -> None:
  """Writes a checkpoint with everything that `_resume` needs."""
  checkpointer.save(
    step,
    {'state': state, 'best': epochs.best},
    {
      'config': plan.config,
      'settings': plan.settings,
      'loader': batches.get_state(),
      'loop': account,
      'history': msgspec.to_builtins(epochs.history),
      'seconds': time.monotonic() - clock,
    },
  )


# MARK: Epochs


class EpochSelector:
  """The epochs of a training, and the weights of the best one.

  Attributes:
    history: the epochs so far.
    best: variables of the epoch with the highest score, the first of equals.
  """

  def __init__(
    self, task: Task, plan: RunPlan, begun: Begun, checkpointer: Checkpointer, writer: MetricWriter
  ) -> None:
    self.history, self.best = list(begun.history), begun.best
    self._task, self._plan = task, plan
    self._checkpointer, self._writer = checkpointer, writer
    self._means: dict[str, float] = {}

  def log(self, step: int, means: dict[str, float]) -> str:
    """Logs the means over an epoch's batches."""
    self._checkpointer.check()
    self._means = means
    self._writer.write_scalars(step, means)
    return f'{means["img_per_s"]:.3g} img/s, loss {means["loss"]:.3f}, accuracy {means["accuracy"]:.3f}'

  def select(self, step: int, state: ClassifierState) -> None:
    """Scores an epoch, and keeps a copy of its weights if it is the best so far."""
    plan = self._plan
    probabilities = predict(self._task, state.variables, plan.select, batch_size=plan.eval_batch_size)
    score = accuracy(probabilities, plan.select)
    honest = plan.protocol == 'honest'
    self._writer.write_scalars(step, {'validation_accuracy' if honest else 'test_accuracy': score})
    highest = max((row.score for row in self.history), default=-1.0)
    self.history.append(
      EpochRow(
        epoch=step // plan.epoch_steps,
        step=step,
        train_loss=self._means['loss'],
        train_accuracy=self._means['accuracy'],
        validation_accuracy=score if honest else None,
        test_accuracy=None if honest else score,
        score=score,
      )
    )
    if score > highest:
      # A copy, because the next step takes the state's buffers.
      self.best = jax.tree.map(jnp.copy, state.variables)


def best_epoch(history: list[EpochRow]) -> EpochRow:
  """Returns the epoch with the highest score, the first of equals."""
  return max(history, key=lambda row: row.score)


# MARK: Results


def _metrics(
  task: Task,
  plan: RunPlan,
  history: list[EpochRow],
  tested: np.ndarray,
  tested_last: np.ndarray,
  seconds: float,
) -> ClassifierMetrics:
  """Sums the training up when predictions.csv is written.

  Args:
    task, plan: of the training.
    history: its epochs.
    tested, tested_last: probabilities of the test images, by the selected epoch and by the last one.
    seconds: it took.
  """
  model, regime, seed = plan.name
  best = best_epoch(history)
  return ClassifierMetrics(
    model=model,
    regime=regime,
    seed=seed,
    protocol=plan.protocol,
    epochs=plan.epochs,
    selected_epoch=best.epoch,
    steps=plan.steps,
    batch_size=plan.batch_size,
    real_images=num_images(plan.train, real=True),
    synthetic_images=num_images(plan.train, real=False),
    parameters=overview.count_parameters(task.like.variables['params']),
    train_accuracy=best.train_accuracy,
    validation_accuracy=best.validation_accuracy,
    test_accuracy=accuracy(tested, plan.test),
    test_accuracy_last=accuracy(tested_last, plan.test),
    seconds=seconds,
    initialised_from=regimes.get(regime).start,
    init_from=_initial_weights(plan.weights),
    settings=plan.settings,
    split_hash=plan.split_hash,
    rounds={str(number): mark for number, mark in plan.rounds.items()},
    predictions=Fingerprint.of(plan.folder / predictions.NAME),
    history=history,
  )


def _initial_weights(weights: initial.Weights | None) -> InitialWeights | None:
  if weights is None:
    return None
  return InitialWeights(file=weights.path.name, sha256=weights.sha256, part=weights.part)


def _write_results(
  task: Task,
  plan: RunPlan,
  epochs: EpochSelector,
  tested: np.ndarray,
  tested_last: np.ndarray,
  seconds: float,
) -> None:
  """Writes predictions, selected weights and metrics (see `_metrics`); then the checkpoints go."""
  best = best_epoch(epochs.history)
  first = jax.process_index() == 0
  if first:
    rows = predictions.of(plan.records.take(plan.test.indices), tested)
    predictions.write_csv(plan.folder / predictions.NAME, rows)
  with Checkpointer(plan.folder / 'selected', keep=1) as selected:
    about = {'config': plan.config, 'settings': plan.settings, 'split_hash': plan.split_hash}
    selected.save(best.step, epochs.best, about)
  if not first:
    return
  metrics = _metrics(task, plan, epochs.history, tested, tested_last, seconds)
  results.write(plan.folder, metrics)  # last: it says that the run is whole
  checkpoint.remove(plan.folder / 'checkpoints')
  logging.info(
    '%s: test accuracy %.3f (epoch %d of %d, selection accuracy %.3f, %d real + %d synthetic images, %s)',
    plan.title,
    metrics.test_accuracy,
    metrics.selected_epoch,
    plan.epochs,
    best.score,
    metrics.real_images,
    metrics.synthetic_images,
    duration(metrics.seconds),
  )
