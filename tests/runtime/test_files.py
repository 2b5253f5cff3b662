"""Files are whole or absent, and only our own are written."""

import os

import pytest
from helpers import damage

from fetal_jax.runtime import files
from fetal_jax.runtime.errors import DamagedFile, UserError
from fetal_jax.runtime.metrics import read_metrics


def test_no_bit_of_a_sealed_file_can_change_unnoticed(tmp_path):
  path, value = (
    tmp_path / 'manifest.json',
    {'counts': {'brain': 7}, 'shards': [{'file': 'a', 'bytes': 12}], 'x': 0.1},
  )
  files.write_json(path, value, seal=True)
  assert files.read_json(path) == value
  whole, said = path.read_bytes(), []
  for bit in range(0, 8 * len(whole), 7):
    data = bytearray(whole)
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)
    try:
      read = files.read_json(path)
    except DamagedFile as error:
      said.append(str(error))
      continue
    # White space; or the name of the seal, without which the value is whole and has a key too many.
    assert {key: read[key] for key in value} == value
  assert len(said) > 0.8 * len(whole)
  assert all(text.startswith(f'{path}: damaged (') and '\n' not in text for text in said)


@pytest.mark.parametrize('kind', [damage.cut, damage.empty])
def test_json_that_is_cut_off_is_named(tmp_path, kind):
  """So metrics.json, results.json, config.json and all others."""
  path = tmp_path / 'metrics.json'
  files.write_json(path, {'history': [{'epoch': 1, 'score': 0.5}], 'settings': 'abc'})
  kind(path)
  with pytest.raises(UserError, match=r'metrics\.json: damaged .*; delete it and run the same command again'):
    files.read_json(path)


def test_json_without_end_is_not_read_to_its_end(tmp_path, monkeypatch):
  monkeypatch.setattr(files, 'MAX_JSON', 1000)
  files.write_json(tmp_path / 'a.json', 'x' * 997)  # quotes and a line end beside it
  assert files.read_json(tmp_path / 'a.json') == 'x' * 997
  files.write_json(tmp_path / 'a.json', 'x' * 998)
  with pytest.raises(DamagedFile, match=r'a\.json: damaged \(no whole JSON: more than 1,000 bytes\)'):
    files.read_json(tmp_path / 'a.json')


def test_bytes_that_are_no_text_are_named(tmp_path):
  (tmp_path / 'config.json').write_bytes(b'{"name": "\xff"}')
  with pytest.raises(UserError, match=r'config\.json: damaged'):
    files.read_json(tmp_path / 'config.json')


def test_damaged_lines_of_metrics_are_left_out(tmp_path, caplog):
  rows = [
    b'{"step": 1, "loss": 2.0}',
    b'{"step": 2, "l\xffss": 1.0}',
    b'{"stfp": 3}',
    b'12',
    b'\0\0',
    b'{"step": 4, "lo',
  ]
  (tmp_path / 'metrics.jsonl').write_bytes(b'\n'.join(rows))
  assert [row['step'] for row in read_metrics(tmp_path / 'metrics.jsonl')] == [1, 2]
  assert caplog.text.count('left out') == 4


def test_a_file_is_whole_or_absent(tmp_path):
  path = tmp_path / 'folder' / 'text'
  files.write_text(path, 'before')

  def fail():
    with files.replacing(path) as temporary:
      temporary.write_text('half')
      raise ZeroDivisionError

  with pytest.raises(ZeroDivisionError):
    fail()
  assert path.read_text() == 'before'
  assert list(path.parent.iterdir()) == [path]


def test_an_error_of_the_disk_names_the_file(tmp_path):
  with pytest.raises(OSError, match='No space left') as error, files.replacing(tmp_path / 'a'):
    raise OSError(28, 'No space left on device')
  assert error.value.filename == str(tmp_path / 'a')
  with pytest.raises(FileNotFoundError) as error, files.naming(tmp_path / 'a'):
    (tmp_path / 'b').read_text()
  assert error.value.filename == str(tmp_path / 'b')
  with pytest.raises(OSError, match='No space left') as error, files.replacing(tmp_path / 'a') as temporary:
    raise OSError(28, 'No space left on device', str(temporary))
  assert error.value.filename == str(tmp_path / 'a')


def test_no_link_is_followed(tmp_path):
  victim = tmp_path / 'victim'
  victim.write_bytes(b'precious')
  (tmp_path / 'a').symlink_to(victim)
  (tmp_path / '.b.tmp').symlink_to(victim)
  (tmp_path / 'c').hardlink_to(victim)
  files.write_text(tmp_path / 'a', 'new')
  files.write_text(tmp_path / 'b', 'new')
  files.write_text(tmp_path / 'c', 'new')
  assert victim.read_bytes() == b'precious'
  assert (tmp_path / 'a').read_text() == 'new'
  assert not (tmp_path / 'a').is_symlink()


@pytest.mark.parametrize('mode', ['a', 'ab', 'w'])
def test_a_file_that_grows_is_no_link(tmp_path, mode):
  victim = tmp_path / 'victim'
  victim.write_bytes(b'precious')
  (tmp_path / 'link').symlink_to(victim)
  (tmp_path / 'dangling').symlink_to(tmp_path / 'nothing')
  (tmp_path / 'other_name').hardlink_to(victim)
  os.mkfifo(tmp_path / 'fifo')
  for name in ('link', 'dangling', 'other_name', 'fifo'):
    with pytest.raises(UserError, match=f'{name}: a link, or no plain file; remove it'):
      files.open_own(tmp_path / name, mode)
  assert victim.read_bytes() == b'precious'
  with files.open_own(tmp_path / 'new', mode) as f:
    f.write(b'x' if 'b' in mode else 'x')
  assert (tmp_path / 'new').read_bytes() == b'x'


@pytest.mark.parametrize(
  ('name', 'inside'),
  [
    ('a', True),
    ('a/b.c', True),
    ('...', True),
    ('/a', False),
    ('..', False),
    ('a/../../b', False),
    ('./a', False),
    ('a//b', False),
    ('', False),
    ('a\\b', False),
    ('a\0', False),
  ],
)
def test_names_stay_in_their_folder(name, inside):
  assert files.is_inside(name) == inside


def test_home_is_put_in_place_of_its_sign(monkeypatch):
  monkeypatch.setenv('HOME', '/somewhere')
  assert files.expanded('~/runs/x') == '/somewhere/runs/x'
  assert files.expanded('~') == '/somewhere'
  assert [files.expanded(path) for path in ('a/~', './~/a', '/a~', '')] == ['a/~', './~/a', '/a~', '']
  with pytest.raises(UserError, match='~nobody_here/a: no home folder is known for ~nobody_here; give the'):
    files.expanded('~nobody_here/a')


def test_json_that_no_parser_takes_is_damaged(tmp_path):
  for content in (b'[' * 100_000, b'\xff', b'1' * 5000, b'', b'\0', b'\xef\xbb\xbf{}'):
    (tmp_path / 'a.json').write_bytes(content)
    with pytest.raises(DamagedFile, match=r'a.json: damaged \(no whole JSON: '):
      files.read_json(tmp_path / 'a.json')
