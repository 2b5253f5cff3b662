import numpy as np
import pytest

from fetal_jax.data import records


def some(official_train):
  return records.make(
    ['a', 'b;"quoted"', 'ü/c'],
    [1, 0, 1],
    ['7', '7', 'Müller, 8'],
    ['round', 'square'],
    machines=['Aloka', '', 'Voluson E6'],
    official_train=official_train,
  )


@pytest.mark.parametrize('official_train', [None, [True, False, True]])
def test_csv_keeps_every_column(tmp_path, official_train):
  before = some(official_train)
  records.write_csv(tmp_path / 'records.csv', before)
  after = records.read_csv(tmp_path / 'records.csv', before.class_names)
  for name in ('names', 'labels', 'patients', 'brain_planes', 'operators', 'machines'):
    np.testing.assert_array_equal(getattr(after, name), getattr(before, name))
  assert after.labels.dtype == np.int32
  assert after.class_names == ('round', 'square')
  if official_train is None:
    assert after.official_train is None
  else:
    np.testing.assert_array_equal(after.official_train, official_train)


def test_an_unknown_patient_is_empty_in_the_file_and_alone_in_memory(tmp_path):
  before = records.make(['a', 'b', 'c'], [0, 0, 0], ['7', '', ''], ['round'])
  records.write_csv(tmp_path / 'records.csv', before)
  rows = (tmp_path / 'records.csv').read_text().splitlines()
  assert rows[1:] == ['a,round,7,,,,', 'b,round,,,,,', 'c,round,,,,,']
  after = records.read_csv(tmp_path / 'records.csv', ['round'])
  assert after.patients.tolist() == before.patients.tolist()
  assert len(set(after.patients.tolist())) == 3


def test_take_reorders_every_column():
  taken = some([True, False, True]).take(np.array([2, 0]))
  assert taken.names.tolist() == ['ü/c', 'a']
  assert taken.patients.tolist() == ['Müller, 8', '7']
  assert taken.official_train.tolist() == [True, True]
  assert some(None).take(np.array([True, False, False])).official_train is None


def test_columns_must_fit_together():
  with pytest.raises(ValueError, match='different lengths'):
    records.make(['a', 'b'], [0, 0], ['1'], ['round'])
  with pytest.raises(ValueError, match='labels outside'):
    records.make(['a', 'b'], [0, 2], ['1', '2'], ['round', 'square'])


@pytest.mark.parametrize(
  ('change', 'error'),
  [
    (lambda text: text[: text.rindex(',')], 'row 4 is not whole'),
    (lambda text: text.replace('Aloka', 'Aloka,1'), 'row 2 is not whole'),
    (lambda text: text.replace('machine', 'engine'), 'row 2 is not whole'),
    (lambda text: text.replace('round', 'oval'), 'oval'),
  ],
)
def test_another_table_than_was_written_is_noticed(tmp_path, change, error):
  path = tmp_path / 'records.csv'
  records.write_csv(path, some(None))
  path.write_text(change(path.read_text()))
  with pytest.raises((ValueError, KeyError), match=error):
    records.read_csv(path, ('round', 'square'))
