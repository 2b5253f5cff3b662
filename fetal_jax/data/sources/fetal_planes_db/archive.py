"""FETAL_PLANES_DB as it lies on disk: a zip file, or a folder, with the CSV and the images somewhere inside."""

import contextlib
import pathlib
import re
import stat
import zipfile
import zlib
from collections.abc import Iterator
from typing import BinaryIO, cast

from fetal_jax.data import decode
from fetal_jax.data.problems import Problems
from fetal_jax.data.records import Records
from fetal_jax.data.sources import table, walk
from fetal_jax.data.sources.encode import EXTENSIONS
from fetal_jax.data.sources.fetal_planes_db.metadata import CSV_NAME, parse_metadata
from fetal_jax.runtime import files, zips
from fetal_jax.runtime.errors import UserError

# PNGs are compressed already: the published archive is as large as what is in it. A zip whose files claim this many
# times its size was made to fill a memory or a disk.
MAX_RATIO = 100
MAX_CONTENTS = 16 * 2**20  # of the table of contents, in bytes; the published archive's has 1.5 MB

# What Python's zipfile raises on bytes that are no zip, or not all of one.
DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError)

_ENCRYPTED = 0x1
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # the others unpack without a limit to memory
_OUTSIDE = re.compile(r'$|/|[A-Za-z]:|(.*/)?\.\.(/|$)')


class Archive:
  """The files of a zip or a folder, read in place: nothing is ever unpacked to a path that the zip names.

  The CSV and the images are found by their base names, however deep they lie; hidden files and what macOS adds
  (`._*`, `__MACOSX`) are passed over.

  Attributes:
    records: the CSV's rows, in its order.
    images: image name without extension -> member of the zip, or path under the folder.
    files: how many there are.
    left_out: why -> how many of them are of no use here.
  """

  def __init__(self, path: pathlib.Path, members: list[str], hidden: int, zip_file: zipfile.ZipFile | None):
    self._path = path
    self._zip = zip_file
    self._infos = {_plain(info.filename): info for info in zip_file.infolist()} if zip_file else {}
    tables = [member for member in members if pathlib.PurePosixPath(member).name == CSV_NAME]
    if len(tables) != 1:
      found = 'no' if not tables else f'{len(tables)} files'
      raise UserError(f'{path}: {found} {CSV_NAME} inside; give a zip or a folder with one, as published')
    self._check([tables[0]])
    with self._opened(tables[0], table.MAX_BYTES) as f:
      self.records: Records = parse_metadata(f, f'{path}: {tables[0]}')
    known = set(self.records.names.tolist())
    self.images: dict[str, str] = {}
    unlisted = 0
    twice = Problems(f'{path}', '; ')
    for member in members:
      base = pathlib.PurePosixPath(member)
      if base.suffix.lower() not in EXTENSIONS:
        continue
      if base.stem not in known:
        unlisted += 1
        continue
      if base.stem in self.images:
        twice.add(
          f'{path}: image {base.stem} is there twice ({self.images[base.stem]}, {member})', 'keep one of them'
        )
      self.images[base.stem] = member
    twice.check()
    self._check([tables[0], *self.images.values()])
    self.files = len(members) + hidden
    others = len(members) - 1 - len(self.images) - unlisted
    left_out = {'images without a row': unlisted, 'hidden files': hidden, 'other files': others}
    self.left_out = {why: count for why, count in left_out.items() if count}

  def read(self, member: str, limit: int = decode.MAX_BYTES) -> bytes:
    """Reads a member; UserError, naming it, if it is damaged or has more than `limit` bytes."""
    with self._opened(member, limit) as f:
      return f.read(self._size(member) + 1)  # without a limit it unpacks first, and then looks at the size

  def _size(self, member: str) -> int:
    return self._infos[member].file_size if self._zip else (self._path / member).stat().st_size

  @contextlib.contextmanager
  def _opened(self, member: str, limit: int) -> Iterator[BinaryIO]:
    """Opens a member; UserError, naming it, if it is damaged or has more than `limit` bytes."""
    try:
      if (size := self._size(member)) > limit:
        raise UserError(
          f'{self._path}: {member} has {size:,} bytes, over the limit of {limit:,}; get a new copy'
        )
      with self._zip.open(self._infos[member]) if self._zip else open(self._path / member, 'rb') as f:
        yield cast(BinaryIO, f)
    except UserError:
      raise
    except DAMAGED as error:
      raise UserError(f'{self._path}: {member} cannot be read ({error}); get a new copy of it') from error

  def _check(self, members: list[str]) -> None:
    """Refuses members of a zip that cannot be read, or had better not be."""
    if not self._zip:
      return
    for member in members:
      info = self._infos[member]
      if info.flag_bits & _ENCRYPTED:
        raise UserError(f'{self._path}: {member} is encrypted; unpack the zip, and give the folder')
      if info.compress_type not in _METHODS:
        raise UserError(
          f'{self._path}: {member} is compressed in a way that is not read here; pack it again as a plain zip'
        )
      if stat.S_ISLNK(info.external_attr >> 16):
        raise UserError(f'{self._path}: {member} is a symbolic link; pack the file itself')
    size, total = self._path.stat().st_size, sum(self._infos[member].file_size for member in members)
    if total > MAX_RATIO * size:
      raise UserError(
        f'{self._path}: {size:,} bytes that claim to unpack to {total:,}, as no archive of images does; '
        'get a new copy of it'
      )


@contextlib.contextmanager
def open_archive(path: files.PathLike) -> Iterator[Archive]:
  """Opens a zip file or a folder of FETAL_PLANES_DB.

  Raises:
    UserError: nothing is there, it is no whole zip, or its layout or CSV is not as it must be.
  """
  path = pathlib.Path(path)
  if path.is_dir():
    paths, hidden = walk.files_under(path)
    yield Archive(path, [p.relative_to(path).as_posix() for p in paths], hidden, None)
    return
  if not path.is_file():
    raise UserError(
      f'{path}: no such zip or folder; set --config.data.path to one, or leave it empty to download'
    )
  with contextlib.ExitStack() as stack:
    try:
      zip_file = stack.enter_context(zips.open_zip(stack.enter_context(open(path, 'rb')), MAX_CONTENTS))
    except UserError as error:
      raise UserError(f'{path}: {error}') from error
    except DAMAGED as error:
      raise UserError(f'{path}: not a whole zip file ({error}); copy or download it again') from error
    members, hidden = _members(zip_file, path)
    yield Archive(path, members, hidden, zip_file)


def _members(zip_file: zipfile.ZipFile, path: pathlib.Path) -> tuple[list[str], int]:
  """Lists the files of a zip, and counts the hidden ones; UserError if a name is there twice, or leads elsewhere."""
  names: dict[str, None] = {}
  for name in (_plain(info.filename) for info in zip_file.infolist()):
    if name.endswith('/'):
      continue  # a folder
    walk.check_name(name, f'{path}')
    if name in names:
      raise UserError(f'{path}: {name} is there twice; pack it again, with one of them')
    if _OUTSIDE.match(name):
      raise UserError(f'{path}: {name!r} inside is no path within an archive; get a new copy of it')
    names[name] = None
  members = [name for name in names if not any(map(walk.is_hidden, pathlib.PurePosixPath(name).parts))]
  return members, len(names) - len(members)


def _plain(name: str) -> str:
  """Returns a member's name with '/' between its parts; some zip programs on Windows write '\\'."""
  return name.replace('\\', '/')
