"""States of training: what goes from step to step and into a checkpoint."""

from typing import Any

import jax
from flax import struct


@struct.dataclass
class DiffusionState:
  """The UNet and its guide in training.

  Attributes:
    step: int32 [], optimiser steps done.
    params: {'unet': ..., 'guide': ...}, float32; only the networks that are trained.
    opt_state: optax states under the same keys.
    ema: averages of the UNet's parameters, one for each rate.
  """

  step: jax.Array
  params: dict[str, Any]
  opt_state: dict[str, Any]
  ema: tuple[Any, ...]


@struct.dataclass
class ClassifierState:
  """A classifier in training.

  Attributes:
    step: int32 [], optimiser steps done.
    variables: Flax variables: `params`, and `batch_stats` where the network has BatchNorm.
    opt_state: optax state of `params`.
  """

  step: jax.Array
  variables: dict[str, Any]
  opt_state: Any
