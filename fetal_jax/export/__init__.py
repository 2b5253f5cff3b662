"""Synthetic images for other tools, in the layouts that these read."""

import pathlib
from collections.abc import Sequence

from fetal_jax.runtime import exits, files
from fetal_jax.runtime.errors import UserError

# Name -> what it holds, for people.
FORMATS = {
  'png': "FETAL_PLANES_DB's own layout: Images/<name>.png and FETAL_PLANES_DB_data.csv",
  'imagefolder': "Hugging Face's: train/<class>/<name>.png, train/metadata.csv and a dataset card",
  'npz': 'one file: arr_0 (images), arr_1 (labels), names, rounds, indices, class_names, manifest',
}


def export(
  workdir: files.PathLike,
  out: files.PathLike,
  *,
  format: str,
  rounds: Sequence[int] | None = None,
  classes: Sequence[str] | None = None,
  limit_per_class: int | None = None,
  rgb: bool = False,
) -> int:
  """Writes finished rounds to `out`, under a temporary name beside it until all is there.

  Nothing that was there is touched, whatever it is called, and whenever it came there.

  Args:
    workdir: of a run whose sample stage is done.
    out: a folder that is missing or empty; for npz a missing file.
    format: one of `FORMATS`; `fetal_jax/export/formats.py` says what each holds.
    rounds: numbers of rounds; None takes all that are finished.
    classes: names of classes; None takes all. Labels stay what they are.
    limit_per_class: takes the first so many images of every class, over all rounds together.
    rgb: for npz, three equal channels of a grey image.

  Returns:
    The number of images.

  Raises:
    UserError: nothing to export, an unknown round or class, a damaged shard, or `out` is taken or not writable, or
      another process is writing it.
  """
  if format not in FORMATS:
    raise UserError(f'format is {format!r}: choose one of {", ".join(FORMATS)}')
  if rgb and format != 'npz':
    raise UserError(f'--rgb goes with --format=npz; {format} holds the images as they were drawn')
  out = pathlib.Path(files.expanded(str(out)))
  workdir = files.expanded(str(workdir))
  _check_free(out, format)

  from fetal_jax.export import formats, select

  selection = select.select(workdir, rounds=rounds, classes=classes, limit_per_class=limit_per_class)
  try:
    if format == 'npz':
      with files.replacing(out, alone=True) as file:
        formats.write_npz(selection, file, rgb=rgb)
        _check_free(out, format)
    else:
      write = {'png': formats.write_png, 'imagefolder': formats.write_imagefolder}[format]
      with files.replacing_folder(out) as folder:
        write(selection, folder)
        _check_free(out, format)
  except OSError as error:
    reason = exits.refused_by_disk(error, lambda: out) or f'{out}: cannot be written ({error.strerror})'
    raise UserError(f'{reason}; or choose another --out') from error
  return len(selection)


def _check_free(out: pathlib.Path, format: str) -> None:
  """Refuses an `out` that something else has taken."""
  if format == 'npz':
    if out.suffix != '.npz':
      raise UserError(f'{out}: npz is one file; end its name in .npz')
    if out.exists():
      raise UserError(f'{out}: exists; delete it or choose another --out')
  elif out.exists() and (not out.is_dir() or any(out.iterdir())):
    what = 'not empty' if out.is_dir() else 'a file'
    raise UserError(f'{out}: is {what}; delete it or choose another --out')
