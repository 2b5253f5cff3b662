"""predictions.csv: one classifier's answers for the test images, a row an image."""

import csv
import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from fetal_jax.data.records import Records
from fetal_jax.runtime.errors import UserError
from fetal_jax.runtime.files import PathLike, replacing

NAME = 'predictions.csv'
_COLUMNS = ('image', 'patient', 'machine', 'operator', 'brain_plane', 'label', 'predicted')
_REMEDY = 'delete its folder and run --stage=classify again'


@dataclasses.dataclass(frozen=True)
class Predictions:
  """The rows of a `predictions.csv`: one classifier's answers for N test images.

  Attributes:
    images: [N] str, image names.
    patients: [N] str, the unit that a bootstrap resamples.
    machines, operators, brain_planes: [N] str, '' where unknown.
    labels: [N] int32, true classes.
    probabilities: [N, K] float, softmax outputs.
    class_names: the K classes, in the order of the probabilities' columns.
  """

  images: np.ndarray
  patients: np.ndarray
  machines: np.ndarray
  operators: np.ndarray
  brain_planes: np.ndarray
  labels: np.ndarray
  probabilities: np.ndarray
  class_names: tuple[str, ...]

  def __len__(self) -> int:
    return len(self.images)

  def take(self, indices: np.ndarray) -> 'Predictions':
    """Returns the rows at `indices` (integers or a mask [N]), in that order."""
    columns = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
    taken = {name: column[indices] for name, column in columns.items() if isinstance(column, np.ndarray)}
    return dataclasses.replace(self, **taken)


def of(records: Records, probabilities: Float[np.ndarray, 'n k']) -> Predictions:
  """Returns the predictions for the images of `records`, one row of probabilities each."""
  return Predictions(
    images=records.names,
    patients=records.patients,
    machines=records.machines,
    operators=records.operators,
    brain_planes=records.brain_planes,
    labels=records.labels,
    probabilities=probabilities,
    class_names=records.class_names,
  )


def write_csv(path: PathLike, predictions: Predictions) -> None:
  """Writes a row for each image, whole or not at all; probabilities have six digits after the point."""
  p, names = predictions, predictions.class_names
  about = zip(p.images, p.patients, p.machines, p.operators, p.brain_planes, strict=True)
  with replacing(path) as temporary, open(temporary, 'w', newline='', encoding='utf-8') as f:
    writer = csv.writer(f)
    writer.writerow(_header(names))
    for image, label, row in zip(about, p.labels, p.probabilities, strict=True):
      writer.writerow([*image, names[label], names[row.argmax()], *(f'{value:.6f}' for value in row)])


def read_csv(path: PathLike) -> Predictions:
  """Reads what `write_csv` wrote.

  Raises:
    FileNotFoundError: it is missing.
    UserError: a column is missing, a row is cut off or holds no probabilities, a label is no class, or there is no
      row.
  """
  with open(path, newline='', encoding='utf-8') as f:
    header, *rows = list(csv.reader(f)) or [[]]
  class_names = tuple(name[2:] for name in header if name.startswith('p_'))
  if not class_names or header != _header(class_names):
    raise UserError(f'{path}: the header must be {",".join(_COLUMNS)},p_<class>,…; {_REMEDY}')
  if not rows:
    raise UserError(f'{path}: no predictions; {_REMEDY}')
  index = {name: k for k, name in enumerate(class_names)}
  labels = np.empty(len(rows), np.int32)
  probabilities = np.empty((len(rows), len(class_names)))
  for i, row in enumerate(rows):
    try:
      labels[i], probabilities[i] = _numbers(row, index)
    except ValueError:
      raise UserError(f'{path}: row {i + 2} is damaged; {_REMEDY}') from None
  images, patients, machines, operators, brain_planes = (np.array([row[c] for row in rows]) for c in range(5))
  return Predictions(
    images=images,
    patients=patients,
    machines=machines,
    operators=operators,
    brain_planes=brain_planes,
    labels=labels,
    probabilities=probabilities,
    class_names=class_names,
  )


def _header(class_names: Sequence[str]) -> list[str]:
  return [*_COLUMNS, *(f'p_{name}' for name in class_names)]


def _numbers(row: Sequence[str], index: dict[str, int]) -> tuple[int, list[float]]:
  """Returns the label and the probabilities of a row; ValueError if it has none."""
  if len(row) != len(_COLUMNS) + len(index) or row[_COLUMNS.index('label')] not in index:
    raise ValueError
  probabilities = [float(p) for p in row[len(_COLUMNS) :]]
  if not all(0 <= p <= 1 for p in probabilities):
    raise ValueError
  return index[row[_COLUMNS.index('label')]], probabilities
