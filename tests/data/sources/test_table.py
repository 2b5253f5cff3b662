"""A table is read right or refused in one line, whatever was done to it."""

import csv
import io
import tracemalloc

import pytest
from helpers.hostile import or_refused, refusal, repeatable
from hypothesis import given
from hypothesis import strategies as st

from fetal_jax.data.sources import table
from fetal_jax.data.sources.fetal_planes_db.metadata import CLASS_NAMES, COLUMNS, PLANES, parse_metadata
from fetal_jax.runtime.errors import UserError


def read(content, **kwargs):
  arguments = {'columns': ('a', 'b'), 'separator': ';', 'why_refused': lambda line, row: None, **kwargs}
  cells_of = table.read(content, 'some.csv', **arguments)
  return [dict(zip(cells_of, cells, strict=True)) for cells in zip(*cells_of.values(), strict=True)]


@pytest.mark.parametrize(
  'content',
  [
    b'a;b\n1;2\n3;4\n',
    b'\xef\xbb\xbfa;b\n1;2\n3;4',
    b'a;b\r\n1;2\r\n3;4\r\n',
    b'a;b\r1;2\r3;4\r',
    b'\n\r\na;b\n1;2\n \n;\n3;4\n\n\n',
    b' a ; b \n\t1 ;2 \n3; 4\n',
    b'"a";"b"\n"1";"2"\n3;"4"\n',
  ],
)
def test_what_spreadsheets_do_to_a_table(content):
  assert read(content) == [{'a': '1', 'b': '2'}, {'a': '3', 'b': '4'}]


def test_columns_are_found_by_name():
  assert read('b;ö;a\n1;"x;""y""";2\n'.encode()) == [{'a': '2', 'b': '1'}]
  assert read('b;ö;a\n1;"x;""y""";2\n'.encode(), columns=('ö',)) == [{'ö': 'x;"y"'}]


@pytest.mark.parametrize(
  ('content', 'message'),
  [
    (b'', 'some.csv: empty; expected a header'),
    (b'\xef\xbb\xbf\r\n ; \n', 'some.csv: empty'),
    (b'a;b\n', 'some.csv: a header but no rows'),
    (b'a,b\n1,2\n', "columns are not separated by ';'; save it with that separator"),
    (b'a;c\n1;2\n', "no column b; it needs a;b (found 'a;c')"),
    (b'"a\nb";c\n1;2\n', "no column a, b; it needs a;b (found 'a\\nb;c')"),
    (b'a;b;a\n1;2;3\n', 'column a is there 2 times; keep one'),
    (b'a;b\n1;2\n3\n', 'line 3: 1 cells where the header has 2'),
    (b'a;b\n1;2;3\n', 'line 2: 3 cells where the header has 2'),
    (b'a;b\n1;2\n\n3;x\0y\n', "line 4: column 'b' has a line break or another control character"),
    (b'a;b\n1;2\n3;"x\ny"\n5;6\n', "line 3: column 'b' has a line break"),
    (b'a;b\n1;2\n3;"4\n5;6\n7;8\n', 'line 3: no CSV (unexpected end of data); mend its quotes'),
    (b'a;b\n1;"2"3\n', 'line 2: no CSV ('),
    ('a;b\n1;2\n3;ä\n'.encode('latin-1'), 'line 3: not UTF-8 text (byte 10); save it as UTF-8'),
    ('a;b\n1;2\n'.encode('utf-16'), 'line 1: not UTF-8 text (byte 0)'),
    ('a;b\n1;2\n'.encode('utf-16-le'), "no column a, b"),
    (b'a;b\n1;' + b'x' * 301, "line 2: column 'b' has 301 characters, over the limit of 300"),
    (b'a;b\n1;' + b'x' * 200_000, 'line 2: a row of more than 65,536 characters; shorten it, or mend its quotes'),
    (b'a;b\n1;2\n3;"' + b'5;6\n' * 20_000, 'line 3: a row of more than 65,536 characters'),
    (b'a;b\n' + b'\n' * 500_000, 'some.csv: more than 500,000 lines, the limit for a table; split it'),
    ('\ufeffa;b\n1;ü\n'.encode() + b'\xff;2', 'line 3: not UTF-8 text (byte 12)'),
  ],
)  # fmt: skip
def test_what_is_refused(content, message):
  assert message in refusal(read, content)


