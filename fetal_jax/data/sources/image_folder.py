"""A user's own labelled images: a folder with one sub-folder for each class."""

import io
import pathlib
import warnings
from collections import Counter
from collections.abc import Iterator
from typing import Any, ClassVar

import tensorflow_datasets as tfds
from absl import logging
from PIL import Image

from fetal_jax.data import decode
from fetal_jax.data.sources import table, walk
from fetal_jax.data.sources.features import SPLIT, example, features
from fetal_jax.data.sources.intake import Intake
from fetal_jax.runtime import files
from fetal_jax.runtime.errors import UserError
from fetal_jax.runtime.progress import Progress

EXTENSIONS = ('.png', '.jpg', '.jpeg', '.bmp', '.tif', '.tiff', '.gif', '.webp')
PNG_MODES = ('1', 'L', 'LA', 'P', 'RGB', 'RGBA', 'I;16', 'I;16B')
SIDES = {'train', 'training', 'val', 'valid', 'validation', 'dev', 'test', 'testing'}


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
        its base name without extension. '': every image counts as a patient of its own.
      **kwargs: of `tfds.core.DatasetBuilder`, such as `data_dir`.

    Raises:
      UserError: the folder or the table is not as it must be.
    """
    self._path = pathlib.Path(path)
    self._images, left_out = look_through(self._path)
    taken = sum(map(len, self._images.values()))
    self.intake = Intake(images=taken, left_out=left_out, files=taken + sum(left_out.values()))
    if patients_csv:
      self._patients = read_patients(patients_csv, self._path, self._images)
    else:
      self._patients = {}
      logging.warning(
        '%s: no data.patients_csv, so every image counts as a patient of its own: if some show the same patient, '
        'they may be in train and test at once, and results will look better than they are',
        path,
      )
    super().__init__(**{'file_format': 'array_record', **kwargs})

  def _info(self) -> tfds.core.DatasetInfo:
    return tfds.core.DatasetInfo(
      builder=self,
      description='Labelled images from a folder.',
      features=features(tuple(self._images)),
      supervised_keys=('image', 'label'),
      disable_shuffling=True,
    )

  def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
    del dl_manager
    return {SPLIT: self._generate_examples()}

  def _generate_examples(self) -> Iterator[tuple[int, dict[str, Any]]]:
    labelled = [(label, path) for label, paths in enumerate(self._images.values()) for path in paths]
    with Progress('Reading images', len(labelled), 'images') as progress:
      for i, (label, path) in enumerate(labelled):
        name = image_name(path, self._path)
        patient = self._patients.get(name, name)
        yield i, example(as_png(path), label=label, name=name, patient=patient)
        progress.update(i + 1)


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
  if SIDES.issuperset(name.lower() for name in classes):
    raise UserError(
      f'{folder}: {", ".join(classes)} are sides of a split, not classes; put the images of a class into one folder '
      '(config.data.split divides them)'
    )
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
  names: dict[str, pathlib.Path] = {}
  for label, paths in images.items():
    walk.check_name(label, f'{folder}')
    if label != label.strip():
      raise UserError(f'{folder}: the name {label!r} has blanks at its ends; rename the folder')
    if not paths:
      seen = f'; found {", ".join(sorted(others[label])[:5])}' if others[label] else ''
      raise UserError(
        f'{folder / label}: no images for this class ({", ".join(EXTENSIONS)}{seen}); add some or remove the folder'
      )
    for path in paths:
      other = names.setdefault(image_name(path, folder), path)
      if other != path:
        raise UserError(
          f'{path} and {other.name} differ only in their extension; rename or remove one of them'
        )
  left_out = {
    'hidden files': hidden,
    'files beside the folders of classes': beside,
    'files that are no images': sum(sum(kinds.values()) for kinds in others.values()),
  }
  return images, {why: count for why, count in left_out.items() if count}


def image_name(path: pathlib.Path, folder: pathlib.Path) -> str:
  """Returns the image's name in the data set: its path under the folder without extension, '/' between the parts."""
  return path.relative_to(folder).with_suffix('').as_posix()


def read_patients(
  csv_path: files.PathLike, folder: pathlib.Path, images: dict[str, list[pathlib.Path]]
) -> dict[str, str]:
  """Reads image name -> patient from a table `image,patient`, which must give every image one patient."""
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
      return f'image {key!r} has no patient; fill the cell'
    if patients.setdefault(name, patient) != patient:
      return f'image {key!r} has two patients, {patients[name]} and {patient}; keep one of them'
    return None

  try:
    content = pathlib.Path(csv_path).read_bytes()
  except OSError as error:
    raise UserError(
      f'{csv_path}: cannot be read ({error.strerror}); set --config.data.patients_csv to a CSV file'
    ) from error
  table.read(content, f'{csv_path}', columns=('image', 'patient'), separator=',', why_refused=why_refused)
  names = [image_name(path, folder) for paths in images.values() for path in paths]
  without = [name for name in names if name not in patients]
  if without:
    raise UserError(
      f'{csv_path}: no row for {len(without)} of {len(names)} images (first {without[0]}); add them'
    )
  return patients


def as_png(path: pathlib.Path) -> bytes:
  """Returns the image as PNG bytes: a PNG's own bytes, else its pixels encoded anew, as a viewer shows them."""
  try:
    if path.stat().st_size > decode.MAX_BYTES:
      raise decode.BadImage(f'{path.stat().st_size:,} bytes, over the limit of {decode.MAX_BYTES:,}')
    content = path.read_bytes()
    if content.startswith(b'\x89PNG'):
      return content
    with warnings.catch_warnings(), decode.refusing():
      warnings.filterwarnings('ignore', module=r'PIL\.')  # see decode_all
      image = decode.open_image(content)
      encoded = io.BytesIO()
      _for_png(image).save(encoded, 'PNG')
  except OSError as error:
    raise UserError(f'{path}: cannot be read ({error.strerror}); give yourself the permission') from error
  except decode.BadImage as error:
    raise UserError(f'{path}: not a readable image ({error}); replace or remove it') from error
  return encoded.getvalue()


def _for_png(image: Image.Image) -> Image.Image:
  """Returns the image in a mode that PNG has, with its 16 bits and its transparency."""
  if image.mode in PNG_MODES:
    return image
  if image.mode in ('I', 'F'):
    return decode.sixteen_bit(image)
  return image.convert('RGBA' if image.has_transparency_data else 'RGB')
