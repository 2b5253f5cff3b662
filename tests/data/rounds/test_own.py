"""Rounds of another run are refused wherever a workdir's rounds are read."""

import shutil

import msgspec
import numpy as np
import pytest
from helpers import tiny

from fetal_jax import config as config_lib
from fetal_jax.data import prepared, rounds
from fetal_jax.data.rounds import CheckpointMark, SamplerSettings, manifest, own
from fetal_jax.evaluate import stage as evaluate_stage
from fetal_jax.export import select
from fetal_jax.report import run as report_run
from fetal_jax.runtime import run
from fetal_jax.runtime.checkpoint import Checkpointer
from fetal_jax.runtime.errors import DamagedFile, UserError
from fetal_jax.train import synthetic_sets

CONFIG = tiny.make_config('--config.sample.per_class=2', '--config.sample.guidance_interval=(0,500)')
MARK = CheckpointMark(step=40, ema_rate=0.999, split_hash='a split')
MINE = {
  'sampler': SamplerSettings(steps=3, guidance_scale=2.0, interval=(0, 500)),
  'checkpoint': MARK,
  'config_hash': own.model_hash(CONFIG, 'a split'),
}
OTHERS = [
  ({'seed': 6}, 'its seed: 6, here: 0'),
  ({'checkpoint': msgspec.structs.replace(MARK, split_hash='other')}, 'its split: other, here: a split'),
  ({'sampler': msgspec.structs.replace(MINE['sampler'], steps=4)}, 'its sampler.steps: 4, here: 3'),
  ({'config_hash': 'abc'}, 'its model: abc, here: '),
  ({'image_size': 16}, 'its image size: (16, 1), here: (8, 1)'),
]


def write(workdir, number=1, class_names=tiny.CLASS_NAMES, per_class=2, **changes):
  made = tiny.manifest(number, class_names, per_class, **{**MINE, **changes})
  manifest.write(rounds.folder_of(workdir, number), made)


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
  """A run without rounds."""
  folder = tmp_path_factory.mktemp('run')
  prepared.write_info(folder, tiny.split_file(class_names=tiny.CLASS_NAMES))
  run.write(folder, run.RunFile(config_lib.to_dict(CONFIG), {}, None))
  meta = {'config': config_lib.to_dict(CONFIG), 'split_hash': 'a split'}
  with Checkpointer(folder / 'diffusion' / 'checkpoints') as checkpointer:
    checkpointer.save(40, {'w': np.zeros(2)}, meta)
  return folder


@pytest.fixture
def mine(workdir, tmp_path):
  return shutil.copytree(workdir, tmp_path / 'run')


def test_what_the_run_drew_is_taken(mine):
  write(mine, 1)
  write(mine, 2)
  assert [one.number for one in rounds.find(mine)] == [1, 2]


@pytest.mark.parametrize(('changes', 'said'), OTHERS)
def test_another_runs_round_is_refused_with_what_differs(mine, changes, said):
  write(mine, 1)
  write(mine, 2, **changes)
  with pytest.raises(UserError) as error:
    rounds.find(mine)
  message = str(error.value)
  assert f'round_2: not drawn by this run ({said}' in message
  assert message.endswith('put the right folder there, or delete it and run --stage=sample')
  assert '\n' not in message


def test_other_classes_and_counts_are_refused(mine):
  write(mine, per_class=3)
  with pytest.raises(UserError, match='its images of a class: 3, here: 2'):
    rounds.find(mine)
  write(mine, class_names=('round', 'square'))
  with pytest.raises(UserError, match='its classes: round, square, here: abdomen, brain'):
    rounds.find(mine)


@pytest.mark.parametrize(('changes', 'said'), OTHERS[:4])
def test_each_file_of_a_run_is_enough_to_notice(mine, changes, said):
  """As where data/ or the checkpoints were deleted to make room."""
  tells = {'seed': 'config.json', 'split': 'data', 'sampler.steps': 'config.json', 'model': 'diffusion'}
  kept = tells[said.split(':')[0].removeprefix('its ')]
  for path in mine.iterdir():
    if path.name != kept:
      shutil.rmtree(path) if path.is_dir() else path.unlink()
  write(mine)
  assert rounds.find(mine)
  write(mine, **changes)
  with pytest.raises(UserError, match='not drawn by this run'):
    rounds.find(mine)


@pytest.mark.parametrize('content', ['', '[]', '{}', '{"config": 3, "split_hash": "a"}', '[' * 100_000])
def test_a_damaged_description_of_the_model_is_named(mine, content):
  write(mine)
  path = mine / 'diffusion' / 'checkpoints' / '40' / 'meta' / 'metadata'
  path.write_text(content)
  with pytest.raises(DamagedFile, match=r'meta/metadata: damaged .*; run --stage=diffusion') as error:
    rounds.find(mine)
  assert '\n' not in str(error.value)


def test_without_anything_else_rounds_must_be_alike(tmp_path):
  write(tmp_path, 1, seed=3)
  assert rounds.find(tmp_path)
  write(tmp_path, 2, seed=4)
  with pytest.raises(UserError, match=r'round_2: not drawn by this run \(its seed: 4, here: 3\)'):
    rounds.find(tmp_path)


def test_nobody_reads_another_runs_round(mine):
  write(mine, seed=6)
  readers = (
    lambda: synthetic_sets.load(mine, 1, tiny.CLASS_NAMES, image_size=8, channels=1),
    lambda: evaluate_stage.find_rounds(mine),
    lambda: select.select(mine),
    lambda: report_run._read_rounds(mine, []),
  )
  for read in readers:
    with pytest.raises(UserError, match='not drawn by this run'):
      read()


def test_a_model_without_guide_was_asked_for_no_guidance(mine):
  config = tiny.make_config(
    '--config.sample.per_class=2', '--config.diffusion.train=unet', '--config.sample.guidance_scale=0'
  )
  run.write(mine, run.RunFile(config_lib.to_dict(config), {}, None))
  write(mine, sampler=SamplerSettings(steps=3))
  assert rounds.find(mine)
