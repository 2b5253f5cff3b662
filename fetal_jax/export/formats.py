"""The layouts in which synthetic images leave a workdir."""

import csv
import itertools
import json
import pathlib
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from jaxtyping import UInt8

from fetal_jax.data import decode
from fetal_jax.data.sources.fetal_planes_db.metadata import COLUMNS, CSV_NAME, PLANES, SEPARATOR
from fetal_jax.export import names
from fetal_jax.export.select import Example, Selection
from fetal_jax.runtime import escape
from fetal_jax.runtime.records import to_json

IMAGES_A_BATCH = 256
# FETAL_PLANES_DB counts its 1,792 patients from 1: both tables can be joined without a patient in common.
PATIENTS_A_ROUND = 10_000_000


def write_png(selection: Selection, folder: pathlib.Path) -> None:
  """Writes FETAL_PLANES_DB's layout: `Images/<Image_name>.png` and FETAL_PLANES_DB_data.csv.

  The CSV is spelled as the published one, blanks in `Train ` and `1 ` included, since loaders rely on them.
  What a drawn image does not have is filled so:

    Patient_num: a number of its own for every image, round * 10,000,000 + index.
    Image_name: as drawn; with a number for a class whose name is no name of a file.
    Plane: FETAL_PLANES_DB's value for its classes (such as `Fetal brain`); other data sets' class names as
      they are, after `class ` where a reader would take them for a number, a missing value or a formula.
    Brain_plane: `Not A Brain` for the classes of FETAL_PLANES_DB that are none, else `Other` (not known).
    Operator, US_Machine: `Synthetic`.
    Train: 1.
  """
  images = folder / 'Images'
  images.mkdir()
  is_planes_db = set(selection.class_names) <= set(PLANES)
  cells, stem = names.cells(selection.class_names), _stems(selection)
  with open(folder / CSV_NAME, 'w', newline='', encoding='utf-8') as f:
    table = csv.writer(f, delimiter=SEPARATOR, lineterminator='\n')
    table.writerow([*COLUMNS[:-1], f'{COLUMNS[-1]} '])
    for example in selection.examples():
      (images / f'{stem(example)}.png').write_bytes(example.png)
      name = selection.class_names[example.label]
      patient = example.round * PATIENTS_A_ROUND + example.index
      plane = PLANES[name] if is_planes_db else cells[example.label]
      brain_plane = 'Not A Brain' if is_planes_db and name != 'brain' else 'Other'
      table.writerow([stem(example), patient, plane, brain_plane, 'Synthetic', 'Synthetic', '1 '])


def write_imagefolder(selection: Selection, folder: pathlib.Path) -> None:
  """Writes Hugging Face's imagefolder: `train/<class>/<name>.png`, train/metadata.csv and a dataset card.

  Labels are class names or, where a reader would take one of them for something else, numbers in the card's order, see
  `names.labels`. A class whose name is no folder's name everywhere lies in `class_<label>`.
  `load_dataset('<folder>')` reads the card, whose features make the labels, taken from metadata.csv, a ClassLabel
  in this project's order. https://huggingface.co/docs/datasets/image_dataset
  """
  train = folder / 'train'
  class_names, stem = selection.class_names, _stems(selection)
  folders = dict(zip(class_names, names.folders(class_names), strict=True))
  labels, _ = names.labels(class_names)
  for name in selection.counts():
    (train / folders[name]).mkdir(parents=True)
  with open(train / 'metadata.csv', 'w', newline='', encoding='utf-8') as f:
    table = csv.writer(f, lineterminator='\n')
    table.writerow(['file_name', 'label', 'round', 'index'])
    for example in selection.examples():
      name = class_names[example.label]
      file_name = f'{folders[name]}/{stem(example)}.png'
      (train / file_name).write_bytes(example.png)
      table.writerow([file_name, labels[example.label], example.round, example.index])
  (folder / 'README.md').write_text(_card(selection), encoding='utf-8')


def _stems(selection: Selection) -> Callable[[Example], str]:
  """Returns what names an image's file without extension: its own name, or its class by number."""
  class_names = selection.class_names
  plain = [name == folder for name, folder in zip(class_names, names.folders(class_names), strict=True)]

  def stem(example: Example) -> str:
    return (
      example.name
      if plain[example.label]
      else f'round{example.round}_class_{example.label}_{example.index:05d}'
    )

  return stem


