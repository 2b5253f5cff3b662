"""Kills a whole run again and again, in every stage, and compares its end with that of a run left alone.

    make torture        # 60 kills; on two CPU cores about 20 minutes
    python tests/tools/torture.py --kills=12 --seed=3

A run is `python -m fetal_jax.main`, a process of its own, which gets SIGKILL at a random moment of the stage that it is
in; then the same command goes on. At the end every file must be there and equal (losses, weights, images,
predictions, judgement; not clocks), and none that the run left alone does not have.
"""

import argparse
import json
import os
import pathlib
import random
import re
import subprocess
import sys
import tempfile
import time
from typing import Any

import numpy as np

from fetal_jax import main
from fetal_jax.runtime.files import read_json

ROOT = pathlib.Path(__file__).resolve().parents[2]
STAGES = tuple(stage for stage in main.FLOW if stage != 'filter')  # that one waits for its regimes
# Every kind of regime: on real images, on synthetic ones, and one that starts from another's weights.
COMMAND = (
  '--config=configs/smoke.py',
  '--config.classify.models=resnet50',
  '--config.classify.regimes=real,synth_r1,synth_r1_then_real',
  '--config.classify.epochs=2',
  '--config.classify.checkpoint_epochs=1',
)
# The last one is a checksum of the others too.
_CLOCKS = ('seconds', 'img_per_s', 'finished', 'peak_memory_gib', 'sha256_of_the_rest')
# TFDS leaves the order of a record's fields to chance; what a run reads from there is in data/images.npy.
_BY_NAME = re.compile(r'data/tfds/.*')
_LOGS = re.compile(r'(judge/)?logs/.*events\.out\.tfevents\..*|logs/run\.log|logs/stages\.json')


def start(workdir: pathlib.Path, *arguments: str) -> subprocess.Popen:
  """The run as a process that a signal reaches alone; what it says goes to `<workdir>.log`."""
  with open(f'{workdir}.log', 'a', encoding='utf-8') as log:
    return subprocess.Popen(
      [sys.executable, '-m', 'fetal_jax.main', *COMMAND, *arguments, f'--workdir={workdir}'],
      cwd=ROOT,
      stdout=log,
      stderr=log,
      start_new_session=True,
    )


def stage_of(said: str) -> str | None:
  """The stage that a run is in after it has said so much; None before the first."""
  current = None
  for line in said.splitlines():
    words = re.match(r'\d\d:\d\d:\d\d (\w+)[ :]', line)
    if words and words[1] in STAGES:
      current = words[1]
      done = 'done before' in line or 'nothing has changed' in line
      # A round that is done says nothing of the next one.
      if done and not (current == 'sample' and 'round 1' in line):
        current = STAGES[min(STAGES.index(current) + 1, len(STAGES) - 1)]
    elif words and 'real' in line and 'resnet50' in line:
      current = 'classify'
  return current


