"""Reads what earlier stages left in a workdir as typed records; what is missing is named, and is no error."""

import math
import pathlib
from collections.abc import Mapping
from typing import Any

import msgspec

from fetal_jax.data import prepared
from fetal_jax.data import rounds as rounds_lib
from fetal_jax.data.rounds import Manifest, Round
from fetal_jax.evaluate import comparisons as comparisons_lib
from fetal_jax.evaluate import curve as curve_lib
from fetal_jax.evaluate import pixel_baselines as pixel_baselines_lib
from fetal_jax.evaluate import results as evaluation_lib
from fetal_jax.evaluate import sweep_results
from fetal_jax.evaluate.comparisons import Comparisons, PairedDifference
from fetal_jax.evaluate.curve import UseCurve
from fetal_jax.evaluate.paired import RegimeComparison
from fetal_jax.evaluate.pixel_baselines import PixelBaseline
from fetal_jax.evaluate.results import Evaluation
from fetal_jax.evaluate.sweep_results import Recommended, SweepResults
from fetal_jax.report import classifier_runs
from fetal_jax.report.classifier_runs import ClassifierRun, Here, LeftOut
from fetal_jax.report.places import without_places
from fetal_jax.runtime import run as run_lib
from fetal_jax.runtime.files import PathLike
from fetal_jax.runtime.metrics import read_curves
from fetal_jax.runtime.run import StageAccount
from fetal_jax.train import kept as kept_lib
from fetal_jax.train import regimes as regimes_lib
from fetal_jax.train.kept import Kept

STAGES = ('prepare', 'diffusion', 'sample', 'classify', 'filter', 'evaluate', 'report', 'sweep')


class Data(msgspec.Struct, frozen=True, kw_only=True):
  """The data and their split in numbers, see `prepared.SplitFile`; what is about patients is None where they are unknown."""

  source: str
  split: str
  seed: int
  image_size: int
  channels: int
  class_names: tuple[str, ...]
  images: dict[str, dict[str, int]]
  totals: dict[str, int]
  patients_known: bool
  images_of_unknown_patients: int
  patients: dict[str, int] | None
  shared_patients: int | None
  test_patient_overlap: float | None
  test_patient_class_overlap: float | None
  split_hash: str


class FilterResults(msgspec.Struct, frozen=True, kw_only=True):
  """What the filter kept, and what that changed (see `comparisons.FilterEffect`)."""

  kept: Kept | None
  planned: PairedDifference | None
  models: dict[str, dict[str, RegimeComparison]]


class Run(msgspec.Struct, frozen=True, kw_only=True):
  """Everything that the report says; no local path is in it.

  Attributes:
    name: of the experiment.
    config: the settings; empty where they are unknown.
    versions, git_commit: of the start that began the run, see `runtime.run.RunFile`.
    stages: accounts by stage, in order; they say who did each.
    data: None before the prepare stage.
    rounds: manifests of the finished synthetic rounds, in order.
    diffusion: the last value of every training metric; None without any.
    runs: classifiers, in the paper's order.
    left_out: those that are in no figure, and why.
    comparisons: of the main regimes.
    curve: by use of synthetic images, see `evaluate.curve.curve`.
    filter, evaluation, sweep, recommended: what these stages found; None where they have not run.
    missing: sentences.
    pixel_baselines: classifiers of raw pixels; None where they have not been trained on the data that are there.
  """

  name: str
  config: dict[str, Any]
  versions: dict[str, str]
  git_commit: str | None
  stages: dict[str, StageAccount]
  data: Data | None
  rounds: list[Manifest]
  diffusion: dict[str, float] | None
  runs: list[ClassifierRun]
  left_out: list[LeftOut]
  comparisons: Comparisons
  curve: dict[str, UseCurve] | None
  filter: FilterResults | None
  evaluation: Evaluation | None
  sweep: SweepResults | None
  recommended: Recommended | None
  missing: list[str]
  pixel_baselines: list[PixelBaseline] | None = None


