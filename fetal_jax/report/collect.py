"""Reads what earlier stages left in a workdir into one dict; what is not there is named, not an error."""

import hashlib
import io
import json
import math
import pathlib
from typing import Any

import numpy as np
from jaxtyping import UInt8

from fetal_jax import files
from fetal_jax.errors import UserError
from fetal_jax.evaluate import classification
from fetal_jax.files import PathLike
from fetal_jax.report import paper
from fetal_jax.train.regimes import REGIMES

STAGES = ('prepare', 'diffusion', 'sample', 'classify', 'report')

# Every file that the page shows something of. `config.json` and `stages.json` are hashed by content, below.
_INPUTS = (
  'data/split.json',
  'data/records.csv',
  'diffusion/samples/step_*.png',
  'logs/diffusion/metrics.jsonl',
  'synthetic/round_*/manifest.json',
  'synthetic/round_*/preview.png',
  'classify/*/*/seed_*/metrics.json',
  'classify/*/*/seed_*/predictions.csv',
)


def read_results(workdir: PathLike) -> dict[str, Any]:
  """Everything that the report says, as plain values.

  Returns:
    A dict with `name`, `config`, `versions`, `git_commit`, `stages` (dicts by stage), `data` (the split in
    numbers, or None), `rounds` (manifests of the synthetic sets, in order), `diffusion` (the last value of
    every training metric, or None), `runs` (a dict for each model, regime and seed: its `metrics.json`, with
    `scores` from its predictions or None) and `missing` (sentences).

  Raises:
    UserError: a file is there but damaged.
  """
  workdir = pathlib.Path(workdir)
  missing: list[str] = []
  asked = _read(workdir / 'config.json', missing, 'what was asked, and with which versions')
  config = asked.get('config') or {}
  stages = _read(workdir / 'logs' / 'stages.json', missing, 'run times and memory')
  curves = read_curves(workdir / 'logs' / 'diffusion' / 'metrics.jsonl')
  if not curves:
    missing.append('Curves of the diffusion training: logs/diffusion/metrics.jsonl is not there.')
  return {
    'name': config.get('name') or workdir.resolve().name,
    'config': config,
    'versions': asked.get('versions') or {},
    'git_commit': asked.get('git_commit'),
    'stages': {
      stage: stages[stage] for stage in (*STAGES, *sorted(set(stages) - set(STAGES))) if stage in stages
    },
    'data': _read_data(workdir, missing),
    'rounds': _read_rounds(workdir, missing),
    'diffusion': {key: values[-1] for key, (_, values) in curves.items()} or None,
    'runs': _read_runs(workdir, config, missing),
    'missing': missing,
  }


def _read(path: pathlib.Path, missing: list[str], what: str) -> dict[str, Any]:
  if not path.is_file():
    missing.append(f'{what[0].upper()}{what[1:]}: {path.parent.name}/{path.name} is not there.')
    return {}
  return _read_json(path)


def _read_json(path: pathlib.Path) -> dict[str, Any]:
  try:
    return files.read_json(path)
  except ValueError as error:
    raise UserError(
      f'{path}: not JSON ({error}); delete it and run the stage that writes it again'
    ) from error


def _read_data(workdir: pathlib.Path, missing: list[str]) -> dict[str, Any] | None:
  if not (workdir / 'data' / 'split.json').is_file():
    missing.append('The data and their split: data/split.json is not there; run the prepare stage.')
    return None
  from fetal_jax.data import prepare, splits

  prepared = prepare.load(workdir)
  return {
    **{key: prepared.info.get(key) for key in ('source', 'split', 'seed', 'image_size', 'channels')},
    'class_names': list(prepared.records.class_names),
    **splits.describe(prepared.records, prepared.split),
    'split_hash': splits.split_hash(prepared.records, prepared.split),
  }


def _read_rounds(workdir: pathlib.Path, missing: list[str]) -> list[dict[str, Any]]:
  paths = sorted(
    workdir.glob('synthetic/round_*/manifest.json'), key=lambda p: (len(p.parent.name), p.parent.name)
  )
  if not paths:
    missing.append('Synthetic images: no synthetic/round_*/manifest.json; run the sample stage.')
  keys = (
    'round',
    'seed',
    'class_names',
    'counts',
    'image_size',
    'channels',
    'sampler',
    'checkpoint',
    'config_hash',
  )
  rounds = []
  for path in paths:
    manifest = _read_json(path)
    if manifest.get('complete', True):
      rounds.append({key: manifest.get(key) for key in keys} | {'folder': f'synthetic/{path.parent.name}'})
    else:
      missing.append(f'Synthetic images: {path.parent.name} is not finished; run the sample stage again.')
  return rounds


