"""For tests of what is read from files that nobody has checked: it is right, or one line says why it is refused."""

import os
import random

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from fetal_jax.runtime.errors import UserError

# How many times as many examples: `make test-slow` asks for 10.
TIMES = int(os.environ.get('FETAL_JAX_EXAMPLES', 1))


def repeatable(examples):
  """Returns settings of a property that is tried on the same examples each time."""
  return settings(
    max_examples=TIMES * examples, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck)
  )


def refusal(function, *args, **kwargs):
  """The one line with which `function` refuses; fails if it does not."""
  with pytest.raises(UserError) as error:
    function(*args, **kwargs)
  assert '\n' not in str(error.value)
  return str(error.value)


def or_refused(function, *args, **kwargs):
  """What `function` gives, or None if it refuses in one line. Whatever else it raises fails the test."""
  try:
    return function(*args, **kwargs)
  except UserError as error:
    message = str(error)
  assert message
  assert '\n' not in message
  return None


def damaged(content, seed):
  """`content` with a few flips, cuts, gaps, repeats and insertions, another set for each seed; never `content`."""
  rng = random.Random(seed)
  changed = bytearray(content)
  while changed == content:
    for _ in range(rng.choice((1, 1, 2, 4))):
      at, other = rng.randrange(len(changed) + 1), rng.randrange(len(changed) + 1)
      match rng.randrange(6):
        case 0:
          changed[at : at + 1] = bytes(byte ^ 1 << rng.randrange(8) for byte in changed[at : at + 1])
        case 1:
          changed[at : at + 4] = rng.choice((bytes(4), b'\xff' * 4, b'\x7f\xff\xff\xff', b'\xff\xff\xff\x7f'))
        case 2:
          del changed[max(at, len(changed) - 100) :]
        case 3:
          del changed[at : at + rng.randrange(1, 9)]
        case 4:
          changed[at:at] = rng.randbytes(rng.randrange(1, 9))
        case 5:
          changed[at:at] = changed[other : other + rng.randrange(1, 40)]
  return bytes(changed)


SEEDS = st.integers(0, 2**32)
