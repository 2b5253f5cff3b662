"""The training loop of every task: dispatch, watch, act from time to time."""

import collections
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from absl import logging

from fetal_jax.errors import UserError
from fetal_jax.progress import Progress

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
  log_seconds: float = 10.0,
) -> State:
  """Runs `update` from step `start` to step `steps`.

  The host never waits for the device between logs, but for a few dispatches of slack. At logs and before
  actions (checkpoints among them) the means since the last log are read and must be finite.

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
    log_seconds: least time between two plain lines where there is no terminal.

  Returns:
    The state after `steps` steps.

  Raises:
    UserError: a mean is not finite.
  """
  pending: list[Sums] = []
  in_flight: collections.deque[Any] = collections.deque()
  last_log, clock = start, time.monotonic()
  with Progress(title, steps, 'steps', done=start, log_seconds=log_seconds) as progress:
    for before in range(start, steps, steps_per_call):
      with jax.profiler.StepTraceAnnotation('train', step_num=before):
        state, sums = update(state, next(batches))
      pending.append(sums)
      in_flight.append(sums)
      if len(in_flight) > _IN_FLIGHT:
        jax.block_until_ready(in_flight.popleft())

      step = before + steps_per_call
      due = [action for every, action in actions if step // every > before // every or step >= steps]
      if due or step // log_every > before // log_every or step >= steps:
        means = average(pending)
        _check_finite(title, means, last_log, step)
        means['img_per_s'] = (step - last_log) * images_per_step / max(time.monotonic() - clock, 1e-9)
        progress.update(step, on_log(step, means))
        pending, last_log = [], step
        for action in due:
          action(step, state)
        clock = time.monotonic()  # actions do not count as training time
  return state


def average(sums: Sequence[Sums]) -> dict[str, float]:
  """The means of several steps; names that were never counted are left out."""
  host = jax.device_get(list(sums))
  totals: dict[str, np.ndarray] = {}
  for entry in host:
    for name, pair in entry.items():
      totals[name] = totals.get(name, np.zeros(2)) + np.asarray(
        [np.sum(part, dtype=np.float64) for part in pair]
      )
  return {name: float(total / count) for name, (total, count) in totals.items() if count}


def _check_finite(title: str, means: Mapping[str, float], after: int, step: int) -> None:
  broken = [name for name, value in means.items() if not np.isfinite(value)]
  if broken:
    logging.error('%s: %s not finite.', title, ', '.join(broken))
    raise UserError(
      f'{title}: {broken[0]} became {means[broken[0]]} between steps {after} and {step}; the last good checkpoint '
      'is kept: lower the learning rate (or raise the precision with --config.dtype=float32) and start again'
    )