def read(workdir: PathLike) -> Run:
  """Reads the workdir of a run.

  Raises:
    UserError: a file is damaged.
  """
  workdir = pathlib.Path(workdir)
  missing: list[str] = []
  asked = _read_asked(workdir, missing)
  config = asked.config if asked else {}
  stages = _read_accounts(workdir, missing)
  curves = read_curves(workdir / 'logs' / 'diffusion' / 'metrics.jsonl')
  if not curves:
    missing.append('Curves of the diffusion training: logs/diffusion/metrics.jsonl is missing.')
  prepared_data, rounds = _read_data(workdir, missing), _read_rounds(workdir, missing)
  data = _summary(prepared_data) if prepared_data else None
  hashes = {str(one.number): one.hash for one in rounds}
  here = Here(
    split_hash=data.split_hash if data else None,
    image_size=data.image_size if data else None,
    test=prepared_data.records.take(prepared_data.split.test) if prepared_data else None,
    rounds=hashes,
  )
  classifiers = classifier_runs.read(workdir, config.get('classify') or {}, here, missing)
  predictions = classifiers.predictions
  main = {
    model: mine
    for model, by_regime in predictions.items()
    if (mine := {name: by_regime[name] for name in by_regime if regimes_lib.is_main(name)})
  }
  return _published(
    Run(
      name=config.get('name') or workdir.resolve().name,
      config=config,
      versions=asked.versions if asked else {},
      git_commit=asked.git_commit if asked else None,
      stages=stages,
      data=data,
      rounds=[one.manifest for one in rounds],
      diffusion={key: values[-1] for key, (_, values) in curves.items()} or None,
      runs=classifiers.runs,
      left_out=classifiers.left_out,
      comparisons=comparisons_lib.compare(main, missing),
      curve=curve_lib.curve(predictions, {one.number: one.num_images for one in rounds}, missing),
      filter=_read_filter(workdir, hashes, predictions, missing),
      evaluation=_read_evaluation(workdir, data, hashes, missing),
      sweep=_found(sweep_results.read, workdir),
      recommended=_found(sweep_results.read_recommended, workdir),
      missing=missing,
      pixel_baselines=_read_pixel_baselines(workdir, prepared_data, missing),
    )
  )


def num_images(manifest: Manifest) -> int:
  """Returns the number of images of a round."""
  return sum(manifest.counts.values())


def to_json(run: Run) -> dict[str, Any]:
  """Returns the run for results.json: numbers that are not finite become null, long lists are left to their own files."""
  values = _finite(msgspec.to_builtins(run))
  for one in values['runs']:
    del one['history']
  values['runs'] += values.pop('left_out')
  for one in values['rounds']:
    for key in ('complete', 'shards', 'files', 'shard_size'):
      del one[key]
    one['folder'] = f'synthetic/round_{one["round"]}'
  if values['filter'] and values['filter']['kept']:
    del values['filter']['kept']['inputs']
    for one in values['filter']['kept']['rounds'].values():
      del one['kept'], one['round_hash']
  recommended = values.pop('recommended')
  if values['sweep']:
    values['sweep']['recommended'] = recommended
  return values


def _finite(value: Any) -> Any:
  if isinstance(value, dict):
    return {str(k): _finite(v) for k, v in value.items()}
  if isinstance(value, list | tuple):
    return [_finite(v) for v in value]
  return None if isinstance(value, float) and not math.isfinite(value) else value


def _published(run: Run) -> Run:
  """Returns the run without local paths."""
  return msgspec.convert(without_places(msgspec.to_builtins(run)), Run)


def _found(read: Any, workdir: pathlib.Path) -> Any:
  """Returns what `read(workdir)` does; None where its file is missing."""
  try:
    return read(workdir)
  except FileNotFoundError:
    return None


