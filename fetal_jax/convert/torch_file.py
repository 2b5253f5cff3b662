"""Both file formats of `torch.save`, read without PyTorch.

Since version 1.6 a zip file: `<root>/data.pkl` is a pickle in which tensors refer to storages, and
`<root>/data/<key>` holds the bytes of a storage. Before, one stream: pickles of a magic number, a protocol version,
the machine that wrote it, the object, and the keys of its storages; then each storage, its size first.
"""

import dataclasses
import io
import math
import struct
import sys
import zipfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np

from fetal_jax.convert import names, pickles
from fetal_jax.runtime import zips
from fetal_jax.runtime.errors import UserError

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001
MAX_PICKLE = 64 * 2**20  # in bytes; a large network's has one MiB
MAX_CONTENTS = 4 * 2**20  # of a zip file's table of contents, in bytes; takes some 60 MiB of memory
MAX_AXES = 32  # of numpy 1; numpy 2 has 64
# Names under which training scripts keep the state dict.
WRAPPERS = ('state_dict', 'model_state_dict', 'model', 'params', 'module')

DAMAGED = 'is damaged or cut short; copy or download it again'
# Exceptions of zipfile on bytes that are not a whole zip file.
ZIP_ERRORS = (
  zipfile.BadZipFile,
  EOFError,
  NotImplementedError,
  OSError,
  OverflowError,
  RuntimeError,
  ValueError,
  struct.error,
)

STORAGES = {
  'torch.DoubleStorage': np.dtype(np.float64),
  'torch.FloatStorage': np.dtype(np.float32),
  'torch.HalfStorage': np.dtype(np.float16),
  'torch.BFloat16Storage': np.dtype(ml_dtypes.bfloat16),
  'torch.LongStorage': np.dtype(np.int64),
  'torch.IntStorage': np.dtype(np.int32),
  'torch.ShortStorage': np.dtype(np.int16),
  'torch.CharStorage': np.dtype(np.int8),
  'torch.ByteStorage': np.dtype(np.uint8),
  'torch.BoolStorage': np.dtype(np.bool_),
  'torch.storage.UntypedStorage': np.dtype(np.uint8),
}
# PyTorch has no typed storages of the last three: their tensors are views of an untyped one.
DTYPES = {f'torch.{dtype}': dtype for dtype in STORAGES.values()} | {
  f'torch.{dtype}': np.dtype(dtype) for dtype in ('uint16', 'uint32', 'uint64')
}


@dataclasses.dataclass(frozen=True)
class Storage:
  """A run of `size` elements, which tensors are views of."""

  key: str
  dtype: np.dtype
  size: int

  @property
  def nbytes(self) -> int:
    return self.size * self.dtype.itemsize


@dataclasses.dataclass(frozen=True)
class Tensor:
  """A view of a storage; offset and strides count elements of `dtype`."""

  storage: Storage
  dtype: np.dtype
  offset: int
  shape: tuple[int, ...]
  strides: tuple[int, ...]


Storages = dict[str, Storage]
ReadStorage = Callable[[Storage], bytes]


def load_zip(file: BinaryIO, file_size: int) -> tuple[dict[str, np.ndarray], str]:
  """Reads the state dict in a zip file of `torch.save`; see `fetal_jax.convert.files.load`."""
  records = Records(file, file_size)
  roots = [name.removesuffix('data.pkl') for name in records.members if name.endswith('/data.pkl')]
  if len(roots) != 1:
    raise UserError('is a zip file but no checkpoint (it has no data.pkl); give a file of torch.save')
  root = roots[0]
  if f'{root}constants.pkl' in records.members:
    raise UserError(
      'is a TorchScript program; torch.save the state_dict() of what torch.jit.load makes of it, and give that'
    )
  byteorder = 'little'
  if f'{root}byteorder' in records.members:
    byteorder = records.read(f'{root}byteorder', 16).decode('latin-1')
    if byteorder not in ('little', 'big'):
      raise UserError(f'{DAMAGED} (its byte order is {byteorder!r})')
  tree = _load_pickle(io.BytesIO(records.read(f'{root}data.pkl', MAX_PICKLE)), {})

  def read_storage(storage: Storage) -> bytes:
    return records.read(f'{root}data/{storage.key}', storage.nbytes)

  tensors, part = find_state_dict(tree)
  return _to_arrays(tensors, read_storage, file_size, byteorder), part


