"""synthetic/kept.json: the synthetic images that the quality filter kept, and who judged them by which rule."""

import pathlib
from collections.abc import Mapping

import msgspec
import numpy as np
from jaxtyping import Int

from fetal_jax.runtime import records
from fetal_jax.runtime.errors import UserError
from fetal_jax.runtime.files import PathLike

NAME = 'synthetic/kept.json'
_REMEDY = 'delete it and run --stage=filter again'


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
  """Which images are kept.

  Attributes:
    min_confidence: least probability of the class that was asked for; it must also be the highest.
    top_k: at most so many images a class, the most confident ones; 0 = all.
  """

  min_confidence: float
  top_k: int


class KeptRound(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
  """The filter's choice among the images of one round.

  Attributes:
    round_hash: of the round's shards.
    asked: number of images of each class.
    judged_right: number of those in which the judge finds the class that was asked for.
    kept_per_class: number of those that are kept.
    kept: indices of the kept images within the round, ascending.
  """

  round_hash: str
  asked: list[int]
  judged_right: list[int]
  kept_per_class: list[int]
  kept: list[int]


class Kept(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
  """The filter's choice among all rounds.

  Attributes:
    inputs: a hash of the rule, the judge, the split and the rounds.
    judge: who judged, in words.
    rule: which images are kept.
    class_names: the classes, in the order of all counts.
    rounds: by the number of the round, as text.
  """

  inputs: str
  judge: str
  rule: Rule
  class_names: list[str]
  rounds: dict[str, KeptRound]

  def is_of(self, hashes: Mapping[int, str]) -> bool:
    """Returns whether it is about exactly these rounds, given by number and hash."""
    return {number: r.round_hash for number, r in self.rounds.items()} == {
      str(number): mark for number, mark in hashes.items()
    }


def write(workdir: PathLike, kept: Kept) -> None:
  """Writes the filter's choice."""
  records.write(pathlib.Path(workdir) / NAME, kept)


def read(workdir: PathLike) -> Kept:
  """Reads the filter's choice.

  Raises:
    FileNotFoundError: the filter has not run.
    DamagedFile: the file is not what was written.
  """
  return records.read(pathlib.Path(workdir) / NAME, Kept, remedy=_REMEDY)


def read_indices(workdir: PathLike, hashes: Mapping[int, str]) -> dict[int, Int[np.ndarray, ' n']] | None:
  """Reads which images were kept of the rounds with these numbers and hashes; None if the filter has not run.

  Raises:
    UserError: the choice was made from other rounds, or the file is not what was written.
  """
  try:
    rounds = read(workdir).rounds
  except FileNotFoundError:
    return None
  for number, mark in hashes.items():
    found = rounds.get(str(number))
    if found is None or found.round_hash != mark:
      raise UserError(
        f'{pathlib.Path(workdir) / NAME}: was made from another round {number}; delete this file and run --stage=filter'
      )
  return {number: np.asarray(rounds[str(number)].kept, np.int64) for number in hashes}
