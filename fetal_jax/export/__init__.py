"""Synthetic images for other tools: `python -m fetal_jax.export --workdir=runs/demo --format=png --out=planes`."""

import argparse
import contextlib
import logging as python_logging
import os
import pathlib
import shutil
import sys
from collections.abc import Iterator, Sequence

from absl import logging

from fetal_jax.runtime import exits, files
from fetal_jax.runtime.errors import UserError

FORMATS = {
  'png': "FETAL_PLANES_DB's own layout: Images/<name>.png and FETAL_PLANES_DB_data.csv",
  'imagefolder': "Hugging Face's: train/<class>/<name>.png, train/metadata.csv and a dataset card",
  'npz': 'one file: arr_0 (images), arr_1 (labels), names, rounds, indices, class_names, manifest',
}

_HELP = """\
Copies finished synthetic rounds of a workdir into a layout that other tools read, whole or not at all.
PNG files are bit for bit what was drawn.
"""


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
    out: a folder that is absent or empty; for npz an absent file.
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
      raise UserError(f'{out}: is there already; delete it or choose another --out')
  elif out.exists() and (not out.is_dir() or any(out.iterdir())):
    what = 'not empty' if out.is_dir() else 'a file'
    raise UserError(f'{out}: is {what}; delete it or choose another --out')


@contextlib.contextmanager
def _replacing_folder(out: pathlib.Path) -> Iterator[pathlib.Path]:
  """`files.replacing` for a folder: yields a new one beside `out`, moved there if the block ends well."""
  out = out.resolve()  # beside what a link points to, hence on the same disk
  temporary = out.with_name(f'.{out.name}.tmp')
  shutil.rmtree(temporary, ignore_errors=True)  # of a killed export
  temporary.mkdir(parents=True)
  try:
    yield temporary
    os.replace(temporary, out)  # takes the place of an empty folder, and of nothing else
  finally:
    shutil.rmtree(temporary, ignore_errors=True)


def parse(argv: list[str]) -> argparse.Namespace:
  """The flags.

  Raises:
    UserError: a value that cannot be.
  """
  parser = argparse.ArgumentParser(
    prog='python -m fetal_jax.export',
    description=_HELP,
    epilog='formats:\n' + '\n'.join(f'  {name:<13}{text}' for name, text in FORMATS.items()),
    formatter_class=argparse.RawDescriptionHelpFormatter,
    allow_abbrev=False,
  )
  parser.add_argument('--workdir', required=True, metavar='DIR', help='of a run whose sample stage is done')
  parser.add_argument('--format', required=True, choices=tuple(FORMATS), help='the layout, see below')
  parser.add_argument(
    '--out', required=True, metavar='PATH', help='a new or empty folder; for npz a new file'
  )
  parser.add_argument('--rounds', metavar='1,2', help='which rounds; default: all that are finished')
  parser.add_argument('--classes', metavar='A,B', help='which classes; default: all')
  parser.add_argument('--limit_per_class', metavar='N', help='at most so many images of a class')
  parser.add_argument('--rgb', action='store_true', help='npz: three channels, for evaluation suites')
  flags = parser.parse_args(argv)
  if flags.rounds is not None:
    flags.rounds = [_integer('--rounds', text) for text in flags.rounds.split(',')]
  if flags.classes is not None:
    flags.classes = flags.classes.split(',')
  if flags.limit_per_class is not None:
    flags.limit_per_class = _integer('--limit_per_class', flags.limit_per_class)
  return flags


def _integer(flag: str, text: str) -> int:
  try:
    return int(text)
  except ValueError:
    raise UserError(f'{flag}: {text!r} is not a number; write such as {flag}=1') from None


def _start_logging() -> None:
  """This project's lines go to stderr, and everybody's errors."""
  package = str(pathlib.Path(__file__).resolve().parent)

  def worth_reading(record: python_logging.LogRecord) -> bool:
    return record.levelno >= python_logging.ERROR or record.pathname.startswith(package)

  handler = python_logging.StreamHandler(sys.stderr)
  handler.addFilter(worth_reading)
  handler.setFormatter(python_logging.Formatter('%(asctime)s %(message)s', '%H:%M:%S'))
  python_logging.basicConfig(level=python_logging.INFO, handlers=[handler], force=True)
  logging.set_verbosity(logging.INFO)


def main(argv: list[str]) -> int:
  """Returns the exit code, see `fetal_jax.runtime.exits`."""

  def command() -> None:
    flags = vars(parse(argv))
    _start_logging()
    count = export(flags.pop('workdir'), flags.pop('out'), **flags)
    logging.info('export: %d images.', count)

  return exits.exit_code(command, then='nothing was exported')
