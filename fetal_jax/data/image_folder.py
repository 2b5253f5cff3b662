"""A user's own labelled images: a folder with one sub-folder a class."""

import csv
import io
import pathlib
from collections.abc import Iterator
from typing import Any, ClassVar

import tensorflow_datasets as tfds
from absl import logging
from PIL import Image, ImageOps

from fetal_jax import files
from fetal_jax.data.decode import DAMAGED
from fetal_jax.data.features import SPLIT, example, features
from fetal_jax.errors import UserError
from fetal_jax.progress import Progress

EXTENSIONS = ('.png', '.jpg', '.jpeg', '.bmp', '.tif', '.tiff', '.gif', '.webp')
PNG_MODES = ('1', 'L', 'LA', 'P', 'RGB', 'RGBA', 'I', 'I;16', 'I;16B')


class ImageFolder(tfds.core.GeneratorBasedBuilder):
  """`<path>/<class name>/**/<image>`: the classes are the sub-folders, sorted; an image's name is its path.

  PNGs are kept byte for byte; other formats are stored as PNG, pixel for pixel.
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
    self._images = find_images(self._path)
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
  """Class name -> its images, both sorted; UserError unless there are two classes with an image each."""
  if not folder.is_dir():
    raise UserError(
      f'{folder}: no such folder; set --config.data.path to one with a sub-folder for each class'
    )
  classes = [path for path in sorted(folder.iterdir()) if path.is_dir() and not _is_hidden(path.name)]
  if len(classes) < 2:
    only = f'only {classes[0].name}' if classes else 'none'
    raise UserError(f'{folder}: needs a sub-folder for each of two classes or more, found {only}')
  images: dict[str, list[pathlib.Path]] = {}
  for path in classes:
    found = [
      p for p in sorted(path.rglob('*')) if p.suffix.lower() in EXTENSIONS and not p.name.startswith('._')
    ]
    images[path.name] = [p for p in found if p.is_file() and '__MACOSX' not in p.parts]
    if not images[path.name]:
      raise UserError(
        f'{path}: no images for this class ({", ".join(EXTENSIONS)}); add some or remove the folder'
      )
  names: dict[str, pathlib.Path] = {}
  for path in (path for paths in images.values() for path in paths):
    other = names.setdefault(image_name(path, folder), path)
    if other != path:
      raise UserError(f'{path} and {other.name} differ only in their extension; rename or remove one of them')
  return images


def image_name(path: pathlib.Path, folder: pathlib.Path) -> str:
  """The image's name in the data set: its path under the folder without extension, '/' between the parts."""
  return path.relative_to(folder).with_suffix('').as_posix()


def read_patients(
  csv_path: files.PathLike, folder: pathlib.Path, images: dict[str, list[pathlib.Path]]
) -> dict[str, str]:
  """Image name -> patient from a table `image,patient` that must name every image exactly once."""
  try:
    with open(csv_path, newline='', encoding='utf-8-sig') as f:
      reader = csv.reader(f)
      table = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if any(row)]
  except (OSError, UnicodeDecodeError) as error:
    raise UserError(
      f'{csv_path}: cannot be read ({error}); set --config.data.patients_csv to a CSV file'
    ) from error
  header = table[0][1] if table else []
  if 'image' not in header or 'patient' not in header:
    raise UserError(
      f'{csv_path}: the first row must be image,patient (found {",".join(header) or "nothing"})'
    )

  # A row may name an image by its path, with or without extension, or by its base name.
  keys: dict[str, set[str]] = {}
  for path in (path for paths in images.values() for path in paths):
    name = image_name(path, folder)
    for key in (name, path.relative_to(folder).as_posix(), path.stem, path.name):
      keys.setdefault(key, set()).add(name)
  patients: dict[str, str] = {}
  for line, cells in table[1:]:
    if len(cells) != len(header):
      raise UserError(
        f'{csv_path}, line {line}: {len(cells)} cells where the header has {len(header)}; mend it'
      )
    key, patient = cells[header.index('image')], cells[header.index('patient')]
    found = keys.get(key, set())
    if len(found) != 1:
      what = f'stands for {len(found)} images, give its path under' if found else 'is not in'
      raise UserError(f'{csv_path}, line {line}: image {key!r} {what} {folder}')
    (name,) = found
    if not patient:
      raise UserError(f'{csv_path}, line {line}: image {key!r} has no patient; fill the cell')
    if patients.setdefault(name, patient) != patient:
      raise UserError(
        f'{csv_path}, line {line}: image {key!r} has two patients, {patients[name]} and {patient}'
      )
  names = [image_name(path, folder) for paths in images.values() for path in paths]
  without = [name for name in names if name not in patients]
  if without:
    raise UserError(
      f'{csv_path}: no row for {len(without)} of {len(names)} images (first {without[0]}); add them'
    )
  return patients


def as_png(path: pathlib.Path) -> bytes:
  """The image as PNG bytes: a PNG's own bytes, else its pixels encoded anew, upright as its EXIF data says."""
  content = path.read_bytes()
  if content.startswith(b'\x89PNG'):
    return content
  try:
    with Image.open(io.BytesIO(content)) as image:
      upright = ImageOps.exif_transpose(image)
      if upright.mode not in PNG_MODES:
        if upright.mode == 'F':
          raise ValueError('floating-point pixels; save it with 8 or 16 bits')
        upright = upright.convert('RGB')
      encoded = io.BytesIO()
      upright.save(encoded, 'PNG')
  except DAMAGED as error:
    raise UserError(f'{path}: not a readable image ({error}); replace or remove it') from error
  return encoded.getvalue()


def _is_hidden(name: str) -> bool:
  return name.startswith('.') or name == '__MACOSX'
