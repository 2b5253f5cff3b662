"""The files of a folder that a person filled: every one of them, once."""

import os
import pathlib

from absl import logging

from fetal_jax.data.problems import Problems
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

  problems = Problems(f'{folder}')
  once = _Once(problems)

  def stop(error: OSError) -> None:
    problems.add(
      f'{error.filename}', f'cannot be read ({error.strerror}); give yourself the permission, or remove it'
    )

  found: list[pathlib.Path] = []
  hidden = links = 0
  for above, folders, names in os.walk(folder, onerror=stop, followlinks=True):
    real = os.path.realpath(above)
    if not once.sees(above, real):
      folders.clear()  # a link to a folder above it would never end
      continue
    links += sum(os.path.islink(os.path.join(above, name)) for name in folders if not is_hidden(name))
    folders[:] = [name for name in folders if not is_hidden(name)]
    for name in names:
      path = os.path.join(above, name)
      if is_hidden(name):
        hidden += 1
      elif not is_text(inner := os.path.relpath(path, folder)):
        problems.add(f'{folder}: the name {inner!r} has characters that are no text', 'rename it')
      elif os.path.islink(path) and not os.path.exists(path):
        problems.add(path, f'a link to {os.readlink(path)!r}, which is missing; mend or remove it')
      elif not os.path.isfile(path):
        problems.add(path, 'neither a file nor a folder; remove it')
      elif once.sees(path, os.path.realpath(path) if os.path.islink(path) else os.path.join(real, name)):
        links += os.path.islink(path)
        found.append(pathlib.Path(path))
  problems.check()
  if links:
    logging.info('%s: %d symbolic links followed', folder, links)
  return sorted(found), hidden


class _Once:
  """Notes what is there twice, by symbolic links.

  Args:
    problems: where it is noted.
  """

  def __init__(self, problems: Problems) -> None:
    self._problems = problems
    self._of_real: dict[str, str] = {}  # where a file or folder really is -> as what it was found

  def sees(self, path: str, real: str) -> bool:
    """Returns whether what lies at `real` is new; if not, notes under which other name it was found."""
    other = self._of_real.setdefault(real, path)
    if other != path:
      self._problems.add(f'{path} and {other}', 'they are the same by a symbolic link; remove one of them')
    return other == path


def is_text(name: str) -> bool:
  """Returns whether a name or path has only characters that can be shown, and written as UTF-8."""
  try:
    name.encode()
  except UnicodeEncodeError:  # bytes of another encoding, which Python keeps as lone surrogates
    return False
  return CONTROL_CHARACTERS.search(name) is None


def check_name(name: str, where: str) -> None:
  """Raises UserError if a name or path has characters that cannot be shown, or written as UTF-8."""
  if not is_text(name):
    raise UserError(f'{where}: the name {name!r} has characters that are no text; rename it')
