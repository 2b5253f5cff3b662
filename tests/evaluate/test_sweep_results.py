"""sweep/results.json and sweep/recommended.json: what is written is read, and what was changed is refused."""

import json

import pytest

from fetal_jax.evaluate import sweep_results
from fetal_jax.evaluate.results import FidelityScores
from fetal_jax.evaluate.sweep_results import Common, Recommended, SweepResults, SweepRow
from fetal_jax.runtime.errors import DamagedFile

FIGURES = {
  'n_real': 9, 'n_fake': 8, 'fid': 1.5, 'kid': 0.1, 'kid_sd': 0.01, 'kid_subset_size': 8, 'precision': 0.5,
  'recall': 0.25, 'density': 1.0, 'coverage': 0.75, 'notes': {},
}  # fmt: skip
ROW = SweepRow(
  method='ddim',
  steps=25,
  guidance_scale=0.5,
  seconds=2.0,
  classifier_accuracy=0.9,
  guide_accuracy=None,
  **FIGURES,
)
RESULTS = SweepResults(
  images=8,
  seed=0,
  checkpoint_step=2000,
  split_hash='ab',
  classifier='auto',
  encoder='classifier',
  common=Common(interval=(0, 500)),
  settings={'ddim_25_scale_0.5': ROW},
  reference='9 real images of the validation side',
  judge='last hidden layer of resnet50',
  encoded_by='the same',
  real_accuracy=0.95,
  floor=FidelityScores(**FIGURES),
)
RECOMMENDED = Recommended(
  flags=['--config.sample.steps=25'], why='the fewest steps', method='ddim', steps=25, guidance_scale=0.5
)


def test_what_is_written_is_read(tmp_path):
  with pytest.raises(FileNotFoundError):
    sweep_results.read(tmp_path)
  with pytest.raises(FileNotFoundError):
    sweep_results.read_recommended(tmp_path)
  sweep_results.write(tmp_path, RESULTS)
  sweep_results.write_recommended(tmp_path, RECOMMENDED)
  assert sweep_results.read(tmp_path) == RESULTS
  assert sweep_results.read_recommended(tmp_path) == RECOMMENDED
  row = json.loads((tmp_path / 'sweep' / 'results.json').read_text())['settings']['ddim_25_scale_0.5']
  assert (row['method'], row['fid'], row['seconds']) == ('ddim', 1.5, 2.0)


@pytest.mark.parametrize(
  ('name', 'read'), [('results', sweep_results.read), ('recommended', sweep_results.read_recommended)]
)
def test_a_changed_file_is_refused(tmp_path, name, read):
  sweep_results.write(tmp_path, RESULTS)
  sweep_results.write_recommended(tmp_path, RECOMMENDED)
  path = tmp_path / 'sweep' / f'{name}.json'
  path.write_text(path.read_text().replace('"steps": 25', '"steps": 10'))
  with pytest.raises(DamagedFile, match=r'damaged .*; delete the sweep folder and run --stage=sweep again'):
    read(tmp_path)
