"""The command: bad input ends in one line with exit code 2 and no traceback."""

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest
from helpers import tiny

from fetal_jax import main
from fetal_jax.runtime import devices, signals
from fetal_jax.runtime.checkpoint import Checkpointer
from fetal_jax.runtime.errors import UserError
from fetal_jax.runtime.files import read_json
from fetal_jax.runtime.metrics import read_metrics

ROOT = pathlib.Path(__file__).resolve().parent.parent

SMALL = (
  '--config=configs/smoke.py',
  '--stage=prepare',
  '--config.data.source=fetal_planes_db',
  '--config.data.split=official',
)


def refused(process) -> str:
  """The one line that a refused command prints."""
  assert process.returncode == 2, process.stderr
  assert 'Traceback' not in process.stderr
  said = [line for line in process.stderr.splitlines() if line.startswith('fetal_jax: ')]
  assert len(said) == 1, process.stderr
  return said[0]


def test_help_and_print_config(command):
  assert (
    'prepare -> diffusion -> sample -> classify -> filter -> evaluate -> report' in command('--help').stdout
  )
  printed = command('--config=configs/smoke.py', '--print_config', '--config.seed=7')
  assert json.loads(printed.stdout)['seed'] == 7
  assert '--workdir is missing' in refused(command('--config=configs/smoke.py'))


@pytest.mark.parametrize(
  ('arguments', 'said'),
  [
    (('--config=configs/none.py', '--workdir=w'), 'configs/none.py: no such file'),
    (
      ('--config=configs/smoke.py', '--workdir=w', '--config.data.image_sise=64'),
      'did you mean --config.data.image_size',
    ),
    (('--config=configs/smoke.py', '--workdir=w', '--stages=all'), '--stages=all: no such flag'),
    (('--config=configs/smoke.py', '--workdir=w', '--config.data.image_size=17'), 'must be divisible by 2'),
  ],
)
def test_bad_flags(command_here, arguments, said):
  assert said in refused(command_here(*arguments))


def test_a_missing_archive(command_here, tmp_path):
  process = command_here(*SMALL, f'--workdir={tmp_path / "run"}', '--config.data.path=nowhere.zip')
  assert 'nowhere.zip' in refused(process)


def test_a_csv_without_a_column(command_here, tmp_path, real_data):
  shutil.unpack_archive(real_data / 'fetal_planes_sample_native.zip', tmp_path / 'planes')
  table = tmp_path / 'planes' / 'FETAL_PLANES_DB_data.csv'
  table.write_text(
    '\n'.join(line.replace('Patient_num', 'Person') for line in table.read_text().splitlines())
  )
  said = refused(
    command_here(*SMALL, f'--workdir={tmp_path / "run"}', f'--config.data.path={tmp_path / "planes"}')
  )
  assert 'Patient_num' in said
  assert 'FETAL_PLANES_DB_data.csv' in said


def test_no_test_patients(command_here, tmp_path, real_data):
  shutil.unpack_archive(real_data / 'fetal_planes_sample_native.zip', tmp_path / 'planes')
  table = tmp_path / 'planes' / 'FETAL_PLANES_DB_data.csv'
  head, *rows = table.read_text().splitlines()
  table.write_text('\n'.join([head, *(row.rpartition(';')[0] + ';1 ' for row in rows)]))
  said = refused(
    command_here(*SMALL, f'--workdir={tmp_path / "run"}', f'--config.data.path={tmp_path / "planes"}')
  )
  assert 'no test' in said


def test_a_prepared_workdir_and_a_single_class(command_here, tmp_path):
  """A workdir prepared from two classes refuses to go on with another source."""
  from PIL import Image

  for name in ('left', 'right'):
    (tmp_path / 'mine' / name).mkdir(parents=True)
    for i in range(10):
      Image.new('L', (20, 20), 10 * i).save(tmp_path / 'mine' / name / f'{i}.png')
  own = (
    '--config=configs/smoke.py',
    '--stage=prepare',
    f'--workdir={tmp_path / "run"}',
    '--config.data.source=image_folder',
  )
  assert command_here(*own, f'--config.data.path={tmp_path / "mine"}').returncode == 0
  (tmp_path / 'mine' / 'right').rename(tmp_path / 'mine' / 'up')
  process = command_here(*own, f'--config.data.path={tmp_path / "mine"}', '--config.data.resize=crop')
  assert 'data.resize' in refused(process)
  shutil.rmtree(tmp_path / 'mine' / 'up')
  process = command_here(
    *own[:2], f'--workdir={tmp_path / "other"}', own[3], f'--config.data.path={tmp_path / "mine"}'
  )
  assert 'class' in refused(process)


@pytest.mark.parametrize(
  ('stage', 'said'),
  [
    ('diffusion', 'run --stage=prepare first'),
    ('sample', 'run --stage=diffusion first'),
    ('classify', 'run --stage=prepare first'),
  ],
)
def test_stages_out_of_order(command_here, tmp_path, stage, said):
  assert said in refused(
    command_here('--config=configs/smoke.py', f'--workdir={tmp_path}', f'--stage={stage}')
  )


HEAVY = (
  'jax',
  'flax',
  'orbax',
  'tensorflow',
  'tensorflow_datasets',
  'matplotlib',
  'sklearn',
  'scipy',
  'torch',
)


