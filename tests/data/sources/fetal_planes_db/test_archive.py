"""Zips and folders of FETAL_PLANES_DB that were damaged, packed oddly, or made to do harm."""

import io
import os
import stat
import struct
import tracemalloc
import zipfile

import pytest
from helpers.hostile import SEEDS, damaged, or_refused, refusal, repeatable
from hypothesis import given
from hypothesis import strategies as st

from fetal_jax.data import decode
from fetal_jax.data.sources.fetal_planes_db import archive
from fetal_jax.data.sources.fetal_planes_db.metadata import COLUMNS, CSV_NAME

NAMES = ('P1', 'P2', 'P3')
TABLE = '\n'.join([';'.join(COLUMNS), *(f'{name};1;Other;;;;1' for name in NAMES)]).encode()
IMAGES = {f'Images/{name}.png': bytes([i]) * 60 + bytes(range(200)) for i, name in enumerate(NAMES)}


def packed(members, method=zipfile.ZIP_STORED):
  """A zip's bytes; members are (name or ZipInfo, content)."""
  buffer = io.BytesIO()
  with zipfile.ZipFile(buffer, 'w', method) as file:
    for name, content in members:
      file.writestr(name, content)
  return buffer.getvalue()


GOOD = [(CSV_NAME, TABLE), *IMAGES.items()]


def read(path):
  """Everything in an archive: its names, image name -> bytes, and what was left out."""
  with archive.open_archive(path) as opened:
    images = {name: opened.read(member) for name, member in opened.images.items()}
    return opened.records.names.tolist(), images, opened.files, opened.left_out


def read_zip(tmp_path, content):
  (tmp_path / 'z.zip').write_bytes(content)
  return read(tmp_path / 'z.zip')


def test_what_is_passed_over_is_counted(tmp_path):
  others = {
    'Images/P9.png': b'',
    'x/P8.PNG': b'',
    '__MACOSX/._P1.png': b'',
    'x/.DS_Store': b'',
    'readme.txt': b'',
  }
  expected = (
    list(NAMES),
    {name: IMAGES[f'Images/{name}.png'] for name in NAMES},
    9,
    {'images without a row': 2, 'hidden files': 2, 'other files': 1},
  )
  assert read_zip(tmp_path, packed([('Images/', b''), *GOOD, *others.items()])) == expected
  for name, content in [*GOOD, *others.items()]:
    path = tmp_path / 'folder' / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
  (tmp_path / 'folder' / '__MACOSX').rename(tmp_path / 'folder' / 'x' / '.cache')  # not looked into
  assert read(tmp_path / 'folder')[:2] == expected[:2]
  assert read(tmp_path / 'folder')[3] == {'images without a row': 2, 'hidden files': 1, 'other files': 1}


def test_names_with_the_separator_of_windows(tmp_path):
  content = packed(
    [(f'a_{CSV_NAME}', TABLE), *((f'top_Images_{name}.png', IMAGES[f'Images/{name}.png']) for name in NAMES)]
  )
  for old, new in ((b'a_FETAL', b'a\\FETAL'), (b'top_Images_', b'top\\Images\\')):
    content = content.replace(old, new)  # Python's zipfile would write '/'
  names, images, files, left_out = read_zip(tmp_path, content)
  assert sorted(images) == names == list(NAMES)
  assert (files, left_out) == (4, {})


@pytest.mark.parametrize(
  'name',
  [
    '../P1.png',
    'Images/../../P1.png',
    '/P1.png',
    '/etc/x',
    'C:/P1.png',
    'c:P1.png',
    '..',
    'a/..',
    '..\\P1.png',
    '\\x',
  ],
)
def test_paths_that_lead_out_of_the_archive(tmp_path, name):
  escaped = repr(name.replace('\\', '/'))
  assert f'z.zip: {escaped} inside is no path within an archive' in refusal(
    read_zip, tmp_path, packed([*GOOD, (name, b'')])
  )


def test_names_that_only_look_like_it(tmp_path):
  names = ['a..b/P9.png', '..a', 'a../x', 'ab:c', 'a/C:/b', './x']
  assert read_zip(tmp_path, packed([*GOOD, *((name, b'') for name in names)]))[2] == 10


