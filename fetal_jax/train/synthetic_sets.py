"""The synthetic images that a regime trains on: whole rounds, the first so many, or those that the filter kept."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Int

from fetal_jax import config as config_lib
from fetal_jax.data import rounds as rounds_lib
from fetal_jax.data.loader import Source
from fetal_jax.runtime.errors import UserError
from fetal_jax.runtime.files import PathLike
from fetal_jax.train import kept as kept_lib
from fetal_jax.train import regimes


@dataclasses.dataclass(frozen=True)
class SyntheticSets:
  """The finished synthetic rounds of a run.

  Attributes:
    rounds: all images of each round.
    hashes: of each round's files.
    kept: of each round the images that the filter kept; None where the filter has not run.
  """

  rounds: Mapping[int, Source]
  hashes: Mapping[int, str]
  kept: Mapping[int, Int[np.ndarray, ' n']] | None = None

  def sources(self, name: str) -> list[Source]:
    """Returns the synthetic images that regime `name` itself trains on, round after round.

    Raises:
      UserError: there are fewer images than the regime counts, or the filter has not run.
    """
    regime = regimes.get(name)
    if regime.count:
      return first_images([self.rounds[r] for r in sorted(self.rounds)], regime.count)
    chosen = [self.rounds[r] for r in regime.rounds]
    if not regime.kept:
      return chosen
    if self.kept is None:
      raise UserError(f'regime {name}: {kept_lib.NAME} is missing; run --stage=filter')
    return [
      dataclasses.replace(source, indices=self.kept[r])
      for r, source in zip(regime.rounds, chosen, strict=True)
    ]

  def fingerprint(self, name: str) -> str:
    """Returns what identifies the synthetic images that regime `name` trains on, its start included."""
    used = self.seen_by(name)
    marks = [*used.values()]
    if regimes.synthetic(name).kept and self.kept is not None:
      marks += [config_lib.config_hash(self.kept[r].tolist()) for r in used]
    return ''.join('-' + mark for mark in marks)

  def seen_by(self, name: str) -> dict[int, str]:
    """Returns the rounds that regime `name` trains on, its start included: number -> hash."""
    regime = regimes.synthetic(name)
    return {r: self.hashes[r] for r in sorted(self.rounds if regime.count else regime.rounds)}


def first_images(rounds: Sequence[Source], count: int) -> list[Source]:
  """Returns the first `count` images of the rounds together, equally many a class (a remainder goes to the first).

  So a smaller set is part of every larger one, and with as many images as round 1 has, the set is round 1.

  Raises:
    UserError: there are fewer.
  """
  num_classes = 1 + max(int(source.labels.max()) for source in rounds)
  left = count // num_classes + (np.arange(num_classes) < count % num_classes)
  chosen = []
  for source in rounds:
    labels = source.labels[source.indices]
    mine = np.concatenate([np.flatnonzero(labels == k)[: left[k]] for k in range(num_classes)])
    left -= np.bincount(labels[mine], minlength=num_classes)
    if len(mine):
      chosen.append(dataclasses.replace(source, indices=source.indices[np.sort(mine)]))
  if left.any():
    total = sum(len(source.indices) for source in rounds)
    raise UserError(
      f'config.classify.curve: {count:,} images of {num_classes} classes are more than the {total:,} synthetic ones; '
      'ask for fewer, or set config.sample.per_class higher'
    )
  return chosen


def load(
  workdir: PathLike,
  count: int,
  class_names: Sequence[str],
  *,
  image_size: int,
  channels: int,
  kept: bool = False,
) -> SyntheticSets:
  """Reads rounds 1 to `count` of a run, and (`kept`) what the filter kept of them.

  Raises:
    UserError: a round is not finished, damaged or of other classes, or the filter's result is of other rounds.
  """
  finished = {found.number: found for found in rounds_lib.find(workdir)}
  rounds, hashes = {}, {}
  for r in range(1, count + 1):
    if r not in finished:
      raise UserError(
        f'{rounds_lib.folder_of(workdir, r)}: no finished synthetic round; run --stage=sample first'
      )
    found = finished[r]
    if found.manifest.class_names != tuple(class_names):
      raise UserError(
        f'{found.folder}: its classes ({", ".join(found.manifest.class_names)}) are not those of the prepared data '
        f'({", ".join(class_names)}); use a new --workdir'
      )
    images = found.images(image_size, channels)
    rounds[r] = Source(images, found.labels(), np.arange(len(images)), real=False)
    hashes[r] = found.hash
  return SyntheticSets(rounds, hashes, kept_lib.read_indices(workdir, hashes) if kept else None)
