"""Environment variables with wrong values are refused in one line."""

import subprocess
import sys

import pytest
from helpers.hostile import refusal

from fetal_jax.runtime import environment


def test_numbers(monkeypatch):
  monkeypatch.delenv('N_TASKS', raising=False)
  assert environment.number('N_TASKS', 7) == 7
  for text, found in (('', 7), ('0', 0), ('12', 12)):
    monkeypatch.setenv('N_TASKS', text)
    assert environment.number('N_TASKS', 7) == found


@pytest.mark.parametrize('text', ['abc', '-1', '1.5', '2x', '²', '٣', ' 4', '9' * 5000])
def test_what_is_no_number(monkeypatch, text):
  monkeypatch.setenv('N_TASKS', text)
  assert refusal(environment.number, 'N_TASKS', 7) == (
    f'N_TASKS={text}: this environment variable must be a whole number from 0 on; unset it'
  )


def test_a_variable_that_jax_refuses():
  """JAX reads it once, when it is loaded; so this is a process of its own."""
  program = (
    'import sys; from fetal_jax.runtime import environment, exits; '
    "sys.exit(exits.exit_code(environment.load_jax, then=''))"
  )
  done = subprocess.run(
    [sys.executable, '-c', program],
    env={'JAX_ENABLE_X64': 'maybe'},
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 2
  assert done.stderr == (
    "fetal_jax: JAX refuses an environment variable (invalid truth value 'maybe' for environment 'JAX_ENABLE_X64'); "
    'mend or unset it\n'
  )
