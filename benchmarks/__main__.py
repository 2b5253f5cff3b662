"""The command: `python -m benchmarks`, or some parts of it: `python -m benchmarks --only=peaks,sampling`.

Every part runs in a process of its own, so that memory is free and peaks are the part's own, and saves each of its
cases as soon as it is measured: a part that is cut short or run again merges into the same file.
"""

import argparse
import pathlib
import subprocess
import sys
import tempfile
import time

from benchmarks import PARTS, ROOT, tables
from fetal_jax.runtime import files


def parse(argv: list[str]) -> argparse.Namespace:
  """Flags of the command."""
  parser = argparse.ArgumentParser(prog='python -m benchmarks', description=__doc__, allow_abbrev=False)
  parser.add_argument(
    '--only', default=','.join(PARTS), help=f'parts, comma-separated (of {",".join(PARTS)})'
  )
  parser.add_argument(
    '--cases', default='', help='only cases whose name contains one of these, comma-separated'
  )
  parser.add_argument('--out', type=_path, help='folder of the results (default: benchmarks/results)')
  parser.add_argument(
    '--quick', action='store_true', help='tiny sizes, to see that it runs; the figures mean nothing'
  )
  parser.add_argument(
    '--minutes', type=float, default=8.5, help='a part starts no further case after so many (default: 8.5)'
  )
  parser.add_argument(
    '--peer_python',
    default=sys.executable,
    metavar='EXE',
    help='a Python that has PyTorch (default: this one)',
  )
  parser.add_argument(
    '--tables', action='store_true', help='measure nothing, write docs/performance.md again'
  )
  flags = parser.parse_args(argv)
  flags.only = [part for part in flags.only.split(',') if part]
  if unknown := set(flags.only) - set(PARTS):
    parser.error(f'--only={",".join(sorted(unknown))}: the parts are {", ".join(PARTS)}')
  return flags


def _path(text: str) -> pathlib.Path:
  return pathlib.Path(files.expanded(text))


def main(argv: list[str]) -> int:
  """Returns the exit code: 0, or 1 if a part ended badly."""
  flags = parse(argv)
  results = ROOT / 'benchmarks' / 'results'
  # Quick figures mean nothing, so they do not overwrite real ones unless told where to go.
  out = flags.out or (pathlib.Path(tempfile.mkdtemp(prefix='benchmarks_')) if flags.quick else results)
  failed = []
  for part in [] if flags.tables else flags.only:
    print(f'== {part}', flush=True)
    clock = time.monotonic()
    command = [
      sys.executable,
      '-m',
      'benchmarks.part',
      part,
      f'--out={out.resolve()}',
      f'--cases={flags.cases}',
    ]
    command += [f'--minutes={flags.minutes}', f'--peer_python={flags.peer_python}']
    command += ['--quick'] if flags.quick else []
    if subprocess.run(command, cwd=ROOT, check=False).returncode:
      failed.append(part)
    print(f'== {part}: {time.monotonic() - clock:.0f} s', flush=True)
  print(tables.markdown(out), flush=True)
  if out.resolve() == results:
    tables.write_docs(ROOT / 'docs' / 'performance.md', results)
  if failed:
    print(f'benchmarks: {", ".join(failed)} ended badly, see above', file=sys.stderr)
  return 1 if failed else 0


if __name__ == '__main__':
  sys.exit(main(sys.argv[1:]))
