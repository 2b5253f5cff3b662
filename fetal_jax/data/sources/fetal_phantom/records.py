"""The images with what is known about them, one after the other."""

import dataclasses
import io
from collections.abc import Iterator

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from fetal_jax.data.sources.fetal_phantom import cohort
from fetal_jax.data.sources.fetal_phantom.draw import draw

PIXELS = 4  # what the random stream of an image's pixels is for, see cohort


@dataclasses.dataclass(frozen=True)
class PhantomRecord:
  """One drawn image [H, W] with its label, name, patient, brain plane, operator and machine."""

  image: UInt8[np.ndarray, 'h w']
  plane: cohort.Plane

  def png(self) -> bytes:
    """Returns the image as a grey PNG."""
    buffer = io.BytesIO()
    Image.fromarray(self.image).save(buffer, 'PNG', compress_level=4)
    return buffer.getvalue()


def phantom_records(images: int, seed: int = 0, size: int = 160) -> Iterator[PhantomRecord]:
  """Draws the first `images` planes of the set `seed`, the longer side of each `size` pixels.

  Record k depends on (seed, k, size) only: not on `images`, nor on what was drawn before it.
  """
  for plane in cohort.plan(images, seed):
    yield draw_record(plane, seed, size)


def draw_record(plane: cohort.Plane, seed: int = 0, size: int = 160) -> PhantomRecord:
  """Draws one plane of `cohort.plan(..., seed)`."""
  rng = np.random.default_rng([seed, PIXELS, plane.index])
  image = draw(cohort.CLASS_NAMES[plane.label], plane.patient, rng, brain_plane=plane.brain_plane, size=size)
  return PhantomRecord(image, plane)
