"""Temporary files and folders beside what they will become: nobody can guess their names, and only ours are removed.

A name has a random part, and a check of the rest, which no other program's file has by chance. Whoever writes holds a
lock, so what a killed process left is told from what another process is writing this moment.
"""

import contextlib
import errno
import fcntl
import hashlib
import os
import pathlib
import re
import secrets
import shutil
from collections.abc import Iterator

from fetal_jax.runtime.errors import UserError

_NAME = re.compile(r'\.(.+)\.([0-9a-f]{16})-([0-9a-f]{8})\.tmp', re.DOTALL)
# Bytes of a target's name that go into that of its temporary file; file systems take 255 in all.
_LONGEST = 200


@contextlib.contextmanager
def beside(target: pathlib.Path, *, folder: bool = False, alone: bool = False) -> Iterator[pathlib.Path]:
  """Makes a temporary file, or a folder, beside `target`; removes it at the end if it is still there.

  What killed processes left of the same target is removed first.

  Args:
    target: what it will become; its folder exists.
    folder: whether it is a folder.
    alone: whether no other process may be writing the same target.

  Raises:
    UserError: `alone`, and another process is writing it.
  """
  path, descriptor = _make(target, folder=folder)
  try:
    remove_left_behind(target.parent, of=target, but=path)
    if alone and any(other != path for other in _of(target.parent, target)):
      raise UserError(f'{target}: another process is writing it; wait for that, or choose another place')
    yield path
  finally:
    _remove(path)
    os.close(descriptor)


def _make(target: pathlib.Path, *, folder: bool) -> tuple[pathlib.Path, int]:
  """Makes a file or folder with a name that is free, and locks it; returns its path and its descriptor."""
  while True:
    path = target.with_name(_name(target.name))
    if folder:
      path.mkdir()
      descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    else:
      descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666)
    locked = _lock(descriptor)
    with contextlib.suppress(FileNotFoundError):
      if locked is not False and os.path.samestat(os.fstat(descriptor), os.lstat(path)):
        return path, descriptor
    os.close(descriptor)  # another process took it for one that was left behind, before it was locked


def remove_left_behind(
  folder: pathlib.Path, *, of: pathlib.Path | None = None, but: pathlib.Path | None = None
) -> None:
  """Removes our temporary files and folders in `folder` that no process holds.

  Args:
    folder: is not searched deeper.
    of: only those of this target.
    but: not this one.
  """
  for path in _of(folder, of):
    if path == but or not _is_own(path):
      continue
    with contextlib.suppress(OSError):
      descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
      try:
        if _lock(descriptor):
          _remove(path)
      finally:
        os.close(descriptor)


def _of(folder: pathlib.Path, target: pathlib.Path | None) -> list[pathlib.Path]:
  """Lists our temporary files in a folder, of one target or of all."""
  with os.scandir(folder) as entries:
    names = [entry.name for entry in entries if entry.name.endswith('.tmp')]
  label = target and _label(target.name)
  return [folder / name for name in names if (whose := _target(name)) and label in (None, whose)]


def is_of(path: object, target: pathlib.Path) -> bool:
  """Returns whether a path is that of a temporary file of `target`, or within its temporary folder."""
  if not isinstance(path, str | os.PathLike):
    return False
  beside = pathlib.Path(path)
  return any(
    part.parent == target.parent and _target(part.name) == _label(target.name)
    for part in (beside, *beside.parents)
  )


def _is_own(path: pathlib.Path) -> bool:
  """Returns whether it is a file or folder of this user, and no link."""
  with contextlib.suppress(FileNotFoundError):
    return not path.is_symlink() and path.lstat().st_uid == os.geteuid()
  return False


def _name(target: str) -> str:
  label, chance = _label(target), secrets.token_hex(8)
  return f'.{label}.{chance}-{_check(label, chance)}.tmp'


def _label(target: str) -> str:
  return target if len(os.fsencode(target)) <= _LONGEST else hashlib.sha256(os.fsencode(target)).hexdigest()


def _target(name: str) -> str | None:
  """Returns the target of one of our temporary names; None if the name is not ours."""
  match = _NAME.fullmatch(name)
  return match[1] if match and _check(match[1], match[2]) == match[3] else None


def _check(label: str, chance: str) -> str:
  return hashlib.sha256(os.fsencode(f'fetal_jax {label} {chance}')).hexdigest()[:8]


def _lock(descriptor: int) -> bool | None:
  """Locks an open file for this process: whether it could; None on a file system without such locks."""
  try:
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except OSError as error:
    return False if error.errno in (errno.EAGAIN, errno.EACCES) else None
  return True


def _remove(path: pathlib.Path) -> None:
  """Removes a file, a link, or a folder with all in it; links in it are not followed."""
  if path.is_dir() and not path.is_symlink():
    shutil.rmtree(path, ignore_errors=True)
  else:
    path.unlink(missing_ok=True)
