"""What is read from a workdir, whole or in part."""

import shutil

import msgspec
import numpy as np
import pytest
from helpers import fake_workdir

from fetal_jax.data.rounds import manifest
from fetal_jax.report import audits, summary, tables
from fetal_jax.report import examples as examples_of
from fetal_jax.report import run as run_lib
from fetal_jax.runtime import files
from fetal_jax.runtime import run as accounts_lib
from fetal_jax.runtime.errors import UserError


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
  return fake_workdir.make(tmp_path_factory.mktemp('collect'), num_seeds=2, evaluated=True)


@pytest.fixture(scope='module')
def results(workdir):
  return run_lib.read_results(workdir)


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
  results = run_lib.read_results(tmp_path)
  assert results['runs'] == []
  assert results['data'] is None
  assert len(results['missing']) == 6
  assert examples_of.real_examples(tmp_path, 3) == {}
  assert examples_of.synthetic_examples(tmp_path, 3) == {}


def test_what_is_not_finished_is_said(tmp_path):
  fake_workdir.make(tmp_path, models=('resnet50',), regimes=('real', 'synth_r1'))
  for name in ('metrics.json', 'predictions.csv'):
    (tmp_path / 'classify' / 'resnet50' / 'synth_r1' / 'seed_0' / name).unlink()
  (tmp_path / 'classify' / 'resnet50' / 'real' / 'seed_0' / 'predictions.csv').unlink()
  folder = tmp_path / 'synthetic' / 'round_2'
  manifest.write(folder, msgspec.structs.replace(manifest.read(folder), complete=False, files={}))
  results = run_lib.read_results(tmp_path)
  said = ' '.join(results['missing'])
  assert 'ResNet50: synth_r1 (seed 0)' in said
  assert 'real/seed_0/predictions.csv' in said
  assert 'round_2 is not finished' in said
  assert [r['round'] for r in results['rounds']] == [1]
  assert results['runs'][0]['scores'] is None


def test_further_regimes_have_their_own_places(tmp_path):
  """The tables, intervals and list of what is missing that are of the paper's regimes stay as they are."""
  regimes = ('real', 'synth_r1', 'synth_r12', 'synth_r12_then_real')
  made = {'models': ('resnet50',), 'num_images': 60, 'image_size': 8}
  plain = run_lib.read_results(fake_workdir.make(tmp_path / 'plain', regimes=regimes, **made))
  workdir = fake_workdir.make(
    tmp_path / 'more',
    regimes=regimes,
    kept=('synth_r12_kept', 'synth_r12_kept_then_real'),
    curve=(12, 24),
    **made,
  )
  results = run_lib.read_results(workdir)
  assert results['comparisons'] == plain['comparisons']
  assert results['missing'] == plain['missing']
  assert tables.overview(results) == tables.overview(plain)
  assert tables.by_model(results) == tables.by_model(plain)
  assert summary.best_of_many(results) == summary.best_of_many(plain)
  assert summary.headline(results)['tiles'] == summary.headline(plain)['tiles']
  ran = [run['regime'] for run in results['runs']]
  assert ran[: len(regimes)] == list(regimes)
  assert ran[len(regimes) :] == [
    'synth_r12_kept', 'synth_r12_kept_then_real', 'synth_12', 'synth_12_then_real', 'synth_24', 'synth_24_then_real'
  ]  # fmt: skip
  assert set(results['curve']) == {'synthetic', 'then_real'}
  assert list(results['filter']['models']['resnet50']) == ['synth_r12_kept', 'synth_r12_kept_then_real']


def test_further_regimes_that_are_not_finished_are_counted(tmp_path):
  fake_workdir.make(
    tmp_path, models=('resnet50',), regimes=('real',), kept=('synth_r1_kept',), curve=(12, 24), num_images=60
  )
  assert run_lib.read_results(tmp_path)['curve']['then_real']
  for name in ('synth_24', 'synth_24_then_real', 'synth_r1_kept'):
    shutil.rmtree(tmp_path / 'classify' / 'resnet50' / name)
  results = run_lib.read_results(tmp_path)
  assert results['curve'] is None
  assert results['missing'][:2] == [
    'Not finished of the regimes by number of synthetic images and with the filter: 3 of 5 runs.',
    'Accuracy by number of synthetic images: no model has predictions for 3 numbers; the scores of those that ran are in '
    'results.csv.',
  ]


def test_predictions_alone_are_enough(tmp_path):
  """Everything but them may be lost: scores, intervals and differences stay the same."""
  fake_workdir.make(tmp_path, models=('resnet50',), regimes=('real', 'synth_r1_then_real'), num_seeds=2)
  before = run_lib.read_results(tmp_path)
  for path in tmp_path.iterdir():
    if path.name != 'classify':
      shutil.rmtree(path) if path.is_dir() else path.unlink()
  for path in tmp_path.rglob('metrics.json'):
    path.unlink()
  after = run_lib.read_results(tmp_path)
  assert after['comparisons'] == before['comparisons']
  assert [run['scores'] for run in after['runs']] == [run['scores'] for run in before['runs']]
  assert 'How it was trained: classify/resnet50/real/seed_0/metrics.json is not there.' in after['missing']