def torment(
  workdir: pathlib.Path, kills: int, rng: random.Random, seconds: dict[str, float], *arguments: str
) -> dict[str, int]:
  """Runs to the end, killed up to `kills` times on the way, about equally often in each stage.

  Args:
    workdir: of the run.
    kills: how many SIGKILLs.
    rng: chooses the moments.
    seconds: by stage, how long it takes if left alone: the moment lies within.
    *arguments: further flags of the run.

  Returns:
    By stage, how many kills hit it.

  Raises:
    RuntimeError: the run failed by itself.
  """
  log = pathlib.Path(f'{workdir}.log')
  done = dict.fromkeys(STAGES, 0)
  share = -(-kills // len(STAGES))
  while True:
    before = log.stat().st_size if log.exists() else 0
    process = start(workdir, *arguments)
    entered: dict[str, float] = {}
    part = rng.random()
    while process.poll() is None:
      time.sleep(0.02)
      stage = stage_of(log.read_bytes()[before:].decode(errors='replace')) or STAGES[0]
      entered.setdefault(stage, time.monotonic())
      left = sum(done.values()) < kills and done[stage] < share
      if left and time.monotonic() - entered[stage] > part * seconds[stage]:
        process.kill()
        process.wait()
        done[stage] += 1
        break
    else:
      if process.returncode:
        raise _failed(workdir, process)
      return done


def _failed(workdir: pathlib.Path, process: subprocess.Popen) -> RuntimeError:
  """The error of a run that nobody killed; the folder may be gone when it is read."""
  said = pathlib.Path(f'{workdir}.log').read_text(errors='replace')
  return RuntimeError(f'{workdir}: exit code {process.returncode}:\n{said[-4000:]}')


def differences(one: pathlib.Path, other: pathlib.Path) -> list[str]:
  """What is not the same in two finished runs, in words; nothing is ignored but clocks and logs of clocks."""
  files = [
    {
      path.relative_to(folder).as_posix(): path
      for path in folder.rglob('*')
      if path.is_file() and not _is_of_orbax(path)
    }
    for folder in (one, other)
  ]
  names = [{name for name in found if not _LOGS.fullmatch(name)} for found in files]
  found = [f'{name}: only in one of the runs' for name in sorted(names[0] ^ names[1])]
  for name in sorted(names[0] & names[1]):
    if not _BY_NAME.fullmatch(name) and _content(files[0][name]) != _content(files[1][name]):
      found.append(f'{name}: differs')
  checkpoints = [
    {path.parent.relative_to(folder).as_posix(): path.parent for path in folder.rglob('_CHECKPOINT_METADATA')}
    for folder in (one, other)
  ]
  found += [
    f'{name}: checkpoint only in one of the runs' for name in checkpoints[0].keys() ^ checkpoints[1].keys()
  ]
  for name in sorted(checkpoints[0].keys() & checkpoints[1].keys()):
    if _arrays(checkpoints[0][name]) != _arrays(checkpoints[1][name]):
      found.append(f'{name}: other weights')
  return found


def leftovers(workdir: pathlib.Path) -> list[str]:
  """Names of temporary files that a killed run left and its successor did not clear away."""
  marks = ('.tmp', 'tmp.', '.part', '.staging', 'orbax-checkpoint-tmp', 'lock.json')
  return sorted(
    path.relative_to(workdir).as_posix()
    for path in workdir.rglob('*')
    if any(mark in path.name for mark in marks)
  )


def _is_of_orbax(path: pathlib.Path) -> bool:
  """Part of a checkpoint: its files have chance names and hold times; its arrays are compared instead."""
  return any((folder / '_CHECKPOINT_METADATA').exists() for folder in list(path.parents)[:6])


def _content(path: pathlib.Path) -> Any:
  """What must be equal of a file."""
  if path.suffix in ('.html', '.md'):  # they show clocks
    return path.stat().st_size > 0
  if path.name == 'results.csv':
    header, *rows = [line.split(',') for line in path.read_text().splitlines()]
    clock = header.index('seconds')
    return [row[:clock] + row[clock + 1 :] for row in [header, *rows]]
  if path.suffix == '.jsonl':
    return [_without_clocks(json.loads(line)) for line in path.read_text().splitlines()]
  if path.suffix == '.json':
    values = json.loads(path.read_text())
    if path.parent.name == 'report':  # its digests cover the clocks that it shows
      values = {key: value for key, value in values.items() if key not in ('stages', 'inputs', 'files')}
    return _without_clocks(values)
  return path.read_bytes()


def _without_clocks(value: Any) -> Any:
  if isinstance(value, dict):
    return {key: _without_clocks(v) for key, v in value.items() if key not in _CLOCKS}
  return [_without_clocks(v) for v in value] if isinstance(value, list) else value


def _arrays(checkpoint: pathlib.Path) -> Any:
  """The checkpoint's arrays as bytes, and its meta data, by name."""
  import jax
  import orbax.checkpoint as ocp

  checkpointer = ocp.PyTreeCheckpointer()
  tree = checkpointer.metadata(checkpoint / 'state').item_metadata.tree
  as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
  leaves, _ = jax.tree_util.tree_flatten_with_path(
    checkpointer.restore(checkpoint / 'state', restore_args=as_numpy)
  )
  meta = json.loads((checkpoint / 'meta' / 'metadata').read_text())
  return {jax.tree_util.keystr(key): np.asarray(leaf).tobytes() for key, leaf in leaves}, _without_clocks(
    meta
  )


def run(folder: pathlib.Path, kills: int, seed: int, *arguments: str) -> tuple[dict[str, int], list[str]]:
  """A run left alone beside tormented ones, with further flags: kills by stage, and what is wrong in the end.

  A run ends before it was killed `kills` times where its stages are quicker than those of the run left alone, which
  compiled: then another one is begun.
  """
  alone, rng = folder / 'alone', random.Random(seed)
  process = start(alone, *arguments)
  if process.wait():
    raise _failed(alone, process)
  took = {stage: account['seconds'] for stage, account in read_json(alone / 'logs' / 'stages.json').items()}
  took['prepare'] += 5.0  # Python's start is counted in
  done, wrong, number = dict.fromkeys(STAGES, 0), [], 0
  while sum(done.values()) < kills:
    number += 1
    tormented = folder / f'tormented_{number}'
    hit = torment(tormented, kills - sum(done.values()), rng, took, *arguments)
    done = {stage: done[stage] + hit[stage] for stage in STAGES}
    found = differences(alone, tormented) + [f'{name}: left behind' for name in leftovers(tormented)]
    wrong += [f'{tormented.name}: {what}' for what in found]
    if not any(hit.values()):
      break
    took = {stage: 0.7 * seconds for stage, seconds in took.items()}
  return done, wrong


if __name__ == '__main__':
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--kills', type=int, default=60, help='how many SIGKILLs')
  parser.add_argument('--seed', type=int, default=0, help='of the moments')
  parser.add_argument('--folder', type=pathlib.Path, help='where the two runs go; by default a temporary one')
  flags = parser.parse_args()
  os.environ.setdefault('JAX_PLATFORMS', 'cpu')
  with tempfile.TemporaryDirectory() as temporary:
    clock = time.monotonic()
    done, wrong = run(flags.folder or pathlib.Path(temporary), flags.kills, flags.seed)
    print(f'{sum(done.values())} kills ({", ".join(f"{k} {v}" for k, v in done.items())}), ', end='')
    print(f'{time.monotonic() - clock:.0f} s, ', end='')
    print('all equal, nothing left behind' if not wrong else f'{len(wrong)} differences:')
    print('\n'.join(wrong), end='')
    sys.exit(bool(wrong))
