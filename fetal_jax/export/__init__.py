"""Synthetic images for other tools, in the layouts that these read."""

import contextlib
import os
import pathlib
import shutil
from collections.abc import Iterator, Sequence

from fetal_jax.runtime import files
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
    UserError: nothing to export, an unknown round or class, a damaged shard, or `out` is taken or not writable.
  """
  if format not in FORMATS:
    raise UserError(f'format is {format!r}: choose one of {", ".join(FORMATS)}')
  if rgb and format != 'npz':
    raise UserError(f'--rgb goes with --format=npz; {format} holds the images as they were drawn')
  _check_free(pathlib.Path(out), format)

  from fetal_jax.export import formats, select

  selection = select.select(workdir, rounds=rounds, classes=classes, limit_per_class=limit_per_class)
  try:
    if format == 'npz':
      with files.replacing(out) as file:
        formats.write_npz(selection, file, rgb=rgb)
    else:
      write = {'png': formats.write_png, 'imagefolder': formats.write_imagefolder}[format]
      with _replacing_folder(pathlib.Path(out)) as folder:
        write(selection, folder)
  except OSError as error:
    raise UserError(f'{out}: cannot be written ({error}); make room or choose another --out') from error
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


@contextlib.contextmanager
def _replacing_folder(out: pathlib.Path) -> Iterator[pathlib.Path]:
  """Yields a new folder beside `out`, and moves it there if the block ends well: `files.replacing` for a folder."""
  out = out.resolve()  # beside what a link points to, hence on the same disk
  temporary = out.with_name(f'.{out.name}.tmp')
  shutil.rmtree(temporary, ignore_errors=True)  # of a killed export
  temporary.mkdir(parents=True)
  try:
    yield temporary
    os.replace(temporary, out)  # takes the place of an empty folder, and of nothing else
  finally:
    shutil.rmtree(temporary, ignore_errors=True)
