"""Size and hash of a file, kept in a record, to notice later that the file has changed."""

import os

import msgspec

from fetal_jax.runtime import files


class Fingerprint(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
  """What a file was when it was written.

  Attributes:
    bytes: its size.
    sha256: of its content, as hex.
  """

  bytes: int
  sha256: str

  @classmethod
  def of(cls, path: files.PathLike) -> 'Fingerprint':
    """Returns the fingerprint of a file as it is now."""
    return Fingerprint(bytes=os.stat(path).st_size, sha256=files.sha256(path))

  def damage(self, path: files.PathLike) -> str | None:
    """Compares a file with this fingerprint; returns in words what is wrong, None if nothing is."""
    return damage(path, self.sha256, size=self.bytes)


def damage(path: files.PathLike, sha256: str, *, size: int | None = None) -> str | None:
  """Compares a file with its hash, and first with its size in bytes; returns in words what is wrong, or None."""
  try:
    found = os.stat(path).st_size
    if size not in (None, found):
      return f'has {found:,} of {size:,} bytes'
    return None if files.sha256(path) == sha256 else 'is not what was written'
  except FileNotFoundError:
    return 'is missing'
  except OSError as error:  # such as a disk that cannot read it any more
    return f'cannot be read ({error.strerror})'
