"""The accounts of a run: what was asked, and what each stage took."""

import datetime
import pathlib
import re
import shutil
from importlib import metadata

import pytest

import fetal_jax
from fetal_jax.runtime import run
from fetal_jax.runtime.errors import DamagedFile, UserError

ACCOUNT = run.StageAccount(12.5, 1.5, '2026-01-01T10:00:00+00:00', '1 x cpu on 1 host', 8)


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
    {**stages, 'report': make_stage('report', 5.0, worked=False)}, tmp_path, on_one_host=('prepare',)
  )
  assert ran == ['sample', 'prepare', 'report']
  accounts = run.read_accounts(tmp_path)
  assert {name: account.seconds for name, account in accounts.items()} == {'prepare': 19.8, 'sample': 100.0}
  again = accounts['prepare']
  assert again.peak_memory_gib >= 1.5 > 0.05 < accounts['sample'].peak_memory_gib < 1000
  assert re.fullmatch(r'\d+ x .* on 1 host', again.device)
  finished = datetime.datetime.fromisoformat(again.finished)
  assert abs((datetime.datetime.now(datetime.UTC) - finished).total_seconds()) < 60


def test_a_stage_that_fails_has_no_account(tmp_path):
  def fail():
    raise UserError('no images')

  with pytest.raises(UserError, match='no images'):
    run.run_stages({'prepare': fail}, tmp_path)
  assert not list(tmp_path.iterdir())


def test_the_commit_is_that_of_the_checkout_itself(tmp_path, monkeypatch):
  here = pathlib.Path(__file__).parents[2]
  if (here / '.git').exists() and shutil.which('git'):
    assert re.fullmatch('[0-9a-f]{40}', run._git_commit(here))
  assert run._git_commit(here / 'tests') is None  # a folder in somebody's repository
  (tmp_path / '.git').mkdir()
  assert run._git_commit(tmp_path) is None  # damaged
  monkeypatch.setenv('PATH', str(tmp_path))
  assert run._git_commit(here) is None  # there is no git
