"""What is read from a workdir, whole or in part."""

import json

import numpy as np
import pytest
from report import fake_workdir

from fetal_jax import files
from fetal_jax.errors import UserError
from fetal_jax.report import collect


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
  return fake_workdir.make(tmp_path_factory.mktemp('collect'), num_seeds=2)


@pytest.fixture(scope='module')
def results(workdir):
  return collect.read_results(workdir)


def test_all_runs_in_the_order_of_the_paper(results):
  seen = list(dict.fromkeys((run['model'], run['regime']) for run in results['runs']))
  assert seen == [(m, r) for m in ('vit_b_32', 'resnet50') for r in fake_workdir.REGIMES]
  assert [run['seed'] for run in results['runs'][:2]] == [0, 1]
  assert results['missing'] == []


def test_scores_come_from_the_predictions(results):
  for run in results['runs']:
    assert run['scores']['accuracy'] == pytest.approx(run['test_accuracy'])
    assert run['scores']['n'] == results['data']['totals']['test']


def test_rounds_and_last_values(results):
  assert [r['round'] for r in results['rounds']] == [1, 2]
  assert results['rounds'][0]['counts'] == dict.fromkeys(fake_workdir.CLASSES, 8)
  assert 0 < results['diffusion']['unet/loss'] < 1
  assert list(results['stages']) == ['prepare', 'diffusion', 'sample', 'classify']


def test_an_empty_workdir_is_all_missing(tmp_path):
  results = collect.read_results(tmp_path)
  assert results['runs'] == []
  assert results['data'] is None
  assert len(results['missing']) == 6
  assert collect.real_examples(tmp_path, 3) == {}
  assert collect.synthetic_examples(tmp_path, 3) == {}


def test_what_is_not_finished_is_said(tmp_path):
  fake_workdir.make(tmp_path, models=('resnet50',), regimes=('real', 'synth_r1'))
  (tmp_path / 'classify' / 'resnet50' / 'synth_r1' / 'seed_0' / 'metrics.json').unlink()
  (tmp_path / 'classify' / 'resnet50' / 'real' / 'seed_0' / 'predictions.csv').unlink()
  manifest = tmp_path / 'synthetic' / 'round_2' / 'manifest.json'
  files.write_json(manifest, files.read_json(manifest) | {'complete': False})
  results = collect.read_results(tmp_path)
  said = ' '.join(results['missing'])
  assert 'ResNet50: synth_r1 (seed 0)' in said
  assert 'real/seed_0/predictions.csv' in said
  assert 'round_2 is not finished' in said
  assert [r['round'] for r in results['rounds']] == [1]
  assert results['runs'][0]['scores'] is None


def test_damaged_metrics_are_named(tmp_path):
  path = tmp_path / 'classify' / 'resnet50' / 'real' / 'seed_0' / 'metrics.json'
  path.parent.mkdir(parents=True)
  path.write_text('{"model": "resn')
  with pytest.raises(UserError, match=r'metrics\.json: not JSON'):
    collect.read_results(tmp_path)


def test_curves_survive_a_kill_and_a_resume(tmp_path):
  path = tmp_path / 'metrics.jsonl'
  rows = [{'step': 1, 'a': 5.0}, {'step': 2, 'a': 4.0, 'b': float('nan')}, {'step': 2, 'a': 3.0}]
  path.write_text('\n'.join(map(json.dumps, rows)) + '\n{"step": 3, "a"')
  assert collect.read_curves(path) == {'a': ([1, 2], [5.0, 3.0])}
  assert collect.read_curves(tmp_path / 'absent.jsonl') == {}


def test_real_examples_are_training_images_of_their_class(workdir):
  from fetal_jax.data import prepare

  prepared = prepare.load(workdir)
  examples = collect.real_examples(workdir, 4)
  assert list(examples) == list(fake_workdir.CLASSES)
  for k, images in enumerate(examples.values()):
    members = prepared.split.train[prepared.records.labels[prepared.split.train] == k]
    assert images.shape == (4, 16, 16, 1)
    assert all((prepared.images[members] == image).all(axis=(1, 2, 3)).any() for image in images)


def test_synthetic_examples_have_their_class(tmp_path):
  fake_workdir.make(tmp_path, class_names=('head', 'heart'), models=(), rounds=2, num_images=60, dataset=True)
  examples = collect.synthetic_examples(tmp_path / 'synthetic' / 'round_2', 3)
  assert {name: np.unique(images).tolist() for name, images in examples.items()} == {
    'head': [2],
    'heart': [12],
  }
  assert examples['head'].shape == (3, 16, 16, 1)


def test_digest_changes_with_what_the_page_shows_and_with_nothing_else(tmp_path):
  fake_workdir.make(tmp_path, models=('resnet50',), regimes=('real',))
  before = collect.digest(tmp_path, True)
  stages = files.read_json(tmp_path / 'logs' / 'stages.json')
  files.write_json(tmp_path / 'logs' / 'stages.json', stages | {'report': {'seconds': 1.0}})
  assert collect.digest(tmp_path, True) == before
  assert collect.digest(tmp_path, False) != before
  path = tmp_path / 'classify' / 'resnet50' / 'real' / 'seed_0' / 'metrics.json'
  files.write_json(path, files.read_json(path) | {'selected_epoch': 3})
  assert collect.digest(tmp_path, True) != before
