"""Steps whose loss or gradient is not finite: they are left out, as if they had not been tried.

In half precision a rare batch may overflow. Without its step the networks stay finite, and training continues.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

_GRADIENT = 'grad_norm'
_COUNTS = {'skipped/loss': 'loss', 'skipped/gradient': 'gradient'}


def leaving_out(one_step: Callable[..., tuple[Any, Any]]) -> Callable[..., tuple[Any, Any]]:
  """Wraps `one_step(state, batch) -> (state, sums)`, whose sums include a norm of the gradient.

  Where a sum of a step is not finite, only the step's number in the state changes, and all its sums become 0. Two more
  sums count such steps: those with such a loss, and those with such a gradient alone. Other steps stay the same,
  except that the compiler may round differently.
  """

  def step(state: Any, batch: Any) -> tuple[Any, Any]:
    tried, sums = one_step(state, batch)
    finite = {name: jnp.isfinite(total).all() for name, (total, _) in sums.items()}
    loss = jnp.stack([ok for name, ok in finite.items() if not is_gradient(name)]).all()
    gradient = jnp.stack([ok for name, ok in finite.items() if is_gradient(name)]).all()
    good = loss & gradient
    kept = jax.tree.map(lambda new, old: jnp.where(good, new, old), tried, state)
    sums = jax.tree.map(lambda value: jnp.where(good, value, 0), sums)
    one = jnp.ones(())
    counts = {'skipped/loss': (1.0 - loss, one), 'skipped/gradient': (1.0 * (loss & ~gradient), one)}
    return dataclasses.replace(kept, step=tried.step), sums | counts

  return step


def is_gradient(name: str) -> bool:
  """Returns whether a sum is the norm of a gradient."""
  return name.startswith(_GRADIENT)


def is_count(name: str) -> bool:
  """Returns whether a sum counts steps that were left out."""
  return name in _COUNTS


def count(totals: Mapping[str, np.ndarray]) -> tuple[int, int, str]:
  """Returns steps left out, steps tried, and what was not finite in words, from (sum, count) totals over some steps."""
  found = {what: int(totals[name][0]) for name, what in _COUNTS.items() if name in totals}
  tried = max((int(totals[name][1]) for name in _COUNTS if name in totals), default=0)
  return sum(found.values()), tried, ', '.join(f'{what} {number}' for what, number in found.items() if number)
