import logging
import os

import pytest
from helpers.hostile import refusal

from fetal_jax.data.sources import walk


@pytest.fixture
def folder(tmp_path):
  for name in (
    'b/2.png',
    'b/1.png',
    'b-c/3.png',
    'a.txt',
    '.DS_Store',
    'b/._1.png',
    '.git/x.png',
    '__MACOSX/b/1.png',
  ):
    path = tmp_path / 'folder' / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b'')
  return tmp_path / 'folder'


def names(folder):
  found, hidden = walk.files_under(folder)
  return [path.relative_to(folder).as_posix() for path in found], hidden


def test_every_file_once_by_its_parts(folder):
  assert names(folder) == (
    ['a.txt', 'b/1.png', 'b/2.png', 'b-c/3.png'],
    2,
  )  # whole hidden folders are not looked into
  assert names(f'{folder}{os.sep}')[0] == names(folder)[0]


def test_links_are_followed_and_counted(folder, tmp_path, caplog):
  (tmp_path / 'elsewhere' / 'deep').mkdir(parents=True)
  (tmp_path / 'elsewhere' / 'deep' / '4.png').write_bytes(b'')
  (tmp_path / '5.png').write_bytes(b'')
  (folder / 'linked').symlink_to(tmp_path / 'elsewhere')
  (folder / 'b' / '5.png').symlink_to('../../5.png')
  with caplog.at_level(logging.INFO):
    found, _ = names(folder)
  assert found == ['a.txt', 'b/1.png', 'b/2.png', 'b/5.png', 'b-c/3.png', 'linked/deep/4.png']
  assert '2 symbolic links followed' in caplog.text
  (tmp_path / 'link').symlink_to(folder)
  assert len(names(tmp_path / 'link')[0]) == 6


@pytest.mark.parametrize(
  ('link', 'target', 'message'),
  [
    ('b/deep', '.', 'are the same by a symbolic link; remove one of them'),
    ('b/loop', '..', 'are the same by a symbolic link; remove one of them'),
    ('again', 'b', 'are the same by a symbolic link; remove one of them'),
    ('b-c/1.png', '../b/1.png', 'are the same by a symbolic link; remove one of them'),
    ('b/9.png', 'nowhere', "b/9.png: a link to 'nowhere', which is missing; mend or remove it"),
    ('b/9.png', '9.png', "b/9.png: a link to '9.png', which is missing"),
    ('b/9.png', '/dev/null', 'b/9.png: neither a file nor a folder; remove it'),
  ],
)
def test_links_that_hide_something(folder, link, target, message):
  (folder / link).symlink_to(target)
  assert message in refusal(walk.files_under, folder)


def test_two_links_to_one_file(folder, tmp_path):
  (tmp_path / '5.png').write_bytes(b'')
  for name in ('b/5.png', 'b/6.png'):
    (folder / name).symlink_to(tmp_path / '5.png')
  assert 'are the same by a symbolic link' in refusal(walk.files_under, folder)


def test_a_pipe_is_not_waited_for(folder):
  os.mkfifo(folder / 'b' / 'pipe.png')
  assert 'pipe.png: neither a file nor a folder' in refusal(walk.files_under, folder)


@pytest.mark.parametrize('name', ['a\nb.png', 'a\x1b[31m.png', os.fsdecode(b'\xe4.png')])
def test_names_that_are_no_text(folder, name):
  (folder / 'b' / name).write_bytes(b'')
  assert f'the name {"b/" + name!r} has characters that are no text: rename it' in refusal(
    walk.files_under, folder
  )


def test_a_folder_that_may_not_be_read(folder, monkeypatch):
  scandir = os.scandir

  def closed(path):
    if str(path).endswith('b-c'):
      raise PermissionError(13, 'Permission denied', str(path))
    return scandir(path)

  monkeypatch.setattr(os, 'scandir', closed)  # root may read everything
  assert 'b-c: cannot be read (Permission denied); give yourself the permission' in refusal(
    walk.files_under, folder
  )


def test_loops_without_a_file(tmp_path):
  (tmp_path / 'empty').mkdir()
  (tmp_path / 'empty' / 'a').symlink_to('.')
  assert 'are the same by a symbolic link' in refusal(walk.files_under, tmp_path)


def test_all_that_is_wrong_is_said_in_one_go(folder):
  (folder / 'b' / 'a.png').symlink_to('nowhere')
  (folder / 'b' / 'b.png').symlink_to('nowhere')
  (folder / 'b' / 'deep').symlink_to('.')
  assert refusal(walk.files_under, folder) == (
    f"{folder}: 3 things are wrong: {folder}/b/a.png, {folder}/b/b.png: a link to 'nowhere', which is missing; mend or "
    f'remove it. {folder}/b/deep and {folder}/b: they are the same by a symbolic link; remove one of them'
  )
