"""The sample stage: what is drawn again and what is not, small memories, and kills at any time."""

import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from helpers import damage, tiny

from fetal_jax.data import prepared
from fetal_jax.runtime.errors import UserError
from fetal_jax.runtime.files import read_json
from fetal_jax.sample import sampler as sampler_lib
from fetal_jax.sample import stage as sample_stage
from fetal_jax.sample.trained import describe

ROOT = pathlib.Path(__file__).resolve().parents[2]
SMALL = ('--config.sample.per_class=7', '--config.sample.shard_size=4', '--config.sample.batch_size=5')


@pytest.fixture(scope='module')
def model(tmp_path_factory):
  return tiny.make_workdir(tmp_path_factory.mktemp('model'))


def new_workdir(folder, model):
  """A workdir of its own with the same checkpoint."""
  folder.mkdir()
  (folder / 'diffusion').symlink_to(model / 'diffusion')
  return folder


@pytest.fixture(scope='module')
def reference(model, tmp_path_factory):
  """Two rounds that nothing interrupted."""
  workdir = new_workdir(tmp_path_factory.mktemp('reference') / 'run', model)
  assert sample_stage.run(tiny.make_config(*SMALL), workdir)
  return workdir


def contents(workdir):
  folder = workdir / 'synthetic'
  return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob('*') if p.is_file()}


def images(workdir, number=1):
  import tensorflow_datasets as tfds

  source = tfds.builder_from_directory(workdir / 'synthetic' / f'round_{number}').as_data_source('train')
  return np.stack([example['image'] for example in source]).astype(int)


def test_rounds_hold_what_the_sampler_draws(reference, model):
  labels = np.repeat(np.arange(6), 7)
  for number in (1, 2):
    parts = sampler_lib.load_sampler(model).batches(
      labels, round=number, batch_size=5, steps=3, guidance_scale=2.0
    )
    drawn = np.concatenate([np.asarray(batch)[:count] for count, batch in parts])
    np.testing.assert_array_equal(images(reference, number), drawn)
  assert (images(reference, 1) != images(reference, 2)).any()


def test_a_finished_stage_reads_no_weights(reference, monkeypatch, caplog):
  monkeypatch.setattr(sample_stage, 'load_trained', lambda *args, **kwargs: pytest.fail('weights were read'))
  before = contents(reference)
  with caplog.at_level('INFO', logger='absl'):
    assert not sample_stage.run(tiny.make_config(*SMALL), reference)
  assert 'round 2 done before (42 images)' in caplog.text
  assert contents(reference) == before


@pytest.mark.parametrize('batch_size', [0, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 16))])
def test_the_batch_size_changes_no_image(reference, model, tmp_path, batch_size):
  workdir = new_workdir(tmp_path / 'run', model)
  config = tiny.make_config(*SMALL[:2])
  config.sample.batch_size = batch_size  # 0: found automatically
  sample_stage.run(config, workdir)
  assert np.abs(images(workdir) - images(reference)).max() <= 1


def test_lost_and_damaged_shards_are_drawn_again_in_the_same_places(reference, model, tmp_path, caplog):
  """Batches begin where they did, so that not a bit differs."""
  workdir = new_workdir(tmp_path / 'run', model)
  sample_stage.run(tiny.make_config(*SMALL), workdir)
  folder = workdir / 'synthetic' / 'round_1'
  lost, damaged = (shard['file'] for shard in read_json(folder / 'manifest.json')['shards'][1:4:2])
  damage.delete(folder / lost)
  damage.flip(folder / damaged)
  damage.cut(workdir / 'synthetic' / 'round_2' / 'features.json')
  caplog.clear()
  with caplog.at_level('INFO', logger='absl'):
    assert sample_stage.run(tiny.make_config(*SMALL), workdir)
  assert f'{lost}: is missing; its images are drawn again' in caplog.text
  assert f'{damaged}: is not what was written; its images are drawn again' in caplog.text
  assert 'round 1, 6 of 42 images to draw' in caplog.text
  assert 'features.json: has ' in caplog.text
  assert 'round 2, ' not in caplog.text  # nothing to draw there
  assert contents(workdir) == contents(reference)


def test_a_device_that_is_too_small_gets_smaller_batches(reference, model, tmp_path, monkeypatch, caplog):
  compiled = sampler_lib.Sampler.compiled

  def limited(self, batch_size, **settings):
    if batch_size > most:
      raise jax.errors.JaxRuntimeError('RESOURCE_EXHAUSTED: Out of memory allocating 12345 bytes.')
    return compiled(self, batch_size, **settings)

  monkeypatch.setattr(sampler_lib.Sampler, 'compiled', limited)
  config, most = tiny.make_config(*SMALL[:2], '--config.sample.batch_size=20'), 5
  workdir = new_workdir(tmp_path / 'run', model)
  with caplog.at_level('WARNING', logger='absl'):
    sample_stage.run(config, workdir)
  assert 'out of memory with 20 images a dispatch' in caplog.text
  assert 'out of memory with 10 images a dispatch' in caplog.text
  assert contents(workdir) == contents(reference)

  most = 0
  with pytest.raises(UserError, match=r'too small to draw one image.*config\.mesh\.fsdp'):
    sample_stage.run(config, new_workdir(tmp_path / 'other', model))


