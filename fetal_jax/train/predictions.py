"""predictions.csv: one classifier's answers for the test images, a row an image."""

import csv
import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from fetal_jax.data import patients as patients_lib
from fetal_jax.data.records import Records
from fetal_jax.runtime.errors import DamagedFile
from fetal_jax.runtime.files import PathLike, replacing

NAME = 'predictions.csv'
_COLUMNS = ('image', 'patient', 'machine', 'operator', 'brain_plane', 'label', 'predicted')
REMEDY = 'delete its folder and run --stage=classify again'
_SUM_ERROR = 1e-3  # of probabilities that are rounded to six digits, and were computed in float32


@dataclasses.dataclass(frozen=True)
class Predictions:
  """The rows of a `predictions.csv`: one classifier's answers for N test images.

  Attributes:
    images: [N] str, image names.
    patients: [N] str, the unit that a bootstrap resamples; an image's stand-in where unknown, see `data.patients`.
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

  def is_of(self, records: Records) -> bool:
    """Returns whether these are answers for the images of `records`, in that order, with their patients and classes."""
    return self.class_names == records.class_names and all(
      np.array_equal(mine, theirs)
      for mine, theirs in (
        (self.images, records.names),
        (self.patients, records.patients),
        (self.labels, records.labels),
      )
    )


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
  patients = patients_lib.written(p.patients)
  about = zip(p.images, patients, p.machines, p.operators, p.brain_planes, strict=True)
  with replacing(path) as temporary, open(temporary, 'w', newline='', encoding='utf-8') as f:
    writer = csv.writer(f)
    writer.writerow(_header(names))
    for image, label, row in zip(about, p.labels, p.probabilities, strict=True):
      writer.writerow([*image, names[label], names[row.argmax()], *(f'{value:.6f}' for value in row)])


def read_csv(path: PathLike) -> Predictions:
  """Reads what `write_csv` wrote. Whether it is the file that a run wrote is checked by `results.read_predictions`.

  Raises:
    FileNotFoundError: it is missing.
    DamagedFile: it is no text, a column is missing, a row is cut off or holds no probabilities, a label is no class, or
      there is no row.
  """
  try:
    with open(path, newline='', encoding='utf-8') as f:
      header, *rows = list(csv.reader(f)) or [[]]
  except (UnicodeDecodeError, csv.Error) as error:
    raise DamagedFile(f'{path}: damaged ({error}); {REMEDY}') from error
  class_names = tuple(name[2:] for name in header if name.startswith('p_'))
  if not class_names or header != _header(class_names) or len(set(class_names)) < len(class_names):
    raise DamagedFile(f'{path}: the header must be {",".join(_COLUMNS)},p_<class>,…; {REMEDY}')
  if not rows:
    raise DamagedFile(f'{path}: no predictions; {REMEDY}')
  index = {name: k for k, name in enumerate(class_names)}
  labels = np.empty(len(rows), np.int32)
  probabilities = np.empty((len(rows), len(class_names)))
  for i, row in enumerate(rows):
    try:
      labels[i], probabilities[i] = _numbers(row, index)
    except ValueError as error:
      raise DamagedFile(f'{path}: row {i + 2} is damaged ({error}); {REMEDY}') from None
  images, patients, machines, operators, brain_planes = (np.array([row[c] for row in rows]) for c in range(5))
  return Predictions(
    images=images,
    patients=np.array(patients_lib.named(patients, images)),
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
  """Returns the label and the probabilities of a row; ValueError, which says what is wrong, if it has none."""
  if len(row) != len(_COLUMNS) + len(index):
    raise ValueError(f'{len(row)} of {len(_COLUMNS) + len(index)} columns')
  label, predicted = row[_COLUMNS.index('label')], row[_COLUMNS.index('predicted')]
  for name in (label, predicted):
    if name not in index:
      raise ValueError(f'{name!r} is no class')
  probabilities = [float(p) for p in row[len(_COLUMNS) :]]
  if not all(0 <= p <= 1 for p in probabilities) or abs(sum(probabilities) - 1) > _SUM_ERROR:
    raise ValueError('not probabilities, which are from 0 to 1 and have the sum 1')
  if probabilities[index[predicted]] < max(probabilities):  # of equals, digits that are not here decided
    raise ValueError(f'{predicted!r} is not the most probable class')
  return index[label], probabilities
