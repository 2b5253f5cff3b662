"""Configs: made from the table of settings, from a file, from a command line; as plain values, and hashed.

A config file (`configs/*.py`) starts from `default_config()` and changes what its experiment changes. The result is
locked: a key that the table does not have is refused by name.
"""

import ast
import difflib
import hashlib
import importlib.util
import json
import pathlib
from typing import Any

import ml_collections

from fetal_jax.config.settings import SETTINGS, TABLE
from fetal_jax.runtime import files
from fetal_jax.runtime.errors import DamagedFile, UserError


def default_config() -> ml_collections.ConfigDict:
  """Returns the paper's experiment at 128 px with the width-128 ADM: every setting with its default."""
  values: dict[str, Any] = {}
  for setting in SETTINGS:
    *sections, key = setting.name.split('.')
    node = values
    for section in sections:
      node = node.setdefault(section, {})
    node[key] = setting.default
  return ml_collections.ConfigDict(values).lock()


def get(config: ml_collections.ConfigDict, name: str) -> Any:
  """Returns the value of a setting by its dotted name."""
  for part in name.split('.'):
    config = config[part]
  return config


def to_dict(config: ml_collections.ConfigDict) -> dict[str, Any]:
  """Returns the config as nested plain dicts that JSON can hold (tuples become lists there)."""
  return config.to_dict()


def from_dict(values: dict[str, Any]) -> ml_collections.ConfigDict:
  """Returns the config of which `to_dict` made the values, also after JSON; missing keys take their defaults.

  Raises:
    DamagedFile: they are no such values.
  """
  config = default_config()
  config.unlock()
  try:
    config.update(_tuples(values))
  except (TypeError, AttributeError, ValueError, KeyError) as error:
    raise DamagedFile(
      f'settings that a run has kept are damaged ({" ".join(str(error).split())}); put a whole copy of its config.json '
      'or checkpoint back, or use a new --workdir'
    ) from error
  return config.lock()


def _tuples(value: Any) -> Any:
  if isinstance(value, dict):
    return {k: _tuples(v) for k, v in value.items()}
  if isinstance(value, list):
    return tuple(_tuples(v) for v in value)
  return value


def config_hash(*parts: Any) -> str:
  """Returns a short hash of settings (config sections or plain values), independent of the order of keys."""
  plain = [_hashed(p.to_dict() if isinstance(p, ml_collections.ConfigDict) else p) for p in parts]
  return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]


# A round's manifest hashes the whole section `diffusion`, and a model may be trained on with this switched on: it changes
# no step that would have been taken without it.
_UNHASHED = ('skip_nonfinite',)
# Settings that are younger than rounds and results with such a hash, which were made with these values.
_UNHASHED_AT = {'resblock_updown': True, 'use_scale_shift_norm': True}


def _hashed(value: Any) -> Any:
  if isinstance(value, dict):
    kept = {k: v for k, v in value.items() if k not in _UNHASHED}
    return {k: _hashed(v) for k, v in kept.items() if k not in _UNHASHED_AT or v != _UNHASHED_AT[k]}
  return value


def load_file(path_and_argument: str) -> ml_collections.ConfigDict:
  """Reads `configs/file.py` or `configs/file.py:argument` (calls its `get_config(argument)`).

  Raises:
    UserError: no such file, no `get_config`, or the file sets a key that does not exist or a wrong type.
  """
  path, _, argument = path_and_argument.partition(':')
  path = files.expanded(path)
  if not pathlib.Path(path).is_file():
    raise UserError(f'--config={path_and_argument}: no such file; see configs/ for those of the project')
  spec = importlib.util.spec_from_file_location('fetal_jax_user_config', path)
  assert spec is not None
  assert spec.loader is not None
  module = importlib.util.module_from_spec(spec)
  try:
    spec.loader.exec_module(module)
    config = module.get_config(argument) if argument else module.get_config()
  except UserError:
    raise
  except Exception as error:
    raise UserError(f'--config={path_and_argument}: {" ".join(str(error).split())}') from error
  for setting in SETTINGS:
    if setting.path:
      *sections, key = setting.name.split('.')
      node = get(config, '.'.join(sections)) if sections else config
      node[key] = _at_home(node[key])
  return config.lock()


def _at_home(value: Any) -> Any:
  """Returns a setting that names files, `~` replaced by the home folder: `~/a`, `inception:~/a`, or several."""
  if isinstance(value, tuple | list):
    return tuple(_at_home(one) for one in value)
  if not isinstance(value, str):
    return value
  kind, colon, path = value.partition(':~')
  return f'{kind}:{files.expanded(f"~{path}")}' if colon and kind.isalnum() else files.expanded(value)


def override(config: ml_collections.ConfigDict, key: str, text: str) -> None:
  """Sets `key` (dotted) from a command line's text, keeping the type that the default has.

  Raises:
    UserError: no such key, or the text is not of its type.
  """
  *parents, leaf = key.split('.')
  node = config
  for parent in parents:
    node = node[parent] if isinstance(node, ml_collections.ConfigDict) and parent in node else None
  if not isinstance(node, ml_collections.ConfigDict) or leaf not in node:
    raise UserError(f'--config.{key}: no such key{_did_you_mean(config, key)}')
  old = node[leaf]
  if isinstance(old, ml_collections.ConfigDict):
    raise UserError(f'--config.{key}: this is a section; set one of {", ".join(sorted(old))}')
  value = _parse(key, text, old)
  node[leaf] = _at_home(value) if key in TABLE and TABLE[key].path else value


def _parse(key: str, text: str, old: Any) -> Any:
  wanted = {
    bool: 'true or false',
    int: 'a whole number',
    float: 'a number',
    tuple: "a list like (1, 2) or 'a','b'",
  }
  if isinstance(old, str):
    return text
  value: Any
  try:
    value = {'true': True, 'false': False}.get(text.lower())
    value = ast.literal_eval(text) if value is None else value
  except (ValueError, SyntaxError):
    # resnet50,swin_t: names without quotes read well on a command line.
    value = tuple(text.split(',')) if isinstance(old, tuple) else text
  if isinstance(old, tuple):
    value = tuple(value) if isinstance(value, tuple | list) else (value,)
  if isinstance(old, float) and isinstance(value, int) and not isinstance(value, bool):
    value = float(value)
  if type(value) is not type(old):
    raise UserError(f'--config.{key}={text}: must be {wanted.get(type(old), type(old).__name__)}')
  return value


def _did_you_mean(config: ml_collections.ConfigDict, key: str) -> str:
  keys = [k for k, _ in flatten(to_dict(config))]
  close = difflib.get_close_matches(key, keys, n=1) or [k for k in keys if k.endswith('.' + key)][:1]
  return f'; did you mean --config.{close[0]}?' if close else '; --print_config shows the ones there are'


def flatten(values: dict[str, Any], prefix: str = '') -> list[tuple[str, Any]]:
  """Returns nested dicts as (dotted key, value) pairs; an empty section has none."""
  pairs = []
  for key, value in values.items():
    if isinstance(value, dict):
      pairs += flatten(value, f'{prefix}{key}.')
    else:
      pairs.append((prefix + key, value))
  return pairs
