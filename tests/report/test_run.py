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
from fetal_jax.runtime import files
from fetal_jax.runtime.errors import DamagedFile

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
  assert run.runs == []


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


def test_an_evaluation_of_other_images_is_not_shown(tmp_path):
  fake_workdir.make(tmp_path, models=(), evaluated=True, **SMALL)
  shutil.rmtree(tmp_path / 'synthetic' / 'round_2')
  run = run_lib.read(tmp_path)
  assert run.evaluation is None
  said = 'was computed from other synthetic images than those that are there (round 2); run --stage=evaluate'
  assert any(said in sentence for sentence in run.missing)


def test_an_evaluation_of_as_many_other_images_is_not_shown(tmp_path):
  fake_workdir.make(tmp_path, models=(), evaluated=True, **SMALL)
  draw_again(tmp_path / 'synthetic' / 'round_1')
  run = run_lib.read(tmp_path)
  assert run.evaluation is None
  assert any('than those that are there (round 1)' in sentence for sentence in run.missing)


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
  draw_again(tmp_path / 'synthetic' / 'round_2')
  run = run_lib.read(tmp_path)
  assert run.filter is None
  assert any('kept.json is about other synthetic rounds' in sentence for sentence in run.missing)


def draw_again(folder):
  """Other images in a round, drawn with the same settings."""
  found = manifest.read(folder)
  shards = [msgspec.structs.replace(shard, sha256='other') for shard in found.shards]
  manifest.write(folder, msgspec.structs.replace(found, shards=tuple(shards)))


@pytest.mark.parametrize(
  'name',
  [
    'config.json', 'logs/stages.json', 'data/split.json', 'synthetic/kept.json', 'synthetic/round_1/manifest.json',
    'classify/resnet50/real/seed_0/metrics.json', 'evaluate/results.json', 'sweep/results.json',
    'sweep/recommended.json',
  ],
)  # fmt: skip
def test_records_of_another_shape_are_refused_in_one_line(whole, name):
  path = whole / name
  before = path.read_bytes()
  for shape in (b'[]', b'{}', b'\xff', before[: len(before) // 2]):
    path.write_bytes(shape)
    with pytest.raises(DamagedFile, match=f'{path.name}: damaged') as error:
      run_lib.read(whole)
    assert '\n' not in str(error.value)
  files.write_json(path, {'a': {'b': 1}}, seal=True)
  with pytest.raises(DamagedFile, match=f'{path.name}: damaged'):
    run_lib.read(whole)
  path.write_bytes(before)


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
  """A workdir with a file of every kind."""
  return fake_workdir.make(
    tmp_path_factory.mktemp('whole'), models=('resnet50',), regimes=('real',), kept=('synth_r1_kept',),
    evaluated=True, swept=True, rounds=1, **SMALL,
  )  # fmt: skip
