"""The safetensors format: a length (8 bytes, little-endian), that many bytes of JSON, and the tensors' bytes.

The JSON says for each tensor its dtype, its shape, and where its bytes begin and end, counted from the JSON's end.
"""

import json
import math
import sys
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np

from fetal_jax.runtime.errors import UserError

MAX_HEADER = 100_000_000  # bytes, as in the reference implementation
MAX_AXES = 32
DAMAGED = 'is damaged or cut short; copy or download it again'

DTYPES = {
  'F64': np.dtype(np.float64),
  'F32': np.dtype(np.float32),
  'F16': np.dtype(np.float16),
  'BF16': np.dtype(ml_dtypes.bfloat16),
  'I64': np.dtype(np.int64),
  'I32': np.dtype(np.int32),
  'I16': np.dtype(np.int16),
  'I8': np.dtype(np.int8),
  'U64': np.dtype(np.uint64),
  'U32': np.dtype(np.uint32),
  'U16': np.dtype(np.uint16),
  'U8': np.dtype(np.uint8),
  'BOOL': np.dtype(np.bool_),
}


def load(file: BinaryIO, file_size: int) -> dict[str, np.ndarray]:
  """The tensors in a safetensors file; see `fetal_jax.convert.files.load`."""
  header_size = int.from_bytes(file.read(8), 'little')
  data_size = file_size - 8 - header_size
  if header_size > MAX_HEADER or data_size < 0:
    raise UserError(f'{DAMAGED} (its header is said to have {header_size:,} bytes)')
  try:
    header = json.loads(file.read(header_size).decode())
  except (ValueError, RecursionError) as error:
    raise UserError(f'{DAMAGED} (its header is no JSON)') from error
  header.pop('__metadata__', None)

  # Read in the order of the bytes, each of which must belong to exactly one tensor.
  position, arrays = 0, {}
  for name, (begin, end, dtype, shape) in sorted(
    ((name, _entry(name, entry)) for name, entry in header.items()), key=lambda item: item[1][:2]
  ):
    if begin != position or end > data_size:
      raise UserError(f'{DAMAGED} ({name[:100]!r} overlaps another entry, or lies elsewhere than it should)')
    position = end
    data: Any = file.read(end - begin)
    if len(data) != end - begin:
      raise UserError(DAMAGED)
    if sys.byteorder == 'big':
      data = np.frombuffer(data, f'u{dtype.itemsize}').byteswap()
    arrays[name] = np.ndarray(shape, dtype, data)
  if position != data_size:
    raise UserError(f'{DAMAGED} (it has bytes that belong to no entry)')
  if not arrays:
    raise UserError('holds no tensors; save model.state_dict()')
  return arrays


def _entry(name: str, entry: Any) -> tuple[int, int, np.dtype, tuple[int, ...]]:
  """Begin and end in bytes, dtype and shape of an entry of the header."""
  shown = repr(name[:100])
  try:
    code, shape, (begin, end) = entry['dtype'], entry['shape'], entry['data_offsets']
    numbers = [*shape, begin, end]
  except (KeyError, TypeError, ValueError) as error:
    raise UserError(f'{DAMAGED} (its entry {shown} is malformed)') from error
  if not isinstance(code, str) or code not in DTYPES:
    known = ', '.join(DTYPES)
    raise UserError(
      f'has an entry {shown} of type {str(code)[:20]!r}; convert it to one of {known}, and save again'
    )
  dtype = DTYPES[code]
  good = type(shape) is list and len(shape) <= MAX_AXES
  good = good and all(type(number) is int and number >= 0 for number in numbers)
  # An axis of 0 hides how long the others are; numpy wants to be able to count them.
  good = good and math.prod(n or 1 for n in shape) < 2**59
  if not good or end - begin != math.prod(shape) * dtype.itemsize:
    raise UserError(f'{DAMAGED} (the size of its entry {shown} does not follow from its shape)')
  return begin, end, dtype, tuple(shape)
