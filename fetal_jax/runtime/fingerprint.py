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
    return files.damage(path, {'bytes': self.bytes, 'sha256': self.sha256})
