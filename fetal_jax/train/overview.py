"""Overview of a run before its first step: parameters, FLOPs and memory."""

from typing import Any

import jax
import numpy as np
from absl import logging
from clu import parameter_overview


def count_parameters(params: Any) -> int:
  """Counts the scalars in a pytree of parameters."""
  return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(params))


def log_parameters(params: dict[str, Any]) -> None:
  """Logs clu's table of every network's parameters."""
  for name, tree in params.items():
    table = parameter_overview.get_parameter_overview(tree, include_stats=False)
    logging.info('%s: %s parameters\n%s', name, f'{count_parameters(tree):,}', table)


def log_cost(title: str, lowered: Any, compiled: Any, *, steps: int, microbatches: int = 1) -> None:
  """Logs the FLOPs of one optimiser step and the memory of the compiled dispatch on each device.

  XLA counts FLOPs before it optimises the program, and counts a loop's body once. So of the steps in a dispatch it
  counts one, and of the parts of an accumulated gradient one.
  """
  flops = float((lowered.cost_analysis() or {}).get('flops', 0.0)) * microbatches
  memory = compiled.memory_analysis()
  gib = 2**-30
  logging.info(
    '%s: %.3g TFLOP a step, %d step%s a dispatch; memory a device: %.2f GiB state and batch, %.2f GiB while computing.',
    title,
    flops / 1e12,
    steps,
    's' if steps > 1 else '',
    memory.argument_size_in_bytes * gib,
    memory.temp_size_in_bytes * gib,
  )
