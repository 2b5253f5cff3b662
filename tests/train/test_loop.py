"""When the loop logs, acts and stops."""

import itertools
import json
import types

import jax
import jax.numpy as jnp
import pytest

from fetal_jax.runtime import devices, signals
from fetal_jax.runtime.errors import UserError
from fetal_jax.train import loop
from fetal_jax.train.loop import Hooks, Schedule


def run(
  losses,
  *,
  start=0,
  steps=12,
  steps_per_call=2,
  log_every=4,
  save_every=0,
  norms=lambda step: 1.0,
  actions=(),
  save=None,
  resumed=None,
):
  logged = []

  def update(state, batch):
    values = {
      name: jnp.asarray([value(state + i) for i in range(steps_per_call)], jnp.float32)
      for name, value in (('loss', losses), ('grad_norm', norms))
    }
    return state + steps_per_call, {name: (value, jnp.ones(steps_per_call)) for name, value in values.items()}

  final = loop.train(
    start,
    update,
    itertools.repeat(None),
    Schedule(start, steps, steps_per_call, images_per_step=8, log_every=log_every, save_every=save_every),
    Hooks(lambda step, means: logged.append((step, means['loss'])) or '', actions, save),
    title='test',
    resumed=resumed,
  )
  return final, logged


def test_means_are_over_the_steps_since_the_last_log():
  final, logged = run(float)
  assert final == 12
  assert logged == [(4, 1.5), (8, 5.5), (12, 9.5)]


def test_actions_come_when_due_and_at_the_end():
  seen = []
  run(float, actions=[(5, lambda step, state: seen.append((step, state)))])
  assert seen == [(6, 6), (10, 10), (12, 12)]  # the first dispatch after 5 and after 10, and the end


def test_images_a_second_are_those_of_the_window_without_its_actions(monkeypatch):
  """Two steps of 8 images take 4 s, an action between two logs 100 s more."""
  clock, rates = [1000.0], []
  monkeypatch.setattr(loop, 'time', types.SimpleNamespace(monotonic=lambda: clock[0]))

  def wait(seconds):
    clock[0] += seconds

  def update(state, batch):
    wait(4)
    return state + 2, {'loss': (jnp.ones(2), jnp.ones(2))}

  loop.train(
    4,
    update,
    itertools.repeat(None),
    Schedule(4, 12, steps_per_call=2, images_per_step=8, log_every=4),
    Hooks(lambda step, means: rates.append(means['img_per_s']) or '', [(4, lambda *_: wait(100))]),
    title='test',
  )
  assert rates == [4.0, 4.0]


def test_a_resumed_run_logs_what_an_uninterrupted_one_does():
  _, whole = run(float)
  _, rest = run(float, start=4)
  assert rest == whole[1:]


@pytest.mark.parametrize(
  ('spoiled', 'said'),
  [
    (('losses', 6), 'loss became nan at step 7 .of steps 4 to 8.; the checkpoint of step 4 is kept'),
    (('losses', 1), 'loss became nan at step 2 .of steps 0 to 4.; there is no checkpoint yet'),
    (('norms', 9), 'grad_norm became nan at step 10 .of steps 8 to 12.; the checkpoint of step 8 is kept'),
  ],
)
def test_what_is_not_finite_stops_before_the_checkpoint(spoiled, said):
  name, bad = spoiled
  # From then on everything is spoiled, as parameters are.
  values = {'losses': lambda step: float('nan') if step >= bad + (name == 'norms') else 1.0}
  values['norms'] = lambda step: float('nan') if step >= bad else 1.0
  saved = []
  with pytest.raises(UserError, match=said):
    run(**values, save_every=4, save=lambda step, state, account: saved.append(step))
  assert saved == list(range(4, bad, 4))


class Stops:
  """A loss of every step that asks the run to stop in step `at`, and the checkpoints that are written."""

  def __init__(self, monkeypatch, at):
    self.at, self.saved = at, []
    self.asked = False
    monkeypatch.setattr(signals, 'requested', lambda: self.asked)

  def loss(self, step):
    self.asked |= step == self.at
    return 1 / (1 + step)  # of no round binary number

  def save(self, step, state, account):
    self.saved.append((step, state, account))


@pytest.mark.parametrize('at', range(10))
def test_a_stopped_run_goes_on_as_if_nothing_had_been(monkeypatch, at):
  """Wherever it was stopped: steps, logged means to the bit, checkpoints."""
  whole = Stops(monkeypatch, None)
  _, logged = run(whole.loss, steps_per_call=1, log_every=4, save_every=5, save=whole.save)
  assert [step for step, _, _ in whole.saved] == [5, 10, 12]
  stops, before = Stops(monkeypatch, at), []
  with pytest.raises(signals.Stopped, match=f'test is at step {at + 1} of 12, with a checkpoint'):
    run(
      stops.loss,
      steps_per_call=1,
      log_every=4,
      save_every=5,
      save=stops.save,
      actions=[(4, lambda step, state: before.append(step))],
    )
  step, state, account = stops.saved[-1]
  assert step == state == at + 1
  assert len({step for step, _, _ in stops.saved}) == len(stops.saved)  # none is written twice
  account = json.loads(json.dumps(account))  # as it comes back from a checkpoint
  stops.asked, stops.at = False, None
  _, rest = run(
    stops.loss, start=step, steps_per_call=1, log_every=4, save_every=5, save=stops.save, resumed=account
  )
  assert rest == [row for row in logged if row[0] > loop.logged_step(step, account)]
  assert {s for s, _, _ in stops.saved} == {5, 10, 12, at + 1}
  assert before == [s for s in (4, 8) if s < step]  # what is due at this step is left to the run that resumes


