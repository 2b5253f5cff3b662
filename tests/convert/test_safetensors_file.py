import json

import numpy as np
import pytest

from fetal_jax.convert import files, safetensors_file
from fetal_jax.runtime.errors import UserError


def entry(dtype='F32', shape=(2,), begin=0, end=8):
  return {'dtype': dtype, 'shape': list(shape), 'data_offsets': [begin, end]}


def write(path, header, data):
  if not isinstance(header, bytes):
    header = json.dumps(header).encode()
  path.write_bytes(len(header).to_bytes(8, 'little') + header + data)
  return path


def test_entries_are_read_in_any_order(tmp_path):
  # Padded with spaces, as the format wants its data aligned; b lies before a.
  header = json.dumps(
    {'__metadata__': {'x': 'y'}, 'a': entry(begin=4, end=12), 'b': entry('U8', (2, 2), 0, 4)}
  )
  data = bytes([1, 2, 3, 4]) + np.array([0.5, -2], '<f4').tobytes()
  arrays = files.load(write(tmp_path / 'weights', header.encode() + b'   ', data))
  np.testing.assert_array_equal(arrays['a'], np.array([0.5, -2], np.float32), strict=True)
  np.testing.assert_array_equal(arrays['b'], np.array([[1, 2], [3, 4]], np.uint8), strict=True)


@pytest.mark.parametrize(
  ('header', 'message'),
  {
    'too large': ({'a': entry(shape=(3,), end=12)}, "'a' overlaps another entry, or lies elsewhere"),
    'overlap': ({'a': entry(), 'b': entry('U8', (2,), 6, 8)}, "'b' overlaps"),
    'same bytes': ({'a': entry(), 'b': entry()}, "'b' overlaps"),
    'hole': ({'a': entry('U8', (1,), 0, 1), 'b': entry('U8', (6,), 2, 8)}, "'b' .* elsewhere"),
    'rest': ({'a': entry('U8', (7,), 0, 7)}, 'belong to no entry'),
    'another shape': ({'a': entry(shape=(3,))}, "size of its entry 'a' does not follow"),
    'negative': ({'a': entry(begin=8, end=0, shape=(-2,))}, "entry 'a' does not follow"),
    'overflow': ({'a': entry('U8', (0, 2**40, 2**40), 0, 0)}, "entry 'a' does not follow"),
    'many axes': ({'a': entry(shape=(2,) + (1,) * 99)}, "entry 'a' does not follow"),
    'no integers': ({'a': entry(shape=(2.0,))}, "entry 'a' does not follow"),
    'no list': ({'a': {**entry(), 'shape': {}}}, "entry 'a' does not follow"),
    'no shape': ({'a': {'dtype': 'F32', 'data_offsets': [0, 8]}}, "entry 'a' is malformed"),
    'three offsets': ({'a': {**entry(), 'data_offsets': [0, 4, 8]}}, "entry 'a' is malformed"),
    'no mapping': ({'a': 3}, "entry 'a' is malformed"),
    'unknown type': ({'a': entry('F4')}, "entry 'a' of type 'F4'; convert it to one of F64, F32"),
    'no type': ({'a': entry(dtype=[])}, "entry 'a' of type"),
    'line break': ({'a\nb': entry()}, r"entry named 'a\\nb'"),
    'no JSON': (b'{"a": ', 'its header is no JSON'),
    'no text': (b'{"\xff": 1}', 'its header is no JSON'),
    'deep': (b'{"a":' * 100_000, 'its header is no JSON'),
  }.values(),
)
def test_bad_headers_are_refused(header, message, tmp_path):
  path = write(tmp_path / 'weights.safetensors', header, bytes(8))
  with pytest.raises(UserError, match=message) as error:
    files.load(path)
  assert str(error.value).startswith(f'{path}: ')
  assert '\n' not in str(error.value)


def test_files_without_tensors_are_refused(tmp_path):
  with pytest.raises(UserError, match='holds no tensors'):
    files.load(write(tmp_path / 'empty.safetensors', {'__metadata__': {}}, b''))


@pytest.mark.parametrize('length', [2**32, 10**8 + 1, 50])
def test_a_header_longer_than_the_file_is_refused(length, tmp_path):
  path = tmp_path / 'weights.safetensors'
  path.write_bytes(length.to_bytes(8, 'little') + b'{"a": 1}')
  with pytest.raises(UserError, match=f'its header is said to have {length:,} bytes'):
    files.load(path)


def test_headers_are_limited(tmp_path, monkeypatch):
  path = write(tmp_path / 'weights.safetensors', {'a': entry()}, bytes(8))
  size = path.stat().st_size - 16
  monkeypatch.setattr(safetensors_file, 'MAX_HEADER', size)
  assert files.load(path).keys() == {'a'}
  monkeypatch.setattr(safetensors_file, 'MAX_HEADER', size - 1)
  with pytest.raises(UserError, match=f'its header is said to have {size} bytes'):
    files.load(path)
