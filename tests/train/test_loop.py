"""When the loop logs, acts and stops."""

import itertools

import jax.numpy as jnp
import pytest

from fetal_jax.errors import UserError
from fetal_jax.train import loop


def run(losses, *, start=0, steps=12, steps_per_call=2, log_every=4, actions=()):
  logged = []

  def update(state, batch):
    loss = jnp.asarray([losses(state + i) for i in range(steps_per_call)], jnp.float32)
    return state + steps_per_call, {'loss': (loss, jnp.ones(steps_per_call))}

  final = loop.train(
    start,
    update,
    itertools.repeat(None),
    title='test',
    start=start,
    steps=steps,
    steps_per_call=steps_per_call,
    images_per_step=8,
    log_every=log_every,
    on_log=lambda step, means: logged.append((step, means['loss'])) or '',
    actions=actions,
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


def test_a_resumed_run_logs_what_an_uninterrupted_one_does():
  _, whole = run(float)
  _, rest = run(float, start=4)
  assert rest == whole[1:]


def test_a_loss_that_is_not_finite_stops_before_the_checkpoint():
  saved = []
  with pytest.raises(UserError, match='loss became nan between steps 4 and 8'):
    run(
      lambda step: float('nan') if step == 6 else 1.0, actions=[(4, lambda step, state: saved.append(step))]
    )
  assert saved == [4]