def write_npz(selection: Selection, file: pathlib.Path, *, rgb: bool = False) -> None:
  """Writes one uncompressed .npz, image by image: memory does not grow with their number.

  arr_0: uint8 [N, H, W, C], the images; `rgb` repeats the grey channel, as OpenAI's evaluation suite needs
    (https://github.com/openai/guided-diffusion/tree/main/evaluations, which reads arr_0 of such a file).
  arr_1: int32 [N], labels: indices into class_names.
  names: str [N]; rounds, indices: int32 [N], the round and the index in it.
  class_names: str [classes], in label order.
  manifest: str, a JSON list with the manifest of each round.
  """
  channels = 3 if rgb else selection.channels
  shape = (len(selection), selection.image_size, selection.image_size, channels)
  labels, image_names, rounds, indices = [], [], [], []
  with zipfile.ZipFile(file, 'w', zipfile.ZIP_STORED) as archive:
    with _member(archive, 'arr_0') as f, ThreadPoolExecutor() as pool:
      header = {'descr': '|u1', 'fortran_order': False, 'shape': shape}
      np.lib.format.write_array_header_1_0(f, header)

      def pixels(png: bytes) -> UInt8[np.ndarray, 's s c']:
        return decode.decode(png, selection.image_size, channels)

      examples = selection.examples()
      while batch := list(itertools.islice(examples, IMAGES_A_BATCH)):
        for image in pool.map(pixels, [example.png for example in batch]):
          f.write(image.tobytes())
        labels += [example.label for example in batch]
        image_names += [example.name for example in batch]
        rounds += [example.round for example in batch]
        indices += [example.index for example in batch]
    arrays = {
      'arr_1': np.array(labels, np.int32),
      'names': np.array(image_names, np.str_),
      'rounds': np.array(rounds, np.int32),
      'indices': np.array(indices, np.int32),
      'class_names': np.array(selection.class_names, np.str_),
      'manifest': np.array(json.dumps([to_json(one.manifest) for one in selection.rounds]), np.str_),
    }
    for name, array in arrays.items():
      with _member(archive, name) as f:
        np.lib.format.write_array(f, array, allow_pickle=False)


def size_category(images: int) -> str:
  """Returns Hugging Face's name for a data set of so many images.

  https://github.com/huggingface/hub-docs/blob/main/datasetcard.md
  """
  bounds = (
    (1_000, 'n<1K'),
    (10_000, '1K<n<10K'),
    (100_000, '10K<n<100K'),
    (1_000_000, '100K<n<1M'),
    (10_000_000, '1M<n<10M'),
  )
  return next((name for bound, name in bounds if images < bound), '10M<n<100M')


def _member(archive: zipfile.ZipFile, name: str) -> Any:
  """Opens an array of the .npz for writing, a file of bytes that may pass 4 GiB, with no date in it."""
  return archive.open(zipfile.ZipInfo(f'{name}.npy'), 'w', force_zip64=True)


def _card(selection: Selection) -> str:
  """Returns the dataset card: front matter that `load_dataset` and the Hub read, and what drew the images."""
  # A JSON string is a YAML string, whatever is in it.
  _, shown = names.labels(selection.class_names)
  class_names = [json.dumps(name, ensure_ascii=False) for name in shown]
  pixels, colour = selection.image_size, 'grey' if selection.channels == 1 else 'RGB'
  return '\n'.join(
    [
      '---',
      'pretty_name: Synthetic images',
      'task_categories:',
      '- image-classification',
      'tags:',
      '- synthetic',
      '- diffusion',
      'size_categories:',
      f'- {size_category(len(selection))}',
      # Stated, since a class named `test` would be taken for a split.
      'configs:',
      '- config_name: default',
      '  data_files:',
      '  - split: train',
      '    path: "train/**"',
      '  features:',
      '  - name: image',
      '    dtype: image',
      '  - name: label',
      '    dtype:',
      '      class_label:',
      '        names:',
      *(f"          '{label}': {name}" for label, name in enumerate(class_names)),
      '  - name: round',
      '    dtype: int64',
      '  - name: index',
      '    dtype: int64',
      '---',
      '',
      '# Synthetic images',
      '',
      f'{len(selection):,} {colour} images of {pixels} x {pixels} pixels, drawn by a diffusion model that was trained',
      'with fetal_jax. They show no patient and are not for diagnosis.',
      '',
      'To be completed before this is published: the licence, the data set that the model was trained on with its',
      'citation, and how closely images resemble those it was trained on.',
      '',
      '| Class | Images |',
      '|---|---:|',
      *(f'| {_cell(name)} | {count:,} |' for name, count in selection.counts().items()),
      '',
      '## How they were drawn',
      '',
      *_settings_table(selection),
      '',
    ]
  )


def _settings_table(selection: Selection) -> Iterator[str]:
  """Yields sampler, seed and checkpoint as the manifests have them, a column a round."""
  columns = []
  for one in selection.rounds:
    manifest = to_json(one.manifest)
    column = {f'sampler: {key}': value for key, value in manifest['sampler'].items()}
    column |= {f'checkpoint: {key}': value for key, value in manifest['checkpoint'].items()}
    columns.append({**column, 'seed': one.manifest.seed, 'config hash': one.manifest.config_hash})
  yield '| |' + ''.join(f' Round {one.number} |' for one in selection.rounds)
  yield '|---|' + '---|' * len(columns)
  for key in columns[0]:
    yield f'| {key} |' + ''.join(f' {_cell(column[key])} |' for column in columns)


def _cell(value: object) -> str:
  return escape.markdown(value) if isinstance(value, str) else json.dumps(value)
