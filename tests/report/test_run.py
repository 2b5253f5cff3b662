"""What is read from a workdir, whole or in part."""

import json
import shutil

import msgspec
import pytest
from helpers import fake_workdir

from fetal_jax.data.rounds import manifest
from fetal_jax.evaluate import results as evaluation_lib
from fetal_jax.report import run as run_lib
from fetal_jax.report.sections import accuracy, summary
from fetal_jax.runtime.errors import UserError

SMALL = {'num_images': 60, 'image_size': 8}


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
  return fake_workdir.make(tmp_path_factory.mktemp('run'), num_seeds=2, evaluated=True, swept=True)


@pytest.fixture(scope='module')
def run(workdir):
  return run_lib.read(workdir)


def test_all_runs_in_the_order_of_the_paper(run):
  seen = list(dict.fromkeys((one.model, one.regime) for one in run.runs))
  assert seen == [(m, r) for m in ('vit_b_32', 'resnet50') for r in fake_workdir.REGIMES]
  assert [one.seed for one in run.runs[:2]] == [0, 1]
  assert run.missing == []


def test_scores_come_from_the_predictions(run):
  for one in run.runs:
    assert one.scores.accuracy == pytest.approx(one.test_accuracy)
    assert one.scores.n == run.data.totals['test']


def test_rounds_and_last_values(run):
  assert [r.round for r in run.rounds] == [1, 2]
  assert run.rounds[0].counts == dict.fromkeys(fake_workdir.CLASSES, 8)
  assert run_lib.num_images(run.rounds[0]) == 48
  assert 0 < run.diffusion['unet/loss'] < 1
  assert list(run.stages) == ['prepare', 'diffusion', 'sample', 'classify']


def test_the_files_of_optional_stages_are_read(run):
  assert run.evaluation.memorisation.n_synthetic == 96
  assert run.recommended.flags[0].startswith('--config.sample.method=')
  assert len(run.sweep.settings) == 4
  assert run.filter is None
  assert set(run.curve) == {'then_real'}


def test_no_place_of_the_machine_is_in_it(run):
  assert run.config['data']['path'] == 'planes.zip'


def test_results_json_leaves_long_lists_to_their_files(run):
  values = run_lib.to_json(run)
  assert json.loads(json.dumps(values, allow_nan=False)) == values
  assert 'history' not in values['runs'][0]
  assert set(values['rounds'][0]) & {'shards', 'files'} == set()
  assert values['sweep']['recommended']['flags'] == run.recommended.flags
  odd = msgspec.structs.replace(run, diffusion={'unet/loss': float('nan')})
  assert run_lib.to_json(odd)['diffusion'] == {'unet/loss': None}


def test_an_empty_workdir_is_all_missing(tmp_path):
  run = run_lib.read(tmp_path)
  assert run.runs == []
  assert run.data is None
  assert run.name == tmp_path.name
  assert len(run.missing) == 6


def test_what_is_not_finished_is_said(tmp_path):
  fake_workdir.make(tmp_path, models=('resnet50',), regimes=('real', 'synth_r1'), **SMALL)
  for name in ('metrics.json', 'predictions.csv'):
    (tmp_path / 'classify' / 'resnet50' / 'synth_r1' / 'seed_0' / name).unlink()
  (tmp_path / 'classify' / 'resnet50' / 'real' / 'seed_0' / 'predictions.csv').unlink()
  folder = tmp_path / 'synthetic' / 'round_2'
  manifest.write(folder, msgspec.structs.replace(manifest.read(folder), complete=False, files={}))
  run = run_lib.read(tmp_path)
  said = ' '.join(run.missing)
  assert 'ResNet50: synth_r1 (seed 0)' in said
  assert 'real/seed_0/predictions.csv' in said
  assert 'round_2 is not finished' in said
  assert [r.round for r in run.rounds] == [1]
  assert run.runs[0].scores is None


def test_further_regimes_have_their_own_places(tmp_path):
  """The tables, intervals and list of what is missing that are of the paper's regimes stay as they are."""
  regimes = ('real', 'synth_r1', 'synth_r12', 'synth_r12_then_real')
  made = {'models': ('resnet50',), **SMALL}
  kept = ('synth_r12_kept', 'synth_r12_kept_then_real')
  plain = run_lib.read(fake_workdir.make(tmp_path / 'plain', regimes=regimes, **made))
  run = run_lib.read(fake_workdir.make(tmp_path / 'more', regimes=regimes, kept=kept, curve=(12, 24), **made))
  assert run.comparisons == plain.comparisons
  assert run.missing == plain.missing
  assert accuracy.overview(run) == accuracy.overview(plain)
  assert accuracy.best_of_many(run) == accuracy.best_of_many(plain)
  assert summary.tiles(run) == summary.tiles(plain)
  ran = [one.regime for one in run.runs]
  assert ran[: len(regimes)] == list(regimes)
  assert ran[len(regimes) :] == [*kept, 'synth_12', 'synth_12_then_real', 'synth_24', 'synth_24_then_real']
  assert set(run.curve) == {'synthetic', 'then_real'}
  assert list(run.filter.models['resnet50']) == list(kept)


