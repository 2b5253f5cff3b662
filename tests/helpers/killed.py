"""What a process that was killed leaves behind."""

import pathlib

from fetal_jax.runtime import temporary


def left_behind(target: pathlib.Path, *, folder: bool = False) -> pathlib.Path:
  """Makes a temporary file or folder of `target` that no process holds."""
  target.parent.mkdir(parents=True, exist_ok=True)
  path = target.with_name(temporary._name(target.name))
  if folder:
    path.mkdir()
  else:
    path.write_bytes(b'half')
  return path
