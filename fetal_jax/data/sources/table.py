"""Tables that people wrote: CSV files, read strictly. What cannot be read right is refused, with its line."""

import csv
import io
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO

from fetal_jax.data.problems import MOST
from fetal_jax.runtime.errors import UserError

# FETAL_PLANES_DB's table has 0.9 MB and 12,400 rows. A table is read line by line, so that one which goes on without end,
# or which a small archive unpacks to, is refused before it fills the memory; one at these limits takes about 500 MiB.
MAX_BYTES = 64 * 2**20
MAX_LINES = 500_000
MAX_ROW = 2**16  # characters
MAX_CELL = 300  # characters; a file's name has 255 at most
MAX_CHARACTERS = 64 * 2**20  # of all rows, each taken as long as the longest, as arrays of text are

# Neither in a name nor in an error of one line; NUL is also what UTF-16 looks like when read as UTF-8, and the last ones
# turn round what is written after them.
CONTROL_CHARACTERS = re.compile('[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]')


def read(
  content: bytes | BinaryIO,
  where: str,
  *,
  columns: Sequence[str],
  separator: str,
  why_refused: Callable[[int, dict[str, str]], str | None],
) -> dict[str, list[str]]:
  """Reads the table, as column -> its cells in order, for `columns`.

  Taken as well: a byte-order mark, any kind of line end, quotes, blanks around cells, blank lines, further columns.

  Args:
    content: the file, or its bytes, UTF-8.
    where: how errors name the file.
    columns: names that the header must have.
    separator: between cells.
    why_refused: from the line's number and the row, what is wrong with it; None if nothing is.

  Raises:
    UserError: the file is not such a table, is larger than a table may be, or rows of it are refused; it names the first
      `MOST` with their lines, and says how many there are.
  """
  lines = _Lines(io.BytesIO(content) if isinstance(content, bytes) else content, where)
  try:
    return _read(_rows(lines, where, separator), where, columns, separator, why_refused)
  finally:
    lines.detach()


def _read(
  rows: Iterator[tuple[int, list[str]]],
  where: str,
  columns: Sequence[str],
  separator: str,
  why_refused: Callable[[int, dict[str, str]], str | None],
) -> dict[str, list[str]]:
  """Returns the cells of the rows, see `read`."""
  _, header = next(rows, (0, None))
  if header is None:
    raise UserError(f'{where}: empty; expected a header and one row an image')
  _check_header(header, where, columns, separator)
  cells_of: dict[str, list[str]] = {column: [] for column in columns}
  place = {column: header.index(column) for column in columns}
  longest = dict.fromkeys(columns, 0)
  refused: list[tuple[int, str]] = []  # the first `MOST`
  found = count = 0
  for line, cells in rows:
    found += 1
    why = _why_malformed(cells, header)
    if not why:
      row = {column: sys.intern(cells[place[column]]) for column in columns}  # most are there many times
      why = why_refused(line, row)
    if why:
      count += 1
      refused += [(line, why)] * (count <= MOST)
    elif not refused:
      for column, cell in row.items():
        cells_of[column].append(cell)
        longest[column] = max(longest[column], len(cell))
  if refused:
    raise UserError(f'{where}, {_in_words(refused, count, found)}')
  if not found:
    raise UserError(f'{where}: a header but no rows; expected one row an image')
  if found * sum(longest.values()) > MAX_CHARACTERS:
    column = max(longest, key=lambda column: longest[column])
    raise UserError(
      f'{where}: {found:,} rows and cells of up to {longest[column]} characters (column {column}) are too much for one '
      'table; shorten them, or split it'
    )
  return cells_of


def _check_header(header: list[str], where: str, columns: Sequence[str], separator: str) -> None:
  """Refuses a header that has not every column once."""
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


class _Lines:
  """The lines of a file, as `csv.reader` wants them, read one by one; stops where no table goes on.

  Attributes:
    number: of lines read so far.
    row: the line that the present row begins with.
  """

  def __init__(self, file: BinaryIO, where: str) -> None:
    # Bytes that are no UTF-8 come through as surrogates, so that the line is known.
    self._text = io.TextIOWrapper(file, 'utf-8', errors='surrogateescape', newline='')
    self._where = where
    self._bytes = self._characters = 0
    self.number, self.row = 0, 1

  def detach(self) -> None:
    """Leaves the file to the caller, who opened it."""
    self._text.detach()

  def begin_row(self) -> None:
    """Notes that the next line begins a row; a row with line breaks in quotes has several."""
    self.row, self._characters = self.number + 1, 0

  def __iter__(self) -> Iterator[str]:
    return self

  def __next__(self) -> str:
    line = self._text.readline(MAX_ROW + 1)
    if not line:
      raise StopIteration
    self.number += 1
    try:
      size = len(line.encode())
    except UnicodeEncodeError as error:
      at = self._bytes + len(line[: error.start].encode())
      raise UserError(
        f'{self._where}, line {self.number}: not UTF-8 text (byte {at}); save it as UTF-8 CSV'
      ) from error
    self._bytes += size
    self._characters += len(line)
    if self._bytes > MAX_BYTES:
      raise UserError(f'{self._where}: more than {MAX_BYTES:,} bytes, the limit for a table; split it')
    if self.number > MAX_LINES:
      raise UserError(f'{self._where}: more than {MAX_LINES:,} lines, the limit for a table; split it')
    if self._characters > MAX_ROW:
      raise UserError(
        f'{self._where}, line {self.row}: a row of more than {MAX_ROW:,} characters; shorten it, or mend its quotes'
      )
    return line.removeprefix('\ufeff') if self.number == 1 else line


def _rows(lines: _Lines, where: str, separator: str) -> Iterator[tuple[int, list[str]]]:
  """Yields the rows with the lines that they begin with; blank lines and blanks around cells go."""
  # Strict: a quote that is never closed would swallow the rows after it.
  reader = csv.reader(lines, delimiter=separator, strict=True)
  try:
    for cells in reader:
      cells = [cell.strip() for cell in cells]
      if any(cells):
        yield lines.row, cells
      lines.begin_row()
  except csv.Error as error:
    raise UserError(f'{where}, line {lines.row}: no CSV ({error}); mend its quotes') from error


def _why_malformed(cells: list[str], header: list[str]) -> str | None:
  if len(cells) != len(header):
    return f'{len(cells)} cells where the header has {len(header)}; mend it'
  for column, cell in zip(header, cells, strict=True):
    if len(cell) > MAX_CELL:
      return f'column {column[:50]!r} has {len(cell)} characters, over the limit of {MAX_CELL}; shorten it'
    if CONTROL_CHARACTERS.search(cell):
      return f'column {column[:50]!r} has a line break or another control character; take it out'
  return None