def test_the_device_is_a_batch_ahead_of_the_writer(model, tmp_path, monkeypatch):
  events, batches, put = [], sampler_lib.Sampler.batches, sample_stage.RoundWriter.put

  def logged_batches(self, *args, **kwargs):
    for batch in batches(self, *args, **kwargs):
      events.append('draw')
      yield batch

  def logged_put(self, *args):
    events.append('put')
    put(self, *args)

  monkeypatch.setattr(sampler_lib.Sampler, 'batches', logged_batches)
  monkeypatch.setattr(sample_stage.RoundWriter, 'put', logged_put)
  config = tiny.make_config(*SMALL)
  config.sample.rounds = 1
  sample_stage.run(config, new_workdir(tmp_path / 'run', model))
  assert events == ['draw', *['draw', 'put'] * 8, 'put']  # 42 images, 5 at a time


def test_an_unfinished_model_is_refused(model, tmp_path):
  with pytest.raises(UserError, match='at step 40 of 60; run --stage=diffusion to its end first'):
    sample_stage.run(tiny.make_config('--config.diffusion.steps=60'), new_workdir(tmp_path / 'run', model))


# Kills.

KILLS = int(os.environ.get('FETAL_JAX_KILLS', 3))
MANY = ('--config.sample.per_class=40', '--config.sample.shard_size=15', '--config.sample.batch_size=8')


def sample_in_a_process(workdir):
  command = [sys.executable, '-m', 'fetal_jax.main', *tiny.ARGUMENTS, *MANY, '--stage=sample']
  return subprocess.Popen(
    [*command, f'--workdir={workdir}'], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
  )


def finish(process):
  said = process.communicate()[1]
  assert process.returncode == 0, said


def kill_after(process, folder, changes, seconds):
  """Kills a process some time after `changes` files have come to or gone from `folder`; whether it was alive."""

  def listing():  # os.walk minds no folder that has just gone
    return {os.path.join(parent, name) for parent, _, names in os.walk(folder) for name in names}

  seen, before = 0, listing()
  while process.poll() is None and not folder.exists():
    time.sleep(0.05)  # Python is still starting, and needs the core for it
  while process.poll() is None and seen < changes:
    now = listing()
    seen, before = seen + len(now ^ before), now
  time.sleep(seconds)
  process.send_signal(signal.SIGKILL)
  process.communicate()
  return process.returncode == -signal.SIGKILL


@pytest.mark.slow  # tests/data/rounds/test_writer.py kills a writer alone
def test_kills_at_random_leave_no_trace(model, tmp_path):
  """`FETAL_JAX_KILLS=20` for more of them."""
  undisturbed = new_workdir(tmp_path / 'undisturbed', model)
  finish(sample_in_a_process(undisturbed))
  expected = contents(undisturbed)

  rng, killed, progress, number = random.Random(0), 0, [], 0
  while killed < KILLS:
    number += 1
    workdir, alive = new_workdir(tmp_path / f'killed_{number}', model), True
    while killed < KILLS and alive:
      # About 200 files are seen to come and go in two rounds.
      changes = rng.randrange(1, max(200 // KILLS, 12))
      alive = kill_after(sample_in_a_process(workdir), workdir / 'synthetic', changes, rng.uniform(0, 0.05))
      killed += alive
      progress.append(len(contents(workdir)))
    finish(sample_in_a_process(workdir))
    assert contents(workdir) == expected
    assert not list(workdir.rglob('*.tmp'))
    assert not list(workdir.rglob('.staging'))
  print(f'{killed} kills of {number} data sets, with this many files there: {progress}')


def test_a_model_of_another_run_is_refused(model, tmp_path):
  workdir = new_workdir(tmp_path / 'run', model)
  about = describe(workdir)
  sample_stage.check_own(tiny.make_config(*SMALL), workdir, about)
  with pytest.raises(
    UserError, match=r'checkpoints: not trained by this run \(config.seed: 0 there, 3 asked\); put'
  ):
    sample_stage.run(tiny.make_config(*SMALL, '--config.seed=3'), workdir)
  with pytest.raises(UserError, match=r'config.diffusion.learning_rate: 0.001 there, 0.5 asked'):
    sample_stage.run(tiny.make_config(*SMALL, '--config.diffusion.learning_rate=0.5'), workdir)
  prepared.write_info(workdir, tiny.split_file(class_names=tiny.CLASS_NAMES))
  sample_stage.check_own(tiny.make_config(*SMALL), workdir, about)
  for changes in ({'split_hash': 'other'}, {'class_names': ('round', 'square')}):
    prepared.write_info(workdir, tiny.split_file(**{'class_names': tiny.CLASS_NAMES, **changes}))
    with pytest.raises(UserError, match=r'not trained by this run \(another split of the data\)'):
      sample_stage.run(tiny.make_config(*SMALL), workdir)
  assert not (workdir / 'synthetic').exists()
