"""Temporary names are nobody else's, and only those that a killed process left are removed."""

import os
import re

import pytest
from helpers import killed

from fetal_jax.runtime import temporary
from fetal_jax.runtime.errors import UserError


def names(folder):
  return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize('folder', [False, True])
def test_a_name_cannot_be_guessed_and_is_gone_at_the_end(tmp_path, folder):
  seen = set()
  for _ in range(3):
    with temporary.beside(tmp_path / 'a.json', folder=folder) as path:
      assert path.is_dir() == folder
      seen.add(path.name)
      if folder:
        (path / 'b').mkdir()
  assert len(seen) == 3
  assert all(re.fullmatch(r'\.a\.json\.[0-9a-f]{16}-[0-9a-f]{8}\.tmp', name) for name in seen)
  assert names(tmp_path) == []


@pytest.mark.parametrize('folder', [False, True])
def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path, folder):
  left = killed.left_behind(tmp_path / 'a', folder=folder)
  if folder:
    (left / 'half').write_bytes(b'')
  (tmp_path / 'victim').write_bytes(b'x')
  link = tmp_path / temporary._name('a')
  link.symlink_to(tmp_path / 'victim')
  others = [killed.left_behind(tmp_path / 'b'), link]
  for name in ('.a.tmp', 'a.tmp', '.a.0123456789abcdef-01234567.tmp', left.name.replace('.a.', '.c.')):
    others.append(tmp_path / name)
    others[-1].write_bytes(b'')
  with temporary.beside(tmp_path / 'a') as path:
    assert names(tmp_path) == sorted([path.name, 'victim', *(other.name for other in others)])


@pytest.mark.skipif(os.geteuid() != 0, reason='only root can give files away')
def test_a_file_of_another_user_is_left(tmp_path):
  left = killed.left_behind(tmp_path / 'a')
  os.chown(left, 12345, -1)
  temporary.remove_left_behind(tmp_path)
  assert left.exists()


@pytest.mark.parametrize('folder', [False, True])
def test_what_another_process_is_writing_is_left(tmp_path, folder):
  with temporary.beside(tmp_path / 'a', folder=folder) as first:
    temporary.remove_left_behind(tmp_path)
    with temporary.beside(tmp_path / 'a', folder=folder) as second:
      assert first.exists()
      assert first != second
    with (
      pytest.raises(UserError, match='a: another process is writing it; wait for that, or'),
      temporary.beside(tmp_path / 'a', folder=folder, alone=True),
    ):
      raise AssertionError
    assert names(tmp_path) == [first.name]


@pytest.mark.parametrize('name', ['x' * 255, 'ü' * 127, '$\\frac$', 'a\nb', 'x' * 201])
def test_any_name_that_a_file_can_have(tmp_path, name):
  for folder in (False, True):
    left = killed.left_behind(tmp_path / name, folder=folder)
    with temporary.beside(tmp_path / name, folder=folder) as path:
      assert path.exists()
      assert not left.exists()
  assert names(tmp_path) == []


def test_where_there_are_no_locks_nothing_is_removed_and_nothing_refused(tmp_path, monkeypatch):
  def flock(descriptor, operation):
    raise OSError(37, 'No locks available')

  left = killed.left_behind(tmp_path / 'a')
  monkeypatch.setattr(temporary.fcntl, 'flock', flock)
  with temporary.beside(tmp_path / 'a') as path:
    assert left.exists()
  assert names(tmp_path) == [left.name]
  assert not path.exists()
