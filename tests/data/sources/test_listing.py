"""What lay in a source, and what of it has changed since."""

import os

import pytest

from fetal_jax.data.sources import listing
from fetal_jax.runtime import records


@pytest.fixture
def folder(tmp_path):
  """Three images in two folders, and a table beside them."""
  for name in ('one/a.png', 'one/b.JPG', 'two/c.png'):
    (tmp_path / 'mine' / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / 'mine' / name).write_bytes(b'12345')
  (tmp_path / 'patients.csv').write_text('a table')
  return tmp_path / 'mine'


def look(folder, **more):
  return listing.of(folder, folder.parent / 'patients.csv', **more)


def test_a_listing_is_a_record(tmp_path, folder):
  found = look(folder)
  assert {name: about.files for name, about in found.folders.items()} == {
    f'{folder}/one': 2,
    f'{folder}/two': 1,
  }
  assert list(found.tables) == [f'{tmp_path}/patients.csv']
  records.write(tmp_path / 'record.json', found)
  assert records.read(tmp_path / 'record.json', listing.Listing) == found
  assert found.changes(found) == ''


def test_changes_are_said(folder):
  before = look(folder)
  (folder / 'one' / 'd.png').write_bytes(b'1')
  (folder / 'three').mkdir()
  (folder / 'three' / 'e.png').write_bytes(b'1')
  (folder / 'two' / 'c.png').rename(folder / 'two' / 'd.png')
  (folder.parent / 'patients.csv').write_text('a fable')
  assert before.changes(look(folder)) == (
    f'{folder.parent}/patients.csv has another content, {folder}/one has 3 files, 2 then, {folder}/three has 1 files, '
    f'0 then, {folder}/two has other files'
  )


def test_a_few_changes_are_named_and_the_others_counted(folder):
  before = look(folder)
  for i in range(9):
    (folder / f'new_{i}').mkdir()
    (folder / f'new_{i}' / 'a.png').write_bytes(b'1')
  said = before.changes(look(folder))
  assert said.count('new_') == 5
  assert said.endswith('and 4 more')


def test_names_and_sizes_count_and_nothing_else(folder):
  before = look(folder)
  os.utime(folder / 'one' / 'a.png', (0, 0))
  (folder / 'one' / 'notes.txt').write_text('mine')
  (folder / 'one' / '._a.png').write_text('a file browser')
  (folder / '.cache').mkdir()
  (folder / '.cache' / 'a.png').write_text('a program')
  assert look(folder) == before


def test_a_table_inside_counts_by_its_content(folder):
  (folder / 'table.csv').write_text('1234')
  before = look(folder, table_inside='table.csv')
  (folder / 'other.csv').write_text('1234')
  assert look(folder, table_inside='table.csv') == before
  (folder / 'table.csv').write_text('4321')
  assert before.changes(look(folder, table_inside='table.csv')) == f'{folder} has other files'


def test_links_are_followed_once(folder):
  (folder / 'one' / 'up').symlink_to(folder)
  (folder / 'one' / 'gone.png').symlink_to(folder / 'nowhere.png')
  assert look(folder).folders[f'{folder}/one'].files == 3


def test_an_archive_is_told_by_its_size_and_its_end(tmp_path):
  path = tmp_path / 'planes.zip'
  path.write_bytes(b'0' * 10_000_000)
  before = listing.of(path)
  path.write_bytes(b'0' * 9_999_999 + b'1')
  assert before.changes(listing.of(path)) == f'{path} has other files'
  path.write_bytes(b'0' * 10_000_001)
  assert before.changes(listing.of(path)) == f'{path} has other files'


def test_what_is_not_there_cannot_be_compared(folder):
  before = look(folder)
  (folder.parent / 'patients.csv').unlink()
  assert before.changes(look(folder)) == ''
  assert listing.of(folder / 'nowhere') is None
