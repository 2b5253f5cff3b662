"""Trains, then samples, for half an hour, and shows that memory, open files and threads do not grow.

    make soak                       # 30 minutes
    python tests/tools/soak.py --minutes=4

Both run as a user's command, on `configs/smoke.py` with checkpoints, previews and shards far more often than a real run
has them, and are watched from outside through /proc. Each is ended by SIGTERM, as by a scheduler.
"""

import argparse
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]
CONFIG = '--config=configs/smoke.py'
# More than half an hour's work for either.
ENDLESS = {
  'diffusion': ('--config.diffusion.steps=10000000', '--config.diffusion.preview_every=200'),
  'sample': (
    '--config.sample.per_class=100000',
    '--config.sample.shard_size=500',
    '--config.sample.steps=20',
  ),
}
# What has to be there before.
BEFORE = {'diffusion': ('prepare',), 'sample': ('prepare', 'diffusion')}
_EVERY = 2.0  # seconds between two looks
_MOST_GROWTH = 0.03  # of memory, between the second and the last quarter of the time


def look(pid: int) -> tuple[float, int, int]:
  """Resident memory in MiB, open files and threads of a process."""
  folder = pathlib.Path('/proc') / str(pid)
  pages = int((folder / 'statm').read_text().split()[1])
  return (
    pages * os.sysconf('SC_PAGE_SIZE') / 2**20,
    len(os.listdir(folder / 'fd')),
    len(os.listdir(folder / 'task')),
  )


def watch(process: subprocess.Popen, seconds: float) -> np.ndarray:
  """One row a look: seconds since the start, memory, open files, threads.

  Raises:
    RuntimeError: the process ended by itself.
  """
  start, rows = time.monotonic(), []
  while time.monotonic() - start < seconds:
    time.sleep(_EVERY)
    if process.poll() is not None:
      raise RuntimeError(f'ended by itself, exit code {process.returncode}')
    rows.append((time.monotonic() - start, *look(process.pid)))
  return np.array(rows)


def growth(rows: np.ndarray) -> list[str]:
  """What grew between the second and the last quarter of the time, in words; the first quarter is warm-up."""
  quarter = len(rows) // 4
  before, after = (np.median(part[:, 1:], axis=0) for part in (rows[quarter : 2 * quarter], rows[-quarter:]))
  found = []
  if after[0] > before[0] * (1 + _MOST_GROWTH):
    found.append(f'memory grew from {before[0]:.0f} to {after[0]:.0f} MiB')
  for name, b, a in zip(('open files', 'threads'), before[1:], after[1:], strict=True):
    if a > b + 1:
      found.append(f'{name} grew from {b:.0f} to {a:.0f}')
  return found


def command(workdir: pathlib.Path, stage: str, *arguments: str) -> list[str]:
  run = [sys.executable, '-m', 'fetal_jax.main', CONFIG, f'--workdir={workdir}', f'--stage={stage}']
  return [*run, *arguments]


def soak(stage: str, workdir: pathlib.Path, minutes: float) -> list[str]:
  """Runs one stage for some minutes, prints a row for each tenth of them, and returns what is wrong."""
  log = pathlib.Path(f'{workdir}.log')
  for before in BEFORE[stage]:
    subprocess.run(command(workdir, before), cwd=ROOT, check=True, capture_output=True)
  with open(log, 'w', encoding='utf-8') as said:
    process = subprocess.Popen(
      command(workdir, stage, *ENDLESS[stage]), cwd=ROOT, stdout=said, stderr=said, start_new_session=True
    )
    try:
      rows = watch(process, 60 * minutes)
    except RuntimeError as error:
      return [f'{stage}: {error}: {log.read_text(encoding="utf-8")[-500:]}']
    finally:
      process.send_signal(signal.SIGTERM)
      code = process.wait(120)
  print(f'\n{stage}   minute  memory/MiB  open files  threads')
  for part in np.array_split(rows, 10):
    minute, memory, opened, threads = np.median(part, axis=0)
    print(f'{"":{len(stage)}} {minute / 60:8.1f} {memory:11.0f} {opened:11.0f} {threads:8.0f}')
  said = log.read_text(encoding='utf-8').splitlines()
  print(f'{stage}: {said[-1]}')
  return growth(rows) + ([] if code == 143 else [f'{stage}: exit code {code} after SIGTERM, not 143'])


if __name__ == '__main__':
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--minutes', type=float, default=30, help='in all')
  flags = parser.parse_args()
  os.environ.setdefault('JAX_PLATFORMS', 'cpu')
  with tempfile.TemporaryDirectory() as folder:
    wrong = [
      line
      for stage in ENDLESS
      for line in soak(stage, pathlib.Path(folder) / stage, flags.minutes / len(ENDLESS))
    ]
  print('\n' + ('\n'.join(wrong) if wrong else 'flat: nothing grew'))
  sys.exit(bool(wrong))
