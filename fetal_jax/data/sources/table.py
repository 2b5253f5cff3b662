"""Tables that people wrote: CSV files, read strictly. What cannot be read right is refused, with its line."""

import csv
import io
import re
from collections.abc import Callable, Sequence

from fetal_jax.data.problems import MOST
from fetal_jax.runtime.errors import UserError

MAX_BYTES = 64 * 2**20  # FETAL_PLANES_DB's table has 0.9 MB
MAX_CELL = 300  # characters; a file's name has 255 at most

# Neither in a name nor in an error of one line; NUL is also what UTF-16 looks like when read as UTF-8.
CONTROL_CHARACTERS = re.compile('[\x00-\x1f\x7f-\x9f\u2028\u2029]')


def read(
  content: bytes,
  where: str,
  *,
  columns: Sequence[str],
  separator: str,
  why_refused: Callable[[int, dict[str, str]], str | None],
) -> list[dict[str, str]]:
  """Reads the table's rows, in order, each as column -> cell.

  Taken as well: a byte-order mark, any kind of line end, quotes, blanks around cells, blank lines, further columns.

  Args:
    content: the file's bytes, UTF-8.
    where: how errors name the file.
    columns: names that the header must have.
    separator: between cells.
    why_refused: from the line's number and the row, what is wrong with it; None if nothing is.

  Raises:
    UserError: the file is not such a table, or rows of it are refused; it names the first `MOST` with their lines, and
      says how many there are.
  """
  header, lines = _lines(content, where, separator)
  if len(header) == 1 and any(column in header[0] for column in columns):
    raise UserError(f'{where}: columns are not separated by {separator!r}; save it with that separator')
  missing = [column for column in columns if column not in header]
  if missing:
    found = separator.join(header)[:200]
    raise UserError(
      f'{where}: no column {", ".join(missing)}; it needs {separator.join(columns)} (found {found!r})'
    )
  for column in columns:
    if header.count(column) > 1:
      raise UserError(f'{where}: column {column} is there {header.count(column)} times; keep one of them')
  if not lines:
    raise UserError(f'{where}: a header but no rows; expected one row an image')

  rows: list[dict[str, str]] = []
  refused: list[tuple[int, str]] = []  # the first `MOST`
  count = 0
  for line, cells in lines:
    row = dict(zip(header, cells, strict=False))
    why = _why_malformed(cells, header) or why_refused(line, row)
    if why:
      count += 1
      refused += [(line, why)] * (count <= MOST)
    rows.append(row)
  if refused:
    raise UserError(f'{where}, {_in_words(refused, count, len(rows))}')
  return rows


def _in_words(refused: list[tuple[int, str]], count: int, rows: int) -> str:
  """Returns the first line that is refused, with what is wrong, and the others by what is wrong with them."""
  (line, first), others = refused[0], refused[1:]
  lines_of: dict[str, list[str]] = {}
  for number, why in others:
    lines_of.setdefault(why, []).append(str(number))
  more = [
    f'line{"s" * (len(lines) > 1)} {", ".join(lines)}: {"the same" if why == first else why}'
    for why, lines in lines_of.items()
  ]
  rest = f' (and {count - 1:,} more of {rows:,} rows: {"; ".join(more)}' if others else ''
  rest += ('; ...)' if count > len(refused) else ')') if others else ''
  return f'line {line}: {first}{rest}'


def _lines(content: bytes, where: str, separator: str) -> tuple[list[str], list[tuple[int, list[str]]]]:
  """Splits the table into its header and its other lines with their numbers; blank lines and blanks around cells go."""
  if len(content) > MAX_BYTES:
    raise UserError(f'{where}: {len(content):,} bytes, over the limit of {MAX_BYTES:,} for a table; split it')
  try:
    text = content.decode('utf-8-sig')
  except UnicodeDecodeError as error:
    line = content.count(b'\n', 0, error.start) + 1
    raise UserError(
      f'{where}, line {line}: not UTF-8 text (byte {error.start}); save it as UTF-8 CSV'
    ) from error
  # Strict: a quote that is never closed would swallow the rows after it.
  reader = csv.reader(io.StringIO(text, newline=''), delimiter=separator, strict=True)
  table = []
  line = 1
  try:
    for cells in reader:
      cells = [cell.strip() for cell in cells]
      if any(cells):
        table.append((line, cells))
      line = reader.line_num + 1
  except csv.Error as error:
    raise UserError(f'{where}, line {line}: no CSV ({error}); mend its quotes') from error
  if not table:
    raise UserError(f'{where}: empty; expected a header and one row an image')
  return table[0][1], table[1:]


def _why_malformed(cells: list[str], header: list[str]) -> str | None:
  if len(cells) != len(header):
    return f'{len(cells)} cells where the header has {len(header)}; mend it'
  for column, cell in zip(header, cells, strict=True):
    if len(cell) > MAX_CELL:
      return f'column {column[:50]!r} has {len(cell)} characters, over the limit of {MAX_CELL}; shorten it'
    if CONTROL_CHARACTERS.search(cell):
      return f'column {column[:50]!r} has a line break or another control character; take it out'
  return None
