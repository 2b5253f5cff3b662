"""Files that are whole or absent: written under a temporary name, flushed, then moved into place."""

import contextlib
import hashlib
import json
import os
import pathlib
from collections.abc import Iterator
from typing import Any

from fetal_jax.runtime.errors import DamagedFile

PathLike = str | os.PathLike[str]
_SEAL = 'sha256_of_the_rest'
REMEDY = 'delete it and run the same command again'


@contextlib.contextmanager
def naming(path: PathLike) -> Iterator[None]:
  """Adds `path` to an error of the file system in this block that names no file, as those of writing do not."""
  try:
    yield
  except OSError as error:
    if error.errno is not None and error.filename is None:
      error.filename = os.fspath(path)
    raise


@contextlib.contextmanager
def replacing(path: PathLike) -> Iterator[pathlib.Path]:
  """Yields a temporary path beside `path`; moves it to `path` if the block ends well, else removes it.

  The temporary name is always the same for a given path, so that what a killed process left is
  overwritten by the next attempt and nothing piles up.
  """
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  temporary = path.with_name(f'.{path.name}.tmp')
  try:
    with naming(path):
      yield temporary
      with open(temporary, 'rb') as f:
        os.fsync(f.fileno())
      os.replace(temporary, path)
  finally:
    temporary.unlink(missing_ok=True)


def write_text(path: PathLike, text: str) -> None:
  """Writes UTF-8 text, whole or not at all."""
  with replacing(path) as temporary:
    temporary.write_text(text, encoding='utf-8')


def write_json(path: PathLike, value: Any, *, seal: bool = False) -> None:
  """Writes `value` as indented JSON, whole or not at all.

  Args:
    path: of the file.
    value: of plain JSON types.
    seal: adds a last key to a dict: a hash of the rest, by which `read_json` notices any change.
  """
  if seal:
    value = {**value, _SEAL: _content(value)}
  write_text(path, json.dumps(value, indent=2) + '\n')


def _content(value: dict[str, Any]) -> str:
  """Returns the hash of `value` as JSON, whatever the spaces and the order of keys."""
  value = json.loads(json.dumps(value))
  return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def read_json(path: PathLike, *, sealed: bool = False, remedy: str = REMEDY) -> Any:
  """Reads a JSON file, and checks and removes the seal of one that has it.

  Args:
    path: of the file.
    sealed: whether it must have a seal.
    remedy: what the user can do where it is damaged.

  Raises:
    FileNotFoundError: it is missing.
    DamagedFile: it is not whole JSON, or not what was sealed.
  """
  try:
    value = json.loads(pathlib.Path(path).read_text(encoding='utf-8'))
  except ValueError as error:
    reason = f'no whole JSON: {error}'
  else:
    seal = value.pop(_SEAL, None) if isinstance(value, dict) else None
    if seal == _content(value) if seal is not None else not sealed:
      return value
    reason = 'not what was written'
  raise DamagedFile(f'{path}: damaged ({reason}); {remedy}')


def sha256(path: PathLike) -> str:
  """Returns the SHA-256 of a file's bytes, as hex."""
  with open(path, 'rb') as f:
    return hashlib.file_digest(f, 'sha256').hexdigest()
