"""Whatever classes are called, they leave under names that come back."""

import csv
import io

import pytest

from fetal_jax.export import names

READ_AS_SOMETHING_ELSE = [
  'NA',
  'nan',
  'None',
  'null',
  'N/A',
  '1',
  '01',
  '1e5',
  '-3',
  'inf',
  'True',
  'FALSE',
  '=1+1',
  '+x',
  '@a',
  '-',
  ' 7 ',
]


@pytest.mark.parametrize('name', READ_AS_SOMETHING_ELSE)
def test_what_a_reader_takes_for_something_else_becomes_text(name):
  assert not names.is_text(name)
  (cell,) = names.cells([name])
  assert cell == f'class {name}'
  assert names.is_text(cell)


@pytest.mark.parametrize(
  'name', ['brain', 'Fetal brain', 'label_1', '1a', 'ü', '脳', 'left; kidney', 'a"b', 'Nan1', "'x"]
)
def test_other_names_stay(name):
  assert names.cells([name]) == [name]


@pytest.mark.parametrize(
  ('class_names', 'labels', 'called'),
  [
    (['a', 'b'], ['a', 'b'], ['a', 'b']),
    (['NA', '=1', '07'], ['0', '1', '2'], ['NA', '=1', '07']),
    (['0', '1'], ['0', '1'], ['0', '1']),
    (['1', '2', '10'], ['1', '2', '10'], ['1', '2', '10']),  # `1` would be the second class as a number
    (['1', 'NA'], ['class 1', 'class NA'], ['class 1', 'class NA']),
    (['x', ' 0 '], ['x', ' 0 '], ['x', ' 0 ']),
  ],
)
def test_labels_that_every_reader_takes_for_the_same(class_names, labels, called):
  assert names.labels(class_names) == (labels, called)


def test_cells_stay_apart():
  found = names.cells(['1', 'class 1', 'class class 1', 'NA'])
  assert found == ['class class class 1', 'class 1', 'class class 1', 'class NA']


def test_no_two_classes_share_a_folder():
  found = names.folders(
    [
      'brain',
      'a',
      'A',
      'class_1',
      'Caf\u00e9',
      'Cafe\u0301',
      'x' * 255,
      '=1+1',
      '_a',
      '.b',
      'con',
      'a/b',
      'c.',
      'metadata.csv',
      '脳',
    ]
  )
  assert found == [
    'brain', 'class_1_', 'class_2', 'class_1', 'class_4', 'class_5', 'class_6', 'class_7', 'class_8', 'class_9', 'class_10',
    'class_11', 'class_12', 'class_13', '脳',
  ]  # fmt: skip


def test_a_csv_file_brings_the_cells_back():
  cells = names.cells([*READ_AS_SOMETHING_ELSE, 'a\n"b', ';,'])
  out = io.StringIO(newline='')
  csv.writer(out, delimiter=';').writerows([cell] for cell in cells)
  assert [row[0] for row in csv.reader(io.StringIO(out.getvalue(), newline=''), delimiter=';')] == cells
