"""A user's own labelled images: a folder with one sub-folder for each class."""

import pathlib
from collections import Counter
from collections.abc import Iterator
from typing import Any, ClassVar

import tensorflow_datasets as tfds
from absl import logging

from fetal_jax.data import decode
from fetal_jax.data.problems import Problems
from fetal_jax.data.sources import encode, meaning, table, walk
from fetal_jax.data.sources.encode import EXTENSIONS
from fetal_jax.data.sources.features import OFFICIAL_TRAIN_UNKNOWN, SPLIT, example, features
from fetal_jax.data.sources.intake import Intake
from fetal_jax.runtime import files
from fetal_jax.runtime.errors import UserError
from fetal_jax.runtime.progress import Progress


class ImageFolder(tfds.core.GeneratorBasedBuilder):
  """`<path>/<class name>/**/<image>`: the classes are the sub-folders, sorted; an image's name is its path.

  PNGs are kept byte for byte; other formats are stored as PNG, pixel for pixel.

  Attributes:
    intake: what was in the folder.
  """

  VERSION = tfds.core.Version('1.0.0')
  RELEASE_NOTES: ClassVar[dict[str, str]] = {'1.0.0': 'A folder of labelled images.'}
  name = 'labelled_images'  # TFDS has an ImageFolder of its own

  def __init__(self, *, path: files.PathLike, patients_csv: files.PathLike = '', **kwargs):
    """Looks through the folder.

    Args:
      path: the folder.
      patients_csv: table with columns `image,patient`; an image is given by its path relative to the folder or by
        its base name without extension. The patient of an image without a row is unknown; so are all for ''.
      **kwargs: of `tfds.core.DatasetBuilder`, such as `data_dir`.

    Raises:
      UserError: the folder or the table is not as it must be.
    """
    self._path = pathlib.Path(path)
    self._images, left_out = look_through(self._path)
    taken = sum(map(len, self._images.values()))
    self.intake = Intake(images=taken, left_out=left_out, files=taken + sum(left_out.values()))
    self._patients = read_patients(patients_csv, self._path, self._images) if patients_csv else {}
    if unknown := taken - len(self._patients):
      logging.warning(
        '%s: the patients of %s of %s images are unknown (%s): such images are divided one by one; if some show the same '
        'patient, they may be in train and test at once, and results will look better than they are',
        path,
        f'{unknown:,}',
        f'{taken:,}',
        f'no row in {patients_csv}' if patients_csv else 'no data.patients_csv',
      )
    super().__init__(**{'file_format': 'array_record', **kwargs})

  def _info(self) -> tfds.core.DatasetInfo:
    return tfds.core.DatasetInfo(
      builder=self,
      description='Labelled images from a folder. A patient is empty where the owner has not said who is seen.',
      features=features(tuple(self._images)),
      supervised_keys=('image', 'label'),
      disable_shuffling=True,
    )

  def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
    del dl_manager
    return {SPLIT: self._generate_examples()}

  def _generate_examples(self) -> Iterator[tuple[int, dict[str, Any]]]:
    labelled = [(label, path) for label, paths in enumerate(self._images.values()) for path in paths]
    sides = owners_sides(self._images, self._path)
    problems = Problems(f'{self._path}')
    with Progress('Reading images', len(labelled), 'images') as progress:
      for i, (label, path) in enumerate(labelled):
        name = image_name(path, self._path)
        try:
          content = _content(path)
          if problems:  # nothing is kept any more: the others are looked at to name all that is wrong
            encode.check(content)
            continue
          png = encode.as_png(content)
        except decode.BadImage as error:
          problems.add(f'{path}', _unreadable(error))
          continue
        train = OFFICIAL_TRAIN_UNKNOWN if sides is None else int(sides[i])
        patient = self._patients.get(name, '')
        yield i, example(png, label=label, name=name, patient=patient, official_train=train)
        progress.update(i + 1)
    problems.check()