def _read_asked(workdir: pathlib.Path, missing: list[str]) -> run_lib.RunFile | None:
  asked = _found(run_lib.read, workdir)
  if asked is None:
    missing.append(f'What was asked, and with which versions: {workdir.name}/config.json is missing.')
  return asked


def _read_accounts(workdir: pathlib.Path, missing: list[str]) -> dict[str, StageAccount]:
  accounts = _found(run_lib.read_accounts, workdir)
  if accounts is None:
    missing.append('Run times and memory: logs/stages.json is missing.')
    return {}
  return {
    stage: accounts[stage] for stage in dict.fromkeys((*STAGES, *sorted(accounts))) if stage in accounts
  }


def _read_data(workdir: pathlib.Path, missing: list[str]) -> prepared.Prepared | None:
  if not (workdir / 'data' / prepared.NAME).is_file():
    missing.append('The data and their split: data/split.json is missing; run the prepare stage.')
    return None
  return prepared.load(workdir)


def _summary(data: prepared.Prepared) -> Data:
  return Data(**{key: getattr(data.info, key) for key in Data.__struct_fields__})


def _read_pixel_baselines(
  workdir: pathlib.Path, data: prepared.Prepared | None, missing: list[str]
) -> list[PixelBaseline] | None:
  """Returns the classifiers of raw pixels that were trained on the data that are there."""
  if data is None:
    return None
  found = _found(pixel_baselines_lib.read, workdir)
  if found and found.is_of(data.info):
    return found.baselines
  problem = 'is about other images than those that are there' if found else 'is missing'
  missing.append(f'Classifiers of raw pixels: evaluate/baselines.json {problem}; run --stage=report.')
  return None


def _read_rounds(workdir: pathlib.Path, missing: list[str]) -> list[Round]:
  found = rounds_lib.begun(workdir)
  if not found:
    missing.append('Synthetic images: no synthetic/round_*/manifest.json; run the sample stage.')
  missing += [
    f'Synthetic images: round_{number} is not finished; run the sample stage again.'
    for number, one in found.items()
    if one is None
  ]
  return [one for one in found.values() if one]


def _read_filter(
  workdir: pathlib.Path,
  hashes: Mapping[str, str],
  predictions: comparisons_lib.AllPredictions,
  missing: list[str],
) -> FilterResults | None:
  """Returns what the filter kept and what that changed; None where neither it nor its regimes have run."""
  kept = _found(kept_lib.read, workdir)
  if kept and {number: about.round_hash for number, about in kept.rounds.items()} != hashes:
    missing.append(
      'Quality filter: synthetic/kept.json is about other synthetic rounds than those that are there; delete it and run '
      '--stage=filter.'
    )
    kept = None
  changed = comparisons_lib.filtered(predictions, missing)
  if not kept and not changed:
    return None
  return FilterResults(
    kept=kept, planned=changed.planned if changed else None, models=changed.models if changed else {}
  )


def _read_evaluation(
  workdir: pathlib.Path, data: Data | None, hashes: Mapping[str, str], missing: list[str]
) -> Evaluation | None:
  """Returns what the evaluate stage found; None if it has not run on the rounds and the split that are there now.

  A verdict on other images would be worse than none.
  """
  found = _found(evaluation_lib.read, workdir)
  topic = 'Fidelity, copies and leakage: evaluate/results.json'
  if found is None:
    if hashes:
      missing.append(f'{topic} is missing; run --stage=evaluate.')
    return None
  if found.rounds != hashes:
    numbers = sorted({*found.rounds, *hashes}, key=int)
    other = [number for number in numbers if found.rounds.get(number) != hashes.get(number)]
    problem = f'was computed from other synthetic images than those that are there (round {", ".join(other)})'
  elif data and found.leakage.split_hash != data.split_hash:
    problem = 'is about another split'
  else:
    return found
  missing.append(f'{topic} {problem}; run --stage=evaluate again.')
  return None
