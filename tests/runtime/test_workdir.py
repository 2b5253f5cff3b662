"""One run at a time in a workdir."""

import fcntl
import json
import os
import subprocess
import sys

import pytest
from conftest import ROOT

from fetal_jax.runtime import workdir
from fetal_jax.runtime.errors import UserError
from fetal_jax.runtime.files import read_json, write_json
from fetal_jax.runtime.records import to_json


def ended():
  """Returns the number of a process that has ended."""
  process = subprocess.Popen([sys.executable, '-c', ''])
  process.wait()
  return process.pid


def leave_lock(folder, **changes):
  """Leaves a lock as a killed run of this machine does, with changes."""
  write_json(folder / workdir.LOCK, {**to_json(workdir._myself()), 'pid': ended(), **changes})


def test_the_lock_says_who_and_goes_at_the_end(tmp_path):
  folder = tmp_path / 'run'  # is made
  with workdir.locked(folder):
    lock = read_json(folder / 'lock.json')
    assert lock['pid'] == os.getpid()
    assert {'host', 'since', 'process_started'} <= lock.keys()
  assert list(folder.iterdir()) == []
  with pytest.raises(ZeroDivisionError), workdir.locked(folder):
    _ = 1 / 0
  assert list(folder.iterdir()) == []


_HOLD = """
import sys
from fetal_jax.runtime import workdir
with workdir.locked(sys.argv[1]):
  print('held', flush=True)
  sys.stdin.read()
"""


def test_a_second_run_is_refused_until_the_first_is_killed(tmp_path, caplog):
  process = subprocess.Popen(
    [sys.executable, '-c', _HOLD, str(tmp_path)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
  )
  assert process.stdout.readline() == b'held\n'
  first = (tmp_path / 'lock.json').read_text()
  with pytest.raises(UserError, match=f'another run is at work there .process {process.pid} on .*, since 20'):
    with workdir.locked(tmp_path):
      pytest.fail('two at a time')
  assert (tmp_path / 'lock.json').read_text() == first
  process.kill()
  process.communicate()
  assert (tmp_path / 'lock.json').is_file()
  with workdir.locked(tmp_path):
    assert read_json(tmp_path / 'lock.json')['pid'] == os.getpid()
  assert f'the run that held it has ended (process {process.pid}' in caplog.text


def test_without_locks_of_the_kernel_the_process_tells(tmp_path, monkeypatch):
  """As on a file system that has none."""

  def flock(descriptor, operation):
    raise OSError(38, 'Function not implemented')

  monkeypatch.setattr(fcntl, 'flock', flock)
  parent = os.getppid()
  leave_lock(tmp_path, pid=parent, process_started=workdir._process_started(parent))
  with pytest.raises(UserError, match=f'another run is at work there .process {parent} '):
    with workdir.locked(tmp_path):
      pytest.fail('two at a time')

  # Another process has got its number since, or this one has.
  for number in (parent, os.getpid()):
    leave_lock(tmp_path, pid=number, process_started='another boot 17')
    with workdir.locked(tmp_path):
      assert read_json(tmp_path / 'lock.json')['pid'] == os.getpid()


def test_a_lock_of_another_machine_is_left_to_the_user(tmp_path, monkeypatch):
  leave_lock(tmp_path, host='node7')
  with pytest.raises(UserError, match=r'on node7, since .*if it has ended, delete .*lock\.json'):
    with workdir.locked(tmp_path):
      pytest.fail('two at a time')
  # Unless it was this very job of SLURM, which was queued again after its node failed.
  leave_lock(tmp_path, host='node7', slurm=['12', 0])
  for environment, goes in (('12', True), ('13', False)):
    monkeypatch.setenv('SLURM_JOB_ID', environment)
    monkeypatch.setenv('SLURM_RESTART_COUNT', '1')
    if goes:
      with workdir.locked(tmp_path):
        pass
      leave_lock(tmp_path, host='node7', slurm=['12', 0])
    else:
      with pytest.raises(UserError, match='delete'), workdir.locked(tmp_path):
        pytest.fail('two at a time')


@pytest.mark.parametrize('content', ['', '{"host": "no', '[]', '{}', '\0\0\0'])
def test_a_lock_cut_off_by_a_kill_is_taken_over(tmp_path, content):
  (tmp_path / 'lock.json').write_text(content)
  with workdir.locked(tmp_path):
    assert json.loads((tmp_path / 'lock.json').read_text())['pid'] == os.getpid()
  assert not (tmp_path / 'lock.json').exists()


def test_a_lock_that_a_user_deleted_is_not_taken_from_the_next_run(tmp_path):
  with workdir.locked(tmp_path):
    (tmp_path / 'lock.json').unlink()
    leave_lock(tmp_path)
  assert (tmp_path / 'lock.json').is_file()
