"""results.csv has a row a run."""

import csv
import io

from helpers.fake_run import classifier, make, scored

from fetal_jax.report import results_csv


def _rows(*runs):
  return list(csv.DictReader(io.StringIO(results_csv.text(make(runs=list(runs))))))


def test_a_row_a_run():
  run = classifier('real', model='vit_b_32', seed=2, real_images=190, test_accuracy=0.9, scores=scored(0.91))
  first, second = _rows(run, classifier('synth_12', model='my_net'))
  assert (first['model'], first['regime'], first['seed'], first['real_images']) == (
    'vit_b_32',
    'real',
    '2',
    '190',
  )
  assert (first['test_images'], first['test_accuracy'], first['scored_accuracy']) == ('100', '0.9', '0.91')
  assert (first['recall_brain'], first['recall_heart']) == ('0.91', '')
  assert first['paper_accuracy'] == '0.755'
  assert second['scored_accuracy'] == second['recall_brain'] == second['paper_accuracy'] == ''


def test_without_runs_there_is_a_header():
  assert results_csv.text(make()).startswith('model,regime,seed,protocol,')
  assert results_csv.text(make()).count('\n') == 1
