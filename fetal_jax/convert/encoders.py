"""Weights of the encoders that were trained elsewhere: the FID's Inception v3, and DINOv2."""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from fetal_jax.convert import rules
from fetal_jax.models import dinov2 as dinov2_model
from fetal_jax.models.inception import InceptionV3
from fetal_jax.runtime.errors import UserError

_DINOV2 = ((r'^blocks_', 'blocks.'),)


def inception(state_dict: Mapping[str, np.ndarray]) -> dict[str, Any]:
  """Makes the variables of `InceptionV3` from the state dict of pytorch-fid, whose classifier is left out.

  Raises:
    UserError: the weights are torchvision's, which give other figures, or of another network.
  """
  if np.shape(state_dict.get('fc.bias', ())) == (1000,):
    raise UserError(
      "these are torchvision's weights, whose FID is not comparable with published ones; take pytorch-fid's "
      'pt_inception-2015-12-05-6726825d.pth'
    )
  shapes = jax.eval_shape(InceptionV3().init, jax.random.key(0), jnp.zeros((1, 299, 299, 3)))
  body = {name: value for name, value in state_dict.items() if not name.startswith('fc.')}
  return rules.to_variables(rules.derive(shapes), body, shapes)


def dinov2(
  state_dict: Mapping[str, np.ndarray], image_size: int
) -> tuple[dinov2_model.DinoV2, dict[str, Any]]:
  """Builds DINOv2's network for square images of `image_size`, and its variables, from the reference's state dict.

  Raises:
    UserError: the weights are of another network, for example one with registers, or of size g.
  """
  for entry in ('cls_token', 'pos_embed'):
    if np.ndim(state_dict.get(entry, ())) != 3:
      raise UserError(f'not the weights of a DINOv2: {entry} is missing, or is not [1, n, channels]')
  width = state_dict['cls_token'].shape[-1]
  depth = len({name.split('.')[1] for name in state_dict if name.startswith('blocks.')})
  network = dinov2_model.DinoV2(width, depth)
  if not depth or width % dinov2_model.HEAD_SIZE:
    raise UserError(f'not the weights of a DINOv2: {depth} blocks of {width} channels')
  shapes = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, image_size, image_size, 3)))
  # The mask token stands for hidden patches, which only training has.
  state = {name: np.asarray(value) for name, value in state_dict.items() if name != 'mask_token'}
  state['pos_embed'] = resize_positions(state['pos_embed'], image_size // dinov2_model.PATCH)
  return network, rules.to_variables(rules.derive(shapes, _DINOV2), state, shapes)


def resize_positions(positions: Float[np.ndarray, '1 n c'], side: int) -> Float[np.ndarray, '1 m c']:
  """Resizes position embeddings to another grid of patches as DINOv2 does; the class token's stays.

  Cubic interpolation with the coefficient -0.75, without a low-pass filter. The scale is that of `side` + 0.1: the
  reference adds 0.1 against rounding, and the features depend on it.
  """
  token, grid = np.split(positions.astype(np.float64), [1], axis=1)
  old = math.isqrt(grid.shape[1])
  if old == side:
    return positions
  weights = np.zeros((side, old))
  source = (np.arange(side) + 0.5) * old / (side + 0.1) - 0.5
  for tap in range(-1, 3):
    index = np.floor(source).astype(int) + tap
    np.add.at(weights, (np.arange(side), index.clip(0, old - 1)), _cubic(np.abs(source - index)))
  grid = np.einsum('ip,jq,pqc->ijc', weights, weights, grid.reshape(old, old, -1))
  return np.concatenate([token, grid.reshape(1, side**2, -1)], axis=1).astype(np.float32)


def _cubic(x: Float[np.ndarray, ' n'], a: float = -0.75) -> Float[np.ndarray, ' n']:
  """Evaluates the convolution kernel of Keys, 1981, equation 15, at distances x >= 0."""
  near = (a + 2) * x**3 - (a + 3) * x**2 + 1
  far = a * (x**3 - 5 * x**2 + 8 * x - 4)
  return np.where(x <= 1, near, np.where(x < 2, far, 0))