@pytest.mark.parametrize(
  ('statement', 'loaded'),
  [
    ("from fetal_jax import main; main.main(['--help'])", set()),
    ('import fetal_jax', set()),
    ('import fetal_jax.train.diffusion', {'jax', 'flax', 'orbax'}),
    ('import fetal_jax.sample.sampler', {'jax', 'flax', 'orbax'}),
  ],
)
def test_libraries_are_loaded_where_they_are_used(statement, loaded):
  code = (
    f'import sys\ntry:\n  {statement}\nexcept SystemExit:\n  pass\n'
    f'print("LOADED", *(set({HEAVY!r}) & set(sys.modules)))'
  )
  done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, check=True)
  found = set(done.stdout.splitlines()[-1].split()[1:])
  assert found <= loaded | {'scipy'} if loaded else not found, found  # jax itself loads scipy


# Stops, and what a second start finds.

# The guide alone: it compiles in seconds, and the loop is the same.
TRAINING = (
  '--config.data.phantom_images=120',
  '--config.diffusion.train=guide',
  '--config.diffusion.eval_every=20',
  '--config.diffusion.checkpoint_every=8',
  '--config.diffusion.steps=20',
)


@pytest.fixture(scope='module')
def prepared(tmp_path_factory):
  """A workdir with data."""
  workdir = tmp_path_factory.mktemp('prepared')
  main.run(tiny.make_config(*TRAINING), workdir, ['prepare'])
  return workdir


@pytest.fixture
def workdir(prepared, tmp_path):
  """One of its own, with the same data."""
  shutil.copytree(prepared / 'data', tmp_path / 'run' / 'data')
  return tmp_path / 'run'


@pytest.fixture(scope='module')
def undisturbed(prepared):
  """A training that nobody stopped: its rows and its last checkpoint."""
  main.run(tiny.make_config(*TRAINING), prepared, ['diffusion'])
  return results(prepared)


def results(workdir):
  """Rows of metrics by step and kind, without speed; steps with a checkpoint; and the weights of the last one."""
  rows = read_metrics(workdir / 'logs' / 'diffusion' / 'metrics.jsonl')
  rows = [{name: value for name, value in row.items() if name != 'img_per_s'} for row in rows]
  with Checkpointer(workdir / 'diffusion' / 'checkpoints', keep=None, alone=True) as checkpointer:
    step = checkpointer.latest_step()
    like = jax.tree.map(
      lambda a: np.zeros(a.shape, a.dtype), checkpointer._manager.item_metadata(step)['state'].tree
    )
    return rows, step, checkpointer.restore(step, like)[0]


@pytest.mark.slow  # the next one stops a training, too; tests/train/test_loop.py resumes
def test_a_training_stopped_by_ctrl_c_goes_on_to_the_same_end(workdir, undisturbed, monkeypatch):
  """Between two logs: at step 6, where there is a log every 10."""
  config, put = tiny.make_config(*TRAINING), devices.put_batches

  def put_and_interrupt(*args):
    for number, one in enumerate(put(*args), 1):
      if number == 3:
        os.kill(os.getpid(), signal.SIGINT)
      yield one

  def run():
    with signals.handled():
      main.run(config, workdir, ['diffusion'])

  monkeypatch.setattr(devices, 'put_batches', put_and_interrupt)
  with pytest.raises(signals.Stopped, match='diffusion is at step 6 of 20, with a checkpoint') as stopped:
    run()
  assert stopped.value.code == 130
  assert results(workdir)[1] == 6
  monkeypatch.setattr(devices, 'put_batches', put)
  run()
  rows, step, state = results(workdir)
  assert (rows, step) == undisturbed[:2]
  jax.tree.map(np.testing.assert_array_equal, state, undisturbed[2])


def test_sigterm_ends_a_training_with_its_checkpoint_and_nobody_else_gets_in(workdir, capsys):
  """A process of its own, as a scheduler sees it."""
  arguments = [*tiny.ARGUMENTS, *TRAINING, '--config.diffusion.steps=100000', f'--workdir={workdir}']
  arguments += ['--config.diffusion.checkpoint_every=100000', '--stage=diffusion']
  command = [sys.executable, '-m', 'fetal_jax.main', *arguments]
  said = []
  with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
    for line in process.stderr:
      said.append(line)
      if ': 10 of 100' in line:
        # A second run does not get in.
        assert main.main(arguments) == 2
        assert f'another run is at work there (process {process.pid} on ' in capsys.readouterr().err
        process.send_signal(signal.SIGTERM)
  assert process.returncode == 143, ''.join(said)
  assert 'Traceback' not in ''.join(said)
  assert 'Asked to stop by SIGTERM: ' in said[-2]
  match = re.fullmatch(
    'fetal_jax: stopped: diffusion is at step (\\d+) of 100000, with a checkpoint; run the same command again to resume\n',
    said[-1],
  )
  assert match, said[-1]
  assert [path.name for path in (workdir / 'diffusion' / 'checkpoints').iterdir()] == [match[1]]
  assert {path.name for path in workdir.iterdir()} == {'data', 'diffusion', 'logs', 'config.json'}
  assert not list(workdir.rglob('*.tmp'))


def test_a_config_that_does_not_go_with_the_results_is_refused(workdir):
  """Before any stage, and whatever stage is asked for."""
  main.run(tiny.make_config(*TRAINING), workdir, [])
  before = read_json(workdir / 'config.json')
  with pytest.raises(UserError, match=r'config\.data\.phantom_images: 120 there, 121 asked'):
    main.run(tiny.make_config('--config.data.phantom_images=121'), workdir, ['report'])
  assert read_json(workdir / 'config.json') == before


def test_a_workdir_at_home_is_there_and_nowhere_else(monkeypatch):
  monkeypatch.setenv('HOME', '/home/me')
  flags, _ = main.parse(['--config=configs/smoke.py', '--workdir=~/runs/x'])
  assert flags.workdir == '/home/me/runs/x'
  with pytest.raises(UserError, match='~nobody_here/x: no home folder is known'):
    main.parse(['--config=configs/smoke.py', '--workdir=~nobody_here/x'])
