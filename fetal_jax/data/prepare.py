"""The prepare stage: every image decoded once into a memory-mapped array, and who is on which side."""

import contextlib
import dataclasses
import errno
import io
import os
import pathlib
import shutil
from typing import Any

import numpy as np
from absl import logging

from fetal_jax.config import check_values, of_source
from fetal_jax.data import decode, sources, splits
from fetal_jax.data import records as records_lib
from fetal_jax.runtime import files
from fetal_jax.runtime.errors import DamagedFile, UserError

RESULTS = ('images.npy', 'records.csv', 'split.json')
_HASHES = {'images.npy': 'images_sha256', 'records.csv': 'records_sha256'}  # in split.json, which is sealed
ORIGIN = 'origin.json'  # beside the TFDS data set: what it was built from, which TFDS does not record


@dataclasses.dataclass(frozen=True)
class Prepared:
  """What the later stages read.

  Attributes:
    images: uint8 [N, H, W, C], memory-mapped, read-only.
    records: what is known about each.
    split: indices of train, validation and test.
    info: split.json, where all of this comes from.
  """

  images: np.ndarray
  records: records_lib.Records
  split: splits.Split
  info: dict[str, Any]


def run(config: Any, workdir: files.PathLike) -> bool:
  """Writes `<workdir>/data/{images.npy, records.csv, split.json}`, or finds them whole and returns.

  Returns:
    Whether there was anything to do.

  Raises:
    UserError: a setting or the source is not as it must be, or the workdir was prepared with other settings.
  """
  check_values(config, 'data')
  folder = pathlib.Path(workdir) / 'data'
  settings = _settings(config)
  if _is_done(folder, settings):
    logging.info('prepare: done before (%s).', folder)
    return False

  builder, intake = _build(config.data, folder / 'tfds', settings)
  try:
    _write(builder, config, folder, settings, intake)
  except UserError:
    # The user will mend the source, so the next attempt has to read it again.
    (folder / 'tfds' / ORIGIN).unlink()
    raise
  return True


def load(workdir: files.PathLike) -> Prepared:
  """Reads what `run` wrote.

  Raises:
    UserError: the stage has not been run, or a file is not what it wrote.
  """
  folder = pathlib.Path(workdir) / 'data'
  for name in RESULTS:
    if not (folder / name).is_file():
      raise UserError(f'{folder / name} is not there: run --stage=prepare first')
  try:
    info = files.read_json(folder / 'split.json')
    if damaged := _damaged(folder, info):
      raise UserError(f'{damaged}; run --stage=prepare again, it makes it anew')
    images = np.load(folder / 'images.npy', mmap_mode='r')
    records = records_lib.read_csv(folder / 'records.csv', info['class_names'])
    split = splits.Split(*(np.asarray(info[side], np.int64) for side in splits.SIDES))
  except DamagedFile as error:
    raise UserError(
      f'{folder / "split.json"}: damaged; run --stage=prepare again, it makes it anew'
    ) from error
  except (ValueError, KeyError) as error:
    raise UserError(
      f'{folder}: damaged ({error}); delete the folder and run --stage=prepare again'
    ) from error
  if not len(images) == len(records) == info['num_images']:
    raise UserError(
      f'{folder}: its files do not fit together; delete the folder and run --stage=prepare again'
    )
  return Prepared(images, records, split, info)


def _settings(config: Any) -> dict[str, Any]:
  """Every setting that decides what this stage writes."""
  data = config.data
  keys = ('source', *of_source(data.source), 'image_size', 'channels', 'resize', 'split')
  settings = {key: data[key] for key in keys}
  if data.split == 'patient':
    settings['test_fraction'] = data.test_fraction
  return {**settings, 'seed': config.seed}


def _is_done(folder: pathlib.Path, settings: dict[str, Any]) -> bool:
  """Whether the stage's files are whole; UserError if they were made with other settings."""
  try:
    info = files.read_json(folder / 'split.json')
  except FileNotFoundError:
    return False
  except DamagedFile:
    logging.warning('%s: damaged; preparing again', folder / 'split.json')
    return False
  for key, value in settings.items():
    if info.get(key) != value:
      name = key if key == 'seed' else f'data.{key}'
      raise UserError(
        f'{folder} was prepared with {name}={info.get(key)!r}, not {value!r}: use a new --workdir, or set it back'
      )
  if damaged := _damaged(folder, info):
    logging.warning('%s; preparing again', damaged)
    return False
  return True


def _damaged(folder: pathlib.Path, info: dict[str, Any]) -> str | None:
  """The first file that is not as it was written, and what is wrong with it; None if there is none."""
  for name, key in _HASHES.items():
    if key in info and (damage := files.damage(folder / name, {'sha256': info[key]})):
      return f'{folder / name}: {damage}'
  return None


