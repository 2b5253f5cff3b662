"""One part of the benchmark in a process of its own: `python -m benchmarks.part scan --out=... `."""

import argparse
import dataclasses
import datetime
import importlib
import os
import pathlib
import sys
import time
from collections.abc import Callable
from typing import Any

# PyTorch runs on the same accelerator, in another process: take memory as it is needed.
os.environ.setdefault('XLA_PYTHON_CLIENT_PREALLOCATE', 'false')

import jax

from benchmarks import machine, sizes
from benchmarks.peer import Peer
from fetal_jax.runtime import devices
from fetal_jax.runtime.files import read_json, write_json


@dataclasses.dataclass
class Context:
  """Everything that a part is given: sizes, the peer, and where results go.

  Attributes:
    size: what to measure on this machine.
    peer_python: the Python of the peers.
    path: the machine's JSON file.
    deadline: `time.monotonic()` after which no case is started.
    patterns: a case runs if its name contains one of them; () for all.
  """

  part: str
  size: sizes.Sizes
  peer_python: str
  path: pathlib.Path
  deadline: float
  patterns: tuple[str, ...] = ()
  _peer: Peer | None = None

  def case(self, name: str, function: Callable[..., dict[str, Any]], *args: Any) -> dict[str, Any] | None:
    """Runs and saves one case; an error is its result, for the other cases are still worth measuring."""
    if self.patterns and not any(pattern in name for pattern in self.patterns):
      return None
    if time.monotonic() > self.deadline:
      print(f'  {name}: skipped, the time of this part is up; --cases={name} measures it alone', flush=True)
      return None
    clock = time.monotonic()
    try:
      result = function(*args)
    except Exception as error:  # out of memory is expected in sweeps
      lines = str(error).strip().splitlines() or ['']
      result = {'error': f'{type(error).__name__}: {lines[0][:200]}'}
    result['took_s'] = round(time.monotonic() - clock, 1)
    self._save(name, result)
    figures = {k: v for k, v in result.items() if isinstance(v, float) or k == 'error'}
    print(f'  {name}: ' + ', '.join(f'{k} {_short(v)}' for k, v in figures.items()), flush=True)
    return result

  def peer(self) -> Peer:
    """Returns the PyTorch process, started at the first call; without PyTorch it says so once and is not `available`."""
    if self._peer is None:
      self._peer = Peer(self.peer_python)
    return self._peer

  def close(self) -> None:
    """Ends the PyTorch process."""
    if self._peer is not None:
      self._peer.close()

  def _save(self, name: str, result: dict[str, Any]) -> None:
    everything = read_json(self.path) if self.path.is_file() else {'parts': {}}
    everything['machine'] = machine.describe()
    part = everything['parts'].setdefault(self.part, {'cases': {}})
    part['measured'] = datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds')
    part['versions'] = machine.versions() | (self._peer.versions if self._peer else {})
    part['cases'][name] = result
    write_json(self.path, everything)


def _short(value: Any) -> str:
  return f'{value:.4g}' if isinstance(value, float) else str(value)


def main(argv: list[str]) -> int:
  parser = argparse.ArgumentParser()
  parser.add_argument('part')
  parser.add_argument('--out', type=pathlib.Path, required=True)
  parser.add_argument('--cases', default='')
  parser.add_argument('--minutes', type=float, default=8.5)
  parser.add_argument('--peer_python', default=sys.executable)
  parser.add_argument('--quick', action='store_true')
  flags = parser.parse_args(argv)
  devices.enable_compilation_cache('auto')
  if flags.part not in ('peaks', 'scan'):  # single operations
    devices.use_cpu_cores(sizes.QUICK.batch if flags.quick else sizes.CPU.batch)  # as `fetal_jax.main` does
  context = Context(
    part=flags.part,
    size=sizes.choose(jax.default_backend(), quick=flags.quick),
    peer_python=flags.peer_python,
    path=flags.out / f'{machine.slug()}.json',
    deadline=time.monotonic() + 60 * flags.minutes,
    patterns=tuple(pattern for pattern in flags.cases.split(',') if pattern),
  )
  try:
    importlib.import_module(f'benchmarks.{flags.part}').run(context)
  finally:
    context.close()
  return 0


if __name__ == '__main__':
  sys.exit(main(sys.argv[1:]))
