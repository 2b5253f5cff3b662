"""Rules that carry weights between PyTorch state dicts and Flax variables, in both directions.

A converter is an ordered mapping from the path of a Flax variable ('params/stem/kernel') to a `Rule`: the
name of the PyTorch entry, and how its axes are arranged there.
"""

import dataclasses
import re
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import traverse_util

from fetal_jax.runtime.errors import UserError


class Transform(NamedTuple):
  """Two functions that undo each other; they may move, join and split axes, but not compute."""

  from_torch: Callable[[np.ndarray], np.ndarray]
  to_torch: Callable[[np.ndarray], np.ndarray]


IDENTITY = Transform(lambda w: w, lambda w: w)
# OIHW to HWIO; a depthwise kernel (C1HW to HW1C) is the same permutation.
CONV = Transform(lambda w: w.transpose(2, 3, 1, 0), lambda w: w.transpose(3, 2, 0, 1))
DENSE = Transform(lambda w: w.T, lambda w: w.T)
# A convolution over one axis with kernel size 1 is a dense layer: OI1 to IO.
CONV1D_AS_DENSE = Transform(lambda w: w[:, :, 0].T, lambda w: w.T[:, :, None])


@dataclasses.dataclass(frozen=True)
class Rule:
  """Place and layout of a Flax variable in a PyTorch state dict."""

  torch_name: str
  transform: Transform = IDENTITY


Rules = Mapping[str, Rule]

TORCH_LEAVES = {
  'kernel': 'weight',
  'scale': 'weight',
  'embedding': 'weight',
  'mean': 'running_mean',
  'var': 'running_var',
}
KERNELS = {2: DENSE, 4: CONV}

# A regular expression, and what replaces it: as `re.sub` takes them.
Renames = Sequence[tuple[str, str | Callable[[re.Match[str]], str]]]


def rename(name: str, renames: Renames) -> str:
  """Applies each (pattern, replacement) once, in order, to the whole name."""
  for pattern, replacement in renames:
    name = re.sub(pattern, replacement, name, count=1)
  return name


def derive(shapes: Mapping[str, Any], renames: Renames = ()) -> dict[str, Rule]:
  """Derives rules for a network whose module names follow PyTorch's, up to some renaming.

  The collection is dropped, '/' becomes '.', and the leaf gets PyTorch's name: 'params/layer1_0/conv1/kernel'
  becomes 'layer1_0.conv1.weight'. Then `renames` are applied. Kernels with 4 axes are convolutions, with
  2 dense; all else keeps its layout.

  Args:
    shapes: the variables, nested, with anything that has a shape as leaves (`jax.eval_shape` of `init`).
    renames: see `rename`.
  """
  rules = {}
  for path, leaf in traverse_util.flatten_dict(shapes, sep='/').items():
    *modules, name = path.split('/')[1:]
    torch_name = rename('.'.join([*modules, TORCH_LEAVES.get(name, name)]), renames)
    rules[path] = Rule(torch_name, KERNELS[len(leaf.shape)] if name == 'kernel' else IDENTITY)
  return rules


def to_variables(
  rules: Rules, state_dict: Mapping[str, np.ndarray], shapes: Mapping[str, Any]
) -> dict[str, Any]:
  """Makes Flax variables from a PyTorch state dict; nothing is left over on either side.

  Args:
    rules: by variable path, one rule for every variable in `shapes`.
    state_dict: arrays by PyTorch name; counters named `num_batches_tracked` are ignored.
    shapes: the variables' shapes, nested (`jax.eval_shape` of the network's `init`).

  Returns:
    A nested dict of float32 numpy arrays: 'params', and 'batch_stats' where the network has them.

  Raises:
    UserError: an entry is missing, has another shape, or belongs to no variable; the message names it.
  """
  wanted = traverse_util.flatten_dict(shapes, sep='/')
  problems, variables = [], {}
  for path, leaf in wanted.items():
    name, transform = rules[path].torch_name, rules[path].transform
    expected = transform.to_torch(np.empty(leaf.shape, np.float32)).shape
    if name not in state_dict:
      problems.append(f'{name} {list(expected)} is missing')
      continue
    found = np.shape(state_dict[name])
    if found != expected:
      problems.append(f'{name} has shape {list(found)}, expected {list(expected)}')
      continue
    value = np.asarray(state_dict[name]).astype(np.float32)
    variables[path] = np.ascontiguousarray(transform.from_torch(value))

  known = {rules[path].torch_name for path in wanted}
  problems += [
    f'{name} {list(np.shape(value))} belongs to no variable'
    for name, value in state_dict.items()
    if name not in known and not name.endswith('num_batches_tracked')
  ]
  if problems:
    more = f'; and {len(problems) - 4} more' if len(problems) > 4 else ''
    raise UserError(f'PyTorch weights do not fit this network: {"; ".join(problems[:4])}{more}')
  return traverse_util.unflatten_dict(variables, sep='/')


def torch_leaves(
  rules: Rules, variables: Mapping[str, Any], names: Container[str] | None = None
) -> dict[str, np.ndarray]:
  """Returns the variables (or those that PyTorch calls `names`) in PyTorch's layout; NaN where only a shape is known."""
  leaves = {}
  for path, leaf in traverse_util.flatten_dict(variables, sep='/').items():
    if names is None or rules[path].torch_name in names:
      is_shape = isinstance(leaf, jax.ShapeDtypeStruct)
      value = np.broadcast_to(np.float32('nan'), leaf.shape) if is_shape else np.asarray(leaf, np.float32)
      leaves[rules[path].torch_name] = rules[path].transform.to_torch(value)
  return leaves


def to_torch(rules: Rules, variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
  """Makes a PyTorch state dict (float32 numpy arrays by name) from Flax variables: the inverse of `to_variables`.

  Raises:
    ValueError: the variables are not those of the rules.
  """
  flat = traverse_util.flatten_dict(variables, sep='/')
  if flat.keys() != rules.keys():
    differing = sorted(flat.keys() ^ rules.keys())
    raise ValueError(f'variables and rules differ in {len(differing)} paths, the first is {differing[0]}')
  return {
    rule.torch_name: np.ascontiguousarray(rule.transform.to_torch(np.asarray(flat[path], np.float32)))
    for path, rule in rules.items()
  }
