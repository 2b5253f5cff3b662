"""sweep/results.json and sweep/recommended.json: the figures of every sampler setting, and the setting to sample with."""

import pathlib

import msgspec

from fetal_jax.evaluate.results import FidelityScores
from fetal_jax.runtime import records
from fetal_jax.runtime.files import PathLike

_REMEDY = 'delete the sweep folder and run --stage=sweep again'


class SweepRow(FidelityScores, frozen=True):
  """One sampler setting and its figures.

  Attributes:
    method, steps, guidance_scale: the setting.
    seconds: drawing took, compilation left out.
    classifier_accuracy: share of the images that the judge takes for what was asked.
    guide_accuracy: share that the guide takes for what was asked; None without a guide.
  """

  method: str
  steps: int
  guidance_scale: float
  seconds: float
  classifier_accuracy: float
  guide_accuracy: float | None


class Common(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
  """The settings of the sampler that a sweep leaves as they are, see `data.rounds.SamplerSettings`."""

  interval: tuple[int, int] | None = None
  guidance_at: str = 'x_t'
  eta: float = 0.0
  clip: str | None = 'static'


class SweepResults(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
  """All settings that were drawn, and what they were judged by.

  Attributes:
    images: number drawn for each setting.
    seed: of the draws.
    checkpoint_step: of the model.
    split_hash: of the split that the model was trained on.
    classifier, encoder: as asked for in `config.evaluate`.
    common: the sampler's other settings, equal for all rows.
    settings: {name of a setting: its row}.
    reference: a sentence: which real images the settings are compared with.
    judge, encoded_by: a sentence on each.
    real_accuracy: of the judge on these real images.
    floor: figures of real training images.
  """

  images: int
  seed: int
  checkpoint_step: int
  split_hash: str | None
  classifier: str
  encoder: str
  common: Common
  settings: dict[str, SweepRow]
  reference: str
  judge: str
  encoded_by: str
  real_accuracy: float
  floor: FidelityScores


class Recommended(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
  """The setting to sample with.

  Attributes:
    flags: the words of the command line that ask for it.
    why: the rule that it was chosen by.
    method, steps, guidance_scale: the setting.
  """

  flags: list[str]
  why: str
  method: str
  steps: int
  guidance_scale: float


def folder(workdir: PathLike) -> pathlib.Path:
  """Returns where a run keeps its sweep."""
  return pathlib.Path(workdir) / 'sweep'


def write(workdir: PathLike, results: SweepResults) -> None:
  """Writes the settings that were drawn so far, whole or not at all."""
  records.write(folder(workdir) / 'results.json', results)


def read(workdir: PathLike) -> SweepResults:
  """Reads the settings that were drawn so far.

  Raises:
    FileNotFoundError: there are none.
    DamagedFile: the file is not what was written.
  """
  return records.read(folder(workdir) / 'results.json', SweepResults, remedy=_REMEDY)


def write_recommended(workdir: PathLike, recommended: Recommended) -> None:
  """Writes the setting to sample with."""
  records.write(folder(workdir) / 'recommended.json', recommended)


def read_recommended(workdir: PathLike) -> Recommended:
  """Reads the setting to sample with.

  Raises:
    FileNotFoundError: the sweep is not finished.
    DamagedFile: the file is not what was written.
  """
  return records.read(folder(workdir) / 'recommended.json', Recommended, remedy=_REMEDY)
