"""The splits: which image is for training, validation or testing, and which patients are on both sides."""

import dataclasses
import hashlib
from collections.abc import Callable

import msgspec
import numpy as np
from jaxtyping import Bool, Int64

from fetal_jax.data.records import Records
from fetal_jax.runtime.errors import UserError

SIDES = ('train', 'validation', 'test')
VALIDATION_FRACTION = 0.1


@dataclasses.dataclass(frozen=True)
class Split:
  """Sorted indices into the records; every image is on exactly one side."""

  train: Int64[np.ndarray, ' train']
  validation: Int64[np.ndarray, ' validation']
  test: Int64[np.ndarray, ' test']

  @property
  def train_side(self) -> Int64[np.ndarray, ' n']:
    """Returns train and validation together: all that may be looked at before the test."""
    return np.sort(np.concatenate([self.train, self.validation]))


def paper(records: Records, *, seed: int, test_fraction: float = 0.2) -> Split:
  """Splits images 80/20 as the paper does: every fifth image of a class, in the source's order, is a test image.

  Image i of a class (from 0) is a test image if i % 5 == 0 and i > 0, which gives the counts of the paper's
  Table 1. Nearly every test image shows a patient who is also in train: accuracies are optimistic.
  """
  del test_fraction  # the rule fixes it
  test = np.zeros(len(records), np.bool_)
  for label in range(len(records.class_names)):
    test[np.flatnonzero(records.labels == label)[5::5]] = True
  return _with_validation(records, test, seed)


def official(records: Records, *, seed: int, test_fraction: float = 0.2) -> Split:
  """Splits by the data set's own train/test column, which no patient crosses."""
  del test_fraction  # the column fixes it
  if records.official_train is None:
    raise UserError('the source has no train/test column: set --config.data.split=patient')
  test = ~records.official_train
  crossing = np.intersect1d(records.patients[test], records.patients[~test])
  if len(crossing):
    raise UserError(
      f"{len(crossing)} patients are on both sides of the source's train/test column ({crossing[0]} is one): "
      'mend the column, or set --config.data.split=patient'
    )
  return _with_validation(records, test, seed)


def patient(records: Records, *, seed: int, test_fraction: float = 0.2) -> Split:
  """Draws patients until the test side has `test_fraction` of every class; no patient is on both sides."""
  if not 0 < test_fraction < 1:
    raise UserError(f'data.test_fraction is {test_fraction}: set it between 0 and 1')
  test = hold_out(records, test_fraction, np.random.default_rng([seed, 0]))
  return _with_validation(records, test, seed)


SPLITS: dict[str, Callable[..., Split]] = {'paper': paper, 'official': official, 'patient': patient}


def _with_validation(records: Records, test: Bool[np.ndarray, ' n'], seed: int) -> Split:
  """Takes patients of their own out of the training side, with a tenth of its images, for validation."""
  if not test.any():
    raise UserError(f'no test images: {_who(records)}; use another data.split or more data')
  if test.all():
    raise UserError(f'no training images: {_who(records)}; use another data.split or more data')
  train_side = np.flatnonzero(~test)
  rng = np.random.default_rng([seed, 1])
  held_out = hold_out(records.take(train_side), VALIDATION_FRACTION, rng)
  if not held_out.any():
    raise UserError(
      f'no validation patients: {_who(records.take(train_side))} on the training side; add some'
    )
  return Split(train_side[~held_out], train_side[held_out], np.flatnonzero(test))


def _who(records: Records) -> str:
  return f'{len(records)} images of {len(np.unique(records.patients))} patients'


def hold_out(records: Records, fraction: float, rng: np.random.Generator) -> Bool[np.ndarray, ' n']:
  """Chooses images to hold out, whole patients at a time, so that `fraction` of every class is held out.

  Patients in random order are held out wherever that brings the held-out shares (of each class, and of all
  images) nearer to `fraction`; then the one patient whose move helps most is moved, until none helps. A class
  always keeps a patient, and wherever it has two or more, one of them is held out.
  """
  _, patients = np.unique(records.patients, return_inverse=True)
  counts = np.zeros((patients.max(initial=-1) + 1, len(records.class_names)))
  np.add.at(counts, (patients, records.labels), 1)
  counts = counts[:, counts.any(0)]
  has = counts > 0
  shares = np.c_[counts, counts.sum(1)] / np.r_[counts.sum(0), counts.sum()]
  held = np.zeros(len(counts), np.bool_)

  reached = np.zeros(shares.shape[1])
  for i in rng.permutation(len(counts)):
    if ((reached + shares[i] - fraction) ** 2).sum() < ((reached - fraction) ** 2).sum():
      held[i] = True
      reached += shares[i]

  # A class that is missing where it could be outweighs any imbalance; missing in training most of all.
  def distance(reached: np.ndarray, held_out: np.ndarray, kept: np.ndarray) -> np.ndarray:
    missing = 2 * len(counts.T) * (kept == 0).sum(-1) + ((held_out == 0) & (has.sum(0) > 1)).sum(-1)
    return ((reached - fraction) ** 2).sum(-1) + missing

  while True:
    reached, held_out, kept = shares[held].sum(0), has[held].sum(0), has[~held].sum(0)
    move = np.where(held, -1, 1)[:, None]
    moved = distance(reached + move * shares, held_out + move * has, kept - move * has)
    best = int(moved.argmin())
    if moved[best] > distance(reached[None], held_out[None], kept[None])[0] - 1e-6:
      return held[patients]
    held[best] = not held[best]


class SplitSummary(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
  """What a reader must know of a split before believing a number from it.

  Attributes:
    images: side -> class -> number of images.
    totals: side -> number of images.
    patients: side -> number of patients.
    shared_patients: number of patients both in the test and on the training side (train and validation).
    test_patient_overlap: share, 0 to 1, of the test images whose patient has an image on the training side.
    test_patient_class_overlap: the same of those whose patient has one there in the same class.
  """

  images: dict[str, dict[str, int]]
  totals: dict[str, int]
  patients: dict[str, int]
  shared_patients: int
  test_patient_overlap: float
  test_patient_class_overlap: float


def describe(records: Records, split: Split) -> SplitSummary:
  """Counts the images and patients of each side, and how many are seen on both sides."""
  sides = {side: getattr(split, side) for side in SIDES}
  images = {
    side: {
      name: int((records.labels[indices] == label).sum()) for label, name in enumerate(records.class_names)
    }
    for side, indices in sides.items()
  }
  train_side = split.train_side
  views = np.array([f'{p}\t{label}' for p, label in zip(records.patients, records.labels, strict=True)])
  seen = np.isin(records.patients[split.test], records.patients[train_side])
  return SplitSummary(
    images=images,
    totals={side: len(indices) for side, indices in sides.items()},
    patients={side: len(np.unique(records.patients[indices])) for side, indices in sides.items()},
    shared_patients=len(np.unique(records.patients[split.test][seen])),
    test_patient_overlap=float(seen.mean()),
    test_patient_class_overlap=float(np.isin(views[split.test], views[train_side]).mean()),
  )


def split_hash(records: Records, split: Split) -> str:
  """Returns the SHA-256 of which image is on which side; the order of the records does not matter."""
  lines = [f'{name}\t{side}\n' for side in SIDES for name in records.names[getattr(split, side)]]
  return hashlib.sha256(''.join(sorted(lines)).encode()).hexdigest()
