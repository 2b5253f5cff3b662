"""Checkpoints hold the state bit for bit, keep the newest, refuse what they do not hold, and notice damage."""

import pathlib
import shutil
import socket
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import ROOT
from helpers import damage
from helpers.processes import with_devices

from fetal_jax.runtime import checkpoint, files
from fetal_jax.runtime.checkpoint import Checkpointer, find_damage
from fetal_jax.runtime.errors import UserError


def state(scale: float) -> dict:
  return {
    'w': scale * jax.random.normal(jax.random.key(0), (30, 50)),  # large enough for a file of its own
    'step': jnp.asarray(int(scale), jnp.int32),
  }


def write(folder: pathlib.Path, *steps: int, keep: int | None = 2) -> pathlib.Path:
  with Checkpointer(folder, keep=keep) as checkpointer:
    for step in steps:
      checkpointer.save(step, state(step), {'history': [step]})
  return folder


def check_is(checkpointer: Checkpointer, step: int) -> None:
  restored, meta = checkpointer.restore(step, state(0))
  np.testing.assert_array_equal(restored['w'], state(step)['w'])
  assert (restored['step'], meta) == (step, {'history': [step]})


def largest_file(checkpoint: pathlib.Path) -> pathlib.Path:
  """The one with the weights."""
  return max((path for path in checkpoint.rglob('*') if path.is_file()), key=lambda path: path.stat().st_size)


def names(folder: pathlib.Path) -> list[str]:
  return sorted(path.name for path in folder.iterdir())


def test_round_trip_and_keep(tmp_path):
  write(tmp_path / 'c', 1, 2, 3)
  assert names(tmp_path / 'c') == ['2', '3']
  with Checkpointer(tmp_path / 'c') as checkpointer:
    assert checkpointer.latest_step() == 3
    assert checkpointer.restore_meta(3) == {'history': [3]}
    check_is(checkpointer, 2)


def test_only_checkpoints_are_deleted(tmp_path):
  folder = write(tmp_path / 'c', 1, 2)
  (tmp_path / 'home').mkdir()
  (tmp_path / 'home' / 'thesis').write_bytes(b'mine')
  (folder / '7').symlink_to(tmp_path / 'home')
  (folder / 'notes.txt').write_bytes(b'mine')
  (folder / 'mine').mkdir()
  (folder / 'damaged' / '3').mkdir(parents=True)
  (folder / '4.orbax-checkpoint-tmp').mkdir()
  checkpoint.remove(folder)
  assert names(folder) == ['7', 'mine', 'notes.txt']
  assert (tmp_path / 'home' / 'thesis').exists()
  (folder / 'notes.txt').unlink()
  (folder / 'mine').rmdir()
  (folder / '7').unlink()
  (tmp_path / 'link').symlink_to(write(folder, 1))
  checkpoint.remove(tmp_path / 'link')
  assert names(folder) == ['1']
  checkpoint.remove(folder)
  assert not folder.exists()
  checkpoint.remove(folder)


def test_an_unfinished_checkpoint_does_not_count(tmp_path):
  write(tmp_path / 'c', 1)
  (tmp_path / 'c' / '2.orbax-checkpoint-tmp').mkdir()
  with Checkpointer(tmp_path / 'c') as checkpointer:
    assert checkpointer.latest_step() == 1


def test_another_shape_is_refused_with_the_path(tmp_path):
  write(tmp_path / 'c', 1)
  with Checkpointer(tmp_path / 'c') as checkpointer:
    with pytest.raises(UserError, match=r'w is \(30, 50\) there and \(4, 5\) in the config'):
      checkpointer.restore(1, {'w': jnp.zeros((4, 5)), 'step': jnp.zeros((), jnp.int32)})
    with pytest.raises(UserError, match=r'v is absent there and \(30, 50\) in the config'):
      checkpointer.restore(1, {'v': jnp.zeros((30, 50)), 'step': jnp.zeros((), jnp.int32)})


# Damage.


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
  """A folder with the checkpoints 10 and 20."""
  return write(tmp_path_factory.mktemp('whole') / 'c', 10, 20)


@pytest.fixture
def folder(whole, tmp_path):
  return pathlib.Path(shutil.copytree(whole, tmp_path / 'c'))


def test_the_checksums_are_there_before_the_checkpoint_has_its_name(tmp_path, monkeypatch):
  def write_json(path, *args, **kwargs):
    seen.append((pathlib.Path(path).parent.name, (tmp_path / 'c' / '1').exists()))
    written(path, *args, **kwargs)

  seen, written = [], files.write_json
  monkeypatch.setattr(files, 'write_json', write_json)
  write(tmp_path / 'c', 1)
  assert seen == [('1.orbax-checkpoint-tmp', False)]
  assert names(tmp_path / 'c') == ['1']
  assert find_damage(tmp_path / 'c' / '1') is None


