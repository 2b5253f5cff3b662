"""Encoders: frozen networks that turn images into the features that fidelity and copies are measured in.

All compute in float32, so that a figure does not depend on the device that it was computed on.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from fetal_jax.convert import encoders
from fetal_jax.convert import files as weight_files
from fetal_jax.models import inception
from fetal_jax.runtime import devices
from fetal_jax.runtime.errors import UserError
from fetal_jax.runtime.files import PathLike

_DINOV2_SIZE = 224


@dataclasses.dataclass(frozen=True, eq=False)
class Encoder:
  """A frozen network that turns images into vectors.

  Attributes:
    name: short, for tables and file names.
    description: one sentence for the report: which network, trained on what.
    dim: length of a vector.
    apply: (variables, images uint8 [B, H, W, C]) -> float32 [B, dim]; pure.
    variables: its weights.
    image_shape: (H, W, C) that it is made for, or None where it takes any size with C = 1 or 3.
    split_hash: of the split whose training side it has seen, or None where it has seen none of the data.
    batch_size: images a dispatch, over all devices.
  """

  name: str
  description: str
  dim: int
  apply: Callable[[Any, jax.Array], jax.Array] = dataclasses.field(repr=False)
  variables: Any = dataclasses.field(repr=False)
  image_shape: tuple[int, int, int] | None = None
  split_hash: str | None = None
  batch_size: int = 256

  def __call__(self, images: UInt8[np.ndarray, 'n h w c']) -> Float[np.ndarray, 'n dim']:
    """Encodes images, in order; they may be memory-mapped.

    Raises:
      UserError: the images are not of the size and channels that the encoder is made for.
    """
    shape = images.shape[1:]
    fits = shape == self.image_shape if self.image_shape else shape[-1] in (1, 3)
    if images.dtype != np.uint8 or len(shape) != 3 or not fits:
      wanted = ' x '.join(map(str, self.image_shape)) if self.image_shape else 'with 1 or 3 channels'
      raise UserError(
        f'encoder {self.name}: images are {images.dtype} {" x ".join(map(str, shape))}, it takes uint8 images '
        f'{wanted}; prepare them so, or choose another encoder'
      )
    features = np.empty((len(images), self.dim), np.float32)
    mesh = self._mesh
    size = -(-min(self.batch_size, max(len(images), 1)) // mesh.size) * mesh.size
    for start in range(0, len(images), size):
      batch = np.asarray(images[start : start + size])
      filled = np.pad(batch, ((0, size - len(batch)), (0, 0), (0, 0), (0, 0)))
      encoded = self._jitted(self._placed, devices.put_batch(mesh, filled))
      features[start : start + size] = np.asarray(encoded)[: len(batch)]
    return features

  @functools.cached_property
  def _mesh(self) -> jax.sharding.Mesh:
    return devices.make_local_mesh()

  @functools.cached_property
  def _placed(self) -> Any:
    return jax.device_put(self.variables, devices.replicated(self._mesh))

  @functools.cached_property
  def _jitted(self) -> Callable[[Any, jax.Array], jax.Array]:
    """Compiles `apply`: the batch spread over all devices, weights and features on each; nothing is donated."""

    def apply(variables: Any, images: jax.Array) -> jax.Array:
      # Accelerators otherwise round matmuls' inputs to bfloat16 or TF32.
      with jax.default_matmul_precision('float32'):
        return self.apply(variables, images)

    return jax.jit(apply, out_shardings=devices.replicated(self._mesh))


def inception_encoder(path: PathLike, *, batch_size: int = 64) -> Encoder:
  """Loads Inception v3 with the weights that FIDs are usually computed with.

  Args:
    path: `pt_inception-2015-12-05-6726825d.pth` of the pytorch-fid project, or the same as safetensors.
    batch_size: images a dispatch, over all devices.

  Raises:
    UserError: the file cannot be read, or holds other weights.
  """
  return Encoder(
    name='inception_v3',
    description="pool of Inception v3, trained on ImageNet (pytorch-fid's port of inception-2015-12-05)",
    dim=inception.FEATURES,
    apply=inception_features,
    variables=_named(path, encoders.inception, weight_files.load(path)),
    batch_size=batch_size,
  )


def inception_features(variables: Any, images: UInt8[Array, 'b h w c']) -> Float[Array, 'b 2048']:
  """Computes features as pytorch-fid does: images are stretched to 299 x 299, bilinear without a low-pass, then to [-1, 1]."""
  x = images.astype(jnp.float32) / 255.0
  x = jax.image.resize(x, (len(x), 299, 299, x.shape[-1]), 'bilinear', antialias=False)
  x = jnp.broadcast_to(2.0 * x - 1.0, (*x.shape[:3], 3))
  features: Any = inception.InceptionV3().apply(variables, x)
  return features


def dinov2_encoder(path: PathLike, *, batch_size: int = 64) -> Encoder:
  """Loads DINOv2, whose class token at 224 x 224 is the feature.

  Args:
    path: `dinov2_vits14_pretrain.pth`, or `vitb14` or `vitl14`, of facebookresearch/dinov2.
    batch_size: images a dispatch, over all devices.

  Raises:
    UserError: the file cannot be read, or holds other weights.
  """
  network, variables = _named(path, encoders.dinov2, weight_files.load(path), _DINOV2_SIZE)
  return Encoder(
    name=f'dinov2_{network.width}',
    description=f'class token of DINOv2 ({network.depth} blocks of {network.width} channels), trained on LVD-142M',
    dim=network.width,
    apply=lambda variables, images: network.apply(variables, dinov2_images(images)),
    variables=variables,
    batch_size=batch_size,
  )


def dinov2_images(images: UInt8[Array, 'b h w c']) -> Float[Array, 'b 224 224 3']:
  """Prepares images for DINOv2: stretched to 224 x 224 as Pillow does, cubic, and normalised as ImageNet is."""
  x = images.astype(jnp.float32)
  for axis in (2, 1):  # rounded in between too
    shape = (*x.shape[:axis], _DINOV2_SIZE, *x.shape[axis + 1 :])
    x = jnp.round(jnp.clip(jax.image.resize(x, shape, 'cubic'), 0, 255))
  return (x / 255.0 - jnp.array([0.485, 0.456, 0.406])) / jnp.array([0.229, 0.224, 0.225])


def _named(path: PathLike, convert: Callable[..., Any], *args: Any) -> Any:
  """Calls `convert`, and puts the file's name before its errors."""
  try:
    return convert(*args)
  except UserError as error:
    raise UserError(f'{path}: {error}') from error
