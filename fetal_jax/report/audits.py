"""Reads what the optional stages left: the filter's choice, `evaluate/` (fidelity, copies, leakage) and `sweep/`."""

import pathlib
import re
from typing import Any

from fetal_jax.runtime import files
from fetal_jax.runtime.errors import UserError

INPUTS = (
  'synthetic/kept.json',
  'synthetic/kept.png',
  'synthetic/dropped.png',
  'evaluate/results.json',
  'evaluate/pairs_*.png',
  'sweep/results.json',
  'sweep/recommended.json',
  'sweep/scales.png',
  'sweep/samplers.png',
)


def read_evaluation(
  workdir: pathlib.Path, data: dict[str, Any] | None, rounds: list[dict[str, Any]], missing: list[str]
) -> dict[str, Any] | None:
  """What the evaluate stage found, None if it has not run, or not on the rounds and the split that are there now.

  A verdict on other images would be worse than none.
  """
  path = workdir / 'evaluate' / 'results.json'
  if not path.is_file():
    if rounds:
      missing.append(
        'Fidelity, copies and leakage: evaluate/results.json is not there; run --stage=evaluate.'
      )
    return None
  found = read_json(path)
  leakage, memorisation = found.get('leakage') or {}, found.get('memorisation') or {}
  drawn = sum(sum((r['counts'] or {}).values()) for r in rounds)
  if memorisation and memorisation.get('n_synthetic') != drawn:
    problem = f'is about {memorisation.get("n_synthetic"):,} synthetic images, there are {drawn:,}'
  elif data and leakage.get('split_hash') not in (None, data['split_hash']):
    problem = 'is about another split'
  else:
    return found
  missing.append(
    f'Fidelity, copies and leakage: evaluate/results.json {problem}; run --stage=evaluate again.'
  )
  return None


def read_kept(
  workdir: pathlib.Path, rounds: list[dict[str, Any]], missing: list[str]
) -> dict[str, Any] | None:
  """What the filter stage kept: `judge`, `rule`, `class_names` and, by round, counts by class.

  Returns:
    None if it has not run, or not on the rounds that are there now.
  """
  path = workdir / 'synthetic' / 'kept.json'
  if not path.is_file():
    return None
  from fetal_jax.data import rounds as rounds_lib

  found = read_json(path)
  marks = {str(one.number): one.hash for one in rounds_lib.find(workdir)}
  if {r: about.get('round_hash') for r, about in found['rounds'].items()} != marks:
    missing.append(
      'Quality filter: synthetic/kept.json is about other synthetic rounds than those that are there; delete it and run '
      '--stage=filter.'
    )
    return None
  counts = ('asked', 'judged_right', 'kept_per_class')
  return {
    **{key: found[key] for key in ('judge', 'rule', 'class_names')},
    'rounds': {r: {key: about[key] for key in counts} for r, about in found['rounds'].items()},
  }


def read_sweep(workdir: pathlib.Path) -> dict[str, Any] | None:
  """The sweep's results with `recommended` beside; None where there are none. Nobody misses it: it is optional."""
  path = workdir / 'sweep' / 'results.json'
  if not path.is_file():
    return None
  recommended = path.with_name('recommended.json')
  return {**read_json(path), 'recommended': read_json(recommended) if recommended.is_file() else None}


def read_json(path: pathlib.Path) -> dict[str, Any]:
  """Reads JSON.

  Raises:
    UserError: it is damaged.
  """
  try:
    return files.read_json(path)
  except ValueError as error:
    raise UserError(
      f'{path}: not JSON ({error}); delete it and run the stage that writes it again'
    ) from error


# Settings that name a file or a folder of the machine.
_PATHS = ('path', 'patients_csv', 'init_from', 'compilation_cache')
# From a root at the start of a word to that word's end; a fraction or an address is none.
_ABSOLUTE = re.compile(r"""(?<![^\s'"(=:,])(?:~|[A-Za-z]:)?[/\\](?:[^\s/\\'",;)]+[/\\])*([^\s/\\'",;)]+)""")


def without_places(value: Any, key: str = '') -> Any:
  """`value` with every local path cut down to its last part: where a machine keeps its files is nobody's business."""
  if isinstance(value, dict):
    return {k: without_places(v, str(k)) for k, v in value.items()}
  if isinstance(value, list | tuple):
    return [without_places(v, key) for v in value]
  if not isinstance(value, str):
    return value
  if key in _PATHS:
    return re.split(r'[/\\]', value.rstrip('/\\'))[-1]
  kind, colon, path = value.partition(':')
  if colon and kind in ('inception', 'dinov2'):  # config.evaluate.encoder
    return f'{kind}:{without_places(path, "path")}'
  return _ABSOLUTE.sub(r'\1', value)
