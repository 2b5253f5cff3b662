"""The training loop of every task: dispatches steps, logs, acts from time to time, and stops where nothing is lost."""

import collections
import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Generic, NoReturn, TypedDict, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from fetal_jax.runtime import devices, signals
from fetal_jax.runtime.errors import UserError
from fetal_jax.runtime.progress import Progress
from fetal_jax.train import skipping

State = TypeVar('State')
Action = TypeVar('Action')
# The measurements of a step: name -> (sum, count), so that means over any number of steps and examples are exact.
Sums = Mapping[str, tuple[jax.Array, jax.Array]]

# Dispatches that may wait for the device: enough to keep it busy, few enough to keep batches from piling up.
_IN_FLIGHT = 4


class Account(TypedDict, total=False):
  """What the loop has not done yet at the step of a checkpoint, as JSON for it.

  Attributes:
    unlogged: measurements that are not logged, [sum, count] by name.
    skipped_steps: steps that were left out before that.
    due: the means to be logged at this step, where its log line and its actions are still due: the run was asked to
      stop before they were done.
  """

  unlogged: dict[str, list[float]]
  skipped_steps: int
  due: dict[str, float]


def logged_step(step: int, account: Account) -> int:
  """Returns the last step whose rows stay where a run resumes from `step`: those of what is still due come again."""
  return step - ('due' in account)


def give_way() -> None:
  """Raises `signals.Stopped` if this run was asked to stop; actions call it between two batches, before they write.

  What is left of an action is done by the run that resumes. Of several processes none gives way, because all would have
  to at the same place: they finish the action.
  """
  if signals.requested() and jax.process_count() == 1:
    signals.stop()


