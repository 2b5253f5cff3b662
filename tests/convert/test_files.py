"""The files in `files/` are written by PyTorch and safetensors: see `files/make.py`."""

import io
import json
import os
import pathlib
import pickle
import struct
import tarfile
import zipfile

import ml_dtypes
import numpy as np
import pytest
from helpers.hostile import refusal, repeatable
from hypothesis import given
from hypothesis import strategies as st

from fetal_jax.convert import files, torch_file
from fetal_jax.runtime.errors import UserError

FILES = pathlib.Path(__file__).parent / 'files'

GRID = np.arange(12, dtype=np.float32).reshape(3, 4)
EXPECTED = {
  'matrix': GRID,
  'transposed': GRID.T,
  'column': np.array([[6], [10]], np.float32),
  'strided': np.array([1, 6, 11], np.float32),
  'expanded': np.full((2, 3), 7, np.float32),
  'scalar': np.array(2.5, np.float32),
  'empty': np.empty((0, 3), np.float32),
  'double': np.array([0, 0.25, 0.5]),
  'half': np.array([0, 0.25, 0.5], np.float16),
  'bfloat16': np.array([0, 0.25, 0.5], ml_dtypes.bfloat16),
  'int64': np.arange(3) - 2**40,
  'int32': np.array([-1, 0, 1], np.int32),
  'int16': np.array([-1, 0, 1], np.int16),
  'int8': np.array([-1, 0, 1], np.int8),
  'uint8': np.array([253, 254, 255], np.uint8),
  'uint16': np.array([1, 65535], np.uint16),
  'bool': np.array([True, False, True]),
  'parameter': np.array([0, 1], np.float32),
  'parameter_with_state': np.array([0, 1], np.float32),
}


def assert_equal(arrays, expected):
  assert arrays.keys() == expected.keys()
  for name, value in expected.items():
    assert arrays[name].dtype.isnative
    np.testing.assert_array_equal(arrays[name], value, err_msg=name, strict=True)


def rezip(path, name='zip.pt', compression=zipfile.ZIP_STORED, **changes):
  """A copy of a file in `files/`, other records in place of some; None leaves one out."""
  with zipfile.ZipFile(FILES / name) as source, zipfile.ZipFile(path, 'w', compression) as copy:
    root = source.namelist()[0].split('/')[0]
    records = {name: source.read(name) for name in source.namelist()}
    for name, data in ({} | records | {f'{root}/{name}': data for name, data in changes.items()}).items():
      if data is not None:
        copy.writestr(name, data)
  return path


def record(name, file='zip.pt'):
  with zipfile.ZipFile(FILES / file) as archive:
    return archive.read(f'{file.split(".")[0]}/{name}')


@pytest.mark.parametrize('name', ['zip.pt', 'legacy.pth', 'tensors.safetensors'])
def test_tensors_are_what_was_saved(name, tmp_path):
  assert_equal(files.load(FILES / name), EXPECTED)
  # The suffix says nothing.
  copy = tmp_path / 'weights'
  copy.write_bytes((FILES / name).read_bytes())
  assert_equal(files.load(str(copy)), EXPECTED)


@pytest.mark.parametrize('name', ['zip.pt', 'legacy.pth'])
def test_views_share_their_storage(name):
  arrays = files.load(FILES / name)
  assert np.shares_memory(arrays['matrix'], arrays['transposed'])
  assert not np.shares_memory(arrays['matrix'], arrays['scalar'])


@pytest.mark.parametrize('name', ['protocol4.pt', 'unchecked.pt'])
def test_other_ways_to_save(name):
  assert_equal(files.load(FILES / name), {'weight': np.arange(3, dtype=np.float32)})


def test_big_endian_machines_files(tmp_path):
  swapped = {}
  with zipfile.ZipFile(FILES / 'training.pth') as archive:
    for name in archive.namelist():
      if name.startswith('training/data/'):  # all of float32
        swapped[name.removeprefix('training/')] = (
          np.frombuffer(archive.read(name), '<f4').astype('>f4').tobytes()
        )
  path = rezip(tmp_path / 'big.pt', 'training.pth', byteorder=b'big', **swapped)
  assert path.read_bytes() != rezip(tmp_path / 'little.pt', 'training.pth').read_bytes()
  assert_equal(files.load(path), files.load(FILES / 'training.pth'))


