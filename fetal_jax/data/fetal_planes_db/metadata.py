"""FETAL_PLANES_DB's table of metadata: what a row says, and what may be wrong with it."""

import csv
import io
import pathlib

from fetal_jax import files
from fetal_jax.data import records as records_lib
from fetal_jax.errors import UserError

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
  names images without `.png`; blanks around any cell, a byte-order mark and CRLF are taken as well.

  Returns:
    One record a row, in the file's order; labels are in the order of `CLASS_NAMES`.

  Raises:
    UserError: the file is not there, or a column, a class, a value or a name is not as it must be.
  """
  path = pathlib.Path(csv_path)
  try:
    content = path.read_bytes()
  except OSError as error:
    raise UserError(f'{path}: cannot be read ({error.strerror}); give the path of {CSV_NAME}') from error
  return parse_metadata(content, str(path))


def parse_metadata(content: bytes, where: str) -> records_lib.Records:
  """`read_metadata` of a file's bytes; `where` is how errors name the file."""
  rows = _rows(content, where)
  label_of = {plane: label for label, plane in enumerate(PLANES.values())}
  seen: dict[str, int] = {}
  columns: dict[str, list[str]] = {column: [] for column in COLUMNS}
  for line, row in rows:
    name = row['Image_name'] = row['Image_name'].removesuffix('.png')
    if name in seen:
      raise UserError(f'{where}, line {line}: image {name} is also on line {seen[name]}; keep one of them')
    seen[name] = line
    for column in ('Image_name', 'Patient_num'):
      if not row[column]:
        raise UserError(f'{where}, line {line}: column {column} is empty; fill it or delete the row')
    if row['Plane'] not in label_of:
      raise UserError(f'{where}, line {line}: unknown Plane {row["Plane"]!r}; one of {", ".join(label_of)}')
    if row['Train'] not in ('0', '1'):
      raise UserError(f'{where}, line {line}: column Train is {row["Train"]!r}; write 1 (train) or 0 (test)')
    for column in COLUMNS:
      columns[column].append(row[column])
  return records_lib.make(
    columns['Image_name'],
    [label_of[plane] for plane in columns['Plane']],
    columns['Patient_num'],
    CLASS_NAMES,
    brain_planes=columns['Brain_plane'],
    operators=columns['Operator'],
    machines=columns['US_Machine'],
    official_train=[train == '1' for train in columns['Train']],
  )


def _rows(content: bytes, where: str) -> list[tuple[int, dict[str, str]]]:
  """The table's rows as (line number, column -> stripped cell); blank lines are left out."""
  try:
    text = content.decode('utf-8-sig')
  except UnicodeDecodeError as error:
    raise UserError(f'{where}: not UTF-8 text (byte {error.start}); save it as UTF-8 CSV') from error
  reader = csv.reader(io.StringIO(text, newline=''), delimiter=SEPARATOR)
  table = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader]
  table = [(line, cells) for line, cells in table if any(cells)]
  if not table:
    raise UserError(f'{where}: empty; expected a header and one row an image')
  header = table[0][1]
  if len(header) == 1 and any(column in header[0] for column in COLUMNS):
    raise UserError(f'{where}: columns are not separated by {SEPARATOR!r}; save it with that separator')
  missing = [column for column in COLUMNS if column not in header]
  if missing:
    raise UserError(f'{where}: no column {", ".join(missing)}; it needs {SEPARATOR.join(COLUMNS)}')
  if len(table) == 1:
    raise UserError(f'{where}: a header but no rows; expected one row an image')
  rows = []
  for line, cells in table[1:]:
    if len(cells) != len(header):
      raise UserError(f'{where}, line {line}: {len(cells)} cells where the header has {len(header)}; mend it')
    rows.append((line, dict(zip(header, cells, strict=True))))
  return rows
