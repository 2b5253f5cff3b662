"""The command `python -m fetal_jax.export --workdir=runs/demo --format=png --out=planes`."""

import argparse
import logging as python_logging
import pathlib
import sys

from absl import logging

from fetal_jax.export import FORMATS, export
from fetal_jax.runtime import exits
from fetal_jax.runtime.errors import UserError

_HELP = """\
Copies finished synthetic rounds of a workdir into a layout that other tools read, whole or not at all.
PNG files are bit for bit what was drawn.
"""


def parse(argv: list[str]) -> argparse.Namespace:
  """Reads the flags.

  Raises:
    UserError: a value makes no sense.
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
  """Sends this project's lines to stderr, and the errors of all."""
  package = str(pathlib.Path(__file__).resolve().parents[1])

  def worth_reading(record: python_logging.LogRecord) -> bool:
    return record.levelno >= python_logging.ERROR or record.pathname.startswith(package)

  handler = python_logging.StreamHandler(sys.stderr)
  handler.addFilter(worth_reading)
  handler.setFormatter(python_logging.Formatter('%(asctime)s %(message)s', '%H:%M:%S'))
  python_logging.basicConfig(level=python_logging.INFO, handlers=[handler], force=True)
  logging.set_verbosity(logging.INFO)


def main(argv: list[str]) -> int:
  """Runs the command; returns its exit code, see `fetal_jax.runtime.exits`."""

  def command() -> None:
    flags = vars(parse(argv))
    _start_logging()
    count = export(flags.pop('workdir'), flags.pop('out'), **flags)
    logging.info('export: %d images.', count)

  return exits.exit_code(command, then='nothing was exported')


if __name__ == '__main__':
  sys.exit(main(sys.argv[1:]))