def test_big_endian_untyped_storages_are_refused(tmp_path):
  # PyTorch does not know where their elements begin either.
  with pytest.raises(UserError, match="has 'uint16' in the byte order of another machine"):
    files.load(rezip(tmp_path / 'a.pt', byteorder=b'big'))


def test_byte_order_may_be_absent(tmp_path):
  assert_equal(files.load(rezip(tmp_path / 'a.pt', byteorder=None)), EXPECTED)


def test_training_scripts_files_are_opened():
  expected = {'weight': np.array([[1, 2]], np.float32), 'bias': np.array([3], np.float32)}
  assert_equal(files.load(FILES / 'training.pth'), expected)


@pytest.mark.parametrize('key', ['model', 'model_state_dict'])
def test_other_names_for_the_state_dict(key, tmp_path):
  pickled = record('data.pkl', 'training.pth')
  assert pickled.count(text('state_dict')) == 1
  renamed = pickled.replace(text('state_dict'), text(key))
  arrays = files.load(rezip(tmp_path / 'a.pt', 'training.pth', **{'data.pkl': renamed}))
  assert_equal(arrays, files.load(FILES / 'training.pth'))

  # Under another name it is not found, and the error says what there is.
  renamed = pickled.replace(text('state_dict'), text('net'))
  with pytest.raises(
    UserError, match=r"no tensors by name \(its entries are 'epoch', 'best', 'net', 'optimizer'"
  ):
    files.load(rezip(tmp_path / 'b.pt', 'training.pth', **{'data.pkl': renamed}))


def part_of(tree):
  """Where the state dict of a tree is found, and what its tensors, made of words, are."""

  def made(value):
    if isinstance(value, dict):
      return {key: made(inner) for key, inner in value.items()}
    storage = torch_file.Storage(value, np.dtype(np.float32), 1)
    return torch_file.Tensor(storage, storage.dtype, 0, (), ()) if isinstance(value, str) else value

  tensors, part = torch_file.find_state_dict(made(tree))
  return {name: tensor.storage.key for name, tensor in tensors.items()}, part


RAW = {'weight': 'raw', 'running_mean': 'raw'}


@pytest.mark.parametrize(
  ('tree', 'tensors', 'part'),
  [
    (RAW, RAW, ''),
    ({'params': RAW, 'epoch': 3}, RAW, "'params'"),
    ({'model': {'state_dict': RAW}, 'optimizer': {'state': {}}}, RAW, "'model.state_dict'"),
    ({'ema': {'weight': 'mean'}, 'ema_decay': 0.9}, {'weight': 'mean'}, "averages (EMA) 'ema'"),
    # Averages are of parameters: statistics are those beside them.
    (
      {'model': RAW, 'model_ema': {'weight': 'mean'}},
      {'weight': 'mean', 'running_mean': 'raw'},
      "averages (EMA) 'model_ema', taken in place of 'model'",
    ),
    (
      {
        'state_dict': RAW,
        'ema': {'module': {'module.weight': 'mean', 'module.running_mean': 'mean'}, 'decay': 0.9},
      },
      {'weight': 'mean', 'running_mean': 'mean'},
      "averages (EMA) 'ema.module', taken in place of 'state_dict'",
    ),
    # Averages without names are of no use, and it is said what was taken.
    ({'model': RAW, 'ema': {'shadow_params': [1, 2], 'decay': 'scalar'}}, RAW, "'model'"),
    ({'schema': {'weight': 'no'}, 'model': RAW}, RAW, "'model'"),
  ],
)
def test_averages_are_preferred_and_the_part_is_said(tree, tensors, part):
  assert part_of(tree) == (tensors, part)


