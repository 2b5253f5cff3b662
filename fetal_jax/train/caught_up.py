"""diffusion/caught_up.json: that what was due at the last step was done by a later start.

The checkpoint of a step says so where its log line, evaluation and previews are still due (`loop.Account`). Later
checkpoints say otherwise; after the last step there is none, so this file does.
"""

import pathlib

import jax
import msgspec

from fetal_jax.runtime import records
from fetal_jax.runtime.files import PathLike

NAME = 'diffusion/caught_up.json'


class CaughtUp(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
  """The step at which nothing is due any more."""

  step: int


def write(workdir: PathLike, step: int) -> None:
  """Writes that nothing is due at `step`; only the first process writes."""
  if jax.process_index() == 0:
    records.write(pathlib.Path(workdir) / NAME, CaughtUp(step=step))


def has(workdir: PathLike, step: int) -> bool:
  """Returns whether nothing is due at `step`, says the file; false where it is missing.

  Raises:
    DamagedFile: the file is not what was written.
  """
  path = pathlib.Path(workdir) / NAME
  try:
    return (
      records.read(path, CaughtUp, remedy='delete it: evaluation and previews are done again').step == step
    )
  except FileNotFoundError:
    return False


def forget(workdir: PathLike) -> None:
  """Removes the file, before the step is trained again."""
  if jax.process_index() == 0:
    (pathlib.Path(workdir) / NAME).unlink(missing_ok=True)
