"""The reader of rounds: what every stage after sampling takes synthetic images from."""

import dataclasses
import pathlib
import re
from typing import Any

import numpy as np
from jaxtyping import Int32, UInt8

from fetal_jax.config import config_hash
from fetal_jax.data import decode
from fetal_jax.data.rounds import manifest as manifest_lib
from fetal_jax.data.rounds import own
from fetal_jax.data.rounds.manifest import Manifest
from fetal_jax.runtime.errors import DamagedFile, UserError
from fetal_jax.runtime.files import PathLike
from fetal_jax.runtime.fingerprint import Fingerprint

REMEDY = 'run --stage=sample again, it draws what is lost'


@dataclasses.dataclass(frozen=True)
class Round:
  """A round on disk.

  Attributes:
    folder: where it is.
    manifest: what it says of itself.
  """

  folder: pathlib.Path
  manifest: Manifest

  @property
  def number(self) -> int:
    """Returns the number of the round, from 1."""
    return self.manifest.round

  @property
  def num_images(self) -> int:
    """Returns the number of images of all classes."""
    return self.manifest.plan.num_images

  @property
  def hash(self) -> str:
    """Returns what identifies the images: a hash of the hashes of the shards."""
    return config_hash([shard.sha256 for shard in self.manifest.shards])

  def labels(self) -> Int32[np.ndarray, ' n']:
    """Returns the class of every image."""
    return self.manifest.plan.labels()

  def check_files(self) -> None:
    """Compares every file with its fingerprint; to be called before images are used.

    Raises:
      UserError: a file is not the one that was written.
    """
    for shard in self.manifest.shards:
      self.check_file(shard.file, shard)
    for name, fingerprint in self.manifest.files.items():
      self.check_file(name, fingerprint)

  def check_file(self, name: str, fingerprint: Fingerprint) -> None:
    """Compares one file, as `check_files` does."""
    if damage := fingerprint.damage(self.folder / name):
      raise UserError(f'{self.folder / name}: {damage}; {REMEDY}')

  def source(self) -> Any:
    """Returns the TFDS data source of the round, its images as PNG bytes.

    Raises:
      UserError: TFDS does not take the folder for a data set.
    """
    import tensorflow_datasets as tfds

    try:
      return decode.open_source(tfds.builder_from_directory(self.folder), 'train')
    except Exception as error:  # its parsers raise anything
      why = ' '.join(str(error).split())[:200]
      raise UserError(f'{self.folder}: no whole TFDS data set ({why}); {REMEDY}') from error

  def images(self, image_size: int, channels: int) -> UInt8[np.ndarray, 'n s s c']:
    """Checks the files, then decodes all images.

    Args:
      image_size: height and width of the result; others are resized.
      channels: 1 (grey) or 3 (RGB).

    Raises:
      UserError: a file is not the one that was written.
    """
    self.check_files()
    source = self.source()
    images = np.empty((self.num_images, image_size, image_size, channels), np.uint8)
    encoded = ((example['name'].decode(), example['image']) for example in decode.examples(source))
    decode.decode_all(encoded, images, what=f'Reading {self.folder}')
    return images


def folder_of(workdir: PathLike, number: int) -> pathlib.Path:
  """Returns where the round of this number is, or will be."""
  return pathlib.Path(workdir) / 'synthetic' / f'round_{number}'


def read(folder: PathLike) -> Round:
  """Reads a round's manifest; `manifest.complete` says whether the round is finished.

  Raises:
    FileNotFoundError: there is none.
    DamagedFile: the manifest is not what was written, or of another round than the folder's name says.
  """
  folder = pathlib.Path(folder)
  manifest = manifest_lib.read(folder)
  named = re.fullmatch(r'round_(\d+)', folder.name)
  if named and int(named[1]) != manifest.round:
    raise DamagedFile(
      f'{folder / manifest_lib.NAME}: is of round {manifest.round}; put the folder back under its name, or delete it '
      'and run --stage=sample again'
    )
  return Round(folder, manifest)


def begun(workdir: PathLike) -> dict[int, Round | None]:
  """Reads the manifests of all rounds of a run.

  Returns:
    {number: round} in order of the numbers; None for a round that is not finished.

  Raises:
    DamagedFile: a manifest is not what was written.
    UserError: a finished round was drawn by another run, or with other settings, see `own.check`.
  """
  numbers = [
    int(match[1])
    for path in (pathlib.Path(workdir) / 'synthetic').glob('round_*')
    if (match := re.fullmatch(r'round_([1-9]\d*)', path.name))
  ]
  found = {number: _finished(folder_of(workdir, number)) for number in sorted(numbers)}
  own.check(workdir, {one.folder: one.manifest for one in found.values() if one})
  return found


def find(workdir: PathLike) -> list[Round]:
  """Returns the finished rounds of a run, in order; as `begun`."""
  return [found for found in begun(workdir).values() if found is not None]


def _finished(folder: pathlib.Path) -> Round | None:
  try:
    found = read(folder)
  except FileNotFoundError:
    return None
  return found if found.manifest.complete else None