def test_a_prefix_stays_if_not_all_names_have_it(tmp_path):
  pickled = record('data.pkl', 'training.pth').replace(b'module.bias', b'models.bias')
  arrays = files.load(rezip(tmp_path / 'a.pt', 'training.pth', **{'data.pkl': pickled}))
  assert arrays.keys() == {'module.weight', 'models.bias'}


@pytest.mark.parametrize(
  ('tree', 'found'),
  [
    ([1], 'it is a list'),
    ({}, 'it is empty'),
    (dict.fromkeys(range(12)), "'9' and 2 more"),
    ({'a': 1}, "are 'a'"),
  ],
)
def test_files_without_tensors_say_what_they_hold(tree, found, tmp_path):
  with pytest.raises(UserError, match=found):
    files.load(rezip(tmp_path / 'a.pt', **{'data.pkl': pickle.dumps(tree, 2)}))


class Hostile:
  def __init__(self, marker):
    self.marker = marker

  def __reduce__(self):
    return os.mkdir, (str(self.marker),)


def test_pickled_code_is_not_run(tmp_path):
  marker = tmp_path / 'marker'
  hostile = pickle.dumps({'weight': Hostile(marker)}, 2)
  legacy = b''.join(pickle.dumps(value, 2) for value in (torch_file.MAGIC, torch_file.PROTOCOL, {}))
  (tmp_path / 'bare.pt').write_bytes(hostile)
  (tmp_path / 'legacy.pt').write_bytes(legacy + hostile + pickle.dumps([], 2))
  (tmp_path / 'header.pt').write_bytes(legacy[:-3] + hostile + hostile)
  rezip(tmp_path / 'zip.pt', **{'data.pkl': hostile})
  for path in tmp_path.glob('*.pt'):
    with pytest.raises(UserError, match=rf"^{path}: holds '\w+\.mkdir', .* never run here; .*state_dict\(\)"):
      files.load(path)
  assert not marker.exists()


def test_whole_models_are_refused():
  with pytest.raises(
    UserError, match=r"holds 'torch\.nn\.modules\.linear\.Linear', .*save model\.state_dict\(\)"
  ):
    files.load(FILES / 'module.pt')


def zip_of(name):
  data = io.BytesIO()
  with zipfile.ZipFile(data, 'w') as archive:
    archive.writestr(zipfile.ZipInfo(name), 'content')
  return data.getvalue()


def tar_of(name):
  data = io.BytesIO()
  with tarfile.open(fileobj=data, mode='w') as archive:
    archive.addfile(tarfile.TarInfo(name))
  return data.getvalue()


ZIP, LEGACY = (FILES / 'zip.pt').read_bytes(), (FILES / 'legacy.pth').read_bytes()


