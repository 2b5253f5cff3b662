"""The command: bad input ends in one line with exit code 2 and no traceback."""

import json
import pathlib
import shutil
import subprocess
import sys

import pytest

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
  assert 'prepare -> diffusion -> sample -> classify -> evaluate -> report' in command('--help').stdout
  printed = command('--config=configs/smoke.py', '--print_config', '--config.seed=7')
  assert json.loads(printed.stdout)['seed'] == 7


@pytest.mark.parametrize(
  ('arguments', 'said'),
  [
    (('--config=configs/none.py', '--workdir=w'), 'configs/none.py: no such file'),
    (('--config=configs/smoke.py',), '--workdir is missing'),
    (
      ('--config=configs/smoke.py', '--workdir=w', '--config.data.image_sise=64'),
      'did you mean --config.data.image_size',
    ),
    (('--config=configs/smoke.py', '--workdir=w', '--stages=all'), '--stages=all: no such flag'),
    (('--config=configs/smoke.py', '--workdir=w', '--config.data.image_size=17'), 'must be divisible by 2'),
  ],
)
def test_bad_flags(command, arguments, said):
  assert said in refused(command(*arguments))


def test_a_missing_archive(command, tmp_path):
  process = command(*SMALL, f'--workdir={tmp_path / "run"}', '--config.data.path=nowhere.zip')
  assert 'nowhere.zip' in refused(process)


def test_a_csv_without_a_column(command, tmp_path, real_data):
  shutil.unpack_archive(real_data / 'fetal_planes_sample_native.zip', tmp_path / 'planes')
  table = tmp_path / 'planes' / 'FETAL_PLANES_DB_data.csv'
  table.write_text(
    '\n'.join(line.replace('Patient_num', 'Person') for line in table.read_text().splitlines())
  )
  said = refused(
    command(*SMALL, f'--workdir={tmp_path / "run"}', f'--config.data.path={tmp_path / "planes"}')
  )
  assert 'Patient_num' in said
  assert 'FETAL_PLANES_DB_data.csv' in said


def test_no_test_patients(command, tmp_path, real_data):
  shutil.unpack_archive(real_data / 'fetal_planes_sample_native.zip', tmp_path / 'planes')
  table = tmp_path / 'planes' / 'FETAL_PLANES_DB_data.csv'
  head, *rows = table.read_text().splitlines()
  table.write_text('\n'.join([head, *(row.rpartition(';')[0] + ';1 ' for row in rows)]))
  said = refused(
    command(*SMALL, f'--workdir={tmp_path / "run"}', f'--config.data.path={tmp_path / "planes"}')
  )
  assert 'no test' in said


def test_a_prepared_workdir_and_a_single_class(command, tmp_path):
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
  assert command(*own, f'--config.data.path={tmp_path / "mine"}').returncode == 0
  (tmp_path / 'mine' / 'right').rename(tmp_path / 'mine' / 'up')
  process = command(*own, f'--config.data.path={tmp_path / "mine"}', '--config.data.image_size=32')
  assert 'image_size' in refused(process)
  shutil.rmtree(tmp_path / 'mine' / 'up')
  process = command(
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
def test_stages_out_of_order(command, tmp_path, stage, said):
  assert said in refused(command('--config=configs/smoke.py', f'--workdir={tmp_path}', f'--stage={stage}'))


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
    ('import fetal_jax.synthesis.api', {'jax', 'flax', 'orbax'}),
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
