"""Weights of the PyTorch reference implementations, as Flax variables and back.

State dicts are mappings from PyTorch's names to numpy arrays; PyTorch itself is not needed.
"""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fetal_jax import models
from fetal_jax.convert import adapt, libraries, medmamba, names, rules, torchvision
from fetal_jax.runtime.errors import UserError

RENAMES: dict[str, rules.Renames] = {**torchvision.RENAMES, **medmamba.RENAMES}


def from_torch(
  name: str,
  state_dict: Mapping[str, np.ndarray],
  *,
  channels: int | None = None,
  num_classes: int | None = None,
  image_size: int | None = None,
  seed: int = 0,
  **kwargs: Any,
) -> dict[str, Any]:
  """Makes the Flax variables of the classifier `name` from the state dict of its PyTorch reference.

  Args:
    name: a key of `fetal_jax.models.CLASSIFIERS`.
    state_dict: arrays by PyTorch name; the names of older published files are understood.
    channels: channels of the images. 1 for weights made for 3 sums the first layer over its input channels,
      so that a grey image gives what it gave when repeated. None: as in the weights.
    num_classes: where it differs from the weights', the head is drawn fresh with `seed`. None: as in the weights.
    image_size: for the ViT, whose position embeddings are interpolated (bicubic) where the size differs;
      ignored for the others. None: as in the weights.
    seed: seed of a fresh head.
    **kwargs: keywords of the model's constructor, for networks of another depth or width.

  Returns:
    A nested dict of float32 numpy arrays: 'params', and 'batch_stats' where the network has them.

  Raises:
    UserError: the weights are not those of this network; the message names the entries.
  """
  state = todays_names(name, state_dict).entries
  stem, head, head_bias, positions = _special(name)
  for entry in (stem, head, head_bias):
    if entry not in state:
      raise UserError(f'PyTorch weights do not fit {name}: {entry} is missing')
  stored_channels, stored_classes = np.shape(state[stem])[1], np.shape(state[head])[0]
  if channels not in (None, 1, stored_channels):
    raise UserError(
      f'{stem} has {stored_channels} input channels, and cannot be made to have {channels}, only 1'
    )
  size = 64
  if name == 'vit_b_32':
    size = image_size or np.shape(state[stem])[2] * math.isqrt(np.shape(state[positions])[1] - 1)
    kwargs |= {'image_size': size}
  model = models.create(name, num_classes=num_classes or stored_classes, **kwargs)
  images = jax.ShapeDtypeStruct((1, size, size, channels or stored_channels), jnp.float32)
  shapes = jax.eval_shape(model.init, jax.random.key(0), images)
  if num_classes not in (None, stored_classes):
    # Under jit only what the head needs is drawn.
    init = jax.jit(lambda key: model.init(key, jnp.zeros(images.shape))['params']['head'])
    shapes = {**shapes, 'params': {**shapes['params'], 'head': init(jax.random.key(seed))}}
  return fit(name, state, shapes)[0]


def fit(
  name: str, state_dict: Mapping[str, np.ndarray], variables: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, str]]:
  """Carries weights into the classifier `name`, whose channels, classes or size may be others than the weights'.

  The names of other libraries are understood, and prefixes taken off. The first layer is summed over its input channels,
  position embeddings are interpolated, and a head that is of another class count, or missing, stays as it is in
  `variables`. What is outside of the network is left out. Everything else must fit.

  Args:
    name: a key of `fetal_jax.models.CLASSIFIERS`.
    state_dict: as in `from_torch`.
    variables: of the network, freshly initialised; only the head's values are used, and the shapes of the others.

  Returns:
    Variables as from `from_torch`, and what was done, in words, by prefix or entry (with its present name).

  Raises:
    UserError: the weights are not those of this network; the message names the entries.
  """
  network = rules.derive(variables, RENAMES[name])
  stem, head, head_bias, positions = _special(name)
  adapters = {
    stem: adapt.sum_inputs,
    head: adapt.keep_fresh,
    head_bias: adapt.keep_fresh,
    positions: adapt.interpolate_positions,
  }
  wanted = rules.torch_leaves(network, variables, adapters)
  found = todays_names(name, state_dict)
  known = {rule.torch_name for rule in network.values()}
  of_head = head.removesuffix('weight')
  entries, left_out = adapt.leave_out(
    found.entries, known, lambda k: k in found.outside or k.startswith(of_head)
  )
  state, changes = adapt.fit(entries, wanted, adapters)
  state, fresh = adapt.fill(state, wanted, [head, head_bias])
  return rules.to_variables(network, state, variables), {**found.said, **left_out, **changes, **fresh}


def todays_names(name: str, state_dict: Mapping[str, np.ndarray]) -> names.Found:
  """Returns the state dict of the classifier `name` with the reference's present names; see `libraries.todays_names`."""
  stem, head, _, _ = _special(name)
  own = libraries.Naming(stem, torchvision.FORMER_NAMES.get(name, ()))
  return libraries.todays_names(
    state_dict, (own, *libraries.NAMINGS.get(name, ())), head.removesuffix('.weight')
  )


def _special(name: str) -> tuple[str, ...]:
  """Returns PyTorch's names of the first layer, the head's weight and bias, and the position embeddings."""
  leaves = ('stem.weight', 'head.weight', 'head.bias', 'pos_embedding')
  return tuple(rules.rename(leaf, RENAMES[name]) for leaf in leaves)


def to_torch(name: str, variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
  """Makes the state dict that the PyTorch reference of the classifier `name` loads: the inverse of `from_torch`.

  PyTorch's `num_batches_tracked` is not among them; load with `strict=False` or add zeros.
  """
  return rules.to_torch(rules.derive(variables, RENAMES[name]), variables)