class Records:
  """The members of a zip file that PyTorch wrote; PyTorch never compresses them."""

  def __init__(self, file: BinaryIO, file_size: int):
    try:
      self._zip = zips.open_zip(file, MAX_CONTENTS)
    except ZIP_ERRORS as error:
      raise UserError(DAMAGED) from error
    self.members = {info.filename: info for info in self._zip.infolist()}
    self._unread = file_size

  def read(self, name: str, limit: int) -> bytes:
    """Reads the bytes of a member, at most `limit`."""
    shown = repr(name[:100])
    info = self.members.get(name)
    if info is None:
      raise UserError(f'{DAMAGED} (it has no record {shown})')
    if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
      raise UserError(f'has a compressed record {shown}; load it with PyTorch and torch.save it again')
    # Do not trust sizes: before anything is allocated, all that is read must fit into the file.
    if info.file_size > min(limit, self._unread):
      raise UserError(f'{DAMAGED} (its record {shown} is too large)')
    self._unread -= info.file_size
    # PyTorch writes checksums of 0 where it is told to compute none; None goes unchecked.
    info.CRC = info.CRC or None  # type: ignore[assignment]
    try:
      return self._zip.read(info)
    except ZIP_ERRORS as error:
      raise UserError(f'{DAMAGED} (its record {shown} cannot be read)') from error


def load_legacy(file: BinaryIO, file_size: int) -> tuple[dict[str, np.ndarray], str]:
  """Reads the state dict in a file of `torch.save` before PyTorch 1.6; see `fetal_jax.convert.files.load`."""
  stream = io.BytesIO(file.read(min(MAX_PICKLE, file_size)))
  if pickles.load(stream) != MAGIC or pickles.load(stream) != PROTOCOL:
    raise UserError('is a pickle that torch.save did not write; torch.save(model.state_dict(), ...) instead')
  pickles.load(stream)  # of the machine that wrote it; storages are little-endian from any
  storages: Storages = {}
  tree = _load_pickle(stream, storages)
  keys = pickles.load(stream)

  position = stream.tell()
  starts = {}
  for key in keys if isinstance(keys, list) else ():
    storage = storages.get(key) if isinstance(key, str) else None
    file.seek(position)
    size = int.from_bytes(file.read(8), 'little')
    if storage is None or size != storage.size or position + 8 + storage.nbytes > file_size:
      raise UserError(DAMAGED)
    starts[key] = position + 8
    position += 8 + storage.nbytes

  def read_storage(storage: Storage) -> bytes:
    if storage.key not in starts:
      raise UserError(f'{DAMAGED} (a storage is missing)')
    file.seek(starts[storage.key])
    return file.read(storage.nbytes)

  tensors, part = find_state_dict(tree)
  return _to_arrays(tensors, read_storage, file_size, 'little'), part


def find_state_dict(tree: Any) -> tuple[dict[str, Tensor], str]:
  """Finds the tensors by name of a state dict, or of a mapping that has one under a usual name. The rest is dropped.

  Averages of the weights (EMA) are preferred; see `fetal_jax.convert.names`.

  Returns:
    The tensors, and in words which of the mapping's entries they are; empty where the tree is a state dict.
  """
  if isinstance(tree, dict):
    keys = [key for key in tree if isinstance(key, str)]
    averages = _first_state_dict(tree, [key for key in keys if names.is_average(key)])
    weights = _first_state_dict(tree, [key for key in WRAPPERS if key in tree])
    if not weights[0] and (tensors := _tensors(tree)):
      weights = tensors, ''
    if not weights[0] and averages[0]:
      return averages[0], f'averages (EMA) {averages[1]}'
    if taken := names.averaged(weights[0], averages[0]):
      return (
        taken,
        f'averages (EMA) {averages[1]}, taken in place of {weights[1] or "the weights beside them"}',
      )
    if weights[0]:
      return weights
    keys = [repr(str(key)[:100]) for key in tree]
    more = f' and {len(keys) - 10} more' if len(keys) > 10 else ''
    found = f'its entries are {", ".join(keys[:10])}{more}' if keys else 'it is empty'
  else:
    found = f'it is a {type(tree).__name__}'
  raise UserError(f'holds no tensors by name ({found}); torch.save(model.state_dict(), ...) and give that')


def _tensors(mapping: Mapping[Any, Any]) -> dict[str, Tensor]:
  return {k: v for k, v in mapping.items() if isinstance(k, str) and isinstance(v, Tensor)}


def _first_state_dict(
  tree: Mapping[Any, Any], keys: Sequence[str], depth: int = 3
) -> tuple[dict[str, Tensor], str]:
  """Returns the first state dict under one of the keys, wrapped again or not, and its place, such as `'ema.module'`."""
  for key in keys:
    value = tree[key]
    if isinstance(value, dict):
      inner = [wrapper for wrapper in WRAPPERS if wrapper in value]
      tensors, place = _first_state_dict(value, inner, depth - 1) if depth else ({}, '')
      if tensors:
        return tensors, f"'{key[:100]}.{place[1:]}"
      if tensors := _tensors(value):
        return names.without_prefixes(tensors), repr(key[:100])
  return {}, ''


