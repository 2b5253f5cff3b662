"""Checkpoint files of PyTorch and safetensors, read without PyTorch and without running what is in them."""

import os
import pathlib

import numpy as np

from fetal_jax.convert import safetensors_file, torch_file
from fetal_jax.runtime.errors import UserError

READERS = {
  'zip': torch_file.load_zip,
  'legacy': torch_file.load_legacy,
  'safetensors': safetensors_file.load,
}


def load(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
  """The tensors of a checkpoint, by name.

  Formats are told apart by content: `torch.save` (.pt, .pth, .bin; both its formats) and safetensors. Nothing in
  the file is executed. A state dict may lie in a mapping under 'state_dict', 'model_state_dict' or 'model', as
  training scripts save it: whatever is beside it (epoch, optimiser) is dropped. A prefix 'module.' that all
  names have, as DataParallel gives, is taken off.

  Args:
    path: the file.

  Returns:
    Arrays in the file's dtypes (bfloat16 as `ml_dtypes.bfloat16`) and native byte order, most of them read-only.
    As in the file, they may be strided views, and several may share memory.

  Raises:
    UserError: there is no such file, it is no checkpoint, it is damaged, or it holds more than tensors.
  """
  path = pathlib.Path(path)
  try:
    if not path.is_file():
      found = 'is a folder' if path.is_dir() else 'is not there'
      raise UserError(f'{found}; give a checkpoint file (.pt, .pth, .bin or .safetensors)')
    with open(path, 'rb') as file:
      file_size = os.fstat(file.fileno()).st_size
      head = file.read(512)
      file.seek(0)
      arrays = READERS[_format(head)](file, file_size)
  except OSError as error:
    raise UserError(
      f'{path}: cannot be read ({error.strerror}); check the disk and your permissions'
    ) from error
  except UserError as error:
    raise UserError(f'{path}: {error}') from error

  # Names end up in other messages, which have one line.
  if strange := next((name for name in arrays if not name.isprintable()), None):
    raise UserError(f'{path}: has an entry named {strange[:100]!r}; rename it and save again')
  if all(name.startswith('module.') for name in arrays):
    arrays = {name.removeprefix('module.'): array for name, array in arrays.items()}
  return arrays


def _format(head: bytes) -> str:
  """The key in `READERS` for a file that begins with `head`; UserError if there is none."""
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
