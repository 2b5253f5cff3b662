"""evaluate/results.json: what is written is read, and what was changed or is of another shape is refused."""

import json

import msgspec
import pytest

from fetal_jax.evaluate import results
from fetal_jax.evaluate.results import (
  Agreement,
  ClassFidelity,
  CopiesAudit,
  Duplicates,
  Evaluation,
  Fidelity,
  FidelityScores,
  FidelitySet,
  Histogram,
  JudgeRecall,
  Leakage,
  Near,
  Pair,
  Ratio,
  SpaceAudit,
)
from fetal_jax.runtime.errors import DamagedFile

FIGURES = {
  'n_real': 9, 'n_fake': 8, 'fid': 1.5, 'kid': 0.1, 'kid_sd': None, 'kid_subset_size': 8, 'precision': 0.5,
  'recall': 0.25, 'density': 1, 'coverage': 0.75, 'notes': {'kid_sd': 'one subset'},
}  # fmt: skip
SET = FidelitySet(overall=FidelityScores(**FIGURES), per_class=[ClassFidelity(name='brain', **FIGURES)])
SPACE = SpaceAudit(
  name='pixel',
  description='grey levels',
  unit='grey levels',
  n_synthetic=8,
  n_train=9,
  n_heldout=120,
  median_heldout=0.1 + 0.2,
  ratio=Ratio(quantiles=[0.0, 1.0], synthetic=[0.5, 2.0], heldout=[0.5, 1.5]),
  histogram=Histogram(edges=[0.0, 1.0, 2.0], synthetic=[4, 4], heldout=[60, 60]),
  authpct=50.0,
  authpct_heldout=60.0,
  c_t=-0.5,
  nearer=0.5,
  near=Near(rate=0.01, threshold=1.0, count=1, share=0.125, interval=(0.01, 0.5), p=0.2, copied=False),
  duplicates=Duplicates(count=1, indices=[3], threshold=0.1, dimension=4.5, level=0.005),
  pairs=[
    Pair(synthetic=3, train=0, flip='both', shift=(1, -2), distance=0.05, ratio=0.2, heldout_percentile=None)
  ],
  notes={},
)
EVALUATION = Evaluation(
  inputs='0123',
  rounds={'1': '4567'},
  judge='last hidden layer of resnet50',
  encoder='pool of Inception v3',
  leakage=Leakage(
    split='paper', split_hash='ab', trained_on='this side', shared_patients=3, test_patient_overlap=0.5
  ),
  agreement=Agreement(accuracy=0.5, per_class={'brain': 0.5, 'femur': None}, confusion=[[1, 1], [0, 0]]),
  judge_recall=JudgeRecall(images=4, accuracy=0.5, per_class={'brain': 0.5}, counts={'brain': 4}),
  two_sample=[],
  fidelity=Fidelity(n=8, reference=9, synthetic=SET, real_train=SET, synthetic_to_train=SET, noise=SET),
  memorisation=CopiesAudit(
    n_synthetic=8,
    n_train=9,
    n_heldout=120,
    n_judged=8,
    copied=None,
    spaces={'pixel': SPACE, 'feature': None},
    notes={'feature': 'no encoder was given'},
    heldout_unseen=False,
  ),
)


def test_what_is_written_is_read(tmp_path):
  results.write(tmp_path, EVALUATION)
  assert results.read(tmp_path) == EVALUATION
  plain = json.loads((tmp_path / 'evaluate' / 'results.json').read_text())
  assert plain['memorisation']['spaces']['pixel']['pairs'][0]['shift'] == [1, -2]
  assert plain['fidelity']['synthetic']['per_class'][0]['name'] == 'brain'


def test_missing_changed_and_other_files_are_told_apart(tmp_path):
  with pytest.raises(FileNotFoundError):
    results.read(tmp_path)
  results.write(tmp_path, EVALUATION)
  path = tmp_path / 'evaluate' / 'results.json'
  path.write_text(path.read_text().replace('"copied": null', '"copied": false'))
  with pytest.raises(
    DamagedFile, match=r'results\.json: damaged .*; delete it and run --stage=evaluate again'
  ):
    results.read(tmp_path)


@pytest.mark.parametrize(
  ('change', 'said'),
  [
    (lambda plain: plain['leakage'].pop('split'), 'missing required field `split`'),
    (lambda plain: plain['agreement'].update(accuracy='0.5'), r'\$.agreement.accuracy'),
    (lambda plain: plain.update(more=1), 'unknown field `more`'),
    (
      lambda plain: plain['memorisation']['spaces']['pixel']['pairs'][0].update(shift=[1, 2, 3]),
      'length 2',
    ),
  ],
)
def test_another_shape_is_refused(change, said):
  plain = json.loads(msgspec.json.encode(EVALUATION))
  change(plain)
  with pytest.raises(msgspec.ValidationError, match=said):
    msgspec.convert(plain, Evaluation)
