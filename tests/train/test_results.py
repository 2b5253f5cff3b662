"""metrics.json and the predictions.csv that it seals: what is written is read, and damage is named."""

import json

import msgspec
import numpy as np
import pytest
from helpers import damage, fake_predictions

from fetal_jax.runtime import files
from fetal_jax.runtime.errors import DamagedFile, UserError
from fetal_jax.runtime.fingerprint import Fingerprint
from fetal_jax.train import predictions, results
from fetal_jax.train.results import ClassifierMetrics, EpochRow, InitialWeights, Normalisation, RunName

ROW = EpochRow(epoch=1, step=10, train_loss=1.5, train_accuracy=0.5, validation_accuracy=0.25, score=0.25)
METRICS = ClassifierMetrics(
  model='resnet50',
  regime='synth_r1_then_real',
  seed=1,
  protocol='honest',
  epochs=1,
  selected_epoch=1,
  steps=10,
  batch_size=32,
  real_images=320,
  synthetic_images=0,
  parameters=1000,
  train_accuracy=0.5,
  validation_accuracy=0.25,
  test_accuracy=0.125,
  test_accuracy_last=0.0625,
  seconds=2.5,
  initialised_from='synth_r1',
  init_from=InitialWeights(file='resnet50.pth', sha256='0' * 64),
  normalisation=Normalisation(mean=0.449, std=0.226),
  settings='abc',
  split_hash='a split',
  rounds={'1': '0123'},
  predictions=Fingerprint(bytes=9, sha256='0'),
  history=[ROW],
)


@pytest.fixture
def folder(tmp_path):
  """Of the run that `METRICS` is about."""
  return RunName('resnet50', 'synth_r1_then_real', 1).folder(tmp_path)


def test_what_is_written_is_read(folder):
  results.write(folder, METRICS)
  assert results.read(folder) == METRICS
  on_disk = json.loads((folder / 'metrics.json').read_text())
  assert on_disk['history'] == [
    {
      'epoch': 1,
      'step': 10,
      'train_loss': 1.5,
      'train_accuracy': 0.5,
      'validation_accuracy': 0.25,
      'score': 0.25,
    }
  ]
  assert (on_disk['selected_epoch'], on_disk['init_from']['file']) == (1, 'resnet50.pth')


def test_missing_and_damaged_files_are_told_apart(folder):
  with pytest.raises(FileNotFoundError):
    results.read(folder)
  results.write(folder, METRICS)
  path = folder / 'metrics.json'
  path.write_text(path.read_text().replace('0.125', '0.875'))
  with pytest.raises(DamagedFile, match=r'metrics\.json: damaged .*run --stage=classify again'):
    results.read(folder)


def test_every_changed_byte_of_the_metrics_is_noticed(folder):
  """Whether it makes another number, another name, or no JSON; a changed blank changes nothing."""
  results.write(folder, METRICS)
  path = folder / 'metrics.json'
  whole = path.read_bytes()
  for i in range(0, len(whole), 7):
    path.write_bytes(whole[:i] + bytes([whole[i] ^ 1]) + whole[i + 1 :])
    with pytest.raises(DamagedFile):
      results.read(folder)


@pytest.mark.parametrize('seal', [False, True])
@pytest.mark.parametrize('shape', [[], {}, 3, None, {'model': 'resnet50'}, [{'model': 'resnet50'}]])
def test_another_shape_is_damage(folder, shape, seal):
  files.write_json(folder / 'metrics.json', shape, seal=seal and isinstance(shape, dict))
  with pytest.raises(DamagedFile, match=r'metrics\.json: damaged'):
    results.read(folder)


def test_a_copy_under_another_name_is_no_second_run(folder):
  results.write(folder, METRICS)
  folder.rename(folder.with_name('seed_2'))
  with pytest.raises(
    DamagedFile, match=r'seed_2.metrics\.json: is of resnet50 synth_r1_then_real 1, a copy in the wrong place'
  ):
    results.read(folder.with_name('seed_2'))


# predictions.csv: four images of which three are right.


@pytest.fixture
def sealed(folder):
  """A run's folder with predictions, and its metrics."""
  made = fake_predictions.right_or_wrong([True, True, False, True], ['1', '2', '3', '4'])
  predictions.write_csv(folder / 'predictions.csv', made)
  return folder, seal(folder, 0.75)


def seal(folder, accuracy):
  return msgspec.structs.replace(
    METRICS, test_accuracy=accuracy, predictions=Fingerprint.of(folder / 'predictions.csv')
  )


def test_sealed_predictions_are_read(sealed):
  found = results.read_predictions(*sealed)
  assert found.probabilities.argmax(-1).tolist() == [0, 0, 1, 0]


@pytest.mark.parametrize('kind', damage.KINDS)
def test_damaged_predictions_are_named(sealed, kind):
  kind(sealed[0] / 'predictions.csv')
  with pytest.raises(
    DamagedFile, match=r'predictions\.csv: .*; delete its folder and run --stage=classify'
  ) as error:
    results.read_predictions(*sealed)
  assert '\n' not in str(error.value)


@pytest.mark.parametrize('edit', ['all right', 'a row less'])
def test_edited_predictions_are_noticed_even_where_each_row_is_whole(sealed, edit):
  path = sealed[0] / 'predictions.csv'
  lines = path.read_text().splitlines()
  path.write_text('\n'.join([*lines[:3], lines[4], *([lines[1]] if edit == 'all right' else [])]))
  assert len(predictions.read_csv(path)) == (4 if edit == 'all right' else 3)
  with pytest.raises(DamagedFile, match=r'predictions\.csv: '):
    results.read_predictions(*sealed)


def test_predictions_that_do_not_give_the_accuracy_of_the_metrics_are_damage(sealed):
  folder, _ = sealed
  with pytest.raises(DamagedFile, match=r'gives the accuracy 0\.7500, metrics\.json has 1\.0000'):
    results.read_predictions(folder, seal(folder, 1.0))


def test_ties_of_six_digits_are_no_contradiction(folder):
  """The network decided by digits that the file does not have."""
  probabilities = np.array([[0.5 - 1e-8, 0.5 + 1e-8], [0.9, 0.1]])
  predictions.write_csv(folder / 'predictions.csv', fake_predictions.make([1, 0], probabilities, ['1', '2']))
  assert len(results.read_predictions(folder, seal(folder, 1.0))) == 2


def test_the_folders_of_all_runs_are_found(tmp_path):
  one, two, three = (RunName('resnet50', 'real', seed).folder(tmp_path) for seed in range(3))
  assert one == tmp_path / 'classify' / 'resnet50' / 'real' / 'seed_0'
  for folder in (one, two, three):
    folder.mkdir(parents=True)
  results.write(one, METRICS)
  (two / 'predictions.csv').touch()
  (three / 'checkpoints').mkdir()
  assert results.find(tmp_path) == [one, two]
  assert RunName.of(two) == ('resnet50', 'real', 1)


def test_a_folder_of_another_name_is_refused(tmp_path):
  with pytest.raises(UserError, match=r'seed_x: must be named seed_<number>'):
    RunName.of(tmp_path / 'resnet50' / 'real' / 'seed_x')
