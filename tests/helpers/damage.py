"""Ways to damage a file, for tests."""

import os
import pathlib


def flip(path: pathlib.Path) -> None:
  """One bit in the middle."""
  data = bytearray(path.read_bytes())
  data[len(data) // 2] ^= 1
  path.write_bytes(data)


def cut(path: pathlib.Path) -> None:
  """The second half is gone."""
  os.truncate(path, path.stat().st_size // 2)


def empty(path: pathlib.Path) -> None:
  """All bytes are gone."""
  os.truncate(path, 0)


def delete(path: pathlib.Path) -> None:
  """All of it is gone."""
  path.unlink()


KINDS = (flip, cut, empty, delete)
