"""The prepare stage: decodes every image once into a memory-mapped array, and splits them."""

import contextlib
import errno
import io
import os
import pathlib
import re
import shutil
from typing import Any

import ml_collections
import msgspec
import numpy as np
from absl import logging

from fetal_jax.config import has_begun, of_source
from fetal_jax.data import decode, prepared, sources, spellings, splits
from fetal_jax.data import records as records_lib
from fetal_jax.data.brightness import Brightness
from fetal_jax.data.prepared import SplitFile
from fetal_jax.data.sources import listing
from fetal_jax.data.sources.fetal_planes_db.metadata import CSV_NAME
from fetal_jax.data.sources.intake import Intake
from fetal_jax.data.sources.listing import Listing
from fetal_jax.runtime import files, records
from fetal_jax.runtime.errors import DamagedFile, UserError
from fetal_jax.runtime.fingerprint import Fingerprint

ORIGIN = 'origin.json'
_VERSION = re.compile(r'\d+\.\d+\.\d+(\.incomplete.*)?')

Setting = str | int | float | bool


class Origin(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
  """origin.json beside the TFDS data set: what the data set was built from, which TFDS does not record.

  Attributes:
    origin: the settings that decide what is in the source.
    directory: of the data set, beside this file.
    intake: what was in the source; None where it was drawn.
    listing: the files of the source; None where it was drawn or downloaded.
    files: name -> fingerprint of the files of the data set.
  """

  origin: dict[str, Setting]
  directory: str
  intake: Intake | None
  listing: Listing | None
  files: dict[str, Fingerprint]

  def __post_init__(self) -> None:
    for name in (*self.directory.split('/'), *self.files):
      if name in ('', '.', '..') or any(character in name for character in '/\\\0'):
        raise ValueError(f'{name!r} does not lie beside this file')


def run(config: ml_collections.ConfigDict, workdir: files.PathLike) -> bool:
  """Writes `<workdir>/data/{images.npy, records.csv, split.json}`, or finds them whole and returns.

  Returns:
    Whether there was anything to do.

  Raises:
    UserError: the source is not as it must be, or the workdir was prepared with other settings or from other data.
  """
  settings = _settings(config)
  now = _listing(config.data)
  if _is_done(workdir, settings, now):
    logging.info('prepare: done before (%s).', prepared.folder_of(workdir))
    return False

  tfds_folder = prepared.folder_of(workdir) / 'tfds'
  builder, built = _build(config.data, tfds_folder, now)
  try:
    _write(builder, config, workdir, settings, built)
  except UserError:
    # The user will mend the source, so the next attempt has to read it again.
    (tfds_folder / ORIGIN).unlink()
    raise
  return True


def _settings(config: ml_collections.ConfigDict) -> dict[str, Setting]:
  """Returns every setting that decides what this stage writes."""
  data = config.data
  keys = ['source', *of_source(data.source), 'image_size', 'channels', 'resize', 'split']
  if data.split == 'patient':
    keys.append('test_fraction')
  return {**{key: data[key] for key in keys}, 'seed': config.seed, 'protocol': config.classify.protocol}


def _listing(data: ml_collections.ConfigDict) -> Listing | None:
  """Lists what lies in the source now; None where it has no files of the user's, or they are not there."""
  settings = of_source(data.source)
  if 'path' not in settings or not data.path:
    return None
  tables = [data.patients_csv] if 'patients_csv' in settings and data.patients_csv else []
  return listing.of(data.path, *tables, table_inside=CSV_NAME if data.source == 'fetal_planes_db' else '')


def _is_done(workdir: files.PathLike, settings: dict[str, Setting], now: Listing | None) -> bool:
  """Returns whether the stage's files are whole and of the source as it is now.

  Raises:
    UserError: they were made with other settings; or the source has changed, and something was trained on them.
  """
  folder = prepared.folder_of(workdir)
  try:
    info = prepared.read_info(workdir)
  except FileNotFoundError:
    return False
  except DamagedFile as error:
    logging.warning('%s: damaged; preparing again (%s)', folder / prepared.NAME, error)
    return False
  for key, value in settings.items():
    if (old := getattr(info, key)) != value:
      name = {'seed': 'seed', 'protocol': 'classify.protocol'}.get(key, f'data.{key}')
      raise UserError(
        f'{folder} was prepared with {name}={old!r}, not {value!r}: use a new --workdir, or set it back'
      )
  if info.listing and now and (changes := info.listing.changes(now)):
    if has_begun(workdir):
      raise UserError(
        f'{folder} was prepared from other data ({changes}), and the results here are of these: use a new --workdir for '
        'the data as they are now, or put them back'
      )
    logging.warning('%s was prepared from other data (%s); preparing again', folder, changes)
    return False
  if damage := info.damage(folder):
    logging.warning('%s; preparing again', damage)
    return False
  return True


# The source as a TFDS data set.


def _build(data: ml_collections.ConfigDict, folder: pathlib.Path, now: Listing | None) -> tuple[Any, Origin]:
  """Makes the source a TFDS data set under `folder`, unless it was built from the same source before.

  Args:
    data: the settings.
    folder: of the data set.
    now: what lies in the source, listed before it is read: what changes meanwhile is noticed by the next start.

  Returns:
    Its builder, and what it was built from.
  """
  import tensorflow_datasets as tfds

  settings = {key: data[key] for key in of_source(data.source)}
  origin = {'source': data.source, **settings}
  if before := _built_before(folder, origin, now):
    return tfds.builder_from_directory(folder / before.directory), before
  for old in folder.glob('*'):  # another source's, or half of this one: a killed build
    if _is_of_tfds(old):
      shutil.rmtree(old)
  builder = sources.SOURCES[data.source](folder, **settings)
  tfds.disable_progress_bar()  # the builders show their own
  with contextlib.redirect_stdout(io.StringIO()):  # TFDS announces a download of unknown size
    builder.download_and_prepare(
      download_dir=sources.download_dir(data.source, data.path),
      download_config=tfds.download.DownloadConfig(try_download_gcs=False),
    )
  intake = getattr(builder, 'intake', None)
  if intake:
    logging.info('prepare: %s: %s', data.path or data.source, intake)
  directory = pathlib.Path(builder.data_dir)
  built = Origin(
    origin=origin,
    directory=directory.relative_to(folder).as_posix(),
    intake=intake,
    listing=now,
    files={path.name: Fingerprint.of(path) for path in sorted(directory.iterdir())},
  )
  records.write(folder / ORIGIN, built)
  return builder, built


def _is_of_tfds(folder: pathlib.Path) -> bool:
  """Returns whether a folder is a data set as TFDS lays it out, `<name>/<version>`, whole or half, and nothing else."""
  if folder.is_symlink() or not folder.is_dir():
    return False
  return all(_VERSION.fullmatch(path.name) and not path.is_symlink() for path in folder.iterdir())


def _built_before(folder: pathlib.Path, origin: dict[str, Setting], now: Listing | None) -> Origin | None:
  """Returns what is noted of a TFDS data set that was built from `origin` as it is now, and is whole; None without one."""
  try:
    built = records.read(folder / ORIGIN, Origin)
  except FileNotFoundError:
    return None
  except DamagedFile:
    logging.warning('%s: damaged; reading the source again', folder / ORIGIN)
    return None
  directory = folder / built.directory
  if built.origin != origin or not directory.is_dir():
    return None
  if built.listing and now and (changes := built.listing.changes(now)):
    logging.warning('%s has changed since it was read (%s); reading it again', origin['path'], changes)
    return None
  for name, fingerprint in built.files.items():
    if damage := fingerprint.damage(directory / name):
      logging.warning('%s: %s; reading the source again', directory / name, damage)
      return None
  return built


# The stage's own files.


def _write(
  builder: Any,
  config: ml_collections.ConfigDict,
  workdir: files.PathLike,
  settings: dict[str, Any],
  built: Origin,
) -> None:
  """Splits and decodes a built TFDS data set and writes the stage's files, split.json last."""
  data, folder = config.data, prepared.folder_of(workdir)
  source = decode.open_source(builder)
  table = _check_classes(_records(source, tuple(builder.info.features['label'].names)))
  for said in spellings.warnings(table):
    logging.warning('prepare: %s', said)
  split = splits.SPLITS[data.split](
    table,
    seed=config.seed,
    test_fraction=data.test_fraction,
    validation=splits.has_validation(config.classify.protocol),
  )
  summary = splits.describe(table, split)
  _log_split(data.split, summary)
  if unseen := [name for name, count in summary.images['train'].items() if not count]:
    raise UserError(
      f'no training images of {", ".join(unseen)} under data.split={data.split}, which nothing can learn or draw: use '
      'another data.split, or take their images out'
    )

  shape = (len(table), data.image_size, data.image_size, data.channels)
  with files.replacing(folder / 'images.npy') as temporary:
    images = np.lib.format.open_memmap(temporary, mode='w+', dtype=np.uint8, shape=shape)
    _reserve(temporary)
    encoded = ((example['name'].decode(), example['image']) for example in decode.examples(source))
    brightness = Brightness()
    decode.decode_all(encoded, images, resize=data.resize, workers=data.num_workers, brightness=brightness)
    if dark := brightness.warning():
      logging.warning('prepare: %s', dark)
    images.flush()
    del images
  records_lib.write_csv(folder / 'records.csv', table)
  info = SplitFile(
    **settings,
    **msgspec.structs.asdict(summary),
    class_names=table.class_names,
    num_images=len(table),
    intake=built.intake,
    listing=built.listing,
    split_hash=splits.split_hash(table, split),
    images_sha256=files.sha256(folder / 'images.npy'),
    records_sha256=files.sha256(folder / 'records.csv'),
    **{side: getattr(split, side).tolist() for side in splits.SIDES},
  )
  prepared.write_info(workdir, info)
  logging.info('prepare: %s images of %s in %s', f'{len(table):,}', ' x '.join(map(str, shape[1:])), folder)


def _check_classes(table: records_lib.Records) -> records_lib.Records:
  """Returns the records without the classes that no image has, and says so; UserError if one class alone is left."""
  seen = table.of_seen_classes()
  unseen = [name for name in table.class_names if name not in seen.class_names]
  if unseen:
    logging.warning('prepare: no images of %s: trained and sampled without them', ', '.join(unseen))
  if len(seen.class_names) < 2:
    raise UserError(
      f'images of {", ".join(seen.class_names)} alone, none of {", ".join(unseen)}: two classes or more are needed'
    )
  return seen


def _reserve(path: pathlib.Path) -> None:
  """Takes a file's space on the disk now: without it, writing to a mapped file ends in a fatal bus error."""
  if hasattr(os, 'posix_fallocate'):
    with open(path, 'r+b') as f:
      try:
        os.posix_fallocate(f.fileno(), 0, path.stat().st_size)
      except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):  # others: not every file system can
          raise OSError(error.errno, error.strerror, str(path)) from error


