"""Checkpoints hold the state bit for bit, keep the newest, and refuse what they do not hold."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fetal_jax.errors import UserError
from fetal_jax.train.checkpoint import Checkpointer


def state(scale: float) -> dict:
  return {
    'w': scale * jax.random.normal(jax.random.key(0), (3, 5)),
    'step': jnp.asarray(int(scale), jnp.int32),
  }


def test_round_trip_and_keep(tmp_path):
  with Checkpointer(tmp_path / 'c', keep=2) as checkpointer:
    for step in (1, 2, 3):
      checkpointer.save(step, state(step), {'history': [step]})
  assert sorted(p.name for p in (tmp_path / 'c').iterdir()) == ['2', '3']
  with Checkpointer(tmp_path / 'c') as checkpointer:
    assert checkpointer.latest_step() == 3
    restored, meta = checkpointer.restore(2, state(0))
    assert checkpointer.restore_meta(3) == {'history': [3]}
  np.testing.assert_array_equal(restored['w'], state(2)['w'])
  assert restored['step'] == 2
  assert meta == {'history': [2]}


def test_an_unfinished_checkpoint_does_not_count(tmp_path):
  with Checkpointer(tmp_path / 'c') as checkpointer:
    checkpointer.save(1, state(1), {})
  (tmp_path / 'c' / '2.orbax-checkpoint-tmp').mkdir()
  with Checkpointer(tmp_path / 'c') as checkpointer:
    assert checkpointer.latest_step() == 1


def test_another_shape_is_refused_with_the_path(tmp_path):
  with Checkpointer(tmp_path / 'c') as checkpointer:
    checkpointer.save(1, state(1), {})
    checkpointer.wait()
    with pytest.raises(UserError, match=r'w is \(3, 5\) there and \(4, 5\) in the config'):
      checkpointer.restore(1, {'w': jnp.zeros((4, 5)), 'step': jnp.zeros((), jnp.int32)})
    with pytest.raises(UserError, match=r'v is absent there and \(3, 5\) in the config'):
      checkpointer.restore(1, {'v': jnp.zeros((3, 5)), 'step': jnp.zeros((), jnp.int32)})
