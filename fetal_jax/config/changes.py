"""Changed settings: a workdir keeps those that its results depend on."""

import pathlib
from collections.abc import Mapping
from typing import Any

import ml_collections

from fetal_jax.config.checks import counts
from fetal_jax.config.settings import SETTINGS, TABLE
from fetal_jax.config.values import flatten, from_dict, to_dict
from fetal_jax.runtime import run
from fetal_jax.runtime.errors import UserError
from fetal_jax.runtime.files import PathLike

# What a setting can decide -> the files that are there as soon as it has begun.
BEGUN = {
  'data': 'data/split.json',
  'diffusion': 'diffusion/checkpoints/[0-9]*',
  'synthetic': 'synthetic/round_*/manifest.json',
  'classify': 'classify/*/*/seed_*/*',
  'kept': 'classify/*/*_kept*/seed_*/*',
}
_MOST_DIFFERENCES = 5  # that an error names


def has_begun(workdir: PathLike) -> bool:
  """Returns whether a workdir has results that depend on its prepared data."""
  found = (pathlib.Path(workdir).glob(pattern) for name, pattern in BEGUN.items() if name != 'data')
  return any(any(paths) for paths in found)


def decisive(config: ml_collections.ConfigDict, name: str) -> dict[str, Any]:
  """Returns the settings, by dotted key, that decide a result.

  Args:
    config: a whole one.
    name: `data`, `diffusion`, `synthetic`, `classify`, `kept`, or `classify/<model>` for the settings of this model
      alone.
  """
  pairs = flatten(to_dict(config))
  if name.startswith('classify/'):
    prefix = f'classify.model_args.{name.removeprefix("classify/")}.'
    return {key: value for key, value in pairs if key.startswith(prefix)}
  return {key: value for key, value in pairs if key in TABLE and name in TABLE[key].decides}


def differences(there: Mapping[str, Any], asked: Mapping[str, Any]) -> dict[str, str]:
  """Returns the settings that differ, by dotted key, in words; both are of `decisive`."""
  said = {}
  for key in dict.fromkeys([*there, *asked]):
    old, new = there.get(key, 'not set'), asked.get(key, 'not set')
    if old != new:
      said[key] = f'config.{key}: {old} there, {new} asked'
  return said


def check_changes(config: ml_collections.ConfigDict, workdir: PathLike) -> None:
  """Refuses a config that would change the meaning of results in the workdir.

  Settings of a stage that has not begun may change, and so may those that decide nothing or that do not count with
  the config's source and split.

  Raises:
    UserError: names the settings, their values there, and the values asked.
  """
  workdir = pathlib.Path(workdir)
  try:
    recorded = from_dict(run.read(workdir).config)
  except FileNotFoundError:
    return
  free = {setting.name for setting in SETTINGS if not counts(setting, config)}
  changed: dict[str, str] = {}
  for name in (*BEGUN, *(f'classify/{model}' for model in config.classify.model_args)):
    if any(workdir.glob(BEGUN.get(name, f'{name}/*/seed_*/*'))):
      found = differences(decisive(recorded, name), decisive(config, name))
      changed |= {key: said for key, said in found.items() if key not in free}
  if changed:
    named = '; '.join([*changed.values()][:_MOST_DIFFERENCES])
    more = len(changed) - _MOST_DIFFERENCES
    raise UserError(
      f'{workdir}: holds results of other settings ({named}{f"; and {more} more" if more > 0 else ""}); use a new '
      '--workdir, or the settings that are there'
    )