def _records(source: Any, class_names: tuple[str, ...]) -> records_lib.Records:
  """Reads the records of a data set with the features of `fetal_jax.data.sources.features`."""
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


def _log_split(name: str, summary: splits.SplitSummary) -> None:
  """Logs the images of each class and side, and how many patients are on both, or that nobody knows."""
  classes = list(summary.images['train'])
  width = max(map(len, classes), default=0)
  logging.info('Split %r: images per class', name)
  logging.info('  %s %10s %10s %10s', ' ' * width, *splits.SIDES)
  for label in classes:
    counts = [summary.images[side][label] for side in splits.SIDES]
    logging.info('  %s %10d %10d %10d', label.ljust(width), *counts)
    for side, count in zip(splits.SIDES, counts, strict=True):
      if not count and summary.totals[side]:
        logging.warning('class %s has no %s images: nothing can be said of it there', label, side)
  logging.info('  %s %10d %10d %10d', 'all'.ljust(width), *summary.totals.values())
  if not summary.totals['validation']:
    logging.info(
      '  no image is held out for validation (classify.protocol=paper): the test images choose the epoch'
    )
  if summary.patients is None:
    logging.warning(
      'the patients of %s of %s images are unknown: whether somebody is in train and test at once cannot be said%s',
      f'{summary.images_of_unknown_patients:,}',
      f'{sum(summary.totals.values()):,}',
      ', and data.split=patient divides these images one by one' if name == 'patient' else '',
    )
    return
  logging.info('  %s %10d %10d %10d', 'patients'.ljust(width), *summary.patients.values())
  logging.info(
    '  %.1f %% of the test images show a patient who is also in train or validation, %.1f %% in the same class',
    100 * (summary.test_patient_overlap or 0),
    100 * (summary.test_patient_class_overlap or 0),
  )
