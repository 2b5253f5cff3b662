"""The sets of images that fidelity and the two-sample test compare: test images, and what is held against them.

All sets have the class shares of the test images: else a set could seem far from them because it shows other classes. Where
distances are in the judge's features, no real image is among them that the judge has learned from.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image

from fetal_jax.data import prepared
from fetal_jax.data.sources.fetal_phantom import cohort
from fetal_jax.data.sources.fetal_phantom.records import draw_record
from fetal_jax.evaluate.copies.audit import matched
from fetal_jax.evaluate.judge import Judge

_PHANTOMS = 500

Images = UInt8[np.ndarray, 'n h w c']
Labels = Int[np.ndarray, ' n']


class Compared(NamedTuple):
  """Images of one set.

  Attributes:
    images, labels: and their classes.
    groups: text [n]: the patient of a real image; of other images one each.
  """

  images: Images
  labels: Labels
  groups: np.ndarray


class Sets(NamedTuple):
  """The sets; all but `test` and `phantom` have equally many images.

  Attributes:
    test: real test images, which all others are compared with.
    train: real training images.
    synthetic: synthetic images.
    noise: uniform noise, with the labels of `synthetic`.
    phantom: drawn planes; None where the data are drawn planes themselves, or not grey images of the same classes.
  """

  test: Compared
  train: Compared
  synthetic: Compared
  noise: Compared
  phantom: Compared | None


def choose(
  data: prepared.Prepared,
  images: Images,
  labels: Labels,
  judge: Judge,
  *,
  by_judge: bool,
  max_images: int,
  seed: int,
) -> Sets:
  """Chooses the images of all sets.

  Args:
    data: the prepared data.
    images, labels: the synthetic images and the classes that were asked for.
    judge: the judge.
    by_judge: whether distances are in the judge's features.
    max_images: at most so many images of each set but `test`.
    seed: of the choice, and of the noise.
  """
  test = judge.parts.test if by_judge else data.split.test
  train = judge.parts.rest if by_judge else data.split.train
  wanted = data.records.labels[test]
  train = train[matched(data.records.labels[train], wanted, seed)]
  drawn = matched(labels, wanted, seed)
  n = min(len(train), len(drawn), max_images)
  rng = np.random.default_rng(seed)
  train, drawn = (np.sort(rng.choice(some, n, replace=False)) for some in (train, drawn))
  synthetic = Compared(np.asarray(images[drawn]), labels[drawn], _each('synthetic', n))
  noise = rng.integers(0, 256, synthetic.images.shape, np.uint8)
  return Sets(
    test=_real(data, test),
    train=_real(data, train),
    synthetic=synthetic,
    noise=Compared(noise, synthetic.labels, _each('noise', n)),
    phantom=drawn_planes(min(n, _PHANTOMS), data.images.shape[1:], wanted) if _suit_phantoms(data) else None,
  )


def _real(data: prepared.Prepared, indices: Int[np.ndarray, ' n']) -> Compared:
  records = data.records.take(indices)
  return Compared(np.asarray(data.images[indices]), records.labels, records.patients)


def _each(name: str, n: int) -> np.ndarray:
  return np.array([f'{name} {k}' for k in range(n)])


def _suit_phantoms(data: prepared.Prepared) -> bool:
  """Returns whether drawn planes can stand beside the data: grey images of the same classes, and not drawn themselves."""
  if data.info.source == 'fetal_phantom' or tuple(data.records.class_names) != cohort.CLASS_NAMES:
    return False
  shown = np.asarray(data.images[data.split.test])
  return bool((shown == shown[..., :1]).all())


def drawn_planes(n: int, shape: tuple[int, ...], wanted: Labels) -> Compared:
  """Draws planes of the phantom: at most `n`, of the shape [h, w, c], with the class shares of the labels `wanted`."""
  height, width, channels = shape
  planes = cohort.plan(8 * n, 0)  # a table without pixels; more than enough, so that the shares can be met
  labels = np.array([plane.label for plane in planes])
  chosen = matched(labels, wanted)
  chosen = np.sort(np.random.default_rng(0).choice(chosen, min(n, len(chosen)), replace=False))
  pictures = (Image.fromarray(draw_record(planes[k]).image) for k in chosen)
  images = [np.asarray(one.resize((width, height), Image.Resampling.BOX)) for one in pictures]
  stack = np.array(images, np.uint8).reshape(len(chosen), height, width, 1)
  return Compared(np.repeat(stack, channels, -1), labels[chosen], _each('phantom', len(chosen)))
