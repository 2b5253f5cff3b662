"""Reads what earlier stages left in a workdir into one dict; what is not there is named, not an error."""

import hashlib
import json
import pathlib
from typing import Any

from fetal_jax.evaluate import calibration, intervals, paired, scores
from fetal_jax.report import audits, comparisons, further, kinds, paper
from fetal_jax.runtime import files
from fetal_jax.runtime.errors import UserError
from fetal_jax.runtime.files import PathLike
from fetal_jax.runtime.metrics import read_curves
from fetal_jax.runtime.records import to_json
from fetal_jax.train import predictions as predictions_lib
from fetal_jax.train import regimes as regimes_lib
from fetal_jax.train.predictions import Predictions
from fetal_jax.train.regimes import REGIMES

STAGES = ('prepare', 'diffusion', 'sample', 'classify', 'filter', 'evaluate', 'report', 'sweep')

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
  *audits.INPUTS,
)
_OF_A_RUN = ('metrics.json', 'predictions.csv')


def read_results(workdir: PathLike) -> dict[str, Any]:
  """Everything that the report says, as plain values.

  Returns:
    A dict with `name`, `config`, `versions`, `git_commit`, `stages` (dicts by stage), `data` (the split in
    numbers, or None), `rounds` (manifests of the synthetic sets, in order), `diffusion` (the last value of
    every training metric, or None), `runs` (a dict for each model, regime and seed: its `metrics.json`, if that is
    there, with `scores` from its predictions or None), `comparisons` (see `comparisons.compare`, of the main regimes), `curve` (see `further.curve`), `filter` (see
    `further.filtered`, with what the filter `kept`, or None), `evaluation` and `sweep` (what those stages found, or
    None) and `missing` (sentences). No local path is among them.

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
  data, rounds = _read_data(workdir, missing), _read_rounds(workdir, missing)
  runs, predictions = _read_runs(workdir, config, missing)
  main = {
    model: kept for model, by in predictions.items() if (kept := {r: by[r] for r in by if kinds.is_main(r)})
  }
  sizes = {r['round']: sum((r['counts'] or {}).values()) for r in rounds}
  results = {
    'name': config.get('name') or workdir.resolve().name,
    'config': config,
    'versions': asked.get('versions') or {},
    'git_commit': asked.get('git_commit'),
    'stages': {
      stage: stages[stage] for stage in (*STAGES, *sorted(set(stages) - set(STAGES))) if stage in stages
    },
    'data': data,
    'rounds': rounds,
    'diffusion': {key: values[-1] for key, (_, values) in curves.items()} or None,
    'runs': runs,
    'comparisons': comparisons.compare(main, missing),
    'curve': further.curve(predictions, sizes, missing),
    'filter': _read_filter(workdir, rounds, predictions, missing),
    'evaluation': audits.read_evaluation(workdir, data, rounds, missing),
    'sweep': audits.read_sweep(workdir),
    'missing': missing,
  }
  return audits.without_places(results)


def _read(path: pathlib.Path, missing: list[str], what: str) -> dict[str, Any]:
  if not path.is_file():
    missing.append(f'{what[0].upper()}{what[1:]}: {path.parent.name}/{path.name} is not there.')
    return {}
  return audits.read_json(path)


def _read_data(workdir: pathlib.Path, missing: list[str]) -> dict[str, Any] | None:
  if not (workdir / 'data' / 'split.json').is_file():
    missing.append('The data and their split: data/split.json is not there; run the prepare stage.')
    return None
  from fetal_jax.data import prepared

  info = prepared.load(workdir).info
  summary = ('images', 'totals', 'patients', 'shared_patients', 'test_patient_overlap', 'test_patient_class_overlap')
  keys = ('source', 'split', 'seed', 'image_size', 'channels', *summary, 'split_hash')
  return {**{key: getattr(info, key) for key in keys}, 'class_names': list(info.class_names)}


def _read_rounds(workdir: pathlib.Path, missing: list[str]) -> list[dict[str, Any]]:
  from fetal_jax.data import rounds as rounds_lib

  found = rounds_lib.begun(workdir)
  if not found:
    missing.append('Synthetic images: no synthetic/round_*/manifest.json; run the sample stage.')
  rounds = []
  for number, one in found.items():
    if one is None:
      missing.append(f'Synthetic images: round_{number} is not finished; run the sample stage again.')
      continue
    manifest = to_json(one.manifest)
    for key in ('complete', 'shards', 'files', 'shard_size'):
      del manifest[key]
    rounds.append({**manifest, 'folder': f'synthetic/{one.folder.name}'})
  return rounds


def _read_filter(
  workdir: pathlib.Path,
  rounds: list[dict[str, Any]],
  predictions: comparisons.AllPredictions,
  missing: list[str],
) -> dict[str, Any] | None:
  """What the filter kept and what that changed; None where neither it nor its regimes have run."""
  kept = audits.read_kept(workdir, rounds, missing)
  changed = further.filtered(predictions, missing)
  return {'kept': kept, **(changed or {'planned': None, 'models': {}})} if kept or changed else None


def _read_runs(
  workdir: pathlib.Path, config: dict[str, Any], missing: list[str]
) -> tuple[list[dict[str, Any]], dict[str, dict[str, dict[int, Predictions]]]]:
  """All runs, and the predictions of those that have them, in order."""
  runs, found = [], {}
  for folder in sorted(
    {path.parent for name in _OF_A_RUN for path in workdir.glob(f'classify/*/*/seed_*/{name}')}
  ):
    metrics, predictions = (folder / name for name in _OF_A_RUN)
    if metrics.is_file():
      run = audits.read_json(metrics)
    else:
      run = _named_by(folder, (config.get('classify') or {}).get('protocol', ''))
      missing.append(f'How it was trained: {metrics.relative_to(workdir)} is not there.')
    run['scores'] = None
    if predictions.is_file():
      read = found[run['model'], run['regime'], run['seed']] = predictions_lib.read_csv(predictions)
      run['scores'] = scores.evaluate(read.labels, read.probabilities, read.class_names)
    else:
      missing.append(f'Scores by class: {predictions.relative_to(workdir)} is not there.')
    runs.append(run)
  runs.sort(key=lambda run: (*order(run['model'], run['regime']), run['seed']))
  if not runs:
    missing.append(
      'Classifiers: no classify/<model>/<regime>/seed_<k>/predictions.csv; run the classify stage.'
    )
  asked = config.get('classify') or {}
  done = {(run['model'], run['regime'], run['seed']) for run in runs}
  for model in asked.get('models') or ():
    absent = [
      f'{regime} (seed {seed})'
      for regime in asked.get('regimes') or ()
      if kinds.is_main(regime)
      for seed in range(asked.get('num_seeds') or 1)
      if (model, regime, seed) not in done
    ]
    if runs and absent:
      missing.append(f'Not finished for {model_title(model)}: {", ".join(absent)}.')
  further_runs = _further_runs(asked)
  if runs and further_runs - done:
    missing.append(
      f'Not finished of the regimes by number of synthetic images and with the filter: {len(further_runs - done):,} of '
      f'{len(further_runs):,} runs.'
    )
  ordered: dict[str, dict[str, dict[int, Predictions]]] = {}
  for run in runs:
    key = run['model'], run['regime'], run['seed']
    if key in found:
      ordered.setdefault(key[0], {}).setdefault(key[1], {})[key[2]] = found[key]
  return runs, ordered


def _further_runs(asked: dict[str, Any]) -> set[tuple[str, str, int]]:
  """Model, regime and seed of what `config.classify` asks for beyond the main regimes."""
  known = [regime for regime in asked.get('regimes') or () if kinds.find(regime)]
  return {
    (model, regime, seed)
    for model in asked.get('models') or ()
    for regime in regimes_lib.of_model(model, known, asked.get('curve') or (), asked.get('curve_models') or ())
    if not kinds.is_main(regime)
    for seed in range(asked.get('num_seeds') or 1)
  }


def _named_by(folder: pathlib.Path, protocol: str) -> dict[str, Any]:
  """What is known of a run whose predictions are there alone: what its folder says."""
  model, regime, seed = folder.parts[-3:]
  number = seed.removeprefix('seed_')
  if not number.isdecimal():
    raise UserError(f'{folder}: must be named seed_<number>; rename it, or move it elsewhere')
  return {'model': model, 'regime': regime, 'seed': int(number), 'protocol': protocol}


def order(model: str, regime: str) -> tuple[int, str, int, int, str]:
  """The place of a model and a regime in the paper's order; others come last, by number of images and by name."""
  models, regimes = list(paper.MODELS), list(REGIMES)
  return (
    models.index(model) if model in models else len(models),
    model,
    regimes.index(regime) if regime in regimes else len(regimes),
    kinds.count(regime) or 0,
    regime,
  )


def model_title(model: str) -> str:
  """What people call the model `model` (a key of `models.CLASSIFIERS`)."""
  return paper.MODELS[model].title if model in paper.MODELS else model


def digest(workdir: PathLike, *settings: Any) -> str:
  """A hash of everything that the page depends on: inputs, settings, and the source that makes it."""
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
  for module in (scores, calibration, paired, intervals, regimes_lib):
    sha.update(pathlib.Path(str(module.__file__)).read_bytes())
  return sha.hexdigest()
