"""Damaged files of a run are noticed, named, and made again or refused: never used."""

import json
import pathlib
import shutil

import msgspec
import pytest
from data.rounds.test_writer import PLAN, contents, draw_missing, open_writer, write_round
from helpers import damage, fake_workdir, hostile, tiny
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fetal_jax.data import prepare, rounds
from fetal_jax.data import prepared as prepared_lib
from fetal_jax.data.rounds import manifest as manifest_lib
from fetal_jax.evaluate import pixel_baselines, sweep_results
from fetal_jax.evaluate import results as evaluation_lib
from fetal_jax.evaluate import stage as evaluate_stage
from fetal_jax.export import select
from fetal_jax.report.sections import images
from fetal_jax.runtime import run as run_lib
from fetal_jax.runtime.errors import UserError
from fetal_jax.sample import stage as sample_stage
from fetal_jax.sample.trained import describe, load_trained
from fetal_jax.train import kept as kept_lib
from fetal_jax.train import results as results_lib
from fetal_jax.train import synthetic_sets

CLASSIFIER = 'classify/resnet50/real/seed_0'


def read_predictions(folder):
  """The probabilities in a classifier's predictions.csv, by way of its metrics.json."""
  folder = folder / CLASSIFIER
  return results_lib.read_predictions(folder, results_lib.read(folder)).probabilities.tolist()


def files_of(folder):
  return [path for path in folder.rglob('*') if path.is_file()]


# The data cache.


def data_config(folder):
  return tiny.make_config('--config.data.source=image_folder', f'--config.data.path={folder}')


@pytest.fixture(scope='module')
def prepared(tmp_path_factory):
  """A workdir with 24 images in two classes; its source is gone."""
  folder = tmp_path_factory.mktemp('prepared')
  for label, name in enumerate(('round', 'square')):
    (folder / 'mine' / name).mkdir(parents=True)
    for i in range(12):
      Image.new('L', (8, 8), 20 * label + i).save(folder / 'mine' / name / f'{i:02}.png')
  prepare.run(data_config(folder / 'mine'), folder / 'run')
  shutil.rmtree(folder / 'mine')
  return folder


@pytest.mark.parametrize('name', prepared_lib.RESULTS)
@pytest.mark.parametrize('kind', damage.KINDS)
def test_a_damaged_cache_is_refused_and_made_again(prepared, name, kind, caplog):
  folder = prepared / 'run' / 'data'
  before = {result: (folder / result).read_bytes() for result in prepared_lib.RESULTS}
  kind(folder / name)
  with pytest.raises(UserError, match=rf'{name}(:| is missing).*run --stage=prepare') as error:
    prepared_lib.load(prepared / 'run')
  assert '\n' not in str(error.value)
  with caplog.at_level('WARNING', logger='absl'):
    assert prepare.run(data_config(prepared / 'mine'), prepared / 'run')
  if (name, kind) != ('split.json', damage.delete):  # without it, nothing was prepared
    assert f'{name}: ' in caplog.text
    assert 'preparing again' in caplog.text
  assert {result: (folder / result).read_bytes() for result in prepared_lib.RESULTS} == before
  assert not prepare.run(data_config(prepared / 'mine'), prepared / 'run')


def test_a_changed_number_in_the_split_is_noticed(prepared, tmp_path):
  """It would still be a split of the same images."""
  workdir = shutil.copytree(prepared / 'run', tmp_path / 'run')
  path = workdir / 'data' / 'split.json'
  info = json.loads(path.read_text())
  info['train'][0], info['test'][0] = info['test'][0], info['train'][0]
  path.write_text(json.dumps(info))
  with pytest.raises(UserError, match=r'split\.json: damaged \(.*\); run --stage=prepare again'):
    prepared_lib.load(workdir)


# Rounds.

SHARD = 'synthetic-train.array_record-00002-of-00006'
OTHERS = ('dataset_info.json', 'features.json', 'label.labels.txt', 'preview.png')


@pytest.fixture(scope='module')
def round_1(tmp_path_factory):
  folder = tmp_path_factory.mktemp('round')
  write_round(folder)
  return folder


@pytest.mark.parametrize('kind', damage.KINDS)
def test_what_is_damaged_of_a_round_is_made_again(round_1, tmp_path, kind, caplog):
  folder = pathlib.Path(shutil.copytree(round_1, tmp_path / 'round_1'))
  for name in (SHARD, *OTHERS):
    caplog.clear()
    kind(folder / name)
    with pytest.raises(UserError, match=rf'{name}: .*; run --stage=sample again'):
      rounds.read(folder).check_files()
    with caplog.at_level('WARNING', logger='absl'), open_writer(folder) as writer:
      assert not writer.complete
      assert writer.missing().tolist() == ([7, 8, 9, 10] if name == SHARD else [])
      draw_missing(writer, 3)
      writer.finish()
    (said,) = (record.getMessage() for record in caplog.records)
    assert name in said
    assert contents(folder) == contents(round_1)
    rounds.read(folder).check_files()