def test_an_evaluation_of_other_images_is_not_shown(tmp_path):
  fake_workdir.make(tmp_path, models=(), evaluated=True)
  shutil.rmtree(tmp_path / 'synthetic' / 'round_2')
  results = run_lib.read_results(tmp_path)
  assert results['evaluation'] is None
  assert any(
    'is about 96 synthetic images, there are 48; run --stage=evaluate again' in s for s in results['missing']
  )


def test_an_evaluation_of_another_split_is_not_shown(tmp_path):
  fake_workdir.make(tmp_path, models=(), evaluated=True)
  path = tmp_path / 'evaluate' / 'results.json'
  found = files.read_json(path)
  found['leakage']['split_hash'] = 'other'
  files.write_json(path, found)
  results = run_lib.read_results(tmp_path)
  assert results['evaluation'] is None
  assert any('is about another split' in sentence for sentence in results['missing'])


def test_runs_on_other_images_are_named_and_the_rest_is_compared(tmp_path):
  fake_workdir.make(tmp_path, models=('resnet50', 'vit_b_32'), regimes=('real', 'synth_r1_then_real'))
  path = tmp_path / 'classify' / 'vit_b_32' / 'real' / 'seed_0' / 'predictions.csv'
  lines = path.read_text().splitlines(keepends=True)
  path.write_text(''.join(lines[:-1]))
  results = run_lib.read_results(tmp_path)
  assert list(results['comparisons']['models']) == ['resnet50']
  assert results['comparisons']['planned'] is None
  said = ' '.join(results['missing'])
  assert (
    'Intervals and differences of vit_b_32: real and synth_r1_then_real: not tested on the same images'
    in said
  )


@pytest.mark.parametrize(
  ('value', 'kept'),
  [
    ('/home/somebody/a/b.zip', 'b.zip'),
    ('~/data/b.zip', 'b.zip'),
    (r'C:\Users\me\b.zip', 'b.zip'),
    ('read /mnt/x/b.pth: damaged', 'read b.pth: damaged'),
    ('inception:/mnt/x/b.pth', 'inception:b.pth'),
    ('synthetic/round_1', 'synthetic/round_1'),
    ('https://zenodo.org/records/3904280', 'https://zenodo.org/records/3904280'),
    ('<b>a</b> 1 / 2', '<b>a</b> 1 / 2'),
  ],
)
def test_places_are_left_out(value, kept):
  assert audits.without_places({'x': [value]}) == {'x': [kept]}


def test_settings_that_are_paths_keep_their_last_part():
  config = {
    'data': {'path': '../shared/my data/planes.zip'},
    'init_from': ('weights/a.pt',),
    'compilation_cache': 'auto',
  }
  assert audits.without_places(config) == {
    'data': {'path': 'planes.zip'}, 'init_from': ['a.pt'], 'compilation_cache': 'auto'
  }  # fmt: skip


def test_damaged_metrics_are_named(tmp_path):
  path = tmp_path / 'classify' / 'resnet50' / 'real' / 'seed_0' / 'metrics.json'
  path.parent.mkdir(parents=True)
  path.write_text('{"model": "resn')
  with pytest.raises(UserError, match=r'metrics\.json: not JSON'):
    run_lib.read_results(tmp_path)


def test_real_examples_are_training_images_of_their_class(workdir):
  from fetal_jax.data import prepared as prepared_lib

  prepared = prepared_lib.load(workdir)
  examples = examples_of.real_examples(workdir, 4)
  assert list(examples) == list(fake_workdir.CLASSES)
  for k, images in enumerate(examples.values()):
    members = prepared.split.train[prepared.records.labels[prepared.split.train] == k]
    assert images.shape == (4, 16, 16, 1)
    assert all((prepared.images[members] == image).all(axis=(1, 2, 3)).any() for image in images)


def test_synthetic_examples_have_their_class(tmp_path):
  fake_workdir.make(tmp_path, class_names=('head', 'heart'), models=(), rounds=2, num_images=60, dataset=True)
  examples = examples_of.synthetic_examples(tmp_path / 'synthetic' / 'round_2', 3)
  assert {name: np.unique(images).tolist() for name, images in examples.items()} == {
    'head': [2],
    'heart': [12],
  }
  assert examples['head'].shape == (3, 16, 16, 1)


def test_digest_changes_with_what_the_page_shows_and_with_nothing_else(tmp_path):
  fake_workdir.make(tmp_path, models=('resnet50',), regimes=('real',))
  before = run_lib.digest(tmp_path, True)
  accounts = accounts_lib.read_accounts(tmp_path)
  accounts_lib.write_accounts(tmp_path, {**accounts, 'report': accounts['prepare']})
  assert run_lib.digest(tmp_path, True) == before
  assert run_lib.digest(tmp_path, False) != before
  path = tmp_path / 'classify' / 'resnet50' / 'real' / 'seed_0' / 'metrics.json'
  files.write_json(path, files.read_json(path) | {'selected_epoch': 3})
  assert run_lib.digest(tmp_path, True) != before
  for name in ('kept.json', 'kept.png', 'dropped.png'):
    before = run_lib.digest(tmp_path, True)
    (tmp_path / 'synthetic' / name).write_text('{}')
    assert run_lib.digest(tmp_path, True) != before
