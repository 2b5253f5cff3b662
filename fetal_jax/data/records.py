"""What is known about each image of a data set, without the images."""

import csv
import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int32

from fetal_jax.data import patients as patients_lib
from fetal_jax.runtime import files

COLUMNS = ('name', 'label', 'patient', 'brain_plane', 'operator', 'machine', 'official_train')


@dataclasses.dataclass(frozen=True)
class Records:
  """N images, in the order of the source.

  Attributes:
    names: [N] str, an image's name without extension, unique.
    labels: [N] int32, an index into `class_names`.
    patients: [N] str, who is seen; images of one patient are never independent. Where nobody knows, an image's stand-in,
      see `data.patients`.
    class_names: the classes in label order.
    brain_planes, operators, machines: [N] str, '' where unknown.
    official_train: [N] bool, the source's own train/test column; None if it has none.
  """

  names: np.ndarray
  labels: Int32[np.ndarray, ' n']
  patients: np.ndarray
  class_names: tuple[str, ...]
  brain_planes: np.ndarray
  operators: np.ndarray
  machines: np.ndarray
  official_train: Bool[np.ndarray, ' n'] | None

  def __post_init__(self):
    per_image = [self.labels, self.patients, self.brain_planes, self.operators, self.machines]
    if self.official_train is not None:
      per_image.append(self.official_train)
    if any(len(column) != len(self.names) for column in per_image):
      raise ValueError(f'columns of different lengths: {[len(self.names), *map(len, per_image)]}')
    if len(self.labels) and not 0 <= self.labels.min() <= self.labels.max() < len(self.class_names):
      raise ValueError(f'labels outside 0..{len(self.class_names) - 1}')

  def __len__(self) -> int:
    return len(self.names)

  def take(self, indices: np.ndarray) -> 'Records':
    """Returns the records at `indices` (integers or a mask [N]), in that order."""
    columns = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
    taken = {name: column[indices] for name, column in columns.items() if isinstance(column, np.ndarray)}
    return dataclasses.replace(self, **taken)

  def of_seen_classes(self) -> 'Records':
    """Returns the records without the classes that no image has; labels are numbered anew, in the same order."""
    seen, labels = np.unique(self.labels, return_inverse=True)
    names = tuple(self.class_names[label] for label in seen)
    return dataclasses.replace(self, labels=labels.astype(np.int32).reshape(-1), class_names=names)


def make(
  names: Sequence[str],
  labels: Sequence[int] | np.ndarray,
  patients: Sequence[str],
  class_names: Sequence[str],
  *,
  brain_planes: Sequence[str] | None = None,
  operators: Sequence[str] | None = None,
  machines: Sequence[str] | None = None,
  official_train: Sequence[bool] | np.ndarray | None = None,
) -> Records:
  """Makes records from plain sequences; what is not given is unknown, and so is a patient who is ''."""

  def text(values: Sequence[str] | None) -> np.ndarray:
    return np.asarray([''] * len(names) if values is None else list(values), dtype=np.str_)

  return Records(
    names=text(names),
    labels=np.asarray(labels, np.int32),
    patients=text(patients_lib.named(patients, names)),
    class_names=tuple(class_names),
    brain_planes=text(brain_planes),
    operators=text(operators),
    machines=text(machines),
    official_train=None if official_train is None else np.asarray(official_train, np.bool_),
  )


def write_csv(path: files.PathLike, records: Records) -> None:
  """Writes one row an image (`COLUMNS`), whole or not at all. Labels are class names; an unknown patient is ''."""
  with files.replacing(path) as temporary, open(temporary, 'w', newline='', encoding='utf-8') as f:
    writer = csv.writer(f)
    writer.writerow(COLUMNS)
    patients = patients_lib.written(records.patients)
    for i in range(len(records)):
      train = '' if records.official_train is None else int(records.official_train[i])
      label = records.class_names[records.labels[i]]
      about = (records.brain_planes[i], records.operators[i], records.machines[i], train)
      writer.writerow([records.names[i], label, patients[i], *about])


def read_csv(path: files.PathLike, class_names: Sequence[str]) -> Records:
  """Reads what `write_csv` wrote, given the classes in label order; ValueError or KeyError if it is not that."""
  with open(path, newline='', encoding='utf-8') as f:
    rows = list(csv.DictReader(f))
  for number, row in enumerate(rows, 2):
    if row.keys() != set(COLUMNS) or None in row.values():
      raise ValueError(f'{path}: row {number} is not whole')
  label_of = {name: label for label, name in enumerate(class_names)}
  train = [row['official_train'] for row in rows]
  return make(
    [row['name'] for row in rows],
    [label_of[row['label']] for row in rows],
    [row['patient'] for row in rows],
    class_names,
    brain_planes=[row['brain_plane'] for row in rows],
    operators=[row['operator'] for row in rows],
    machines=[row['machine'] for row in rows],
    official_train=None if '' in train else [value == '1' for value in train],
  )