NO_CHECKPOINTS = {
  'nothing': (b'', 'is empty'),
  'html': (b'\n<!DOCTYPE html><html>', 'is an HTML page'),
  'lfs': (
    b'version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4\n',
    'is a Git LFS pointer.*git lfs pull',
  ),
  'text': ('Too many requests é\n'.encode(), 'is a text file'),
  'bytes': (b'\0\1\2\3', 'is neither a file of torch.save nor safetensors'),
  'tar': (
    tar_of('storages'),
    'tar format of the first PyTorch; load it with PyTorch and torch.save it again',
  ),
  'zip': (zip_of('a/b.txt'), 'no data.pkl'),
  'script': ((FILES / 'script.pt').read_bytes(), r'TorchScript program; torch.save the state_dict\(\)'),
  'pickle': (pickle.dumps({'a': 1}, 2), 'a pickle that torch.save did not write'),
  'zip without end': (ZIP[:-30], 'damaged or cut short'),
  'half a zip': (ZIP[: len(ZIP) // 2], 'damaged or cut short'),
  'bad storage': (
    ZIP.replace(GRID.tobytes(), GRID[::-1].tobytes()),
    "its record 'zip/data/0' cannot be read",
  ),
  'legacy without end': (LEGACY[:-1], 'damaged or cut short'),
  'half a legacy file': (LEGACY[: len(LEGACY) // 2], 'damaged or cut short'),
  'safetensors without end': ((FILES / 'tensors.safetensors').read_bytes()[:-1], 'damaged or cut short'),
  'float8': ((FILES / 'float8.safetensors').read_bytes(), 'type that NumPy lacks .*float8_e4m3fn.*convert'),
}


@pytest.mark.parametrize(('content', 'message'), NO_CHECKPOINTS.values(), ids=NO_CHECKPOINTS)
def test_what_is_no_checkpoint_is_named(content, message, tmp_path):
  path = tmp_path / 'weights.pth'
  path.write_bytes(content)
  with pytest.raises(UserError, match=message) as error:
    files.load(path)
  assert str(error.value).startswith(f'{path}: ')
  assert '; ' in str(error.value)
  assert '\n' not in str(error.value)


def test_missing_files_and_folders_are_named(tmp_path):
  with pytest.raises(UserError, match=f'{tmp_path}: is a folder; give'):
    files.load(tmp_path)
  with pytest.raises(UserError, match=r'absent\.pt: is missing; give'):
    files.load(tmp_path / 'absent.pt')
  with pytest.raises(UserError, match='x: cannot be read'):
    files.load('x' * 5000)


@pytest.mark.parametrize(
  ('changes', 'message'),
  {
    'missing': ({'data/0': None}, "no record 'zip/data/0'"),
    'short': ({'data/0': GRID.tobytes()[:-4]}, "storage of 'matrix' has another size"),
    'long': ({'data/0': GRID.tobytes() + b'1234'}, "record 'zip/data/0' is too large"),
    'byte order': ({'byteorder': b'mixed'}, "byte order is 'mixed'"),
  }.values(),
)
def test_records_must_be_as_declared(changes, message, tmp_path):
  with pytest.raises(UserError, match=message):
    files.load(rezip(tmp_path / 'a.pt', **changes))


def test_compressed_records_are_refused(tmp_path):
  with pytest.raises(UserError, match=r'compressed record .*torch\.save it again'):
    files.load(rezip(tmp_path / 'a.pt', compression=zipfile.ZIP_DEFLATED))


def text(value):
  return b'X' + struct.pack('<I', len(value)) + value.encode()


def number(value):
  if isinstance(value, float):
    return b'G' + struct.pack('>d', value)
  data = value.to_bytes(value.bit_length() // 8 + 1, 'little', signed=True)
  return b'\x8a' + bytes([len(data)]) + data


def reference(size=4, key='0', dtype='FloatStorage', kind='storage', view=b''):
  """The pickled reference to a storage; the legacy format has a `view` in it."""
  storage_type = b'ctorch\n' + dtype.encode() + b'\n'
  return b'(' + text(kind) + storage_type + text(key) + text('cpu') + number(size) + view + b'tQ'


def tensors(*views, rest=b'\x89N'):
  """The pickle of a state dict a, b, ... of views (storage, offset, shape, strides)."""
  items = b''
  for name, (storage, offset, shape, strides) in zip('abcdefgh', views, strict=False):
    numbers = number(offset) + b''.join(
      b'(' + b''.join(map(number, axes)) + b't' for axes in (shape, strides)
    )
    items += text(name) + b'ctorch._utils\n_rebuild_tensor_v2\n(' + storage + numbers + rest + b'tR'
  return b'\x80\x02}(' + items + b'u.'


def load_pickle(path, pickled, **records):
  with zipfile.ZipFile(path, 'w') as archive:
    archive.writestr('a/data.pkl', pickled)
    for key, data in (records or {'0': np.arange(4, dtype='<f4').tobytes()}).items():
      archive.writestr(f'a/data/{key}', data)
  return files.load(path)


def test_views_within_their_storage(tmp_path):
  views = [
    (reference(), 1, (3,), (1,)),
    (reference(), 0, (2, 2), (1, 2)),
    (reference(), 3, (1, 1), (2**61, 9)),
  ]
  arrays = load_pickle(tmp_path / 'a.pt', tensors(*views))
  assert {name: array.tolist() for name, array in arrays.items()} == {
    'a': [1, 2, 3],
    'b': [[0, 2], [1, 3]],
    'c': [[3]],
  }


@pytest.mark.parametrize(
  ('view', 'message'),
  {
    'too long': ((0, (5,), (1,)), "'a' lies outside of its storage"),
    'too far': ((2, (3,), (1,)), "'a' lies outside"),
    'beyond': ((4, (), ()), "'a' lies outside"),
    'wide': ((0, (2, 2), (3, 1)), "'a' lies outside"),
    'repeated': ((0, (2**50,), (0,)), "'a' lies outside"),
    'strides that overflow': ((0, (3, 3), (2**63, 2**63)), "'a' lies outside"),
    'strides that wrap around': ((0, (5,), (2**60,)), "'a' lies outside"),
    'shapes that overflow': ((0, (0, 2**62, 2**62), (1, 1, 1)), "'a' lies outside"),
    'beyond 64 bits': ((0, (0, 2**70), (1, 1)), "'a' lies outside"),
    'no integers': ((0, (2.0,), (1,)), 'pickle is damaged'),
    'no integer strides': ((0, (2,), (1.0,)), 'pickle is damaged'),
    'negative offset': ((-1, (2,), (1,)), 'pickle is damaged'),
    'negative stride': ((3, (2,), (-1,)), 'pickle is damaged'),
    'negative size': ((0, (-2,), (1,)), 'pickle is damaged'),
    'missing stride': ((0, (2, 2), (1,)), 'pickle is damaged'),
    'many axes': ((0, (1,) * 40, (1,) * 40), 'pickle is damaged'),
  }.values(),
)
def test_views_outside_of_their_storage_are_refused(view, message, tmp_path):
  with pytest.raises(UserError, match=message):
    load_pickle(tmp_path / 'a.pt', tensors((reference(), *view)))


@pytest.mark.parametrize(
  ('storage', 'message'),
  [
    (reference(size=2**62), 'another size'),
    (reference(size=-1), 'pickle is damaged'),
    (reference(kind='module'), 'pickle is damaged'),
    (reference(dtype='QInt8Storage'), "holds 'torch.QInt8Storage'"),
    (reference(key='../../data.pkl'), 'no record'),
    (b'K\1', 'pickle is damaged'),
  ],
)
def test_other_references_are_refused(storage, message, tmp_path):
  with pytest.raises(UserError, match=message):
    load_pickle(tmp_path / 'a.pt', tensors((storage, 0, (2,), (1,))))


def test_one_storage_has_one_type(tmp_path):
  with pytest.raises(UserError, match='damaged'):
    load_pickle(
      tmp_path / 'a.pt',
      tensors((reference(), 0, (2,), (1,)), (reference(8, dtype='HalfStorage'), 0, (2,), (1,))),
    )


def test_tensors_that_are_negated_when_read_are_refused(tmp_path):
  negated = b'\x89N}' + text('neg') + b'\x88s'
  with pytest.raises(UserError, match=r'is negated when read; torch\.save it after resolve_neg\(\)'):
    load_pickle(tmp_path / 'a.pt', tensors((reference(), 0, (2,), (1,)), rest=negated))


def load_legacy(path, storage, keys=('0',), size=4):
  header = b''.join(pickle.dumps(value, 2) for value in (torch_file.MAGIC, torch_file.PROTOCOL, {}))
  content = header + tensors((storage, 1, (2,), (1,))) + pickle.dumps(list(keys), 2)
  for _ in keys:
    content += size.to_bytes(8, 'little') + np.arange(4, dtype='<f4').tobytes()
  path.write_bytes(content)
  return files.load(path)


def test_legacy_storages_must_be_as_declared(tmp_path):
  path = tmp_path / 'a.pth'
  assert load_legacy(path, reference(view=b'N'))['a'].tolist() == [1, 2]
  for arguments, message in (
    ({'size': 3}, 'damaged'),
    ({'size': 2**62}, 'damaged'),
    ({'keys': ['0', '1']}, 'damaged'),
    ({'keys': [['0']]}, 'damaged'),
    ({'keys': []}, 'a storage is missing'),
  ):
    with pytest.raises(UserError, match=message):
      load_legacy(path, reference(view=b'N'), **arguments)
  with pytest.raises(UserError, match='damaged'):
    load_legacy(path, reference(2**62, view=b'N'), size=2**62)
  with pytest.raises(UserError, match=r'views of storages, .*torch\.save it again'):
    load_legacy(path, reference(view=b'(' + text('1') + number(0) + number(2) + b't'))


def test_a_size_is_checked_before_memory_is_taken(tmp_path):
  size = 2**32 - 16
  path = tmp_path / 'a.pt'
  with zipfile.ZipFile(path, 'w') as archive:
    archive.writestr('a/data.pkl', tensors((reference(size, dtype='ByteStorage'), 0, (2,), (1,))))
    archive.writestr('a/data/0', b'1234')
    archive.filelist[-1].file_size = archive.filelist[-1].compress_size = size  # in the directory at the end
  with pytest.raises(UserError, match="record 'a/data/0' is too large"):
    files.load(path)


def test_nothing_may_be_read_twice(tmp_path):
  """Records that contain one another would make a file's content many times its size."""
  size, count = 4000, 8
  pickled = tensors(*((reference(size, str(i), 'ByteStorage'), 0, (size,), (1,)) for i in range(count)))
  members = [('a/data.pkl', len(pickled)), *((f'a/data/{i}', size) for i in range(count))]
  content, directory = b'', b''
  for name, length in members:
    common = struct.pack('<HHHHHIIIHH', 20, 0, 0, 0, 0, 0, length, length, len(name), 0)
    directory += b'PK\1\2\x14\0' + common + struct.pack('<HHHII', 0, 0, 0, 0, len(content)) + name.encode()
    content += b'PK\3\4' + common + name.encode() + (pickled if name == 'a/data.pkl' else b'')
  content += bytes(size)
  end = struct.pack('<HHHHIIH', 0, 0, len(members), len(members), len(directory), len(content), 0)
  path = tmp_path / 'a.pt'
  path.write_bytes(content + directory + b'PK\5\6' + end)
  assert path.stat().st_size < 3 * size
  with pytest.raises(UserError, match='damaged'):
    files.load(path)


def test_files_of_the_first_pytorch(tmp_path):
  """Parameters as objects with a state, tensors without hooks; not in PyTorch's words since 0.4."""
  rebuilt = (
    b'ctorch._utils\n_rebuild_tensor\n('
    + reference()
    + number(1)
    + number(2)
    + b'\x85'
    + number(1)
    + b'\x85tR'
  )
  parameter = b'ctorch.nn.parameter\nParameter\n' + rebuilt + b'\x85R\x88\x89N\x87b'
  arrays = load_pickle(tmp_path / 'a.pt', b'\x80\x02}X\1\0\0\0w' + parameter + b's.')
  assert arrays['w'].tolist() == [1, 2]


def entry(dtype='F32', shape=(2,), begin=0, end=8):
  return {'dtype': dtype, 'shape': list(shape), 'data_offsets': [begin, end]}


@pytest.mark.parametrize(
  ('header', 'message'),
  {
    'overlap': ({'a': entry(), 'b': entry('U8', (2,), 6, 8)}, 'damaged or cut short.*tensor `b`'),
    'hole': (
      {'a': entry('U8', (1,), 0, 1), 'b': entry('U8', (6,), 2, 8)},
      'damaged or cut short.*tensor `b`',
    ),
    'another shape': ({'a': entry(shape=(3,))}, 'damaged or cut short.*invalid shape'),
    'overflow': ({'a': entry('U8', (0, 2**40, 2**40), 0, 0)}, 'damaged or cut short'),
    'many axes': ({'a': entry(shape=(2,) + (1,) * 99)}, 'damaged or cut short.*maximum supported dimension'),
    'no mapping': ({'a': 3}, 'damaged or cut short.*invalid JSON'),
    'line break': ({'a\nb': entry()}, r"entry named 'a\\nb'"),
    'line break in a type': ({'a': entry('x\ny')}, 'damaged or cut short.*`x y`'),
    'deep': (b'{"a":' * 100_000, 'damaged or cut short.*recursion limit'),
    'nothing': ({'__metadata__': {}}, 'damaged or cut short'),  # the file's 8 bytes belong to no entry
  }.values(),
)
def test_bad_headers_of_safetensors_are_refused(header, message, tmp_path):
  header = header if isinstance(header, bytes) else json.dumps(header).encode()
  path = tmp_path / 'weights.safetensors'
  path.write_bytes(len(header).to_bytes(8, 'little') + header + bytes(8))
  with pytest.raises(UserError, match=message) as error:
    files.load(path)
  assert str(error.value).startswith(f'{path}: ')
  assert '\n' not in str(error.value)


def test_safetensors_without_tensors_are_refused(tmp_path):
  path = tmp_path / 'empty.safetensors'
  path.write_bytes((2).to_bytes(8, 'little') + b'{}')
  with pytest.raises(UserError, match='holds no tensors'):
    files.load(path)


def test_headers_that_would_fill_the_memory_are_refused_before_they_are_read(tmp_path, monkeypatch):
  monkeypatch.setattr(files, 'MAX_HEADER', 1000)
  monkeypatch.setattr(files.torch_file, 'MAX_CONTENTS', 1000)
  monkeypatch.setattr(files.safetensors.numpy, 'load_file', lambda path: 1 / 0)
  header = b'{"a":{"dtype":"F32","shape":[' + b'0,' * 1000 + b'0],"data_offsets":[0,0]}}'
  (tmp_path / 'a.safetensors').write_bytes(len(header).to_bytes(8, 'little') + header)
  said = refusal(files.load, tmp_path / 'a.safetensors')
  assert f'a.safetensors: has a header of {len(header):,} bytes, over the limit of 1,000; save' in said
  with zipfile.ZipFile(tmp_path / 'a.pt', 'w') as z:
    for i in range(20):
      z.writestr(f'archive/data/{i}', b'')
  assert 'a.pt: has a table of contents of ' in refusal(files.load, tmp_path / 'a.pt')


@pytest.mark.parametrize('name', ['zip.pt', 'legacy.pth', 'tensors.safetensors'])
def test_cut_files_are_refused(name, tmp_path):
  content = (FILES / name).read_bytes()
  for size in range(20, len(content), 41):
    (tmp_path / 'a').write_bytes(content[:size])
    with pytest.raises(UserError, match='damaged or cut short; copy or download it again'):
      files.load(tmp_path / 'a')


def load_any(path):
  """Loads what may be damaged; errors other than the user's come through."""
  message, arrays = '', {}
  try:
    arrays = files.load(path)
  except UserError as error:
    message = str(error)
  assert '\n' not in message
  for array in arrays.values():
    array.copy()


def damaged(data, edits, end):
  data = bytearray(data)
  for position, byte in edits:
    data[position % len(data)] = byte
  return bytes(data[: len(data) - end % len(data)])


EDITS = st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), max_size=8)
ENDS = st.just(0) | st.integers(0, 2**16)


@pytest.mark.fuzz
@pytest.mark.parametrize('name', ['zip.pt', 'legacy.pth', 'training.pth', 'tensors.safetensors'])
def test_damaged_files_give_arrays_or_a_user_error(name, tmp_path):
  content = (FILES / name).read_bytes()

  @repeatable(50)
  @given(EDITS, ENDS)
  def check(edits, end):
    (tmp_path / 'a').write_bytes(damaged(content, edits, end))
    load_any(tmp_path / 'a')

  check()


@pytest.mark.fuzz
def test_damaged_pickles_give_arrays_or_a_user_error(tmp_path):
  """With checksums that hold."""
  pickled = record('data.pkl')

  @repeatable(50)
  @given(EDITS, ENDS)
  def check(edits, end):
    load_any(rezip(tmp_path / 'a.pt', **{'data.pkl': damaged(pickled, edits, end)}))

  check()
