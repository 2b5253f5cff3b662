"""The files of a folder that a person filled: every one of them, once."""

import os
import pathlib

from absl import logging

from fetal_jax.data.sources.table import CONTROL_CHARACTERS
from fetal_jax.runtime import files
from fetal_jax.runtime.errors import UserError


def is_hidden(name: str) -> bool:
  """Returns whether a program made a file or folder for itself: `.DS_Store`, `__MACOSX`, `._*`, `.ipynb_checkpoints`."""
  return name.startswith('.') or name == '__MACOSX'


def files_under(folder: files.PathLike) -> tuple[list[pathlib.Path], int]:
  """Lists all files under a folder, sorted, and counts those that are left out because they are hidden.

  Symbolic links are followed wherever they lead, since large data sets are often put together from links. What
  that may hide is refused: links that lead nowhere, and links through which something is there twice.

  Raises:
    UserError: such a link, a folder that cannot be read, something that is neither file nor folder, or a name
      that is not printable text.
  """

  def stop(error: OSError) -> None:
    raise UserError(
      f'{error.filename}: cannot be read ({error.strerror}); give yourself the permission, or remove it'
    ) from error

  found: list[pathlib.Path] = []
  hidden = links = 0
  of_real: dict[str, str] = {}  # where a file or folder really is -> as what it was found
  for above, folders, names in os.walk(folder, onerror=stop, followlinks=True):
    real = os.path.realpath(above)
    _only_once(above, real, of_real)
    links += sum(os.path.islink(os.path.join(above, name)) for name in folders if not is_hidden(name))
    folders[:] = [name for name in folders if not is_hidden(name)]
    for name in names:
      path = os.path.join(above, name)
      if is_hidden(name):
        hidden += 1
        continue
      check_name(os.path.relpath(path, folder), f'{folder}')
      if os.path.islink(path):
        links += 1
        if not os.path.exists(path):
          raise UserError(f'{path}: a link to {os.readlink(path)!r}, which is missing; mend or remove it')
      if not os.path.isfile(path):
        raise UserError(f'{path}: neither a file nor a folder; remove it')
      _only_once(path, os.path.realpath(path) if os.path.islink(path) else os.path.join(real, name), of_real)
      found.append(pathlib.Path(path))
  if links:
    logging.info('%s: %d symbolic links followed', folder, links)
  return sorted(found), hidden


def check_name(name: str, where: str) -> None:
  """Raises UserError if a name or path has characters that cannot be shown, or written as UTF-8."""
  try:
    name.encode()
    bad = CONTROL_CHARACTERS.search(name) is not None
  except UnicodeEncodeError:  # bytes of another encoding, which Python keeps as lone surrogates
    bad = True
  if bad:
    raise UserError(f'{where}: the name {name!r} has characters that are no text; rename it')


def _only_once(path: str, real: str, of_real: dict[str, str]) -> None:
  other = of_real.setdefault(real, path)
  if other != path:
    raise UserError(f'{path} and {other} are the same by a symbolic link; remove one of them')
