"""Typed records on disk: each is one JSON file with the types of a `msgspec.Struct`, and a seal.

A file that one part of the project writes and another reads has one module, which declares its struct and calls `write`
and `read` of this one. So a file that was damaged, edited or is of another shape is refused in one place, in one line.
"""

import json
import os
from typing import Any, TypeVar

import msgspec

from fetal_jax.runtime import files
from fetal_jax.runtime.errors import DamagedFile

Record = TypeVar('Record')


def write(path: files.PathLike, record: Any) -> None:
  """Writes a struct, or a dict of structs by name, as indented JSON with a seal, whole or not at all."""
  files.write_json(path, to_json(record), seal=True)


def read(
  path: files.PathLike,
  kind: type[Record],
  *,
  remedy: str = files.REMEDY,
) -> Record:
  """Reads a record that `write` wrote.

  Args:
    path: of the file.
    kind: what it must hold: a struct, or `dict[str, <struct>]`.
    remedy: what the user can do where it is damaged.

  Raises:
    FileNotFoundError: it is missing.
    DamagedFile: it is not whole, was changed since it was written, has no seal, or is not of this kind.
  """
  return from_json(files.read_json(path, sealed=True, remedy=remedy), kind, os.fspath(path), remedy=remedy)


def from_json(value: Any, kind: type[Record], name: str, *, remedy: str) -> Record:
  """Makes a record of plain JSON values; `name` is what an error calls them."""
  try:
    return msgspec.convert(value, kind)
  except msgspec.ValidationError as error:
    raise DamagedFile(f'{name}: damaged ({error}); {remedy}') from error


def to_json(record: Any) -> dict[str, Any]:
  """Returns the record as plain JSON values: dicts, lists, strings, numbers, None."""
  return json.loads(msgspec.json.encode(record))
