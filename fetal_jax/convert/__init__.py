"""Weights of the PyTorch reference implementations, as Flax variables and back.

State dicts are mappings from PyTorch's names to numpy arrays; PyTorch itself is not needed.
"""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from fetal_jax import models
from fetal_jax.convert import medmamba, rules, torchvision
from fetal_jax.errors import UserError

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
  """Flax variables of the classifier `name` from the state dict of its PyTorch reference.

  Args:
    name: a key of `fetal_jax.models.CLASSIFIERS`.
    state_dict: arrays by PyTorch name, those of older published files included.
    channels: channels of the images. 1 for weights made for 3 sums the first layer over its input channels,
      so that a grey image gives what it gave when repeated. None: as in the weights.
    num_classes: another count than the weights' gets a fresh head, drawn by `seed`. None: as in weights.
    image_size: of the ViT, whose position embeddings are interpolated (bicubic) where the size differs;
      without meaning for the others. None: as in the weights.
    seed: of a fresh head.
    **kwargs: of the model's constructor, for networks of another depth or width.

  Returns:
    A nested dict of float32 numpy arrays: 'params', and 'batch_stats' where the network has them.

  Raises:
    UserError: the weights are not those of this network; the message names the entries.
  """
  former = torchvision.FORMER_NAMES.get(name, ())
  # Swin's files also hold index tables, which follow from the window.
  state = {
    rules.rename(key, former): value
    for key, value in state_dict.items()
    if not key.endswith('relative_position_index')
  }
  leaves = ('stem.weight', 'head.weight', 'head.bias', 'pos_embedding')
  stem, head, head_bias, positions = (rules.rename(leaf, RENAMES[name]) for leaf in leaves)
  for entry in (stem, head):
    if entry not in state:
      raise UserError(f'PyTorch weights do not fit {name}: {entry} is missing')

  if channels is not None and channels != state[stem].shape[1]:
    if channels != 1:
      found = state[stem].shape[1]
      raise UserError(f'{stem} has {found} input channels, and cannot be made to have {channels}, only 1')
    state[stem] = np.asarray(state[stem], np.float32).sum(1, keepdims=True)
  channels = state[stem].shape[1]

  size = 64
  if name == 'vit_b_32':
    patch = state[stem].shape[2]
    size = image_size or patch * math.isqrt(state[positions].shape[1] - 1)
    state[positions] = interpolate_positions(state[positions], size // patch)
    kwargs |= {'image_size': size}

  fresh_head = num_classes is not None and num_classes != state[head].shape[0]
  model = models.create(name, num_classes=num_classes or state[head].shape[0], **kwargs)
  images = jax.ShapeDtypeStruct((1, size, size, channels), jnp.float32)
  if fresh_head:
    # Under jit only what the head needs is drawn.
    init = jax.jit(lambda key: model.init(key, jnp.zeros(images.shape))['params']['head'])
    values = init(jax.random.key(seed))
    state |= {head: np.asarray(values['kernel']).T, head_bias: np.asarray(values['bias'])}

  shapes = jax.eval_shape(model.init, jax.random.key(0), images)
  return rules.to_variables(rules.derive(shapes, RENAMES[name]), state, shapes)


def to_torch(name: str, variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
  """The state dict that the PyTorch reference of the classifier `name` loads: the inverse of `from_torch`.

  PyTorch's `num_batches_tracked` is not among them; load with `strict=False` or add zeros.
  """
  return rules.to_torch(rules.derive(variables, RENAMES[name]), variables)


def interpolate_positions(embedding: Float[np.ndarray, '1 n c'], grid: int) -> Float[np.ndarray, '1 m c']:
  """Resizes the position embeddings of a square grid of patches to `grid` x `grid`; the first token stays."""
  old = math.isqrt(embedding.shape[1] - 1)
  if old == grid:
    return embedding
  first, rest = np.split(np.asarray(embedding, np.float32), [1], axis=1)
  rest = rest.reshape(1, old, old, -1)
  rest = np.asarray(jax.image.resize(rest, (1, grid, grid, rest.shape[-1]), 'bicubic'))
  return np.concatenate([first, rest.reshape(1, grid * grid, -1)], axis=1)
