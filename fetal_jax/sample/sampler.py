"""Sampling from a program: `sampler = load_sampler(workdir); images = sampler(labels)`."""

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import msgspec
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Int32, UInt8

from fetal_jax import networks
from fetal_jax.data.rounds import SamplerSettings
from fetal_jax.diffusion.sample import check_settings, image_keys, make_sample
from fetal_jax.runtime import devices
from fetal_jax.runtime.errors import UserError
from fetal_jax.runtime.files import PathLike
from fetal_jax.runtime.keys import run_key, stage_key
from fetal_jax.sample import batch_size as batch_size_lib
from fetal_jax.sample.trained import Trained, load_trained

Integers = Sequence[int] | np.ndarray | jax.Array
Labels = Integers | Sequence[str]


class Sampler:
  """Draws labelled images from a trained model; keeps what it compiled.

  Image `indices[i]` of (seed, round) is the same image in any batch and on any number of devices.

  All methods take the same `**settings`, with the defaults of `SamplerSettings`: `method` (`ancestral`, `ddim` or
  `dpmpp_2m`), `steps`, `interval`, `guidance_at`, `eta`, `clip`, and `guidance_scale`, by default what the model's
  config says for sampling.

  Args:
    trained: from `load_trained`.
  """

  def __init__(self, trained: Trained) -> None:
    self.trained = trained
    self._compiled: dict[tuple[int, SamplerSettings], Any] = {}

  @property
  def class_names(self) -> tuple[str, ...]:
    """Returns the names of the classes in label order."""
    return self.trained.class_names

  def __call__(
    self, labels: Labels, *, batch_size: int = 64, **settings: Any
  ) -> UInt8[np.ndarray, 'n h w c']:
    """Draws one image a label.

    Args:
      labels: [N] names of classes, or integers in the order of `class_names`.
      batch_size: images a dispatch; the last batch is padded. 0 finds one that fills the device.
      **settings: as of `batches`.

    Returns:
      uint8 [N, H, W, C].

    Raises:
      UserError: no such class, or settings that the model cannot do.
    """
    labels = self._numbers(labels)
    batch_size = batch_size and min(batch_size, max(len(labels), 1))
    parts = [
      np.asarray(images)[:count] for count, images in self.batches(labels, batch_size=batch_size, **settings)
    ]
    return np.concatenate(parts) if parts else np.zeros((0, *self.trained.image_shape), np.uint8)

  def batches(
    self,
    labels: Labels,
    *,
    indices: Integers | None = None,
    batch_size: int = 64,
    seed: int = 0,
    round: int = 0,
    **settings: Any,
  ) -> Iterator[tuple[int, jax.Array]]:
    """Draws batch by batch, without waiting for the device: for runs too long to hold in memory.

    Args:
      labels: as of a call.
      indices: integers [N], which images of the round; 0 … N-1 by default.
      batch_size: images a dispatch, rounded up to whole devices; 0 finds one that fills the device.
      seed: of the round's keys.
      round: number of the round.
      **settings: of `SamplerSettings`.

    Yields:
      (number of images that count, uint8 [B, H, W, C] on the device); the rest of the last batch is padding.

    Raises:
      UserError: as of a call; or indices, batch size, seed or round that cannot be.
    """
    trained = self.trained
    labels = self._numbers(labels)
    indices = np.arange(len(labels)) if indices is None else np.asarray(indices)
    if indices.shape != labels.shape or not _whole(indices, 2**31):
      raise UserError(f'indices: must be {len(labels)} whole numbers from 0 to 2^31 - 1, one a label')
    for name, number in (('batch_size', batch_size), ('round', round)):
      if not _whole(np.asarray(number), 2**31):
        raise UserError(f'{name}={number!r}: must be a whole number from 0 on')
    batch_size = self.whole_devices(batch_size or self.find_batch_size(max(len(labels), 1), **settings))
    sample = self.compiled(batch_size, **settings)
    params = self._params(self.settings(**settings))
    key = jax.random.fold_in(stage_key(seed, 'sample'), round)
    for start in range(0, len(labels), batch_size):
      count = min(batch_size, len(labels) - start)
      rows = np.minimum(np.arange(start, start + batch_size), len(labels) - 1)  # padding repeats the last
      inputs = devices.put_batch(trained.mesh, (indices[rows].astype(np.int32), labels[rows]))
      yield count, sample(params, key, *inputs)

  def _numbers(self, labels: Labels) -> Int32[np.ndarray, ' n']:
    """Returns labels as numbers of classes.

    Raises:
      UserError: one is no class, or they are no list.
    """
    names = self.class_names
    classes = ', '.join(f'{number} {name}' for number, name in enumerate(names))
    try:
      asked = np.asarray(labels)
    except ValueError as error:  # lists of different lengths
      raise UserError(f'labels: must be one list of classes: {classes}') from error
    if asked.ndim != 1:
      raise UserError(f'labels of shape {asked.shape}: must be one list of classes: {classes}')
    if asked.dtype.kind == 'U':
      unknown = [name for name in asked.tolist() if name not in names]
      if unknown:
        raise UserError(f'labels: there is no class {unknown[0]!r}; there are: {classes}')
      return np.array([names.index(name) for name in asked.tolist()], np.int32)
    if asked.size and not _whole(asked, len(names)):
      raise UserError(f'labels must be whole numbers in 0 … {len(names) - 1}, or names: {classes}')
    return asked.astype(np.int32)

  def settings(self, *, guidance_scale: float | None = None, **settings: Any) -> SamplerSettings:
    """Completes settings by their defaults.

    Raises:
      UserError: the model has no guide for this `guidance_scale`, or a setting that cannot be.
    """
    guided = self.trained.guide is not None
    if guidance_scale is None:
      guidance_scale = self.trained.config.sample.guidance_scale if guided else 0.0
    elif guidance_scale and not guided:
      raise UserError('this model was trained without a guide: use guidance_scale=0')
    asked = SamplerSettings(guidance_scale=guidance_scale, **settings)
    timesteps = self.trained.config.diffusion.timesteps
    if not _whole(np.asarray(asked.steps), timesteps + 1) or not asked.steps:
      raise UserError(
        f'steps={asked.steps!r}: must be a whole number from 1 to {timesteps}, the timesteps that the model was trained with'
      )
    values = msgspec.structs.asdict(asked)
    check_settings(**{name: value for name, value in values.items() if name != 'steps'})
    return asked

  def whole_devices(self, batch_size: int) -> int:
    """Rounds a batch size up, so that each device gets the same number of images."""
    return -(-batch_size // self.trained.mesh.size) * self.trained.mesh.size

  def find_batch_size(self, images: int, **settings: Any) -> int:
    """Finds how many images a dispatch fill the devices' memory, for a run of `images` images in all."""
    devices = list(self.trained.mesh.devices.flat)
    return batch_size_lib.find(functools.partial(self.compiled, **settings), devices, images)

  def compiled(self, batch_size: int, **settings: Any) -> Any:
    """Returns the compiled program (params, key, indices [B], labels [B]) -> images, made once for the same settings."""
    asked = self.settings(**settings)
    if (batch_size, asked) not in self._compiled:
      self._compiled[batch_size, asked] = self._compile(batch_size, asked)
    return self._compiled[batch_size, asked]

  def _compile(self, batch_size: int, settings: SamplerSettings) -> Any:
    trained, params = self.trained, self._params(settings)
    sample = make_sample(
      trained.unet,
      trained.guide,
      networks.make_sampling_process(trained.config, settings.method, settings.steps),
      image_shape=trained.image_shape,
      **settings.arguments(),
    )
    whole, spread = devices.replicated(trained.mesh), devices.batch_sharding(trained.mesh)
    # Nothing is donated: the parameters stay, keys and labels are tiny, and x_T is made inside, so that XLA
    # updates the scan's carry in place. Parameters are spread over `fsdp`, images over all devices.
    jitted = jax.jit(
      lambda params, key, indices, labels: sample(params, image_keys(key, indices), labels),
      in_shardings=(devices.state_sharding(trained.mesh, params), whole, spread, spread),
      out_shardings=spread,
    )
    vector = jax.ShapeDtypeStruct((batch_size,), jnp.int32)
    return jitted.lower(params, run_key(0), vector, vector).compile()

  def _params(self, settings: SamplerSettings) -> dict[str, Any]:
    """Returns the weights that sampling with these settings needs."""
    names = ('unet', 'guide') if settings.guidance_scale else ('unet',)
    return {name: self.trained.params[name] for name in names}


def _whole(numbers: np.ndarray, end: int) -> bool:
  """Returns whether these are whole numbers from 0 to below `end`."""
  return (
    bool(numbers.dtype.kind in 'iu' and (numbers >= 0).all() and (numbers < end).all()) or not numbers.size
  )


def load_sampler(
  workdir_or_checkpoints: PathLike, *, mesh: Mesh | None = None, ema_index: int = 0
) -> Sampler:
  """Opens the newest checkpoint of a workdir (or of a `diffusion/checkpoints` folder) for sampling.

  Args:
    workdir_or_checkpoints: the folder.
    mesh: devices to draw on, such as `devices.make_local_mesh(fsdp=4)`; all of this process by default.
    ema_index: index of the averaged weights, in the order of `config.diffusion.ema_rates`.

  Raises:
    UserError: there is no checkpoint, or it cannot be read.
  """
  return Sampler(load_trained(workdir_or_checkpoints, mesh=mesh, ema_index=ema_index))
