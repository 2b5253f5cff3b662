"""Zip files, opened with a limit on their table of contents: each entry takes some ten times its bytes in memory."""

import os
import struct
import zipfile
from typing import BinaryIO

from fetal_jax.runtime.errors import UserError

_END = struct.Struct('<4s4H2LH')  # of the end of the table: its size is the sixth value
# Stands before that where the file is larger than 4 GiB or has many entries.
_LOCATOR = struct.Struct('<4sLQL')
_END64 = struct.Struct('<4sQ2H2L4Q')  # and this before the locator: the size is the ninth value
_LONGEST_COMMENT = 2**16


def open_zip(file: BinaryIO, limit: int) -> zipfile.ZipFile:
  """Opens a zip file whose table of contents has at most `limit` bytes.

  Raises:
    UserError: it has more; the caller knows the file's name.
    zipfile.BadZipFile and others: as `zipfile.ZipFile`.
  """
  if limit < (size := _table_size(file)) <= file.seek(0, os.SEEK_END):
    raise UserError(
      f'has a table of contents of {size:,} bytes, over the limit of {limit:,}; pack fewer files'
    )
  return zipfile.ZipFile(file)


def _table_size(file: BinaryIO) -> int:
  """Returns the size of the table of contents, as the end of the file gives it; 0 where that is not found."""
  start = max(0, file.seek(0, os.SEEK_END) - _END.size - _LONGEST_COMMENT)
  file.seek(start)
  tail = file.read()
  at = tail.rfind(b'PK\5\6')
  if at < 0 or len(tail) - at < _END.size:
    return 0
  size: int = _END.unpack_from(tail, at)[5]
  locator = start + at - _LOCATOR.size
  if locator - _END64.size >= 0:
    file.seek(locator - _END64.size)
    ends = file.read(_END64.size + _LOCATOR.size)
    if ends.startswith(b'PK\6\6') and ends[_END64.size :].startswith(b'PK\6\7'):
      return int(_END64.unpack_from(ends)[8])
  return size
