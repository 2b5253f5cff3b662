"""Where in a file a network's entries are: without what training scripts put before their names, averages first.

A file may hold a network under prefixes (`module.`, `model.`, `backbone.`), with others beside it (a teacher, a loss), and
with an average of its weights (EMA), which is what is sampled from and published: it is preferred.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple, TypeVar

Entry = TypeVar('Entry')

# What wrappers put before all names: DataParallel, torch.compile, Lightning and others.
PREFIXES = ('module.', '_orig_mod.', 'model.', 'backbone.')

# Blocks of a network, which may have a layer that is called as its first one is.
_BLOCK = re.compile(r'(?:layer|block|stage)[^.]*\.\d+\.$')


class Found(NamedTuple):
  """The entries of one network.

  Attributes:
    entries: by name, without prefix.
    outside: names in `entries` of what is beside the network, such as a head or a loss.
    said: by prefix, what was done with it.
  """

  entries: dict
  outside: frozenset[str]
  said: dict[str, str]


def is_average(name: str) -> bool:
  """Returns whether a name says that what is under it is an exponential moving average of weights."""
  return 'ema' in re.split('[^a-z]+', name.lower())


def without_prefixes(entries: Mapping[str, Entry]) -> dict[str, Entry]:
  """Takes off `PREFIXES` that all names have, also several of them."""
  entries = dict(entries)
  while prefix := next(
    (p for p in PREFIXES if entries and all(name.startswith(p) for name in entries)), None
  ):
    entries = {name.removeprefix(prefix): entry for name, entry in entries.items()}
  return entries


def averaged(entries: Mapping[str, Entry], averages: Mapping[str, Entry]) -> dict[str, Entry] | None:
  """Puts averages in the place of the entries that they are of; None if they are of none.

  Averages are often of parameters alone; a network's statistics are then those of the entries.
  """
  taken = {name: entry for name, entry in averages.items() if name in entries}
  return {**entries, **taken} if taken else None


def find(entries: Mapping[str, Entry], first: str) -> Found:
  """Finds a network whose first layer is called `first`, under any prefix; all entries if it is nowhere."""
  prefixes = [name.removesuffix(first) for name in entries if f'.{name}'.endswith(f'.{first}')]
  prefixes = [p for p in prefixes if not _BLOCK.search(p)]
  networks = _outermost([p for p in prefixes if not is_average(p)])
  averages = _outermost([p for p in prefixes if is_average(p)])
  if not networks:  # averages alone, or nothing that is known
    networks, averages = averages, []
  if not networks:
    return Found(dict(entries), frozenset(), {})
  (prefix, *others), said = networks, {}
  under = {
    p: {n.removeprefix(p): e for n, e in entries.items() if n.startswith(p)} for p in (*networks, *averages)
  }
  apart = tuple(p for p in under if p != prefix)
  inside = {name: entry for name, entry in under[prefix].items() if not (prefix + name).startswith(apart)}
  outside = {
    _beside(name, prefix): entry for name, entry in entries.items() if not name.startswith((prefix, *apart))
  }
  if prefix:
    said[prefix] = 'taken off'
  said |= dict.fromkeys(others, 'left out: a second network')
  for p in averages[:1]:
    if (taken := averaged(inside, under[p])) is not None:
      inside, said[p] = taken, 'averages (EMA), taken in place of the weights beside them'
  return Found({**outside, **inside}, frozenset(outside), said)


def _beside(name: str, prefix: str) -> str:
  """Takes off what the name of an entry beside a network has in common with the network's prefix."""
  parts, common = name.split('.'), 0
  for part, other in zip(parts[:-1], prefix.split('.'), strict=False):
    if part != other:
      break
    common += 1
  return '.'.join(parts[common:])


def _outermost(prefixes: list[str]) -> list[str]:
  """Leaves out prefixes within others: what is there belongs to the network around it."""
  return [p for p in prefixes if not any(p != other and p.startswith(other) for other in prefixes)]