@pytest.mark.parametrize('name', ['', 'a\nb', 'a\x7f'])
def test_names_that_are_none(tmp_path, name):
  buffer = io.BytesIO()
  with zipfile.ZipFile(buffer, 'w') as file:
    for old, content in [*GOOD, ('x', b'')]:
      file.writestr(old, content)
    file.filelist[-1].filename = name
  assert f'z.zip: {"the name " if name else ""}{name!r} ' in refusal(read_zip, tmp_path, buffer.getvalue())


def test_a_member_that_is_there_twice(tmp_path):
  with pytest.warns(UserWarning, match='Duplicate name'):
    content = packed([*GOOD, ('Images/P2.png', b'another')])
  assert 'Images/P2.png is there twice; pack it again' in refusal(read_zip, tmp_path, content)
  content = packed([*GOOD, ('more/P2.PNG', b'another')])
  assert 'image P2 is there twice (Images/P2.png, more/P2.PNG)' in refusal(read_zip, tmp_path, content)


@pytest.mark.parametrize('name', [CSV_NAME, 'Images/P2.png'])
def test_a_symbolic_link_in_a_zip(tmp_path, name):
  link = zipfile.ZipInfo(name)
  link.external_attr = (stat.S_IFLNK | 0o777) << 16
  members = [(link, b'/etc/passwd') if old == name else (old, content) for old, content in GOOD]
  assert f'z.zip: {name} is a symbolic link; pack the file itself' in refusal(
    read_zip, tmp_path, packed(members)
  )


@pytest.mark.parametrize('name', [CSV_NAME, 'Images/P2.png'])
def test_an_encrypted_member(tmp_path, name):
  content = bytearray(packed(GOOD))
  for signature, offset, flags in ((b'PK\x03\x04', 30, 6), (b'PK\x01\x02', 46, 8)):
    at = content.index(signature)
    while content[at + offset : at + offset + len(name)] != name.encode():
      at = content.index(signature, at + 1)
    content[at + flags] |= 1
  message = refusal(read_zip, tmp_path, bytes(content))
  assert f'z.zip: {name} is encrypted; unpack the zip, and give the folder' in message