@pytest.mark.parametrize('kind', damage.KINDS)
def test_every_damaged_file_is_found(folder, kind):
  recorded = files.read_json(folder / '20' / 'checksums.json')
  there = {
    path.relative_to(folder / '20').as_posix() for path in (folder / '20').rglob('*') if path.is_file()
  }
  assert {name for name in there - set(recorded) if not name.endswith('commit_success.txt')} == {
    '_CHECKPOINT_METADATA',
    'checksums.json',
  }
  for name in recorded:
    path = folder / '20' / name
    before = path.read_bytes()
    kind(path)
    assert find_damage(folder / '20').startswith(f'{name} ')
    path.write_bytes(before)
  assert find_damage(folder / '20') is None
  kind(folder / '20' / 'checksums.json')
  missing = kind is damage.delete
  assert find_damage(folder / '20') == f'checksums.json is {"missing" if missing else "not what was written"}'


@pytest.mark.parametrize('gone', ['', 'state/', 'meta/'])
def test_checksums_that_were_taken_out_are_damage_even_with_a_seal(folder, gone):
  """Else a list without them, or an empty one, would switch the check off."""
  path = folder / '20' / 'checksums.json'
  recorded = files.read_json(path)
  left = {name: about for name, about in recorded.items() if not name.startswith(gone)}
  files.write_json(path, left, seal=True)
  first = min(name for name in recorded if name.startswith(gone))
  assert find_damage(folder / '20') == f'{first} is not in checksums.json'
  assert (find_damage(folder / '20', 'meta/') is None) == (gone == 'state/')
  path.write_text('{}')
  assert find_damage(folder / '20') == 'checksums.json is not what was written'


def test_no_file_outside_of_a_checkpoint_is_opened(folder, monkeypatch):
  path = folder / '20' / 'checksums.json'
  files.write_json(path, {'../10/meta/metadata': {'bytes': 1, 'sha256': '0'}}, seal=True)
  monkeypatch.setattr(files, 'sha256', None)
  assert find_damage(folder / '20') == '../10/meta/metadata is missing'


def test_what_a_file_browser_leaves_in_a_checkpoint_is_no_damage(folder):
  (folder / '20' / 'meta' / '.DS_Store').write_bytes(b'0')
  assert find_damage(folder / '20') is None


@pytest.mark.parametrize('name', ['_CHECKPOINT_METADATA', 'commit_success.txt'])
@pytest.mark.parametrize('kind', damage.KINDS)
def test_what_has_no_checksum_is_not_needed(folder, name, kind):
  kind(folder / '20' / name)
  with Checkpointer(folder) as checkpointer:
    assert checkpointer.latest_step() == 20
    check_is(checkpointer, 20)


@pytest.mark.parametrize('kind', damage.KINDS)
def test_training_resumes_from_the_one_before(folder, kind, caplog):
  path = largest_file(folder / '20')
  kind(path)
  kept = {p.name: p.read_bytes() for p in (folder / '20').rglob('*') if p.is_file()}
  for _ in range(2):
    with caplog.at_level('WARNING', logger='absl'), Checkpointer(folder) as checkpointer:
      assert checkpointer.latest_step() == 10
      assert checkpointer.restore_meta(10) == {'history': [10]}
      check_is(checkpointer, 10)
    (said,) = (record.getMessage() for record in caplog.records)  # once, and one line
    assert path.relative_to(folder / '20').as_posix() in said
    assert 'resuming from step 10, 10 steps are taken again' in said
    assert '\n' not in said
  assert names(folder) == ['10', 'damaged']
  assert {p.name: p.read_bytes() for p in (folder / 'damaged' / '20').rglob('*') if p.is_file()} == kept

  # Done again, and damaged again.
  write(folder, 20)
  kind(largest_file(folder / '20'))
  write(folder, 20, 30)
  assert names(folder) == ['20', '30', 'damaged']
  assert names(folder / 'damaged') == ['20', '20_2']
  with Checkpointer(folder) as checkpointer:
    check_is(checkpointer, 30)


def test_where_none_is_whole_the_user_decides(folder, caplog):
  for step in (10, 20):
    damage.flip(largest_file(folder / str(step)))
  for _ in range(2):
    with (
      Checkpointer(folder) as checkpointer,
      pytest.raises(
        UserError, match=r'c: no whole checkpoint is left, .* or delete this folder to start from'
      ),
    ):
      checkpointer.latest_step()
  assert names(folder / 'damaged') == ['10', '20']
  assert caplog.text.count('no whole one is left') == 2
  write(folder, 5)  # whoever only writes is not stopped
  with Checkpointer(folder) as checkpointer:
    assert checkpointer.latest_step() == 5
  shutil.rmtree(folder)
  with Checkpointer(folder) as checkpointer:
    assert checkpointer.latest_step() is None