def test_a_table_too_large_to_be_one(monkeypatch):
  monkeypatch.setattr(table, 'MAX_BYTES', 10)
  assert 'some.csv: more than 10 bytes, the limit for a table; split it' in refusal(read, b'a;b\n1;2\n3;4')


@pytest.mark.parametrize(
  'rows',
  [
    pytest.param((b'a', 10**9), id='rows of one cell'),
    pytest.param((b'1;2', 10**9), id='good rows'),
    pytest.param((b'1;2;' + b';' * 60_000, 10**6), id='rows of many cells'),
    pytest.param((b'"' + b'x' * 300, 10**8), id='an open quote'),
    pytest.param((b'', 10**9), id='no rows at all'),
  ],
)
def test_a_table_without_end_is_refused_before_it_fills_the_memory(rows, monkeypatch):
  for limit in ('MAX_LINES', 'MAX_BYTES', 'MAX_CHARACTERS'):
    monkeypatch.setattr(table, limit, getattr(table, limit) // 50)
  line, count = rows
  line += b'\n'

  class Endless(io.RawIOBase):
    """A header and so many rows, of which the bytes are made when they are read."""

    def __init__(self):
      self.left, self.rest = count, b'a;b;' + b'c;' * 60_000 + b'\n' if b';;' in line else b'a;b\n'

    def readable(self):
      return True

    def readinto(self, buffer):
      if not self.rest and self.left:
        some = min(self.left, 1 + 10_000 // len(line))
        self.rest, self.left = line * some, self.left - some
      part, self.rest = self.rest[: len(buffer)], self.rest[len(buffer) :]
      buffer[: len(part)] = part
      return len(part)

  tracemalloc.start()
  try:
    said = refusal(read, io.BufferedReader(Endless()))
    peak = tracemalloc.get_traced_memory()[1]
  finally:
    tracemalloc.stop()
  assert said.startswith('some.csv')
  assert len(said) < 1000
  assert peak < 10 * 2**20


def test_a_few_long_cells_do_not_make_every_row_long(monkeypatch):
  """Records are arrays of text, in which all have the length of the longest."""
  monkeypatch.setattr(table, 'MAX_CHARACTERS', 1000)
  assert len(read(b'a;b\n' + b'x' * 90 + b';1\n' + b'1;2\n' * 9)) == 10
  said = refusal(read, b'a;b\n' + b'x' * 90 + b';1\n' + b'1;2\n' * 10)
  assert 'some.csv: 11 rows and cells of up to 90 characters (column a) are too much for one table' in said


def test_the_first_refused_row_is_said_and_how_many_more():
  content = b'a;b\n' + b''.join(b'%d;%d\n' % (i, i) for i in range(10))
  odd = lambda line, row: f'a is {row["a"]}; make it even' if int(row['a']) % 2 else None  # noqa: E731
  assert refusal(read, content, why_refused=odd) == (
    'some.csv, line 3: a is 1; make it even (and 4 more of 10 rows: line 5: a is 3; make it even; line 7: a is 5; '
    'make it even; line 9: a is 7; make it even; line 11: a is 9; make it even)'
  )
  two = lambda line, row: 'no' if line < 7 else 'never' if line < 9 else None  # noqa: E731
  assert refusal(read, content, why_refused=two) == (
    'some.csv, line 2: no (and 6 more of 10 rows: lines 3, 4, 5, 6: the same; lines 7, 8: never)'
  )
  none = lambda line, row: 'no'  # noqa: E731
  many = b'a;b\n' + b'1;2\n' * 1500
  assert refusal(read, many, why_refused=none).endswith(
    '(and 1,499 more of 1,500 rows: lines 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21: '
    'the same; ...)'
  )
  assert refusal(read, b'a;b\n1;2\n', why_refused=none) == 'some.csv, line 2: no'


NAMES = ['a', '..', '../a', 'x/y', 'x\\y', '/', '.png', 'a.png', 'ü "b"', '-1', '']


@pytest.mark.parametrize('name', NAMES)
def test_names_that_are_paths(name):
  content = f'{";".join(COLUMNS)}\n{name};1;Other;;;;1\n'.encode()
  if name in ('a', 'a.png', 'ü "b"', '-1'):
    assert parse_metadata(content, 'p.csv').names.tolist() == [name.removesuffix('.png')]
  else:
    with pytest.raises(
      UserError, match=r'p.csv, line 2: (image .*: a name without folders|column Image_name is empty)'
    ):
      parse_metadata(content, 'p.csv')


# Cells as people write them: any text, some of which looks like CSV.
TEXT = st.text(st.characters(codec='utf-8', exclude_categories=['Cc', 'Zl', 'Zp']), max_size=12).map(
  str.strip
)
CELL = TEXT | st.sampled_from(['', ';', '"', '";"', "'", ',', '=1+1', 'ü', '\ufeff', '🙂'])
NAME = CELL.filter(
  lambda name: name.removesuffix('.png').strip(' ./\\') and not set('/\\') & set(name) and name[0] != '.'
)
ROW = st.tuples(
  NAME, TEXT.filter(bool), st.sampled_from(list(PLANES.values())), CELL, CELL, CELL, st.sampled_from('01')
)


@repeatable(60)
@given(
  rows=st.lists(ROW, min_size=1, max_size=6, unique_by=lambda row: row[0].removesuffix('.png')),
  order=st.permutations(COLUMNS),
  quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
  newline=st.sampled_from(['\n', '\r\n', '\r']),
  bom=st.booleans(),
  blank=st.integers(0, 3),
)
def test_any_table_that_a_spreadsheet_writes_is_read_right(rows, order, quoting, newline, bom, blank):
  text = io.StringIO(newline='')
  writer = csv.writer(text, delimiter=';', quoting=quoting, lineterminator=newline * (1 + blank // 2))
  writer.writerow([column + ' ' * (blank % 2) for column in order])
  for row in rows:
    cells = dict(zip(COLUMNS, row, strict=True))
    writer.writerow([cells[column] for column in order])
  records = parse_metadata(text.getvalue().encode('utf-8-sig' if bom else 'utf-8'), 'p.csv')
  assert records.names.tolist() == [row[0].removesuffix('.png') for row in rows]
  assert records.patients.tolist() == [row[1] for row in rows]
  assert [PLANES[CLASS_NAMES[label]] for label in records.labels] == [row[2] for row in rows]
  assert records.brain_planes.tolist() == [row[3] for row in rows]
  assert records.operators.tolist() == [row[4] for row in rows]
  assert records.machines.tolist() == [row[5] for row in rows]
  assert records.official_train.tolist() == [row[6] == '1' for row in rows]


GOOD = (
  ';'.join(COLUMNS)
  + '\n'
  + ''.join(f'P{i};{i // 2};{plane};;"Op; 1";Aloka;{i % 2}\n' for i, plane in enumerate(PLANES.values()))
).encode()
PIECES = st.binary(min_size=1, max_size=3) | st.sampled_from(
  [b';', b'"', b'\n', b'\r', b',', b'\0', b'..', b'/']
)


@repeatable(150)
@given(
  st.lists(
    st.tuples(st.integers(0, len(GOOD)), st.integers(0, 30), PIECES | st.just(b'')), min_size=1, max_size=3
  )
)
def test_a_damaged_table_is_refused_or_no_row_is_lost(edits):
  content = GOOD
  for at, deleted, inserted in edits:
    content = content[:at] + inserted + content[at + deleted :]
  records = or_refused(parse_metadata, content, 'p.csv')
  if records is not None:
    # Not line by line: a break at the edge of a quoted cell is a blank around it, and goes.
    rows = csv.reader(io.StringIO(content.decode('utf-8-sig'), newline=''), delimiter=';')
    rows = [row for row in rows if any(cell.strip() for cell in row)]
    for row, name, patient in zip(rows[1:], records.names, records.patients, strict=True):
      assert name in ';'.join(row)
      assert patient in ';'.join(row)


@repeatable(150)
@given(st.binary(max_size=200))
def test_no_bytes_make_a_table_fall_over(content):
  for start in (b'', b'a;b\n'):
    rows = or_refused(read, start + content)
    assert rows is None or all(row.keys() >= {'a', 'b'} for row in rows)
