"""predictions.csv against its text, written out."""

import dataclasses

import numpy as np
import pytest

from fetal_jax.data import records
from fetal_jax.runtime.errors import DamagedFile, UserError
from fetal_jax.train import predictions
from fetal_jax.train.predictions import read_csv, write_csv

CSV = """image,patient,machine,operator,brain_plane,label,predicted,p_abdomen,p_brain
Patient1_1,1,Voluson E6,Op. 1,Trans-thalamic,brain,brain,0.250000,0.750000
"a,b",2,,,,abdomen,brain,0.400000,0.600000
"""


def test_a_file_is_read(tmp_path):
  path = tmp_path / 'predictions.csv'
  path.write_text(CSV)
  read = read_csv(path)
  assert read.class_names == ('abdomen', 'brain')
  assert read.labels.tolist() == [1, 0]
  assert read.images.tolist() == ['Patient1_1', 'a,b']
  assert read.patients.tolist() == ['1', '2']
  assert read.machines.tolist() == ['Voluson E6', '']
  assert read.operators.tolist() == ['Op. 1', '']
  assert read.brain_planes.tolist() == ['Trans-thalamic', '']
  np.testing.assert_array_equal(read.probabilities, [[0.25, 0.75], [0.4, 0.6]])
  second = read.take(np.array([False, True]))
  assert len(second) == 1
  assert second.images.tolist() == ['a,b']
  assert second.class_names == read.class_names


def test_a_file_is_written(tmp_path):
  about = records.make(
    ['Patient1_1', 'a,b'],
    [1, 0],
    ['1', '2'],
    ('abdomen', 'brain'),
    machines=['Voluson E6', ''],
    operators=['Op. 1', ''],
    brain_planes=['Trans-thalamic', ''],
  )
  probabilities = np.array([[0.25, 0.75], [0.4, 0.6]], np.float32)
  write_csv(tmp_path / 'predictions.csv', predictions.of(about, probabilities))
  assert (tmp_path / 'predictions.csv').read_bytes() == CSV.replace('\n', '\r\n').encode()


def test_unknown_patients_are_empty_in_the_file_and_alone_in_memory(tmp_path):
  path = tmp_path / 'predictions.csv'
  about = records.make(['a', 'b'], [1, 0], ['', ''], ('abdomen', 'brain'))
  write_csv(path, predictions.of(about, np.array([[0.25, 0.75], [0.4, 0.6]], np.float32)))
  assert [row.split(',')[:2] for row in path.read_text().splitlines()[1:]] == [['a', ''], ['b', '']]
  read = read_csv(path)
  assert len(set(read.patients.tolist())) == 2
  assert read.is_of(about)


def test_bytes_that_are_no_text_are_damage(tmp_path):
  path = tmp_path / 'predictions.csv'
  path.write_bytes(CSV.encode().replace(b'Voluson', b'\xff'))
  with pytest.raises(DamagedFile, match=r'predictions\.csv: damaged \(.*utf-8'):
    read_csv(path)


def test_whether_predictions_are_of_these_images(tmp_path):
  about = records.make(['Patient1_1', 'a,b'], [1, 0], ['1', '2'], ('abdomen', 'brain'))
  path = tmp_path / 'predictions.csv'
  path.write_text(CSV)
  read = read_csv(path)
  assert read.is_of(about)
  assert not read.is_of(about.take(np.array([0])))
  assert not read.is_of(about.take(np.array([1, 0])))
  assert not read.is_of(dataclasses.replace(about, labels=np.array([0, 0], np.int32)))
  assert not read.is_of(dataclasses.replace(about, patients=np.array(['1', '1'])))
  assert not read.is_of(dataclasses.replace(about, class_names=('abdomen', 'femur')))


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('', 'header'),
    (CSV.replace('p_brain', 'brain'), 'header'),
    (CSV.splitlines()[0] + '\n', 'no predictions'),
    (CSV[: CSV.rindex(',')], 'row 3'),
    (CSV[: CSV.rindex('"a,b"') + 5], 'row 3'),
    (CSV.replace('operator,', ''), 'header'),
    (CSV.replace('operator,brain_plane,', ''), 'header'),
    (CSV.replace('0.25', 'x'), 'row 2'),
    (CSV.replace('0.25', 'nan'), 'row 2'),
    (CSV.replace('0.25', '1.5'), 'row 2'),
    (CSV.replace('0.25', '-0.25'), 'row 2'),
    (CSV.replace('0.250000,0.75', '0.750000,0.75'), 'row 2 is damaged .not probabilities'),
    (CSV.replace('0.250000,0.75', '0.150000,0.75'), 'row 2 is damaged .not probabilities'),
    (CSV.replace('0.250000,0.75', '0.000000,0.00'), 'row 2 is damaged .not probabilities'),
    (CSV.replace(',brain,brain', ',heart,brain'), "row 2 is damaged .'heart' is no class"),
    (CSV.replace(',brain,brain', ',brain,heart'), "row 2 is damaged .'heart' is no class"),
    (CSV.replace(',brain,brain', ',brain,abdomen'), "row 2 is damaged .'abdomen' is not the most probable"),
    (CSV.replace('p_brain', 'p_abdomen'), 'header'),
  ],
)
def test_damage_is_named(tmp_path, text, message):
  path = tmp_path / 'predictions.csv'
  path.write_text(text)
  with pytest.raises(UserError, match=message) as error:
    read_csv(path)
  assert str(path) in str(error.value)