def interrupted(monkeypatch, at, during):
  """Trains 12 steps with actions after each 4, asked to stop within step `at` or (`during`) in the action after it.

  Returns:
    The actions before the stop, the account of its checkpoint, then of the run that resumes: actions, logs; and the steps
    of all checkpoints.
  """
  stops, first = Stops(monkeypatch, None if during else at - 1), ([], [])
  done = first

  def act(step, state):
    for batch in range(3):
      loop.give_way()
      stops.asked |= during and done is first and (step, batch) == (at, 1)
    done[-1].append((step, state))

  def train(**more):
    actions = [(4, lambda step, state: done[0].append((step, 'quick'))), (4, act)]
    return run(stops.loss, steps_per_call=1, save_every=6, save=stops.save, actions=actions, **more)

  with pytest.raises(signals.Stopped, match=f'test is at step {at} of 12, with a checkpoint'):
    train()
  done = ([], [])
  step, state, account = stops.saved[-1]
  assert step == state == at
  stops.asked, stops.at = False, None
  _, logged = train(start=at, resumed=json.loads(json.dumps(account)))
  return first, account, done, logged, [step for step, _, _ in stops.saved]


@pytest.mark.parametrize('during', [False, True])
@pytest.mark.parametrize('at', [4, 8, 12])
def test_a_stop_does_not_wait_for_actions(monkeypatch, at, during):
  """The checkpoint comes first; the run that resumes does what was due at its step, also at the last one."""
  stops = Stops(monkeypatch, None)
  _, whole = run(stops.loss, steps_per_call=1, save_every=6, save=stops.save)
  (quick, act), account, (quick_later, act_later), logged, saved = interrupted(monkeypatch, at, during)
  rest = [(step, step) for step in (4, 8, 12) if step >= at]
  assert act == [(step, step) for step in (4, 8, 12) if step < at]
  assert quick == [(step, 'quick') for step in (4, 8, 12) if step < at + during]
  assert act_later == rest
  assert quick_later == [(step, 'quick') for step, _ in rest]
  assert logged == [row for row in whole if row[0] >= at]
  assert loop.logged_step(at, account) == at - 1  # the rows of this step are written anew
  assert saved == sorted({6, at, 12})


def test_a_run_that_makes_up_for_actions_may_be_stopped_again(monkeypatch):
  asked, saved, acted = [], [], []
  monkeypatch.setattr(signals, 'requested', lambda: bool(asked))
  due = {'unlogged': {}, 'skipped_steps': 0, 'due': {'loss': 2.0, 'img_per_s': 3.0}}
  arguments = {'start': 12, 'save': lambda *checkpoint: saved.append(checkpoint), 'resumed': due}
  asked.append(1)
  with pytest.raises(signals.Stopped, match='test is at step 12 of 12'):
    run(float, actions=[(4, lambda step, state: acted.append(step))], **arguments)
  assert acted == []
  asked.clear()
  _, logged = run(float, actions=[(4, lambda step, state: acted.append(step))], **arguments)
  assert (acted, logged, saved) == ([12], [(12, 2.0)], [])  # its checkpoint is there


def test_a_run_that_is_done_is_not_stopped(monkeypatch):
  stops = Stops(monkeypatch, 11)
  final, _ = run(stops.loss, save_every=100, save=stops.save)
  assert final == 12
  assert [step for step, _, _ in stops.saved] == [12]


def test_no_checkpoint_is_written_of_what_is_not_finite(monkeypatch):
  stops = Stops(monkeypatch, 5)
  with pytest.raises(UserError, match='loss became nan at step 6'):
    run(
      lambda step: stops.loss(step) if step < 5 else stops.loss(step) * float('nan'),
      save=stops.save,
      save_every=12,
    )
  assert stops.saved == []


def test_of_several_processes_none_gives_way(monkeypatch):
  """Each would do so at a place of its own; together they finish the action, and stop at the same step."""
  monkeypatch.setattr(signals, 'requested', lambda: True)
  with pytest.raises(signals.Stopped):
    loop.give_way()
  monkeypatch.setattr(jax, 'process_count', lambda: 2)
  loop.give_way()


def test_of_several_processes_one_is_enough(monkeypatch):
  """All learn of it with a dispatch, and stop when that is done: after the same one in each process."""
  monkeypatch.setattr(jax, 'process_count', lambda: 2)
  stops = Stops(monkeypatch, 3)
  with pytest.raises(signals.Stopped, match='test is at step 8 of 20, with a checkpoint') as stopped:
    run(stops.loss, steps=20, steps_per_call=1, save_every=100, save=stops.save)
  assert stopped.value.together
  assert [step for step, _, _ in stops.saved] == [8]

  # The others learn of it from the devices alone.
  monkeypatch.setattr(signals, 'requested', lambda: False)
  monkeypatch.setattr(
    devices, 'put_batch', lambda mesh, votes: jnp.asarray([*votes[:-1], stops.at == 'other'], jnp.int32)
  )
  stops.saved.clear()
  final, _ = run(stops.loss, steps=20, steps_per_call=1, save_every=100, save=stops.save)
  assert final == 20
  stops.at = 'other'
  with pytest.raises(signals.Stopped, match='test is at step 5 of 20'):
    run(stops.loss, steps=20, steps_per_call=1, save_every=100, save=stops.save)