def find_images(folder: pathlib.Path) -> dict[str, list[pathlib.Path]]:
  """Class name -> its images, both sorted; UserError as of `look_through`."""
  return look_through(folder)[0]


def look_through(folder: pathlib.Path) -> tuple[dict[str, list[pathlib.Path]], dict[str, int]]:
  """Looks through a folder of labelled images.

  Returns:
    Class name -> its images, both sorted; and why -> how many files are no image of a class.

  Raises:
    UserError: there are no two classes with an image each, or something is there that may not be what it seems.
  """
  if not folder.is_dir():
    raise UserError(
      f'{folder}: no such folder; set --config.data.path to one with a sub-folder for each class'
    )
  found, hidden = walk.files_under(folder)
  classes = sorted(path.name for path in folder.iterdir() if path.is_dir() and not walk.is_hidden(path.name))
  if len(classes) < 2:
    only = f'only {classes[0]}' if classes else 'none'
    raise UserError(f'{folder}: needs a sub-folder for each of two classes or more, found {only}')
  _check_names(folder, classes, found)
  images: dict[str, list[pathlib.Path]] = {name: [] for name in classes}
  others: dict[str, Counter[str]] = {name: Counter() for name in classes}
  beside = 0
  for path in found:
    name = path.relative_to(folder).parts[0]
    if path.parent == folder:
      beside += 1
    elif path.suffix.lower() in EXTENSIONS:
      images[name].append(path)
    else:
      others[name][path.suffix or path.name] += 1
  masks = _take_out_masks(folder, images)
  problems = Problems(f'{folder}')
  for label, paths in images.items():
    if not paths:
      kinds = sorted([*others[label], *(['masks'] if masks[label] else [])])
      seen = f'; found {", ".join(kinds[:5])}' if kinds else ''
      problems.add(
        f'{folder / label}',
        f'no images for this class ({", ".join(EXTENSIONS)}{seen}); add some or remove the folder',
      )
  names: dict[str, pathlib.Path] = {}
  for path in (path for paths in images.values() for path in paths):
    other = names.setdefault(image_name(path, folder), path)
    if other != path:
      problems.add(
        f'{path} and {other.name}', 'the names differ only in their extension; rename or remove one of them'
      )
  problems.check()
  left_out = {
    'hidden files': hidden,
    'files beside the folders of classes': beside,
    'files that are no images': sum(sum(kinds.values()) for kinds in others.values()),
    'masks of images, by their names': sum(masks.values()),
  }
  return images, {why: count for why, count in left_out.items() if count}


def _check_names(folder: pathlib.Path, classes: list[str], found: list[pathlib.Path]) -> None:
  """Refuses class folders whose names say that they are none, and warns of those that may not be."""
  inner: dict[str, set[str]] = {name: set() for name in classes}
  for path in found:
    top, *between = path.relative_to(folder).parts[:-1] or ('',)
    if between:
      inner[top].update(between)
  if sides := meaning.sides_among(inner):
    raise UserError(
      f'{folder}: {", ".join(sides)} are sides of a split, not classes; put the images of a class into one folder '
      '(config.data.split divides them; official keeps <class>/train and <class>/test)'
    )
  if masks := [name for name in classes if meaning.is_masks(name)]:
    raise UserError(
      f'{folder}: {", ".join(masks)} are masks or labels of images by their names, not classes; take the folders out, '
      'or give them the names of classes'
    )
  problems = Problems(f'{folder}')
  for label in classes:
    walk.check_name(label, f'{folder}')
    if label != label.strip():
      problems.add(f'{folder}: the name {label!r}', 'has blanks at its ends; rename the folder')
  problems.check()
  for label in classes:
    if meaning.is_side(label):
      logging.warning('%s: taken for a class, though its name is that of a side of a split', folder / label)
    if divided := sorted(name for name in inner[label] if meaning.is_side(name)):
      logging.warning(
        '%s: %s in it are taken together; config.data.split divides the images anew, unless it is official',
        folder / label,
        ', '.join(divided),
      )


