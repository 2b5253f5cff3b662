"""Files that are whole or absent: written under a temporary name, flushed, then moved into place."""

import contextlib
import hashlib
import json
import os
import pathlib
from collections.abc import Iterator
from typing import Any

PathLike = str | os.PathLike[str]


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


def write_json(path: PathLike, value: Any) -> None:
  """Writes `value` as indented JSON, whole or not at all."""
  write_text(path, json.dumps(value, indent=2) + '\n')


def read_json(path: PathLike) -> Any:
  """Reads a JSON file."""
  return json.loads(pathlib.Path(path).read_text(encoding='utf-8'))


def sha256(path: PathLike) -> str:
  """The SHA-256 of a file's bytes, as hex."""
  with open(path, 'rb') as f:
    return hashlib.file_digest(f, 'sha256').hexdigest()
