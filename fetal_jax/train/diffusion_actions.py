"""Actions of the diffusion stage between its steps: the guide's accuracy on held-out images, and previews."""

import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jax.sharding import Mesh

from fetal_jax.data.grid import grid
from fetal_jax.data.loader import Source, evaluation_batches
from fetal_jax.diffusion.sample import image_keys
from fetal_jax.runtime import devices, files
from fetal_jax.runtime.metrics import MetricWriter
from fetal_jax.train import loop
from fetal_jax.train.diffusion_step import QUARTILES
from fetal_jax.train.state import DiffusionState

Action = Callable[[int, DiffusionState], None]  # of (step, state); see `loop.Hooks`


def held_out_accuracy(
  accuracy: Callable[..., Any], source: Source, mesh: Mesh, writer: MetricWriter, *, batch_size: int
) -> Action:
  """Builds the action that writes the guide's accuracy on held-out images.

  Args:
    accuracy: see `diffusion_step.make_held_out_accuracy`.
    source: the held-out images.
    mesh: the devices.
    writer: of the stage.
    batch_size: at most so many images at a time; rounded up to whole devices.
  """
  size = _padded(min(batch_size, len(source.indices)), mesh)

  def evaluate(step: int, state: DiffusionState) -> None:
    sums = []
    for number, batch in enumerate(evaluation_batches(source, batch_size=size)):
      loop.give_way()
      del batch['real']
      sums.append(accuracy(state.params['guide'], devices.put_batch(mesh, batch), number))
    means = loop.average(sums)
    writer.write_scalars(step, means)
    quarters = ' '.join(f'{means[f"guide/heldout_accuracy_q{q}"]:.2f}' for q in range(QUARTILES))
    logging.info('diffusion: step %d, held-out accuracy of the guide by quarter of t: %s', step, quarters)

  return evaluate


def preview(
  sample: Callable[..., jax.Array],
  class_names: Sequence[str],
  mesh: Mesh,
  key: jax.Array,
  writer: MetricWriter,
  folder: pathlib.Path,
  *,
  per_class: int,
  guided: bool,
) -> Action:
  """Builds the action that draws a few images of each class, always from the same noise; a class at a time.

  Args:
    sample: see `diffusion.sample.make_sample`.
    class_names: the classes, a row of the picture each.
    mesh: the devices.
    key: of the noise.
    writer: of the stage.
    folder: of the pictures, `step_<step>.png`.
    per_class: number of images of each class.
    guided: whether `sample` needs the guide.
  """
  sample = jax.jit(sample, out_shardings=devices.replicated(mesh))
  total = len(class_names) * per_class
  size = _padded(per_class, mesh)
  chunks = []
  for first in range(0, total, size):
    indices = np.arange(first, first + size)
    labels = np.minimum(indices // per_class, len(class_names) - 1).astype(np.int32)
    chunks.append((image_keys(key, jnp.asarray(indices)), devices.put_batch(mesh, labels)))

  def draw(step: int, state: DiffusionState) -> None:
    params = {'unet': state.ema[0], **({'guide': state.params['guide']} if guided else {})}
    drawn = []
    for keys, labels in chunks:
      loop.give_way()
      drawn.append(np.asarray(sample(params, keys, labels)))
    loop.give_way()
    images = np.concatenate(drawn)[:total]
    picture = grid(images.reshape(len(class_names), per_class, *images.shape[1:]), class_names)
    if jax.process_index() == 0:
      with files.replacing(folder / f'step_{step:07d}.png') as new:
        picture.save(new, 'PNG')
      writer.write_images(step, {'samples': np.asarray(picture.convert('RGB'))})

  return draw


def _padded(count: int, mesh: Mesh) -> int:
  """Rounds up to a multiple of the number of devices."""
  return -(-count // mesh.size) * mesh.size