@pytest.mark.parametrize('method', [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compressions(tmp_path, method):
  assert f'{CSV_NAME} is compressed in a way that is not read here' in refusal(
    read_zip, tmp_path, packed(GOOD, method)
  )


def test_a_bomb_that_says_so(tmp_path):
  members = [*GOOD[:3], ('Images/P3.png', bytes(10_000_000))]
  message = refusal(read_zip, tmp_path, packed(members, zipfile.ZIP_DEFLATED))
  assert 'bytes that claim to unpack to 10,000,' in message
  assert message.endswith('as no archive of images does; get a new copy of it')


def test_many_entries_that_share_their_bytes_are_a_bomb_too(tmp_path):
  """Each is harmless by itself, and by its own compressed size; their sum is not."""
  names = [f'P{i}' for i in range(200)]
  table = '\n'.join([';'.join(COLUMNS), *(f'{name};1;Other;;;;1' for name in names)]).encode()
  buffer = io.BytesIO()
  with zipfile.ZipFile(buffer, 'w', zipfile.ZIP_DEFLATED) as file:
    file.writestr(CSV_NAME, table)
    file.writestr('P0.png', bytes(100_000) + bytes(range(256)) * 4)
    first = file.infolist()[1]
    for name in names[1:]:
      info = zipfile.ZipInfo(f'{name}.png')
      for field in ('header_offset', 'compress_size', 'file_size', 'CRC', 'compress_type'):
        setattr(info, field, getattr(first, field))
      file.filelist.append(info)
  assert 'bytes that claim to unpack to 20,2' in refusal(read_zip, tmp_path, buffer.getvalue())


def test_a_bomb_that_lies_about_its_size_does_not_fill_the_memory(tmp_path):
  content = packed([*GOOD[:3], ('Images/P3.png', bytes(50_000_000))], zipfile.ZIP_DEFLATED)
  content = content.replace(struct.pack('<I', 50_000_000), struct.pack('<I', 1000))
  tracemalloc.start()
  try:
    message = refusal(read_zip, tmp_path, content)
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
  finally:
    tracemalloc.stop()
  assert 'z.zip: Images/P3.png cannot be read (Bad CRC-32' in message


@pytest.mark.parametrize('form', ['zip', 'folder'])
def test_a_member_larger_than_any_image(tmp_path, form):
  path, member = tmp_path / form, 'Images/P3.png'
  path.mkdir()
  for name, content in GOOD:
    (path / name).parent.mkdir(exist_ok=True)
    (path / name).write_bytes(content)
  if form == 'zip':
    path = tmp_path / 'z.zip'
    path.write_bytes(packed(GOOD))
  with archive.open_archive(path) as opened:
    assert opened.read(member, 260) == IMAGES[member]
    assert f'{member} has 260 bytes, over the limit of 259' in refusal(opened.read, member, 259)
  assert decode.MAX_BYTES > 6 * decode.MAX_PIXELS  # in colour, 16 bits


def test_an_archive_of_too_many_files(tmp_path, monkeypatch):
  (tmp_path / 'z.zip').write_bytes(packed(GOOD))
  monkeypatch.setattr(archive, 'MAX_CONTENTS', 100)
  assert 'z.zip: has a table of contents of ' in refusal(read, tmp_path / 'z.zip')


@pytest.mark.parametrize('kind', ['empty', 'text', 'cut', 'pipe', 'nothing'])
def test_what_is_no_zip(tmp_path, kind):
  path = tmp_path / 'z.zip'
  content = packed(GOOD)
  if kind == 'pipe':
    os.mkfifo(path)
  elif kind != 'nothing':
    path.write_bytes({'empty': b'', 'text': b'PK but no zip' * 100, 'cut': content[:-30]}[kind])
  message = refusal(read, path)
  assert message.startswith(f'{path}: n')
  assert ('no such zip or folder' if kind in ('pipe', 'nothing') else 'not a whole zip file') in message


def test_a_zip_of_another_time_or_encoding(tmp_path):
  entry = b'PK\x01\x02'
  content = bytearray(packed([('ü.txt', b''), *GOOD]))  # not ASCII: marked as UTF-8
  content[content.index(entry) + 46] = 0xFF
  assert 'z.zip: not a whole zip file (' in refusal(read_zip, tmp_path, bytes(content))
  content = bytearray(packed(GOOD))
  content[content.index(entry) + 6] = 100
  assert 'z.zip: not a whole zip file (zip file version 10.0)' in refusal(read_zip, tmp_path, bytes(content))


MEMBER = st.tuples(st.text('aP1._-é ', min_size=1, max_size=6), st.binary(max_size=300))


@repeatable(60)
@given(
  members=st.lists(MEMBER, max_size=8, unique_by=lambda member: member[0]),
  folder=st.sampled_from(['', 'top/', 'a b/ü/']),
  method=st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]),
  listed=st.integers(0, 8),
)
def test_any_archive_is_read_right_and_every_file_accounted_for(tmp_path, members, folder, method, listed):
  visible = [(name.strip(), content) for name, content in members if name.strip(' .') and name[0] != '.']
  rows = list(dict(visible[:listed]))
  table = '\n'.join([';'.join(COLUMNS), *(f'{name};1;Other;;;;1' for name in rows)]).encode()
  files = [(f'{folder}{CSV_NAME}', table), *((f'{folder}{name}.png', content) for name, content in members)]
  result = or_refused(read_zip, tmp_path, packed(files, method))
  if result is None:  # no rows, or two names that are one without their blanks
    assert not rows or len(dict(visible)) < len(visible)
    return
  names, images, count, left_out = result
  assert names == rows
  assert images == {name: content for name, content in members if name in rows}
  assert count == len(files) == 1 + len(images) + sum(left_out.values())


GOOD_ZIPS = [packed(GOOD), packed(GOOD, zipfile.ZIP_DEFLATED), packed(GOOD, zipfile.ZIP_LZMA)]


@repeatable(200)
@given(kind=st.sampled_from([0, 0, 1, 1, 2]), seed=SEEDS)
def test_a_damaged_zip_is_refused_or_what_is_read_is_right(tmp_path, kind, seed):
  result = or_refused(read_zip, tmp_path, damaged(GOOD_ZIPS[kind], seed))
  if result:
    names, images, _, _ = result
    assert names == list(NAMES)
    for name, content in images.items():
      assert content == IMAGES[f'Images/{name}.png']


@repeatable(100)
@given(st.binary(max_size=300))
def test_no_bytes_make_the_reader_of_zips_fall_over(tmp_path, content):
  end = content[-22:]
  for tail in (b'', packed(GOOD)[-22:], b'PK\x05\x06' + end[4:]):
    assert or_refused(read_zip, tmp_path, content + tail) is None