def _build(data: Any, folder: pathlib.Path, settings: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
  """The source as a TFDS data set under `folder`: opened if it was built from the same source, else built.

  Returns:
    Its builder, and what was in the source: of how many rows and files how many images were taken, and why the
    others were not.
  """
  import tensorflow_datasets as tfds

  origin = {key: settings[key] for key in ('source', *of_source(data.source))}
  note = folder / ORIGIN
  if built := _built_before(folder, origin):
    return tfds.builder_from_directory(folder / built['directory']), built.get('intake', {})
  for old in folder.glob('*'):  # another source's, or half of this one: a killed build
    if old.is_dir() and old.name != 'downloads':
      shutil.rmtree(old)
  builder = sources.SOURCES[data.source](data, folder)
  tfds.disable_progress_bar()  # the builders show their own
  with contextlib.redirect_stdout(io.StringIO()):  # TFDS announces a download of unknown size
    builder.download_and_prepare(
      download_dir=sources.download_dir(data),
      download_config=tfds.download.DownloadConfig(try_download_gcs=False),
    )
  directory = pathlib.Path(builder.data_dir)
  intake = getattr(builder, 'intake', {})
  if intake:
    logging.info('prepare: %s: %s', data.path or data.source, _in_words(intake))
  about = {
    'origin': origin,
    'directory': directory.relative_to(folder).as_posix(),
    'intake': intake,
    'files': {path.name: files.fingerprint(path) for path in sorted(directory.iterdir())},
  }
  files.write_json(note, about, seal=True)
  return builder, intake


def _built_before(folder: pathlib.Path, origin: dict[str, Any]) -> dict[str, Any] | None:
  """What is noted of a TFDS data set that was built from `origin` and is still whole; None if there is none."""
  try:
    built = files.read_json(folder / ORIGIN)
  except FileNotFoundError:
    return None
  except DamagedFile:
    logging.warning('%s: damaged; reading the source again', folder / ORIGIN)
    return None
  directory = folder / built['directory']
  if built['origin'] != origin or not directory.is_dir():
    return None
  for name, fingerprint in built.get('files', {}).items():
    if damage := files.damage(directory / name, fingerprint):
      logging.warning('%s: %s; reading the source again', directory / name, damage)
      return None
  return built


def _in_words(intake: dict[str, Any]) -> str:
  """For example `12,400 rows and 12,403 files read, 12,400 images taken; left out: 2 images without a row`."""
  read = ' and '.join(f'{intake[what]:,} {what}' for what in ('rows', 'files') if what in intake)
  left_out = ', '.join(f'{count:,} {why}' for why, count in intake['left_out'].items())
  return f'{read} read, {intake["images"]:,} images taken; left out: {left_out or "nothing"}'


def _write(
  builder: Any, config: Any, folder: pathlib.Path, settings: dict[str, Any], intake: dict[str, Any]
) -> None:
  """Splits and decodes a built TFDS data set and writes the stage's files, split.json last."""
  data = config.data
  source = decode.open_source(builder)
  records = _records(source, tuple(builder.info.features['label'].names))
  split = splits.SPLITS[data.split](records, seed=config.seed, test_fraction=data.test_fraction)
  about = splits.describe(records, split)
  _log_split(data.split, about)

  shape = (len(records), data.image_size, data.image_size, data.channels)
  with files.replacing(folder / 'images.npy') as temporary:
    images = np.lib.format.open_memmap(temporary, mode='w+', dtype=np.uint8, shape=shape)
    _reserve(temporary)
    encoded = ((example['name'].decode(), example['image']) for example in decode.examples(source))
    decode.decode_all(encoded, images, resize=data.resize, workers=data.num_workers)
    images.flush()
    del images
  records_lib.write_csv(folder / 'records.csv', records)
  info = {
    **settings,
    'class_names': list(records.class_names),
    'num_images': len(records),
    'intake': intake,
    **about,
    'split_hash': splits.split_hash(records, split),
    'images_sha256': files.sha256(folder / 'images.npy'),
    'records_sha256': files.sha256(folder / 'records.csv'),
    **{side: getattr(split, side).tolist() for side in splits.SIDES},
  }
  files.write_json(folder / 'split.json', info, seal=True)
  logging.info('prepare: %s images of %s in %s', f'{len(records):,}', ' x '.join(map(str, shape[1:])), folder)


def _reserve(path: pathlib.Path) -> None:
  """Takes a file's space on the disk now: a mapped file for which there is none left ends in a fatal bus error."""
  if hasattr(os, 'posix_fallocate'):
    with open(path, 'r+b') as f:
      try:
        os.posix_fallocate(f.fileno(), 0, path.stat().st_size)
      except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):  # others: not every file system can
          raise OSError(error.errno, error.strerror, str(path)) from error


def _records(source: Any, class_names: tuple[str, ...]) -> records_lib.Records:
  """The records of a data set with the features of `fetal_jax.data.features`."""
  from fetal_jax.data.sources.features import OFFICIAL_TRAIN_UNKNOWN

  columns: dict[str, list[Any]] = {}
  for example in decode.examples(source):
    del example['image']
    for key, value in example.items():
      columns.setdefault(key, []).append(value.decode() if isinstance(value, bytes) else int(value))
  known = OFFICIAL_TRAIN_UNKNOWN not in columns['official_train']
  return records_lib.make(
    columns['name'],
    columns['label'],
    columns['patient'],
    class_names,
    brain_planes=columns['brain_plane'],
    operators=columns['operator'],
    machines=columns['machine'],
    official_train=[train == 1 for train in columns['official_train']] if known else None,
  )


def _log_split(name: str, about: dict[str, Any]) -> None:
  """Logs the images per class and side, and what the split lets through."""
  classes = list(about['images']['train'])
  width = max(map(len, classes), default=0)
  logging.info('Split %r: images per class', name)
  logging.info('  %s %10s %10s %10s', ' ' * width, *splits.SIDES)
  for label in classes:
    counts = [about['images'][side][label] for side in splits.SIDES]
    logging.info('  %s %10d %10d %10d', label.ljust(width), *counts)
    for side, count in zip(splits.SIDES, counts, strict=True):
      if not count:
        logging.warning('class %s has no %s images: nothing can be said of it there', label, side)
  logging.info('  %s %10d %10d %10d', 'all'.ljust(width), *about['totals'].values())
  logging.info('  %s %10d %10d %10d', 'patients'.ljust(width), *about['patients'].values())
  logging.info(
    '  %.1f %% of the test images show a patient who is also in train or validation, %.1f %% in the same class',
    100 * about['test_patient_overlap'],
    100 * about['test_patient_class_overlap'],
  )
