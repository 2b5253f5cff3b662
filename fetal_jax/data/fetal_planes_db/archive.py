"""FETAL_PLANES_DB as it lies on disk: a zip file, or a folder, with the CSV and the images somewhere inside."""

import contextlib
import os
import pathlib
import zipfile
import zlib
from collections.abc import Iterator

from fetal_jax import files
from fetal_jax.data.fetal_planes_db.metadata import CSV_NAME, parse_metadata
from fetal_jax.data.records import Records
from fetal_jax.errors import UserError


class Archive:
  """The files of a zip or a folder, read in place.

  The CSV and the images are found by their base names, however deep they lie; what macOS adds (`._*`,
  `__MACOSX`) is passed over.

  Attributes:
    records: the CSV's rows, in its order.
    images: image name without extension -> member of the zip, or path under the folder.
  """

  def __init__(self, path: pathlib.Path, members: list[str], zip_file: zipfile.ZipFile | None):
    self._path = path
    self._zip = zip_file
    members = [member for member in members if _is_content(member)]
    tables = [member for member in members if pathlib.PurePosixPath(member).name == CSV_NAME]
    if len(tables) != 1:
      found = 'no' if not tables else f'{len(tables)} files'
      raise UserError(f'{path}: {found} {CSV_NAME} inside; give a zip or a folder with one, as published')
    self.records: Records = parse_metadata(self.read(tables[0]), f'{path}: {tables[0]}')
    known = set(self.records.names.tolist())
    self.images: dict[str, str] = {}
    for member in members:
      base = pathlib.PurePosixPath(member)
      if base.suffix.lower() != '.png' or base.stem not in known:
        continue
      if base.stem in self.images:
        raise UserError(
          f'{path}: image {base.stem} is there twice ({self.images[base.stem]}, {member}); keep one of them'
        )
      self.images[base.stem] = member

  def read(self, member: str) -> bytes:
    """The bytes of a member; UserError, naming it, if they are damaged."""
    try:
      return self._zip.read(member) if self._zip else (self._path / member).read_bytes()
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError) as error:
      raise UserError(f'{self._path}: {member} cannot be read ({error}); get a new copy of it') from error


@contextlib.contextmanager
def open_archive(path: files.PathLike) -> Iterator[Archive]:
  """Opens a zip file or a folder of FETAL_PLANES_DB.

  Raises:
    UserError: nothing is there, it is no whole zip, or its layout or CSV is not as it must be.
  """
  path = pathlib.Path(path)
  if path.is_dir():
    paths = (pathlib.Path(folder, name) for folder, _, names in os.walk(path) for name in names)
    yield Archive(path, sorted(p.relative_to(path).as_posix() for p in paths), None)
    return
  if not path.exists():
    raise UserError(
      f'{path}: no such zip or folder; set --config.data.path to one, or leave it empty to download'
    )
  try:
    zip_file = zipfile.ZipFile(path)
  except (zipfile.BadZipFile, OSError) as error:
    raise UserError(f'{path}: not a whole zip file ({error}); copy or download it again') from error
  with zip_file:
    yield Archive(path, [info.filename for info in zip_file.infolist() if not info.is_dir()], zip_file)


def _is_content(member: str) -> bool:
  parts = pathlib.PurePosixPath(member).parts
  return '__MACOSX' not in parts and not parts[-1].startswith('._')
