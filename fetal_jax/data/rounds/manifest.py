"""A round's manifest.json: the labels it holds, the model and the sampler that drew it, and its files."""

import pathlib
from typing import Annotated, Any

import ml_collections
import msgspec

from fetal_jax.data.rounds.plan import Plan, Shard
from fetal_jax.runtime import records
from fetal_jax.runtime.files import PathLike
from fetal_jax.runtime.fingerprint import Fingerprint

NAME = 'manifest.json'

Positive = Annotated[int, msgspec.Meta(ge=1)]


class SamplerSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
  """What decides an image beside its label and its key.

  Attributes:
    method: `ancestral`, `ddim` or `dpmpp_2m`.
    steps: of the respaced process.
    guidance_scale: factor of the guide's gradient; at 0 the guide is not computed.
    interval: (low, high) timesteps in which the guide acts; None = all.
    guidance_at: `x_t` or `mean`.
    eta: stochasticity of DDIM.
    clip: `static`, `dynamic` or None.
  """

  method: str = 'ancestral'
  steps: int = 250
  guidance_scale: float = 0.0
  interval: tuple[int, int] | None = None
  guidance_at: str = 'x_t'
  eta: float = 0.0
  clip: str | None = 'static'

  @classmethod
  def asked(cls, sample: ml_collections.ConfigDict, *, has_guide: bool) -> 'SamplerSettings':
    """Returns what the section `sample` of a config asks for, of a model with a guide or without."""
    return cls(
      method=sample.method,
      steps=sample.steps,
      guidance_scale=sample.guidance_scale if has_guide else 0.0,
      interval=tuple(sample.guidance_interval) or None,
      guidance_at=sample.guidance_at,
      eta=sample.eta,
      clip=None if sample.clip == 'none' else sample.clip,
    )

  def arguments(self) -> dict[str, Any]:
    """Returns the keyword arguments of `diffusion.sample.make_sample`; the steps are in its `process`."""
    return {
      'method': self.method,
      'guidance_scale': self.guidance_scale,
      'guidance_interval': self.interval,
      'guidance_at': self.guidance_at,
      'eta': self.eta,
      'clip': self.clip,
    }


class CheckpointMark(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
  """The checkpoint that drew a round.

  Attributes:
    step: optimiser steps.
    ema_rate: of the averaged weights.
    split_hash: of the split whose training side the model was trained on.
  """

  step: int
  ema_rate: float
  split_hash: str


class ShardEntry(Fingerprint, frozen=True, forbid_unknown_fields=True, kw_only=True):
  """One finished shard: images [first, first + count) of the round, all of one class.

  Attributes:
    bytes, sha256: of the file.
    file: its name.
    class_name: `class` in the file.
    label: of the class.
    first: index of the first image.
    count: number of images.
    seed, checkpoint_step, config_hash: what drew them, as in the manifest.
  """

  file: str
  class_name: str = msgspec.field(name='class')
  label: int
  first: int
  count: int
  seed: int
  checkpoint_step: int
  config_hash: str


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
  """A round of synthetic images.

  Attributes:
    round: its number, from 1.
    seed: of the keys.
    class_names: in label order.
    counts: number of images of each class; all equal.
    shard_size: most images in one file.
    image_size: height and width in pixels.
    channels: 1 (grey) or 3 (RGB).
    sampler: its settings.
    checkpoint: the model.
    config_hash: of the settings that the model was trained with.
    complete: whether all images are drawn and all files written.
    shards: the finished ones, in order.
    files: the other files of a complete round, by name.

  Raises:
    ValueError: the fields contradict each other, or a file name is not one of this round.
  """

  round: int
  seed: int
  class_names: tuple[str, ...]
  counts: dict[str, int]
  shard_size: int
  image_size: Positive
  channels: Positive
  sampler: SamplerSettings
  checkpoint: CheckpointMark
  config_hash: str
  complete: bool
  shards: tuple[ShardEntry, ...]
  files: dict[str, Fingerprint]

  def __post_init__(self) -> None:
    if tuple(self.counts) != self.class_names or len(set(self.counts.values())) != 1:
      raise ValueError('counts must have one number, for each of class_names in their order')
    plan = self.plan
    for entry in self.shards:  # one by one: a plan may claim more shards than a memory holds
      shard = plan.shard_at(entry.first)
      if shard is None or entry != self.entry(shard, entry):
        raise ValueError(f'{entry.file!r} is no shard of this round')
    if len({entry.first for entry in self.shards}) != (
      plan.num_shards if self.complete else len(self.shards)
    ):
      raise ValueError('shards are missing or listed twice')
    if self.complete != bool(self.files):
      raise ValueError('a complete round has other files, and only such a one')
    for name in self.files:
      if name in ('', '.', '..', NAME) or any(character in name for character in '/\\\0'):
        raise ValueError(f'{name!r} is no file of this round')

  @property
  def plan(self) -> Plan:
    """Returns which image shows which class."""
    return Plan(self.round, self.class_names, next(iter(self.counts.values())), self.shard_size)

  def entry(self, shard: Shard, fingerprint: Fingerprint) -> ShardEntry:
    """Returns the entry of a shard of this round, whose file has this fingerprint."""
    return ShardEntry(
      file=self.plan.file_name(shard),
      class_name=self.class_names[shard.label],
      label=shard.label,
      first=shard.start,
      count=shard.stop - shard.start,
      seed=self.seed,
      checkpoint_step=self.checkpoint.step,
      config_hash=self.config_hash,
      bytes=fingerprint.bytes,
      sha256=fingerprint.sha256,
    )


def write(folder: PathLike, manifest: Manifest) -> None:
  """Writes the manifest of the round in `folder`."""
  records.write(pathlib.Path(folder) / NAME, manifest)


def read(folder: PathLike) -> Manifest:
  """Reads the manifest of the round in `folder`.

  Raises:
    FileNotFoundError: there is none.
    DamagedFile: it is not what `write` wrote.
  """
  remedy = f'delete {folder} and run --stage=sample again, it draws the same images'
  return records.read(pathlib.Path(folder) / NAME, Manifest, remedy=remedy)
