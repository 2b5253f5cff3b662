"""Files that are whole or absent: written under a temporary name, flushed, then moved into place."""

import contextlib
import errno
import hashlib
import json
import os
import pathlib
import stat
from collections.abc import Iterator
from typing import IO, Any

from fetal_jax.runtime import temporary
from fetal_jax.runtime.errors import DamagedFile, UserError

PathLike = str | os.PathLike[str]
MAX_JSON = 64 * 2**20  # bytes; the largest that is written, split.json, has a dozen an image
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
def replacing(path: PathLike, *, alone: bool = False) -> Iterator[pathlib.Path]:
  """Yields a temporary file beside `path`; moves it to `path` if the block ends well, else removes it.

  No link is followed: where `path` is one, it is the link that is replaced. See `fetal_jax.runtime.temporary`.

  Args:
    path: of the file; its folder is made if missing.
    alone: whether another process that is writing the same file is refused, with a UserError.
  """
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  with _naming_target(path), temporary.beside(path, alone=alone) as new:
    yield new
    descriptor = os.open(new, os.O_RDONLY | os.O_NOFOLLOW)
    try:
      os.fsync(descriptor)
    finally:
      os.close(descriptor)
    os.replace(new, path)


@contextlib.contextmanager
def replacing_folder(path: PathLike) -> Iterator[pathlib.Path]:
  """Yields a new folder beside `path`, and moves it there if the block ends well, else removes it.

  It takes the place of an empty folder, and of nothing else. Another process that is writing the same folder is
  refused, with a UserError.
  """
  path = pathlib.Path(path).resolve()  # beside what a link points to, hence on the same disk
  path.parent.mkdir(parents=True, exist_ok=True)
  with _naming_target(path), temporary.beside(path, folder=True, alone=True) as new:
    yield new
    os.replace(new, path)


@contextlib.contextmanager
def _naming_target(path: pathlib.Path) -> Iterator[None]:
  """As `naming`; an error that names a temporary file beside `path` names `path` instead."""
  try:
    with naming(path):
      yield
  except OSError as error:
    if temporary.is_of(error.filename, path):
      error.filename = os.fspath(path)
    raise


def open_own(path: PathLike, mode: str, *, buffering: int = -1) -> IO[Any]:
  """Opens a file of ours that is written in place, such as a log: no link is followed.

  Args:
    path: of the file.
    mode, buffering: as of `open`.

  Raises:
    UserError: something else is there: a link, another name of a file elsewhere, or no file at all.
  """

  def opener(name: str, flags: int) -> int:
    try:
      descriptor = os.open(name, flags & ~os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    except OSError as error:
      if error.errno in (errno.ELOOP, errno.ENXIO):
        raise UserError(f'{path}: a link, or no plain file; remove it') from error
      raise
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode) and status.st_nlink == 1:
      if flags & os.O_TRUNC:  # only now that it is known to be ours
        os.ftruncate(descriptor, 0)
      return descriptor
    os.close(descriptor)
    raise UserError(f'{path}: a link, or no plain file; remove it')

  return open(path, mode, buffering, encoding=None if 'b' in mode else 'utf-8', opener=opener)


def is_inside(name: str) -> bool:
  """Returns whether a relative path stays below the folder that it is joined to: no root, no `..`, nothing odd."""
  parts = name.split('/')
  return not any(part in ('', '.', '..') or '\\' in part or '\0' in part for part in parts)


def expanded(path: str) -> str:
  """Returns a path that a person gave, with `~` and `~user` replaced by the home folder, as a shell does.

  Raises:
    UserError: there is no such home folder.
  """
  whole = os.path.expanduser(path)
  if whole.startswith('~'):
    raise UserError(f'{path}: no home folder is known for {path.split("/")[0]}; give the whole path')
  return whole


def write_text(path: PathLike, text: str) -> None:
  """Writes UTF-8 text, whole or not at all."""
  with replacing(path) as new:
    new.write_text(text, encoding='utf-8')


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
  with open(path, 'rb') as f:
    size = os.fstat(f.fileno()).st_size
    content = f.read(size) if size <= MAX_JSON else b''  # Python allocates what is asked for
  try:
    if size > MAX_JSON:
      raise ValueError(f'more than {MAX_JSON:,} bytes')
    value = json.loads(content.decode())
  except (ValueError, RecursionError) as error:  # brackets within brackets, thousands deep
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