def test_who_only_reads_moves_nothing_and_refuses(folder):
  path = largest_file(folder / '20')
  damage.flip(path)
  name = path.relative_to(folder / '20').as_posix()
  with Checkpointer(folder, keep=None, alone=True, remedy='do this') as checkpointer:
    assert checkpointer.latest_step() == 20
    assert checkpointer.restore_meta(20) == {'history': [20]}
    with pytest.raises(UserError, match=f'c/20: damaged \\({name} is not what was written\\); do this'):
      checkpointer.restore(20, state(0))
    damage.empty(folder / '20' / 'meta' / 'metadata')
    with pytest.raises(UserError, match=r'c/20: damaged \(meta/metadata has 0 of \d+ bytes\); do this'):
      checkpointer.restore_meta(20)
  assert names(folder) == ['10', '20']


def test_a_disk_that_cannot_be_read_is_damage(folder, monkeypatch):
  def sha256(path):
    raise OSError(5, 'Input/output error')

  monkeypatch.setattr(files, 'sha256', sha256)
  assert find_damage(folder / '20').endswith(' cannot be read (Input/output error)')


TWO_PROCESSES = """
import pathlib, sys
sys.path.insert(0, sys.argv[2])
import damage, jax, numpy as np
from fetal_jax.runtime import devices, hosts
from fetal_jax.runtime.checkpoint import Checkpointer

hosts.initialize_hosts()
folder, mesh = pathlib.Path(sys.argv[1]), devices.make_mesh(-1, 2)
shapes = {'w': jax.ShapeDtypeStruct((64, 64), np.float32)}
sharding = devices.state_sharding(mesh, shapes)
make = jax.jit(lambda step: {'w': jax.numpy.full((64, 64), step, np.float32)}, out_shardings=sharding)
with Checkpointer(folder) as checkpointer:
  for step in (1, 2, 4):
    checkpointer.save(step, make(step), {'step': step})

def harm():  # what the other process has written
  files = (folder / '4' / 'state' / 'ocdbt.process_1' / 'd').iterdir()
  damage.flip(max(files, key=lambda path: path.stat().st_size))

hosts.on_one_host(harm)
with Checkpointer(folder) as checkpointer:
  step = checkpointer.latest_step()
  state, meta = checkpointer.restore(step, devices.placed(shapes, sharding))
  assert (devices.to_host(mesh, state)['w'] == 2).all() and meta == {'step': 2}, (state, meta)
  checkpointer.save(4, make(4), {'step': 4})
"""


def test_two_processes_resume_together(tmp_path):
  with socket.socket() as s:
    s.bind(('localhost', 0))
    address = f'localhost:{s.getsockname()[1]}'
  command = [sys.executable, '-c', TWO_PROCESSES, str(tmp_path / 'c'), str(ROOT / 'tests' / 'helpers')]
  processes = []
  for index in range(2):
    env = {
      **with_devices(1),
      'JAX_COORDINATOR_ADDRESS': address,
      'JAX_NUM_PROCESSES': '2',
      'JAX_PROCESS_ID': str(index),
    }
    processes.append(subprocess.Popen(command, cwd=ROOT, env=env, stderr=subprocess.PIPE, text=True))
  said = [process.communicate(timeout=120)[1] for process in processes]
  assert [process.returncode for process in processes] == [0, 0], '\n\n'.join(said)
  assert ['resuming from step 2, 2 steps are taken again' in text for text in said] == [True, False]
  assert names(tmp_path / 'c') == ['2', '4', 'damaged']
  assert find_damage(tmp_path / 'c' / '4') is None


@pytest.mark.parametrize(
  'content', ['[]', '{"metrics": "x"}', '{"init_timestamp_nsecs": "7"}', '[' * 100_000]
)
def test_orbax_own_file_of_another_shape_is_damage(folder, content):
  """Orbax reads it for every checkpoint when it opens a folder, before anything could be compared."""
  (folder / '20' / '_CHECKPOINT_METADATA').write_text(content)
  with pytest.raises(
    UserError, match=r'20: damaged \(_CHECKPOINT_METADATA is not what was written\); call the doctor'
  ):
    Checkpointer(folder, alone=True, remedy='call the doctor')
  with Checkpointer(folder) as checkpointer:  # moves it to damaged/
    assert checkpointer.latest_step() == 10
  (folder / '10' / '_CHECKPOINT_METADATA').write_text('{')  # orbax passes this over
  with Checkpointer(folder, alone=True) as checkpointer:
    assert checkpointer.latest_step() == 10
