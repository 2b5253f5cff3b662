"""The training loop of every task: dispatch, watch, act from time to time, stop where nothing is lost."""

import collections
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from fetal_jax.runtime import devices, signals
from fetal_jax.runtime.errors import UserError
from fetal_jax.runtime.progress import Progress
from fetal_jax.train import skipping

State = TypeVar('State')
# Of what a step measured: name -> (sum, count), so that any number of steps and examples average exactly.
Sums = Mapping[str, tuple[jax.Array, jax.Array]]

# Dispatches that may wait for the device: enough to keep it busy, few enough to keep batches from piling up.
_IN_FLIGHT = 4


def train(
  state: State,
  update: Callable[[State, Any], tuple[State, Sums]],
  batches: Iterator[Any],
  *,
  title: str,
  start: int,
  steps: int,
  steps_per_call: int,
  images_per_step: int,
  log_every: int,
  on_log: Callable[[int, dict[str, float]], str],
  actions: Sequence[tuple[int, Callable[[int, State], None]]] = (),
  save_every: int = 0,
  save: Callable[[int, State, dict[str, Any]], None] | None = None,
  resumed: Mapping[str, Any] | None = None,
  skip_nonfinite: int = 0,
  log_seconds: float = 10.0,
) -> State:
  """Runs `update` from step `start` to step `steps`.

  The host never waits for the device between logs, but for a few dispatches of slack. At logs and before actions and
  checkpoints the means since the last log are read and must be finite. Where the run is asked to stop, the dispatch
  is finished and a checkpoint written; of several processes it is enough that one is asked, and all stop at the same
  step.

  Args:
    state: of step `start`; its buffers are donated to `update`.
    update: does `steps_per_call` optimiser steps on a batch; returns the new state and sums.
    batches: host batches, already in the order of the run and moved to the device by the iterator.
    title: for progress and errors.
    start: steps done.
    steps: steps to have done at the end.
    steps_per_call: of `update`.
    images_per_step: for img/s.
    log_every: steps between two calls of `on_log`.
    on_log: takes the step and the means since the last call, with `img_per_s`; returns a few words for the
      progress line.
    actions: (every, action): `action(step, state)` whenever `every` steps are full, and at the end.
    save_every: steps between two checkpoints.
    save: `save(step, state, account)` writes one, after the actions; also at the end, and before an early stop.
      `account` is JSON, and belongs in the checkpoint.
    resumed: the `account` of the checkpoint that `state` is of: with it an early stop changes no logged mean.
    skip_nonfinite: steps that `update` may leave out (see `skipping`) before this stops.
    log_seconds: least time between two plain lines where there is no terminal.

  Returns:
    The state after `steps` steps.

  Raises:
    UserError: a mean is not finite, or too many steps were left out.
    signals.Stopped: the run was asked to stop, and its checkpoint is being written.
  """
  window = _Window(title, start, steps_per_call, skip_nonfinite, resumed or {})
  saved, clock = start, time.monotonic()
  votes = _Votes()
  in_flight: collections.deque[Any] = collections.deque()
  with signals.deferred(), Progress(title, steps, 'steps', done=start, log_seconds=log_seconds) as progress:
    for before in range(start, steps, steps_per_call):
      with jax.profiler.StepTraceAnnotation('train', step_num=before):
        state, sums = update(state, next(batches))
      window.sums.append(sums)
      in_flight.append((sums, votes.cast()))
      if len(in_flight) > _IN_FLIGHT:
        votes.count(*jax.block_until_ready(in_flight.popleft()))

      step = before + steps_per_call
      progress.tick(step)
      due = [action for every, action in actions if _is_due(every, before, step, steps)]
      save_now = save is not None and _is_due(save_every, before, step, steps)
      if due or save_now or _is_due(log_every, before, step, steps):
        means = window.means(step, saved)
        means['img_per_s'] = (step - window.begun) * images_per_step / max(time.monotonic() - clock, 1e-9)
        progress.update(step, on_log(step, means))
        window.close(step)
        for action in due:
          action(step, state)
        if save is not None and save_now:
          save(step, state, window.account())
          saved = step
        clock = time.monotonic()  # actions do not count as training time
      if votes.stop and step < steps:
        if save is not None and saved < step:
          window.read(step, saved)
          save(step, state, window.account())
        kept = 'with a checkpoint' if save else 'without a checkpoint'
        signals.stop(f'{title} is at step {step} of {steps}, {kept}', together=True)
  return state


def _is_due(every: int, before: int, step: int, steps: int) -> bool:
  return step // every > before // every or step >= steps


