"""What lay in a source when it was read, by which it is noticed that the source has changed since."""

import hashlib
import os
import pathlib
from collections.abc import Iterator

import msgspec

from fetal_jax.data.sources import walk
from fetal_jax.data.sources.encode import EXTENSIONS
from fetal_jax.runtime import files

_MOST = 5  # changes that are named
_TAIL = 1 << 22  # bytes at the end of a zip: its table of contents, with names, sizes and checksums


class Folder(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
  """The files of one folder, or one archive: how many, and a hash of their names and sizes."""

  files: int
  sha256: str


class Listing(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
  """What lay in a source.

  Attributes:
    tables: path of a table -> SHA-256 of its bytes.
    folders: path of a folder or an archive -> what was in it.
  """

  tables: dict[str, str]
  folders: dict[str, Folder]

  def changes(self, now: 'Listing') -> str:
    """Says what is different now; '' if nothing is. A table that is not there any more does not count."""
    said = [
      f'{name} has another content'
      for name, sha256 in self.tables.items()
      if now.tables.get(name, sha256) != sha256
    ]
    for name in sorted(self.folders.keys() | now.folders.keys()):
      before, after = self.folders.get(name), now.folders.get(name)
      counts = [folder.files if folder else 0 for folder in (before, after)]
      if counts[0] != counts[1]:
        said.append(f'{name} has {counts[1]:,} files, {counts[0]:,} then')
      elif before != after:
        said.append(f'{name} has other files')
    more = len(said) - _MOST
    return ', '.join([*said[:_MOST], *([f'and {more} more'] if more > 0 else [])])


def of(path: files.PathLike, *tables: files.PathLike, table_inside: str = '') -> Listing | None:
  """Lists the images under a folder, or an archive, and the tables with it.

  Args:
    path: of the folder or the archive.
    *tables: files whose content counts; those that are missing are left out.
    table_inside: name of files under the folder whose content counts.

  Returns:
    The listing; None where nothing is there, or it cannot be read.
  """
  path = pathlib.Path(path)
  try:
    if path.is_dir():
      folders = {name: _folder(lines) for name, lines in _lines(path, table_inside)}
    else:
      folders = {str(path): _archive(path)}
    contents = {str(table): files.sha256(table) for table in tables if os.path.isfile(table)}
  except OSError:
    return None
  return Listing(tables=contents, folders=folders)


def _lines(path: pathlib.Path, table: str) -> Iterator[tuple[str, list[str]]]:
  """Yields each folder that has images or a table, with a line on each; links are followed, hidden files passed over."""
  seen = set()
  for above, folders, names in os.walk(path, followlinks=True):
    if (real := os.path.realpath(above)) in seen:
      folders.clear()  # a link to a folder above it would never end
      continue
    seen.add(real)
    folders[:] = [name for name in folders if not walk.is_hidden(name)]
    lines = [
      f'{name} {files.sha256(os.path.join(above, name)) if name == table else _size(os.path.join(above, name))}'
      for name in sorted(names)
      if name == table or (name.lower().endswith(EXTENSIONS) and not walk.is_hidden(name))
    ]
    if lines:
      yield above, lines


def _size(path: str) -> int | None:
  """Returns the size of a file; None of a link that leads nowhere."""
  try:
    return os.stat(path).st_size
  except OSError:
    return None


def _folder(lines: list[str]) -> Folder:
  content = '\n'.join(lines).encode(errors='surrogateescape')
  return Folder(files=len(lines), sha256=hashlib.sha256(content).hexdigest())


def _archive(path: pathlib.Path) -> Folder:
  """Returns what tells one archive from another, without reading all of it."""
  size = path.stat().st_size
  with open(path, 'rb') as f:
    f.seek(max(0, size - _TAIL))
    return Folder(files=1, sha256=hashlib.sha256(f'{size} '.encode() + f.read()).hexdigest())
