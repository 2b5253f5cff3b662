"""FETAL_PLANES_DB's table of metadata: what a row says, and what may be wrong with it."""

import pathlib
from typing import BinaryIO

from fetal_jax.data import records as records_lib
from fetal_jax.data.sources import table
from fetal_jax.data.sources.encode import EXTENSIONS
from fetal_jax.runtime import files
from fetal_jax.runtime.errors import UserError

CSV_NAME = 'FETAL_PLANES_DB_data.csv'
SEPARATOR = ';'
COLUMNS = ('Image_name', 'Patient_num', 'Plane', 'Brain_plane', 'Operator', 'US_Machine', 'Train')

# Class name -> value of the column `Plane`, in label order (the order of the paper's Table 1).
PLANES = {
  'abdomen': 'Fetal abdomen',
  'brain': 'Fetal brain',
  'femur': 'Fetal femur',
  'thorax': 'Fetal thorax',
  'cervix': 'Maternal cervix',
  'other': 'Other',
}
CLASS_NAMES = tuple(PLANES)


def read_metadata(csv_path: files.PathLike) -> records_lib.Records:
  """Reads the data set's CSV file.

  The published file is separated by semicolons, ends the header `Train ` and its values in a blank, and
  names images without `.png`; blanks around any cell, a byte-order mark, CRLF and quotes are taken as well.

  Returns:
    One record a row, in the file's order; labels are in the order of `CLASS_NAMES`.

  Raises:
    UserError: the file is missing, or a column, a class, a value or a name is not as it must be.
  """
  path = pathlib.Path(csv_path)
  try:
    with open(path, 'rb') as f:
      return parse_metadata(f, str(path))
  except OSError as error:
    raise UserError(f'{path}: cannot be read ({error.strerror}); give the path of {CSV_NAME}') from error


def parse_metadata(content: bytes | BinaryIO, where: str) -> records_lib.Records:
  """Reads a file, or its bytes, as `read_metadata` does; `where` is how errors name the file."""
  label_of = {plane: label for label, plane in enumerate(PLANES.values())}
  seen: dict[str, int] = {}

  def why_refused(line: int, row: dict[str, str]) -> str | None:
    name = _image_name(row['Image_name'])
    for column in ('Image_name', 'Patient_num'):
      if not row[column]:
        return f'column {column} is empty; fill it or delete the row'
    if '/' in name or '\\' in name or name in ('', '.', '..'):
      return f'image {name!r}: a name without folders is needed; write that of the file alone'
    if seen.setdefault(name, line) != line:
      return f'image {name} is also on line {seen[name]}; keep one of them'
    if row['Plane'] not in label_of:
      return f'unknown Plane {row["Plane"]!r}; one of {", ".join(label_of)}'
    if row['Train'] not in ('0', '1'):
      return f'column Train is {row["Train"]!r}; write 1 (train) or 0 (test)'
    return None

  cells = table.read(content, where, columns=COLUMNS, separator=SEPARATOR, why_refused=why_refused)
  return records_lib.make(
    [_image_name(name) for name in cells['Image_name']],
    [label_of[plane] for plane in cells['Plane']],
    cells['Patient_num'],
    CLASS_NAMES,
    brain_planes=cells['Brain_plane'],
    operators=cells['Operator'],
    machines=cells['US_Machine'],
    official_train=[train == '1' for train in cells['Train']],
  )


def _image_name(name: str) -> str:
  """Returns an image's name without the extension that some tables give it."""
  return next((name[: -len(end)] for end in EXTENSIONS if name.lower().endswith(end)), name)
