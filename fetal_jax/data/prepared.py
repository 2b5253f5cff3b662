"""The prepared data: what the prepare stage writes into `data/`, and the later stages read."""

import dataclasses
import pathlib

import numpy as np

from fetal_jax.data import records as records_lib
from fetal_jax.data import splits
from fetal_jax.data.sources.intake import Intake
from fetal_jax.data.sources.listing import Listing
from fetal_jax.runtime import files, fingerprint, records
from fetal_jax.runtime.errors import UserError

NAME = 'split.json'
RESULTS = ('images.npy', 'records.csv', NAME)
REMEDY = 'run --stage=prepare again, it makes it anew'


class SplitFile(splits.SplitSummary, frozen=True, forbid_unknown_fields=True, kw_only=True):
  """data/split.json: the settings that decide the data, which image is on which side, and the hashes of the files.

  Attributes:
    source, path, allow_missing, patients_csv, phantom_images, phantom_seed, image_size, channels, resize, split,
      test_fraction: settings of `config.data`; None where a setting does not count.
    seed: of the split.
    protocol: `config.classify.protocol`; under `paper` no image is held out for validation.
    class_names: in label order.
    num_images: of all sides.
    intake: what was in the source; None where it was drawn.
    listing: the files of the source; None where it was drawn or downloaded.
    split_hash: of which image is on which side.
    images_sha256, records_sha256: of images.npy and records.csv.
    train, validation, test: indices of the images.
  """

  source: str
  path: str | None = None
  allow_missing: bool | None = None
  patients_csv: str | None = None
  phantom_images: int | None = None
  phantom_seed: int | None = None
  image_size: int
  channels: int
  resize: str
  split: str
  test_fraction: float | None = None
  seed: int
  protocol: str = 'honest'
  class_names: tuple[str, ...]
  num_images: int
  intake: Intake | None
  listing: Listing | None = None
  split_hash: str
  images_sha256: str
  records_sha256: str
  train: list[int]
  validation: list[int]
  test: list[int]

  def damage(self, folder: pathlib.Path) -> str | None:
    """Returns the first other file that is not as it was written, and what is wrong with it; None if there is none."""
    for name, sha256 in (('images.npy', self.images_sha256), ('records.csv', self.records_sha256)):
      if damage := fingerprint.damage(folder / name, sha256):
        return f'{folder / name}: {damage}'
    return None


@dataclasses.dataclass(frozen=True)
class Prepared:
  """Images, and what is known of them.

  Attributes:
    images: uint8 [N, H, W, C], memory-mapped, read-only.
    records: one for each image.
    split: indices of train, validation and test.
    info: split.json, which all of this comes from.
  """

  images: np.ndarray
  records: records_lib.Records
  split: splits.Split
  info: SplitFile


def folder_of(workdir: files.PathLike) -> pathlib.Path:
  """Returns where the prepared data of a run is, or will be."""
  return pathlib.Path(workdir) / 'data'


def write_info(workdir: files.PathLike, info: SplitFile) -> None:
  """Writes split.json."""
  records.write(folder_of(workdir) / NAME, info)


def read_info(workdir: files.PathLike) -> SplitFile:
  """Reads split.json alone.

  Raises:
    FileNotFoundError: it is missing.
    DamagedFile: it is not what was written.
  """
  return records.read(folder_of(workdir) / NAME, SplitFile, remedy=REMEDY)


def load(workdir: files.PathLike) -> Prepared:
  """Reads what the prepare stage wrote.

  Raises:
    UserError: the stage has not been run, or a file is not what it wrote.
  """
  folder = folder_of(workdir)
  for name in RESULTS:
    if not (folder / name).is_file():
      raise UserError(f'{folder / name}: missing; run --stage=prepare first')
  info = read_info(workdir)
  if damage := info.damage(folder):
    raise UserError(f'{damage}; {REMEDY}')
  try:
    images = np.load(folder / 'images.npy', mmap_mode='r')
    table = records_lib.read_csv(folder / 'records.csv', info.class_names)
    split = splits.Split(*(np.asarray(getattr(info, side), np.int64) for side in splits.SIDES))
    if splits.split_hash(table, split) != info.split_hash or len(images) != len(table):
      raise ValueError('its files do not fit together')
  except (ValueError, KeyError, IndexError) as error:
    raise UserError(
      f'{folder}: damaged ({error}); delete the folder and run --stage=prepare again'
    ) from error
  return Prepared(images, table, split, info)