@pytest.mark.parametrize('kind', damage.KINDS)
def test_nobody_reads_the_images_of_a_damaged_round(round_1, tmp_path, kind):
  folder = pathlib.Path(shutil.copytree(round_1, tmp_path / 'synthetic' / 'round_1'))
  readers = (
    lambda: synthetic_sets.load(tmp_path, 1, PLAN.class_names, image_size=16, channels=1),
    lambda: evaluate_stage.load_images(rounds.find(tmp_path), 16, 1),
    lambda: list(select.select(tmp_path).examples()),
    lambda: images.synthetic_examples(folder, 3),
  )
  for read in readers:
    read()
  kind(folder / SHARD)
  for read in readers:
    with pytest.raises(UserError, match=rf'{SHARD}: .*; run --stage=sample again'):
      read()


@pytest.mark.parametrize('kind', damage.KINDS[:3])
def test_a_damaged_manifest_is_refused(round_1, tmp_path, kind):
  folder = pathlib.Path(shutil.copytree(round_1, tmp_path / 'round_1'))
  kind(folder / 'manifest.json')
  before = contents(folder)
  with pytest.raises(
    UserError, match=r'manifest\.json: damaged \(.*\); delete .*round_1 and run --stage=sample again'
  ):
    open_writer(folder)
  assert contents(folder) == before


@pytest.mark.parametrize('kind', damage.KINDS[:3])
def test_damaged_work_of_a_killed_run_is_drawn_again(round_1, tmp_path, kind, caplog):
  with open_writer(tmp_path) as writer:
    draw_missing_until(writer, 10)
  staged, noted = tmp_path / '.staging' / 'images_7_10.npy', tmp_path / '.staging' / 'shard_000000004.json'
  kind(staged)
  kind(noted)
  with caplog.at_level('WARNING', logger='absl'), open_writer(tmp_path) as writer:
    assert writer.missing().tolist() == [4, 5, 6, *range(7, PLAN.num_images)]
    draw_missing(writer, 5)
    writer.finish()
  assert staged.name in caplog.text
  assert noted.name in caplog.text
  assert contents(tmp_path) == contents(round_1)


def draw_missing_until(writer, stop):
  from data.rounds.test_writer import IMAGES

  for first, last in ((0, 4), (4, 7), (7, stop)):
    writer.put(first, IMAGES[first:last])


# A trained model.


def test_damaged_weights_draw_nothing(tmp_path):
  workdir = tiny.make_workdir(tmp_path)
  checkpoint = workdir / 'diffusion' / 'checkpoints' / '40'
  damage.flip(max(files_of(checkpoint), key=lambda path: path.stat().st_size))
  assert describe(workdir).step == 40  # which reads no weights
  for use in (load_trained, lambda workdir: sample_stage.run(tiny.make_config(), workdir)):
    with pytest.raises(UserError, match=r'checkpoints/40: damaged \(state/.*; run --stage=diffusion again'):
      use(workdir)
  damage.flip(checkpoint / 'meta' / 'metadata')
  with pytest.raises(UserError, match=r'checkpoints/40: damaged \(meta/metadata is not what was written\)'):
    describe(workdir)


# Any file of a run that another stage reads, with any damage.


READERS = {
  'config.json': run_lib.read,
  'logs/stages.json': run_lib.read_accounts,
  'data/split.json': prepared_lib.read_info,
  'evaluate/baselines.json': pixel_baselines.read,
  'evaluate/results.json': evaluation_lib.read,
  'sweep/results.json': sweep_results.read,
  'sweep/recommended.json': sweep_results.read_recommended,
  'synthetic/kept.json': kept_lib.read,
  'synthetic/round_1/manifest.json': lambda folder: manifest_lib.read(folder / 'synthetic' / 'round_1'),
  f'{CLASSIFIER}/metrics.json': lambda folder: results_lib.read(folder / CLASSIFIER),
  f'{CLASSIFIER}/predictions.csv': read_predictions,
}


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
  """A workdir of all stages, and what is read from each of its files."""
  folder = fake_workdir.make(
    tmp_path_factory.mktemp('whole'),
    models=('resnet50',),
    regimes=('real', 'synth_r1'),
    rounds=1,
    num_images=60,
    evaluated=True,
    swept=True,
    kept=('synth_r1_kept',),
  )
  return folder, {name: read(folder) for name, read in READERS.items()}


@hostile.repeatable(150)
@given(name=st.sampled_from(sorted(READERS)), seed=hostile.SEEDS)
def test_a_file_of_a_run_is_what_was_written_or_refused(whole, name, seed):
  folder, written = whole
  path = folder / name
  before = path.read_bytes()
  path.write_bytes(hostile.damaged(before, seed))
  try:
    found = hostile.or_refused(READERS[name], folder)
  finally:
    path.write_bytes(before)
  assert found is None or msgspec.json.encode(found) == msgspec.json.encode(written[name])