@dataclasses.dataclass(frozen=True)
class Schedule:
  """The steps of a run, and how often it logs and saves.

  Attributes:
    start: steps done before.
    steps: steps to have done at the end.
    steps_per_call: steps in one dispatch.
    images_per_step: the batch size, for img/s.
    log_every: steps between two logs.
    save_every: steps between two checkpoints; 0 = one at the end.
  """

  start: int
  steps: int
  steps_per_call: int
  images_per_step: int
  log_every: int
  save_every: int = 0

  def is_due(self, every: int, before: int) -> bool:
    """Returns whether the dispatch after step `before` completes `every` steps once more, or the run."""
    step = before + self.steps_per_call
    return step >= self.steps or (every > 0 and step // every > before // every)

  def due(self, actions: Sequence[tuple[int, Action]], before: int) -> list[Action]:
    """Returns the actions, each with how often it comes, that are due as in `is_due`."""
    return [action for every, action in actions if self.is_due(every, before)]


@dataclasses.dataclass(frozen=True)
class Hooks(Generic[State]):
  """The functions of a task that the loop calls from time to time.

  Attributes:
    log: takes the step and the means since the last log, with `img_per_s`; returns a few words for the progress line.
    actions: (every, action): `action(step, state)` after each `every` steps, and at the end. One that takes long calls
      `give_way`.
    save: `save(step, state, account)` writes a checkpoint, after the actions; also at the end, and before an early
      stop. `account` belongs in the checkpoint.
  """

  log: Callable[[int, dict[str, float]], str]
  actions: Sequence[tuple[int, Callable[[int, State], None]]] = ()
  save: Callable[[int, State, Account], None] | None = None


def train(
  state: State,
  update: Callable[[State, Any], tuple[State, Sums]],
  batches: Iterator[Any],
  schedule: Schedule,
  hooks: Hooks[State],
  *,
  title: str,
  resumed: Account | None = None,
  skip_nonfinite: int = 0,
  log_seconds: float = 10.0,
) -> State:
  """Runs `update` from the first to the last step of `schedule`.

  Between two logs the host does not wait for the device, except that at most a few dispatches are under way. At logs,
  and before actions and checkpoints, the means since the last log are read and must be finite. When the run is asked
  to stop, it finishes the dispatch and writes a checkpoint, which comes before actions that have not ended: the run that
  resumes does what is due at that step first. Of several processes it is enough that one is asked: all stop at the same
  step.

  Args:
    state: of step `schedule.start`; its buffers are donated to `update`.
    update: does `steps_per_call` optimiser steps on a batch; returns the new state and sums.
    batches: in the order of the run, already on the devices.
    schedule: which steps, and how often to log and save.
    hooks: how to log and save, and what else to do.
    title: for progress and errors.
    resumed: the `Account` of the checkpoint of `state`: with it an early stop changes no logged mean and no action.
    skip_nonfinite: how many steps `update` may leave out (see `skipping`) before this raises.
    log_seconds: least time between two plain lines where there is no terminal.

  Returns:
    The state after the last step.

  Raises:
    UserError: a mean is not finite, or too many steps were left out.
    signals.Stopped: the run was asked to stop, and its checkpoint is being written.
  """
  start, steps = schedule.start, schedule.steps
  window = _Window(title, start, schedule.steps_per_call, skip_nonfinite, resumed or {})
  in_flight = _InFlight()

  def stop(step: int) -> NoReturn:
    how = 'with' if hooks.save else 'without'
    signals.stop(f'{title} is at step {step} of {steps}, {how} a checkpoint', together=True)

  with signals.deferred(), Progress(title, steps, 'steps', done=start, log_seconds=log_seconds) as progress:
    due = (resumed or {}).get('due')
    if due is not None:
      actions = schedule.due(hooks.actions, start - schedule.steps_per_call)
      if not _log_and_act(start, state, due, hooks.log, actions, progress, in_flight):
        stop(start)
    saved, clock = start, time.monotonic()
    for before in range(start, steps, schedule.steps_per_call):
      with jax.profiler.StepTraceAnnotation('train', step_num=before):
        state, sums = update(state, next(batches))
      window.sums.append(sums)
      in_flight.add(sums)

      step = before + schedule.steps_per_call
      progress.tick(step)
      actions = schedule.due(hooks.actions, before)
      save_now = schedule.is_due(schedule.save_every, before)
      if actions or (hooks.save and save_now) or schedule.is_due(schedule.log_every, before):
        means = window.means(step, saved)
        seconds = max(time.monotonic() - clock, 1e-9)
        means['img_per_s'] = (step - window.begun) * schedule.images_per_step / seconds
        window.close(step)
        if not _log_and_act(step, state, means, hooks.log, actions, progress, in_flight):
          if hooks.save:
            hooks.save(step, state, {**window.account(), 'due': means})
          stop(step)
        if hooks.save and save_now:
          hooks.save(step, state, window.account())
          saved = step
        clock = time.monotonic()  # actions do not count as training time
      if in_flight.stop and step < steps:
        if hooks.save and saved < step:
          window.read(step, saved)
          hooks.save(step, state, window.account())
        stop(step)
  return state


def _log_and_act(
  step: int,
  state: State,
  means: dict[str, float],
  log: Callable[[int, dict[str, float]], str],
  actions: Sequence[Callable[[int, State], None]],
  progress: Progress,
  in_flight: '_InFlight',
) -> bool:
  """Does what is due at `step`; returns whether all of it was done: false where actions gave way to a stop."""
  if actions and in_flight.stop:
    return False
  progress.update(step, log(step, means))
  try:
    for action in actions:
      action(step, state)
  except signals.Stopped:
    return False
  return True


class _InFlight:
  """The dispatches that the device has not done yet, and with each a vote on whether the run stops.

  Of several processes each tells the others with every dispatch whether it was asked to stop, by a sum over the
  devices. All of them look at the sum of a dispatch when that is done. So `stop` turns true in all processes after
  the same dispatch.
  """

  def __init__(self) -> None:
    self._dispatches: collections.deque[Any] = collections.deque()
    self._stop = False
    self._many = jax.process_count() > 1
    if self._many:
      self._mesh = devices.make_mesh()
      self._sum = jax.jit(jnp.sum, out_shardings=devices.replicated(self._mesh))

  def add(self, sums: Sums) -> None:
    """Adds a dispatch, given by what it will measure; waits for the oldest one if there are too many."""
    self._dispatches.append((sums, self._vote()))
    if len(self._dispatches) > _IN_FLIGHT:
      _, votes = jax.block_until_ready(self._dispatches.popleft())
      self._stop |= votes is not None and int(votes) > 0

  def _vote(self) -> jax.Array | None:
    """Starts to count the processes that are asked to stop."""
    if not self._many:
      return None
    return self._sum(devices.put_batch(self._mesh, np.full(self._mesh.size, signals.requested(), np.int32)))

  @property
  def stop(self) -> bool:
    """Returns whether the run stops now."""
    return self._stop if self._many else signals.requested()


class _Window:
  """The measurements since the last log.

  Attributes:
    sums: of dispatches that have not been read from the device.
    begun: the step after which the window began, or at which this process started.
  """

  def __init__(
    self, title: str, start: int, steps_per_call: int, skip_nonfinite: int, account: Account
  ) -> None:
    self.sums: list[Sums] = []
    self.begun = start
    self._title, self._steps_per_call, self._limit = title, steps_per_call, skip_nonfinite
    self._totals = {name: np.asarray(pair) for name, pair in account.get('unlogged', {}).items()}
    self._skipped = account.get('skipped_steps', 0)  # before this window

  def read(self, step: int, saved: int) -> None:
    """Reads what was measured up to `step`; `saved` is the step of the last checkpoint.

    Raises:
      UserError: something is not finite, or too many steps were left out.
    """
    sums, self.sums = jax.device_get(self.sums), []
    _add(self._totals, sums)
    kept = f'the checkpoint of step {saved} is kept' if saved else 'there is no checkpoint yet'
    if not all(np.isfinite(pair).all() for pair in self._totals.values()):
      raise UserError(
        f'{self._title}: {_first_broken(sums, step, self._steps_per_call)} (of steps {self.begun} to {step}); {kept}: '
        'resume with --config.dtype=float32, or leave such steps out with skip_nonfinite=10, or lower the learning rate '
        'in a new --workdir'
      )
    left_out, steps, reasons = skipping.count(self._totals)
    if left_out and (self._skipped + left_out > self._limit or left_out == steps):
      raise UserError(
        f'{self._title}: {left_out} of the {steps} steps up to {step} were not finite and left out ({reasons}), '
        f'{self._skipped + left_out} so far, where skip_nonfinite={self._limit} in all; {kept}: lower the learning '
        'rate in a new --workdir, or resume with --config.dtype=float32'
      )

  def means(self, step: int, saved: int) -> dict[str, float]:
    """Reads, and raises, as `read` does; returns the means, and how many steps were left out so far."""
    self.read(step, saved)
    means = _means({name: pair for name, pair in self._totals.items() if not skipping.is_count(name)})
    if any(map(skipping.is_count, self._totals)):
      means['skipped_steps'] = float(self._skipped + skipping.count(self._totals)[0])
    return means

  def close(self, step: int) -> None:
    """Begins the next window."""
    self.begun = step
    self._skipped += skipping.count(self._totals)[0]
    self._totals = {}

  def account(self) -> Account:
    """Returns what has been read and not logged, for the `_Window` of the process that resumes."""
    unlogged = {name: pair.tolist() for name, pair in self._totals.items()}
    return {'unlogged': unlogged, 'skipped_steps': self._skipped}


def average(sums: Sequence[Sums]) -> dict[str, float]:
  """Returns the means over several steps; names that were never counted are left out."""
  totals: dict[str, np.ndarray] = {}
  _add(totals, jax.device_get(list(sums)))
  return _means(totals)


def _add(totals: dict[str, np.ndarray], sums: Sequence[Mapping[str, Any]]) -> None:
  """Adds sums on the host to totals, which are (sum, count) in float64."""
  for entry in sums:
    for name, pair in entry.items():
      totals[name] = totals.get(name, np.zeros(2)) + np.asarray(
        [np.sum(part, dtype=np.float64) for part in pair]
      )


def _means(totals: Mapping[str, np.ndarray]) -> dict[str, float]:
  return {name: float(total / count) for name, (total, count) in totals.items() if count}


def _first_broken(sums: Sequence[Mapping[str, Any]], step: int, steps_per_call: int) -> str:
  """Says what was not finite first: its name, its value and its step.

  Args:
    sums: on the host, of the dispatches up to `step`; with several steps a dispatch, the first axis is the step's.
    step: the last one.
    steps_per_call: steps a dispatch.
  """
  first = step - steps_per_call * len(sums) + 1
  for number, entry in enumerate(sums):
    for k in range(steps_per_call):
      values = {name: pair[0][k] if steps_per_call > 1 else pair[0] for name, pair in entry.items()}
      broken = [name for name, value in values.items() if not np.isfinite(value).all()]
      if broken:
        name = min(broken, key=skipping.is_gradient)  # a loss that is not finite spoils its gradient
        return f'{name} became {np.sum(values[name])} at step {first + number * steps_per_call + k}'
  return 'a sum was not finite'
