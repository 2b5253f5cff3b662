"""A hash of everything that the page depends on, by which the report stage knows whether it is done."""

import hashlib
import json
import pathlib
from collections.abc import Mapping

from fetal_jax import evaluate
from fetal_jax.runtime import files
from fetal_jax.runtime import run as run_lib
from fetal_jax.runtime.files import PathLike
from fetal_jax.runtime.records import to_json
from fetal_jax.train import regimes

# Every file that the page shows something of; config.json and stages.json are hashed by content.
_FILES = (
  'data/split.json',
  'data/records.csv',
  'diffusion/samples/step_*.png',
  'logs/diffusion/metrics.jsonl',
  'synthetic/round_*/manifest.json',
  'synthetic/round_*/preview.png',
  'classify/*/*/seed_*/metrics.json',
  'classify/*/*/seed_*/predictions.csv',
  'synthetic/kept.json',
  'synthetic/kept.png',
  'synthetic/dropped.png',
  'evaluate/baselines.json',
  'evaluate/results.json',
  'evaluate/pairs_*.png',
  'sweep/results.json',
  'sweep/recommended.json',
  'sweep/scales.png',
  'sweep/samplers.png',
)


def digest(workdir: PathLike, **settings: bool) -> str:
  """Hashes the files that the page shows, the settings of the page, and the source that makes it."""
  workdir = pathlib.Path(workdir)
  sha = hashlib.sha256(json.dumps(settings).encode())
  for path in sorted(p for pattern in _FILES for p in workdir.glob(pattern)):
    sha.update(f'{path.relative_to(workdir)} {files.sha256(path)}\n'.encode())
  sha.update(json.dumps([_asked(workdir), _accounts(workdir)], sort_keys=True).encode())
  here = pathlib.Path(__file__).parent
  computed = pathlib.Path(str(evaluate.__file__)).parent
  sources = [
    p for folder in (here, computed) for p in folder.rglob('*') if p.suffix in ('.py', '.html', '.css', '.md')
  ]
  for path in (*sorted(sources), pathlib.Path(str(regimes.__file__))):
    sha.update(path.read_bytes())
  return sha.hexdigest()


def _asked(workdir: pathlib.Path) -> object:
  try:
    return to_json(run_lib.read(workdir))
  except FileNotFoundError:
    return None


def _accounts(workdir: pathlib.Path) -> Mapping[str, object]:
  """Returns the stages' accounts without the report's own: it changes whenever the report has been written."""
  try:
    accounts = run_lib.read_accounts(workdir)
  except FileNotFoundError:
    return {}
  return {stage: to_json(account) for stage, account in accounts.items() if stage != 'report'}