def _load_pickle(stream: io.BytesIO, storages: Storages) -> Any:
  """Returns the pickled object, with a `Tensor` for each tensor, and adds the storages that it names to `storages`."""

  def persistent_load(reference):
    kind, storage_type, key, _location, size, *view = reference
    storage = Storage(key, STORAGES[storage_type.name], size)
    if kind != 'storage' or type(key) is not str or type(size) is not int or size < 0:
      raise ValueError
    if view not in ([], [None]):
      raise UserError(
        'has views of storages, as very old PyTorch wrote them; load it and torch.save it again'
      )
    if storages.setdefault(key, storage) != storage:
      raise ValueError
    return storage

  return pickles.load(stream, CALLS, STORAGES.keys() | DTYPES.keys(), persistent_load)


def _rebuild_tensor(storage, offset, shape, strides, dtype=None):
  numbers = (offset, *shape, *strides)
  if any(type(number) is not int or number < 0 for number in numbers):
    raise ValueError
  if type(storage) is not Storage or len(shape) != len(strides) or len(shape) > MAX_AXES:
    raise ValueError
  return Tensor(storage, dtype or storage.dtype, offset, tuple(shape), tuple(strides))


def _rebuild_tensor_v2(storage, offset, shape, strides, _requires_grad, _hooks, metadata=None):
  return _rebuild_tensor_v3(storage, offset, shape, strides, None, None, None, metadata)


def _rebuild_tensor_v3(storage, offset, shape, strides, _requires_grad, _hooks, dtype, metadata=None):
  if metadata:
    raise UserError('has a tensor that is negated when read; torch.save it after resolve_neg()')
  return _rebuild_tensor(storage, offset, shape, strides, dtype and DTYPES[dtype.name])


def _rebuild_parameter(tensor, *_):
  if type(tensor) is not Tensor:
    raise TypeError
  return tensor


# Functions that the pickle of a state dict may call; the oldest versions call `_rebuild_tensor` and `Parameter`.
CALLS: Mapping[str, Callable[..., Any]] = {
  'torch._utils._rebuild_tensor': _rebuild_tensor,
  'torch._utils._rebuild_tensor_v2': _rebuild_tensor_v2,
  'torch._utils._rebuild_tensor_v3': _rebuild_tensor_v3,
  'torch._utils._rebuild_parameter': _rebuild_parameter,
  'torch._utils._rebuild_parameter_with_state': _rebuild_parameter,
  'torch.nn.parameter.Parameter': _rebuild_parameter,
}


def _to_arrays(
  tensors: Mapping[str, Tensor], read_storage: ReadStorage, file_size: int, byteorder: str
) -> dict[str, np.ndarray]:
  """Reads the storages that the tensors need, each once."""
  foreign = byteorder != sys.byteorder
  data: dict[str, bytes] = {}
  arrays = {}
  for name, tensor in tensors.items():
    storage = tensor.storage
    if storage.key not in data:
      stored = read_storage(storage)
      if len(stored) != storage.nbytes:
        raise UserError(f'{DAMAGED} (the storage of {name[:100]!r} has another size than it should)')
      if foreign and storage.nbytes:
        stored = np.frombuffer(stored, f'u{storage.dtype.itemsize}').byteswap().tobytes()
      data[storage.key] = stored
    if foreign and tensor.dtype != storage.dtype:
      raise UserError(f'has {name[:100]!r} in the byte order of another machine; save it there as int64')
    try:
      arrays[name] = _to_array(tensor, data[storage.key], file_size)
    except (OverflowError, ValueError) as error:
      raise UserError(f'{DAMAGED} ({name[:100]!r} lies outside of its storage)') from error
  return arrays


def _to_array(tensor: Tensor, data: bytes, file_size: int) -> np.ndarray:
  """Returns the tensor as a read-only view of its storage's bytes; ValueError if it does not lie within them."""
  shape, dtype = tensor.shape, tensor.dtype
  if 0 in shape:
    return np.empty(shape, dtype)
  last = tensor.offset + sum((n - 1) * stride for n, stride in zip(shape, tensor.strides, strict=True))
  # Strides of 0 make a large tensor from few bytes; a later copy would have it in full.
  if last >= len(data) // dtype.itemsize or math.prod(shape) * dtype.itemsize > file_size:
    raise ValueError
  # PyTorch gives axes of size 1 any stride.
  strides = [stride * dtype.itemsize if n > 1 else 0 for n, stride in zip(shape, tensor.strides, strict=True)]
  return np.ndarray(shape, dtype, data, tensor.offset * dtype.itemsize, strides)
