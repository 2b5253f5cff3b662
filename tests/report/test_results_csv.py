"""results.csv has a row a run, and one for each classifier of raw pixels."""

import csv
import io

from helpers.fake_run import classifier, data, make, pixels, planes, scored

from fetal_jax.report import results_csv


def _rows(*runs, **known):
  known = {'data': planes(), **known}
  return list(csv.DictReader(io.StringIO(results_csv.text(make(runs=list(runs), **known)))))


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


def test_the_papers_accuracy_has_a_column_of_its_own_where_the_network_is_reduced():
  small = classifier('real', model='vit_b_32', reduced=True)
  (row,) = _rows(small)
  assert (row['kind'], row['reduced']) == ('network', '1')
  assert (row['paper_accuracy'], row['paper_accuracy_full_size']) == ('', '0.755')
  assert not [name for name in _rows(small, data=data())[0] if 'paper' in name]


def test_raw_pixels_have_a_row_each():
  _, row = _rows(classifier('real', model='vit_b_32'), pixel_baselines=pixels(random_forest=0.722))
  assert (row['model'], row['regime'], row['seed'], row['kind']) == (
    'random forest',
    'real',
    '',
    'raw pixels, no network',
  )
  assert (row['test_images'], row['scored_accuracy'], row['scored_balanced_accuracy']) == (
    '2',
    '0.722',
    '0.361',
  )


def test_without_runs_there_is_a_header():
  assert results_csv.text(make()).startswith('model,regime,seed,protocol,')
  assert results_csv.text(make()).count('\n') == 1
