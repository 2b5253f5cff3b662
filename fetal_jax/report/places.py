"""Takes local paths out of what is published: where a machine keeps its files concerns nobody else."""

import re
from typing import Any

# Settings that name a file or a folder of the machine.
_PATHS = ('path', 'patients_csv', 'init_from', 'compilation_cache')
# From a root at the start of a word to that word's end; a fraction or an address is none.
_ABSOLUTE = re.compile(r"""(?<![^\s'"(=:,])(?:~|[A-Za-z]:)?[/\\](?:[^\s/\\'",;)]+[/\\])*([^\s/\\'",;)]+)""")


def without_places(value: Any, key: str = '') -> Any:
  """Returns JSON values with every local path cut down to its last part.

  Args:
    value: dicts, lists and plain values.
    key: the name of the value in its dict.
  """
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
