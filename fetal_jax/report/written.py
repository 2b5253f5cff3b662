"""report/files.json: what the report wrote, so that damage to it is noticed, and only what it wrote is ever deleted."""

import hashlib
import pathlib
from collections.abc import Mapping

import msgspec
from absl import logging

from fetal_jax.runtime import files, records
from fetal_jax.runtime.errors import DamagedFile, UserError
from fetal_jax.runtime.fingerprint import Fingerprint

NAME = 'files.json'


class Written(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
  """The content of files.json.

  Attributes:
    files: path within the report -> its fingerprint.

  Raises:
    ValueError: a path leads out of the report.
  """

  files: dict[str, Fingerprint]

  def __post_init__(self) -> None:
    if strange := [name for name in self.files if not files.is_inside(name)]:
      raise ValueError(f'{strange[0]!r} is no file of a report')


def read(report: pathlib.Path) -> dict[str, Fingerprint]:
  """Returns what the report wrote; nothing where that is not known."""
  try:
    return records.read(report / NAME, Written).files
  except (FileNotFoundError, NotADirectoryError, DamagedFile):
    return {}


def is_whole(report: pathlib.Path) -> bool:
  """Returns whether every file of the report is as it was written."""
  before = read(report)
  for name, fingerprint in before.items():
    if damage := fingerprint.damage(report / name):
      logging.warning('%s: %s; the report is written again', report / name, damage)
      return False
  return bool(before)


def replace(report: pathlib.Path, contents: Mapping[str, bytes]) -> None:
  """Writes the files of a report, in order, and deletes those of the report before that are not among them.

  What an earlier report showed and this one does not must go: it may be images that are not to be published. A file that
  somebody else put there stays, and so does one that was changed since.

  Args:
    report: its folder.
    contents: path within it -> bytes.

  Raises:
    UserError: the folder, or one in it that the report writes to, is a link.
  """
  before = read(report)
  now = {
    name: Fingerprint(bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
    for name, data in contents.items()
  }
  for folder in {report, *((report / name).parent for name in (*before, *now))}:
    if folder.is_symlink():
      raise UserError(f'{folder}: a link; remove it, since the report writes and deletes files there')
  # Noted before they are written: a report that is killed here must not leave images that no later one knows of.
  records.write(report / NAME, Written(files={**before, **now}))
  for name, data in contents.items():
    with files.replacing(report / name) as new:
      new.write_bytes(data)
  for name in before.keys() - now.keys():
    _delete(report / name, before[name])
  records.write(report / NAME, Written(files=now))


def _delete(path: pathlib.Path, fingerprint: Fingerprint) -> None:
  """Deletes a file of an earlier report, unless it is no longer that."""
  if path.is_symlink() or fingerprint.damage(path):
    if path.is_symlink() or path.exists():
      logging.warning('%s: left there; it is not what an earlier report wrote', path)
  else:
    path.unlink()
