"""The accounts of a run: what was asked, and what each stage took."""

import datetime
import os
import re
import shutil
import subprocess
from importlib import metadata

import pytest

import fetal_jax
from fetal_jax.runtime import run, signals
from fetal_jax.runtime.errors import DamagedFile, UserError

MAKER = run.Maker(
  versions={'jax': '0.9'}, git_commit='0123', device='1 x cpu on 1 host', cpu_cores=8, dtype=None
)
ACCOUNT = run.StageAccount(12.5, 1.5, '2026-01-01T10:00:00+00:00', [MAKER])


def test_config_json(tmp_path):
  made = run.RunFile({'name': 'demo', 'data': {'image_size': 64}}, {'jax': '0.10.2'}, None)
  run.write(tmp_path, made)
  assert run.read(tmp_path) == made
  path = tmp_path / 'config.json'
  path.write_text(path.read_text().replace('64', '65'))
  with pytest.raises(DamagedFile, match=r'config\.json: damaged .*; delete it and .*, which writes it anew$'):
    run.read(tmp_path)
  path.unlink()
  with pytest.raises(FileNotFoundError):
    run.read(tmp_path)


def test_a_later_start_does_not_take_the_place_of_who_began(tmp_path, monkeypatch):
  began = run.RunFile({'seed': 0, 'sizes': [1, 2]}, {'jax': '0.1'}, '0123')
  run.write(tmp_path, began)
  before = (tmp_path / 'config.json').stat()
  run.note_asked(tmp_path, {'seed': 0, 'sizes': (1, 2)})
  assert run.read(tmp_path) == began
  assert (tmp_path / 'config.json').stat().st_ino == before.st_ino  # not even written again
  run.note_asked(tmp_path, {'seed': 1})
  assert run.read(tmp_path) == run.RunFile({'seed': 1}, {'jax': '0.1'}, '0123')
  (tmp_path / 'config.json').unlink()
  run.note_asked(tmp_path, {'seed': 1})
  assert run.read(tmp_path) == run.describe({'seed': 1})


def test_stages_json(tmp_path):
  with pytest.raises(FileNotFoundError):
    run.read_accounts(tmp_path)
  run.write_accounts(tmp_path, {'prepare': ACCOUNT})
  assert run.read_accounts(tmp_path) == {'prepare': ACCOUNT}
  path = tmp_path / 'logs' / 'stages.json'
  path.write_text(path.read_text().replace('12.5', '1.5'))
  with pytest.raises(DamagedFile, match=r'stages\.json: damaged \(not what was written\)'):
    run.read_accounts(tmp_path)


def test_a_description_names_versions_and_the_commit():
  made = run.describe({'seed': 0})
  assert made.config == {'seed': 0}
  assert list(made.versions)[:3] == ['fetal_jax', 'python', 'jax']
  assert all(re.match(r'\d+\.\d+', version) for version in made.versions.values())
  assert made.git_commit is None or re.fullmatch('[0-9a-f]{40}', made.git_commit)


def test_a_checkout_that_was_not_installed_has_a_version(monkeypatch):
  found = metadata.version

  def version(name):
    if name == 'fetal_jax':
      raise metadata.PackageNotFoundError(name)
    return found(name)

  monkeypatch.setattr(metadata, 'version', version)
  assert run.describe({}).versions['fetal_jax'] == fetal_jax.__version__


def test_stages_run_in_order_and_their_accounts_add_up(tmp_path, monkeypatch):
  ran, clock = [], [0.0]

  def make_stage(name, seconds, worked=True):
    def stage():
      ran.append(name)
      clock[0] += seconds
      return worked

    return stage

  monkeypatch.setattr(run.time, 'monotonic', lambda: clock[0])
  run.write_accounts(tmp_path, {'prepare': ACCOUNT})
  stages = {'sample': make_stage('sample', 100.0), 'prepare': make_stage('prepare', 7.26)}
  run.run_stages(
    {**stages, 'report': make_stage('report', 5.0, worked=False)},
    tmp_path,
    on_one_host=('prepare',),
    dtypes={'sample': 'bfloat16'},
  )
  assert ran == ['sample', 'prepare', 'report']
  accounts = run.read_accounts(tmp_path)
  assert {name: account.seconds for name, account in accounts.items()} == {'prepare': 19.8, 'sample': 100.0}
  again = accounts['prepare']
  assert again.peak_memory_gib >= 1.5 > 0.05 < accounts['sample'].peak_memory_gib < 1000
  old, new = again.makers
  assert old == MAKER
  assert re.fullmatch(r'\d+ x .* on 1 host', new.device)
  assert (new.versions, new.dtype) == (run.versions(), None)
  assert [maker.dtype for maker in accounts['sample'].makers] == ['bfloat16']
  finished = datetime.datetime.fromisoformat(again.finished)
  assert abs((datetime.datetime.now(datetime.UTC) - finished).total_seconds()) < 60


def test_a_maker_is_named_once(tmp_path):
  for _ in range(2):
    run.run_stages({'prepare': lambda: True}, tmp_path)
  assert len(run.read_accounts(tmp_path)['prepare'].makers) == 1


def test_what_was_done_before_a_stop_is_in_the_account(tmp_path):
  def stop():
    raise signals.Stopped

  with pytest.raises(signals.Stopped):
    run.run_stages({'diffusion': stop}, tmp_path)
  stopped = run.read_accounts(tmp_path)['diffusion']
  assert (stopped.finished, len(stopped.makers)) == (None, 1)
  run.write_accounts(tmp_path, {'diffusion': ACCOUNT})
  run.run_stages({'diffusion': lambda: True}, tmp_path)
  assert [maker.versions['jax'] for maker in run.read_accounts(tmp_path)['diffusion'].makers] == [
    '0.9',
    run.versions()['jax'],
  ]


def test_a_stage_that_fails_has_no_account(tmp_path):
  def fail():
    raise UserError('no images')

  with pytest.raises(UserError, match='no images'):
    run.run_stages({'prepare': fail}, tmp_path)
  assert not list(tmp_path.iterdir())


def git(folder, *arguments):
  environment = {key: value for key, value in os.environ.items() if not key.startswith('GIT_')}
  command = ['git', '-c', 'user.name=a', '-c', 'user.email=a@b.c', *arguments]
  done = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, env=environment)
  return done.stdout.strip()


@pytest.mark.skipif(not shutil.which('git'), reason='there is no git')
def test_the_commit_is_that_of_the_projects_own_checkout(tmp_path, monkeypatch):
  own, inside = tmp_path / 'own', tmp_path / 'own' / 'venv' / 'site-packages'
  inside.mkdir(parents=True)
  git(own, 'init', '-q')
  git(own, 'commit', '-q', '--allow-empty', '-m', 'first')
  commit = git(own, 'rev-parse', 'HEAD')
  assert run.git_commit(own) is None  # a repository, but not this project's
  for folder in (own, inside):
    (folder / 'pyproject.toml').touch()
  assert run.git_commit(own) == commit
  assert run.git_commit(inside) is None  # a package within somebody's repository
  (inside / '.git').mkdir()
  assert run.git_commit(inside) is None  # damaged: git looks in the folders above
  monkeypatch.setenv('GIT_DIR', str(own / '.git'))  # as within a hook of another repository
  assert run.git_commit(own) == commit
  assert run.git_commit(inside) is None
  monkeypatch.delenv('GIT_DIR')
  monkeypatch.setenv('PATH', str(tmp_path))
  assert run.git_commit(own) is None  # there is no git