class _Votes:
  """Whether the run stops: `stop` turns true in all processes after the same dispatch, if one of them was asked to.

  Each tells the others with every dispatch, by a sum over the devices; what it comes to is known when the dispatch is
  done, and looked at when all of them look.
  """

  def __init__(self) -> None:
    self._stop = False
    self._many = jax.process_count() > 1
    if self._many:
      self._mesh = devices.make_mesh()
      self._sum = jax.jit(jnp.sum, out_shardings=devices.replicated(self._mesh))

  def cast(self) -> jax.Array | None:
    """What this process has to say with the dispatch that it has just made."""
    if not self._many:
      return None
    return self._sum(devices.put_batch(self._mesh, np.full(self._mesh.size, signals.requested(), np.int32)))

  def count(self, _: Sums, votes: jax.Array | None) -> None:
    """Looks at the votes of a dispatch that is done."""
    self._stop |= votes is not None and int(votes) > 0

  @property
  def stop(self) -> bool:
    return self._stop if self._many else signals.requested()


class _Window:
  """What was measured since the last log.

  Attributes:
    sums: of dispatches that have not been read from the device.
    begun: the step after which it began, or this process did.
  """

  def __init__(
    self, title: str, start: int, steps_per_call: int, skip_nonfinite: int, account: Mapping[str, Any]
  ) -> None:
    self.sums: list[Sums] = []
    self.begun = start
    self._title, self._steps_per_call, self._limit = title, steps_per_call, skip_nonfinite
    self._totals = {name: np.asarray(pair) for name, pair in account.get('unlogged', {}).items()}
    self._skipped = account.get('skipped_steps', 0)  # before this window

  def read(self, step: int, saved: int) -> None:
    """Reads what there is up to `step`.

    Raises:
      UserError: something is not finite, or too many steps were left out; `saved` is the step of the last checkpoint.
    """
    sums, self.sums = jax.device_get(self.sums), []
    _add(self._totals, sums)
    kept = f'the checkpoint of step {saved} is kept' if saved else 'there is no checkpoint yet'
    if not all(np.isfinite(pair).all() for pair in self._totals.values()):
      raise UserError(
        f'{self._title}: {_first_broken(sums, step, self._steps_per_call)} (of steps {self.begun} to {step}); {kept}: go on with '
        '--config.dtype=float32, or leave such steps out with skip_nonfinite=10, or lower the learning rate in a new '
        '--workdir'
      )
    left_out, steps, reasons = skipping.count(self._totals)
    if left_out and (self._skipped + left_out > self._limit or left_out == steps):
      raise UserError(
        f'{self._title}: {left_out} of the {steps} steps up to {step} were not finite and left out ({reasons}), '
        f'{self._skipped + left_out} so far, where skip_nonfinite={self._limit} in all; {kept}: lower the learning '
        'rate in a new --workdir, or go on with --config.dtype=float32'
      )

  def means(self, step: int, saved: int) -> dict[str, float]:
    """The means of what was measured, and how many steps were left out so far; reads, and raises as `read` does."""
    self.read(step, saved)
    means = _means({name: pair for name, pair in self._totals.items() if not skipping.is_count(name)})
    if any(map(skipping.is_count, self._totals)):
      means['skipped_steps'] = float(self._skipped + skipping.count(self._totals)[0])
    return means

  def close(self, step: int) -> None:
    """Begins the next one."""
    self.begun = step
    self._skipped += skipping.count(self._totals)[0]
    self._totals = {}

  def account(self) -> dict[str, Any]:
    """What has been read, as JSON: the last argument of another process's `_Window`."""
    unlogged = {name: pair.tolist() for name, pair in self._totals.items()}
    return {'unlogged': unlogged, 'skipped_steps': self._skipped}


def average(sums: Sequence[Sums]) -> dict[str, float]:
  """The means of several steps; names that were never counted are left out."""
  totals: dict[str, np.ndarray] = {}
  _add(totals, jax.device_get(list(sums)))
  return _means(totals)


def _add(totals: dict[str, np.ndarray], sums: Sequence[Mapping[str, Any]]) -> None:
  """Adds sums that are on the host to totals, which are (sum, count) in float64."""
  for entry in sums:
    for name, pair in entry.items():
      totals[name] = totals.get(name, np.zeros(2)) + np.asarray(
        [np.sum(part, dtype=np.float64) for part in pair]
      )


def _means(totals: Mapping[str, np.ndarray]) -> dict[str, float]:
  return {name: float(total / count) for name, (total, count) in totals.items() if count}


def _first_broken(sums: Sequence[Mapping[str, Any]], step: int, steps_per_call: int) -> str:
  """What was not finite first: its name, its value and its step.

  Args:
    sums: on the host, of the dispatches up to `step`; of several steps a dispatch, the first axis is theirs.
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
