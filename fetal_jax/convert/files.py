"""Checkpoint files of PyTorch and safetensors, read without PyTorch and without running what is in them."""

import os
import pathlib
from typing import BinaryIO, NamedTuple

import ml_dtypes  # noqa: F401  (gives NumPy the names of bfloat16 and the like, which safetensors asks for)
import numpy as np
import safetensors.numpy

from fetal_jax.convert import names, torch_file
from fetal_jax.runtime.errors import UserError

# Of a safetensors file, in bytes: room for 20,000 tensors. The library takes some 20 times as much memory.
MAX_HEADER = 2 * 2**20


class Checkpoint(NamedTuple):
  """The tensors of a file by name, and in words which part of the file they are; empty where they are all of it."""

  arrays: dict[str, np.ndarray]
  part: str


def load(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
  """Reads the tensors of a checkpoint, by name; see `read`."""
  return read(path).arrays


def read(path: str | os.PathLike[str]) -> Checkpoint:
  """Reads the tensors of a checkpoint, and says which they are.

  Formats are told apart by content: `torch.save` (.pt, .pth, .bin; both its formats) and safetensors. Nothing in
  the file is executed. A state dict may lie in a mapping under 'state_dict', 'model_state_dict', 'model' or 'params', as
  training scripts save it: whatever is beside it (epoch, optimiser) is dropped, but for averages of the weights (under
  'ema', 'model_ema' or the like), which are taken in their place. Prefixes that all names have, as DataParallel's 'module.',
  are taken off.

  Args:
    path: the file.

  Returns:
    Arrays in the file's dtypes (bfloat16 as `ml_dtypes.bfloat16`) and native byte order, some of them read-only.
    As in the file, they may be strided views, and several may share memory.

  Raises:
    UserError: the file is missing, is no checkpoint, is damaged, or holds more than tensors.
  """
  path = pathlib.Path(path)
  try:
    if not path.is_file():
      found = 'is a folder' if path.is_dir() else 'is missing'
      raise UserError(f'{found}; give a checkpoint file (.pt, .pth, .bin or .safetensors)')
    with open(path, 'rb') as file:
      file_size = os.fstat(file.fileno()).st_size
      head = file.read(512)
      file.seek(0)
      arrays, part = READERS[_format(head)](file, file_size)
  except OSError as error:
    raise UserError(
      f'{path}: cannot be read ({error.strerror}); check the disk and your permissions'
    ) from error
  except UserError as error:
    raise UserError(f'{path}: {error}') from error

  # Names end up in other messages, which have one line.
  if strange := next((name for name in arrays if not name.isprintable()), None):
    raise UserError(f'{path}: has an entry named {strange[:100]!r}; rename it and save again')
  return Checkpoint(names.without_prefixes(arrays), part)


def _load_safetensors(file: BinaryIO, file_size: int) -> tuple[dict[str, np.ndarray], str]:
  del file_size  # the library compares it with the header
  header = int.from_bytes(file.read(8), 'little')
  if header > MAX_HEADER:
    raise UserError(
      f'has a header of {header:,} bytes, over the limit of {MAX_HEADER:,}; save the tensors of one network alone'
    )
  try:
    arrays = safetensors.numpy.load_file(file.name)
  except (AttributeError, TypeError) as error:  # NumPy has no such dtype
    raise UserError(f'has entries of a type that NumPy lacks ({error}); convert them to float32') from error
  except (safetensors.SafetensorError, ValueError) as error:
    found = ''.join(letter if letter.isprintable() else ' ' for letter in str(error)[:200])
    raise UserError(f'{torch_file.DAMAGED} ({found})') from error
  if not arrays:
    raise UserError('holds no tensors; save model.state_dict()')
  return arrays, ''


READERS = {'zip': torch_file.load_zip, 'legacy': torch_file.load_legacy, 'safetensors': _load_safetensors}


def _format(head: bytes) -> str:
  """Returns the key in `READERS` for a file that begins with `head`; UserError if there is none."""
  text = head.lstrip().lower()
  if head.startswith(b'PK\3\4'):
    return 'zip'
  if head[5:9] == b'\0\0\0{':  # the length of the header, and how JSON begins
    return 'safetensors'
  if head.startswith(b'\x80'):  # a pickle of protocol 2 or later
    return 'legacy'
  if head[257:262] == b'ustar':
    raise UserError('is in the tar format of the first PyTorch; load it with PyTorch and torch.save it again')
  if not head:
    raise UserError('is empty; copy or download it again')
  if text.startswith(b'version https://git-lfs'):
    raise UserError(
      'is a Git LFS pointer, not the checkpoint itself; run `git lfs pull`, or download the file'
    )
  if text.startswith((b'<!doctype', b'<html', b'<?xml')):
    raise UserError('is an HTML page, not a checkpoint; check the address, and download the file itself')
  if not any(byte < 32 and byte not in b'\t\n\f\r' for byte in head):
    raise UserError('is a text file, not a checkpoint; check the address, and download the file itself')
  raise UserError('is neither a file of torch.save nor safetensors; save model.state_dict() in one of them')
