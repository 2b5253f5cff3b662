"""metrics.json: what is written is read, and damage is named."""

import json

import pytest

from fetal_jax.runtime.errors import DamagedFile, UserError
from fetal_jax.train import results
from fetal_jax.train.results import ClassifierMetrics, EpochRow, InitialWeights, RunName

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
  settings='abc',
  history=[ROW],
)


def test_what_is_written_is_read(tmp_path):
  results.write(tmp_path, METRICS)
  assert results.read(tmp_path) == METRICS
  on_disk = json.loads((tmp_path / 'metrics.json').read_text())
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


def test_missing_and_damaged_files_are_told_apart(tmp_path):
  with pytest.raises(FileNotFoundError):
    results.read(tmp_path)
  results.write(tmp_path, METRICS)
  path = tmp_path / 'metrics.json'
  path.write_text(path.read_text().replace('0.125', '0.875'))
  with pytest.raises(DamagedFile, match=r'metrics\.json: damaged .*run --stage=classify again'):
    results.read(tmp_path)


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