def _read_runs(workdir: pathlib.Path, config: dict[str, Any], missing: list[str]) -> list[dict[str, Any]]:
  runs = []
  for path in workdir.glob('classify/*/*/seed_*/metrics.json'):
    run = _read_json(path)
    predictions = path.with_name('predictions.csv')
    run['scores'] = None
    if predictions.is_file():
      read = classification.read_predictions(predictions)
      run['scores'] = classification.evaluate(read.labels, read.probabilities, read.class_names)
    else:
      missing.append(f'Scores by class: {predictions.relative_to(workdir)} is not there.')
    runs.append(run)
  runs.sort(key=lambda run: (*order(run['model'], run['regime']), run['seed']))
  if not runs:
    missing.append('Classifiers: no classify/<model>/<regime>/seed_<k>/metrics.json; run the classify stage.')
  asked = config.get('classify') or {}
  done = {(run['model'], run['regime'], run['seed']) for run in runs}
  for model in asked.get('models') or ():
    absent = [
      f'{regime} (seed {seed})'
      for regime in asked.get('regimes') or ()
      for seed in range(asked.get('num_seeds') or 1)
      if (model, regime, seed) not in done
    ]
    if runs and absent:
      missing.append(f'Not finished for {model_title(model)}: {", ".join(absent)}.')
  return runs


def order(model: str, regime: str) -> tuple[int, str, int, str]:
  """The place of a model and a regime in the paper's order; unknown ones come last, by name."""
  models, regimes = list(paper.MODELS), list(REGIMES)
  return (
    models.index(model) if model in models else len(models),
    model,
    regimes.index(regime) if regime in regimes else len(regimes),
    regime,
  )


def model_title(model: str) -> str:
  """What people call the model `model` (a key of `models.CLASSIFIERS`)."""
  return paper.MODELS[model].title if model in paper.MODELS else model


def read_curves(path: PathLike) -> dict[str, tuple[list[float], list[float]]]:
  """The curves in a `metrics.jsonl`: {metric: (steps, values)}, finite values only, in order of step.

  A last line that a killed process cut off is left out; where steps were taken twice (a run that was
  interrupted and went on from its checkpoint) the later ones count.
  """
  path = pathlib.Path(path)
  if not path.is_file():
    return {}
  values: dict[str, dict[float, float]] = {}
  for line in path.read_text(encoding='utf-8').splitlines():
    try:
      row = json.loads(line)
      step = row.pop('step')
    except (ValueError, KeyError, AttributeError):
      continue
    for key, value in row.items():
      if isinstance(value, int | float) and math.isfinite(value):
        values.setdefault(key, {})[step] = value
  return {key: (sorted(curve), [curve[step] for step in sorted(curve)]) for key, curve in values.items()}


def real_examples(workdir: PathLike, per_class: int) -> dict[str, UInt8[np.ndarray, 'n h w c']]:
  """Training images of every class, from all over the class; {} if there are no data."""
  if not (pathlib.Path(workdir) / 'data' / 'split.json').is_file():
    return {}
  from fetal_jax.data import prepare

  prepared = prepare.load(workdir)
  labels = prepared.records.labels[prepared.split.train]
  examples = {}
  for k, name in enumerate(prepared.records.class_names):
    members = prepared.split.train[labels == k]
    examples[name] = np.asarray(prepared.images[members[_spread(len(members), per_class)]])
  return examples


def synthetic_examples(folder: PathLike, per_class: int) -> dict[str, UInt8[np.ndarray, 'n h w c']]:
  """Images of every class of one round, from all over the class; {} if the folder holds no whole data set.

  Only these images are decoded: image k of a round is of class k // count.
  """
  folder = pathlib.Path(folder)
  if not (folder / 'dataset_info.json').is_file():
    return {}
  import tensorflow_datasets as tfds
  from PIL import Image

  builder = tfds.builder_from_directory(folder)
  source = builder.as_data_source('train', decoders={'image': tfds.decode.SkipDecoding()})
  examples, first = {}, 0
  for name, count in files.read_json(folder / 'manifest.json')['counts'].items():
    images = []
    for k in _spread(count, per_class):
      with Image.open(io.BytesIO(source[int(first + k)]['image'])) as image:
        images.append(np.atleast_3d(np.asarray(image)))
    first += count
    if images:
      examples[name] = np.stack(images)
  return examples


def _spread(n: int, wanted: int) -> np.ndarray:
  return np.linspace(0, max(n - 1, 0), min(n, wanted)).astype(np.int64)


def digest(workdir: PathLike, *settings: Any) -> str:
  """A hash of everything that the page depends on: inputs, settings, and the report's own source."""
  workdir = pathlib.Path(workdir)
  sha = hashlib.sha256(json.dumps(settings).encode())
  for path in sorted(p for pattern in _INPUTS for p in workdir.glob(pattern)):
    sha.update(f'{path.relative_to(workdir)} {files.sha256(path)}\n'.encode())
  asked = files.read_json(workdir / 'config.json') if (workdir / 'config.json').is_file() else {}
  stages = (
    files.read_json(workdir / 'logs' / 'stages.json') if (workdir / 'logs' / 'stages.json').is_file() else {}
  )
  # Not the report's own entry: it changes whenever the report has been written.
  said = [{k: asked.get(k) for k in ('config', 'versions', 'git_commit')}, {**stages, 'report': None}]
  sha.update(json.dumps(said, sort_keys=True).encode())
  here = pathlib.Path(__file__).parent
  for path in sorted(p for p in here.rglob('*') if p.suffix in ('.py', '.html', '.css', '.md')):
    sha.update(path.read_bytes())
  return sha.hexdigest()