def _take_out_masks(folder: pathlib.Path, images: dict[str, list[pathlib.Path]]) -> Counter[str]:
  """Takes masks that lie beside images, or in a folder of their own, out of `images`; returns their number by class."""
  taken: Counter[str] = Counter()
  for label, paths in images.items():
    stems: dict[pathlib.Path, list[str]] = {}
    for path in paths:
      stems.setdefault(path.parent, []).append(path.stem)
    masks = {parent: meaning.masks_among(names) for parent, names in stems.items()}
    in_folder = {
      parent for parent in stems if any(map(meaning.is_masks, parent.relative_to(folder).parts[1:]))
    }
    images[label] = [
      path for path in paths if path.stem not in masks[path.parent] and path.parent not in in_folder
    ]
    taken[label] = len(paths) - len(images[label])
  return taken


def image_name(path: pathlib.Path, folder: pathlib.Path) -> str:
  """Returns the image's name in the data set: its path under the folder without extension, '/' between the parts."""
  return path.relative_to(folder).with_suffix('').as_posix()


def owners_sides(images: dict[str, list[pathlib.Path]], folder: pathlib.Path) -> list[bool] | None:
  """Returns which images are on the training side, in order, as their owner has put them: `<class>/train/…`, `<class>/test/…`.

  Validation images count to the training side. None where an image lies in no such folder, or all on one side.
  """
  sides = []
  for path in (path for paths in images.values() for path in paths):
    named = [part for part in path.relative_to(folder).parts[1:-1] if meaning.is_side(part)]
    if not named:
      return None
    sides.append(not meaning.is_test_side(named[0]))
  return sides if len(set(sides)) == 2 else None


def read_patients(
  csv_path: files.PathLike, folder: pathlib.Path, images: dict[str, list[pathlib.Path]]
) -> dict[str, str]:
  """Reads image name -> patient from a table `image,patient`; an image that no row names has none."""
  # A row may name an image by its path, with or without extension, or by its base name.
  keys: dict[str, set[str]] = {}
  for path in (path for paths in images.values() for path in paths):
    name = image_name(path, folder)
    for key in (name, path.relative_to(folder).as_posix(), path.stem, path.name):
      keys.setdefault(key, set()).add(name)
  patients: dict[str, str] = {}

  def why_refused(line: int, row: dict[str, str]) -> str | None:
    del line
    key, patient = row['image'], row['patient']
    found = keys.get(key, set())
    if len(found) != 1:
      what = f'stands for {len(found)} images, give its path under' if found else 'is not in'
      return f'image {key!r} {what} {folder}'
    (name,) = found
    if not patient:
      return f'image {key!r} has no patient; fill the cell, or take out the row if the patient is unknown'
    if patients.setdefault(name, patient) != patient:
      return f'image {key!r} has two patients, {patients[name]} and {patient}; keep one of them'
    return None

  try:
    with open(csv_path, 'rb') as f:
      table.read(f, f'{csv_path}', columns=('image', 'patient'), separator=',', why_refused=why_refused)
  except OSError as error:
    raise UserError(
      f'{csv_path}: cannot be read ({error.strerror}); set --config.data.patients_csv to a CSV file'
    ) from error
  return patients


def as_png(path: pathlib.Path) -> bytes:
  """Returns the image in a file as PNG bytes, see `encode.as_png`; UserError if there is none."""
  try:
    return encode.as_png(_content(path))
  except decode.BadImage as error:
    raise UserError(f'{path}: {_unreadable(error)}') from error


def _content(path: pathlib.Path) -> bytes:
  """Returns the bytes of a file; BadImage where it cannot be read, or is larger than any image."""
  try:
    if path.stat().st_size > decode.MAX_BYTES:
      raise decode.BadImage(f'{path.stat().st_size:,} bytes, over the limit of {decode.MAX_BYTES:,}')
    return path.read_bytes()
  except OSError as error:
    raise decode.BadImage(f'cannot be read ({error.strerror})') from error


def _unreadable(error: decode.BadImage) -> str:
  return f'not a readable image ({error}); replace or remove it'