def test_further_regimes_that_are_not_finished_are_counted(tmp_path):
  fake_workdir.make(
    tmp_path, models=('resnet50',), regimes=('real',), kept=('synth_r1_kept',), curve=(12, 24), **SMALL
  )
  assert run_lib.read(tmp_path).curve['then_real']
  for name in ('synth_24', 'synth_24_then_real', 'synth_r1_kept'):
    shutil.rmtree(tmp_path / 'classify' / 'resnet50' / name)
  run = run_lib.read(tmp_path)
  assert run.curve is None
  assert run.missing[:2] == [
    'Not finished of the regimes by number of synthetic images and with the filter: 3 of 5 runs.',
    'Accuracy by number of synthetic images: no model has predictions for 3 numbers; the scores of those that ran are in '
    'results.csv.',
  ]


def test_predictions_alone_are_enough(tmp_path):
  """Everything but them may be lost: scores, intervals and differences stay the same."""
  fake_workdir.make(
    tmp_path, models=('resnet50',), regimes=('real', 'synth_r1_then_real'), num_seeds=2, **SMALL
  )
  before = run_lib.read(tmp_path)
  for path in tmp_path.iterdir():
    if path.name != 'classify':
      shutil.rmtree(path) if path.is_dir() else path.unlink()
  for path in tmp_path.rglob('metrics.json'):
    path.unlink()
  after = run_lib.read(tmp_path)
  assert after.comparisons == before.comparisons
  assert [one.scores for one in after.runs] == [one.scores for one in before.runs]
  assert 'How it was trained: classify/resnet50/real/seed_0/metrics.json is missing.' in after.missing


def test_an_evaluation_of_other_images_is_not_shown(tmp_path):
  fake_workdir.make(tmp_path, models=(), evaluated=True, **SMALL)
  shutil.rmtree(tmp_path / 'synthetic' / 'round_2')
  run = run_lib.read(tmp_path)
  assert run.evaluation is None
  assert any(
    'is about 96 synthetic images, there are 48; run --stage=evaluate again' in s for s in run.missing
  )


def test_an_evaluation_of_another_split_is_not_shown(tmp_path):
  fake_workdir.make(tmp_path, models=(), evaluated=True, **SMALL)
  found = evaluation_lib.read(tmp_path)
  leakage = msgspec.structs.replace(found.leakage, split_hash='other')
  evaluation_lib.write(tmp_path, msgspec.structs.replace(found, leakage=leakage))
  run = run_lib.read(tmp_path)
  assert run.evaluation is None
  assert any('is about another split' in sentence for sentence in run.missing)


def test_a_choice_among_other_images_is_not_shown(tmp_path):
  fake_workdir.make(tmp_path, models=(), kept=('synth_r12_kept',), **SMALL)
  assert run_lib.read(tmp_path).filter.kept.rounds['1'].asked == [8] * 6
  folder = tmp_path / 'synthetic' / 'round_2'
  found = manifest.read(folder)
  shards = [msgspec.structs.replace(shard, sha256='other') for shard in found.shards]
  manifest.write(folder, msgspec.structs.replace(found, shards=tuple(shards)))
  run = run_lib.read(tmp_path)
  assert run.filter is None
  assert any('kept.json is about other synthetic rounds' in sentence for sentence in run.missing)


def test_runs_on_other_images_are_named_and_the_rest_is_compared(tmp_path):
  fake_workdir.make(
    tmp_path, models=('resnet50', 'vit_b_32'), regimes=('real', 'synth_r1_then_real'), **SMALL
  )
  path = tmp_path / 'classify' / 'vit_b_32' / 'real' / 'seed_0' / 'predictions.csv'
  lines = path.read_text().splitlines(keepends=True)
  path.write_text(''.join(lines[:-1]))
  run = run_lib.read(tmp_path)
  assert list(run.comparisons.models) == ['resnet50']
  assert run.comparisons.planned is None
  said = ' '.join(run.missing)
  assert (
    'Intervals and differences of vit_b_32: real and synth_r1_then_real: not tested on the same images'
    in said
  )


def test_damaged_metrics_are_named(tmp_path):
  path = tmp_path / 'classify' / 'resnet50' / 'real' / 'seed_0' / 'metrics.json'
  path.parent.mkdir(parents=True)
  path.write_text('{"model": "resn')
  with pytest.raises(UserError, match=r'metrics\.json: damaged'):
    run_lib.read(tmp_path)
