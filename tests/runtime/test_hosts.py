"""Two processes train, sample and classify together, and the result is that of one.

Each has two virtual devices; the weights are spread over the two of a process, the batch over all four. Three processes compile
the whole flow, so these are slow tests; tests/train/test_diffusion_step.py and tests/sample/test_determinism.py have eight devices
in one process, tests/runtime/test_checkpoint.py two processes that resume together.
"""

import csv
import shutil
import socket
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT
from helpers import tiny
from helpers.processes import with_devices

from fetal_jax.runtime.files import read_json
from fetal_jax.runtime.metrics import read_metrics

ARGUMENTS = (
  *tiny.ARGUMENTS,
  '--config.data.phantom_images=120',
  '--config.diffusion.steps=6',
  '--config.diffusion.steps_per_call=1',
  '--config.diffusion.warmup_steps=2',
  '--config.diffusion.log_every=2',
  '--config.diffusion.eval_every=6',
  '--config.diffusion.checkpoint_every=6',
  '--config.sample.rounds=1',
  '--config.sample.batch_size=8',
  '--config.classify.models=resnet50',
  '--config.classify.model_args.resnet50.depths=(1,)',
  '--config.classify.regimes=synth_r1_then_real',
)


def start(count, *arguments, devices=1):
  """Starts `count` processes of one run, as docs/scaling.md says."""
  with socket.socket() as s:
    s.bind(('localhost', 0))
    address = f'localhost:{s.getsockname()[1]}'
  processes = []
  for index in range(count):
    env = with_devices(devices)
    if count > 1:
      env |= {
        'JAX_COORDINATOR_ADDRESS': address,
        'JAX_NUM_PROCESSES': str(count),
        'JAX_PROCESS_ID': str(index),
      }
    command = [sys.executable, '-m', 'fetal_jax.main', *ARGUMENTS, *arguments]
    processes.append(subprocess.Popen(command, cwd=ROOT, env=env, stderr=subprocess.PIPE, text=True))
  return processes


def finish(processes):
  """What each process said; all must have ended well."""
  said = [process.communicate()[1] for process in processes]
  assert [process.returncode for process in processes] == [0] * len(processes), '\n\n'.join(said)
  return said


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
  """The workdirs of a run of one process and of one of two, and what the two said."""
  folder = tmp_path_factory.mktemp('runs')
  one, two = folder / 'one', folder / 'two'
  finish(start(1, f'--workdir={one}'))
  said = finish(start(2, f'--workdir={two}', '--config.mesh.fsdp=2', devices=2))
  print(said[0])
  return one, two, said


def images(workdir):
  import tensorflow_datasets as tfds

  source = tfds.builder_from_directory(workdir / 'synthetic' / 'round_1').as_data_source('train')
  return np.stack([example['image'] for example in source]).astype(int)


@pytest.mark.slow
def test_losses_are_those_of_one_process(runs):
  one, two = (read_metrics(workdir / 'logs' / 'diffusion' / 'metrics.jsonl') for workdir in runs[:2])
  assert [row['step'] for row in one] == [row['step'] for row in two]
  for row, other in zip(one, two, strict=True):
    for name in row.keys() - {'img_per_s'}:
      np.testing.assert_allclose(row[name], other[name], rtol=2e-4, err_msg=name)


@pytest.mark.slow
def test_images_are_those_of_one_process(runs):
  one, two = map(images, runs[:2])
  assert np.abs(one - two).max() <= 1
  manifest = read_json(runs[1] / 'synthetic' / 'round_1' / 'manifest.json')
  assert manifest['complete']
  assert sum(shard['count'] for shard in manifest['shards']) == len(two) == 48
  assert not list(runs[1].rglob('*.tmp'))


@pytest.mark.slow
def test_classifiers_are_those_of_one_process(runs):
  for regime in ('synth_r1', 'synth_r1_then_real'):
    folders = [workdir / 'classify' / 'resnet50' / regime / 'seed_0' for workdir in runs[:2]]
    one, two = (read_json(folder / 'metrics.json') for folder in folders)
    np.testing.assert_allclose(one['history'][0]['train_loss'], two['history'][0]['train_loss'], rtol=5e-3)
    tables = []
    for folder in folders:
      with open(folder / 'predictions.csv', newline='') as f:
        tables.append(list(csv.DictReader(f)))
    assert [row['image'] for row in tables[0]] == [row['image'] for row in tables[1]]
    probabilities = [[[float(row[k]) for k in row if k.startswith('p_')] for row in t] for t in tables]
    np.testing.assert_allclose(*probabilities, atol=0.02)


@pytest.mark.slow
def test_the_first_process_speaks_and_writes(runs):
  first, second = runs[2]
  assert 'diffusion: 6 of 6 steps' in first
  assert 'sample: round 1' in first
  assert 'of 6 steps' not in second
  assert 'sample: round' not in second
  log = (runs[1] / 'logs' / 'run.log').read_text()
  assert log.count('diffusion: 6 of 6 steps') == 1
  assert len(list((runs[1] / 'logs' / 'diffusion').glob('events.*'))) == 1
  accounts = read_json(runs[1] / 'logs' / 'stages.json')
  assert set(accounts) == {'prepare', 'diffusion', 'sample', 'classify', 'evaluate', 'report'}
  assert [maker['device'] for maker in accounts['sample']['makers']] == ['4 x cpu on 2 hosts']


@pytest.mark.slow
def test_a_round_begun_by_one_is_finished_by_two_to_the_bit(runs, tmp_path):
  """The same checkpoint, and as many images a device at a time; two shards are already there."""
  workdir = tmp_path / 'run'
  shutil.copytree(runs[0], workdir)
  folder = workdir / 'synthetic' / 'round_1'
  for shard in read_json(folder / 'manifest.json')['shards'][2:]:
    (folder / shard['file']).unlink()
  finish(start(2, f'--workdir={workdir}', '--stage=sample'))
  before, after = (
    {path.name: path.read_bytes() for path in (w / 'synthetic' / 'round_1').iterdir()}
    for w in (runs[0], workdir)
  )
  assert before == after


def test_when_one_cannot_go_on_all_stop_and_say_so(tmp_path):
  """Only the first process looks for the archive."""
  missing = ('--config.data.source=fetal_planes_db', '--config.data.path=nowhere.zip')
  processes = start(2, *missing, f'--workdir={tmp_path / "empty"}', '--stage=prepare')
  said = [process.communicate(timeout=120)[1] for process in processes]
  assert [process.returncode for process in processes] == [2, 2], '\n\n'.join(said)
  assert 'nowhere.zip' in said[0]
  assert 'because process 0 did; its own message says why' in said[1]
  assert 'Traceback' not in ''.join(said)
