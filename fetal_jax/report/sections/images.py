"""Images of every class, real and synthetic, evenly from all over the class rather than chosen."""

import io
import pathlib
import re

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from fetal_jax.data import prepared as prepared_lib
from fetal_jax.data import rounds as rounds_lib
from fetal_jax.report.page import Block, Picture, Pictures, Section, Strips, Text
from fetal_jax.report.run import Run

EXAMPLES_PER_CLASS = 6
_NOT_SHOWN = {'real': 'Real images are not shown here', 'synthetic': 'No synthetic images yet'}


def section(run: Run, workdir: pathlib.Path, *, show_real_images: bool) -> Section | None:
  """Shows strips of images of every class, and the sheets that earlier stages drew; None without any image."""
  blocks: list[Block] = []
  strips = examples(run, workdir, show_real_images=show_real_images)
  if strips.rows:
    blocks += [Text('Not chosen by eye: each strip is spread evenly over its class.'), strips]
  has_synthetic = any(
    isinstance(cell, Picture) and 'synthetic' in cell.file for _, cells in strips.rows for cell in cells
  )
  if sheets := previews(run, workdir, with_rounds=not has_synthetic):
    blocks.append(Pictures(sheets, style='sheet'))
  return Section('images', 'Images', blocks, nav='Images') if blocks else None


def examples(
  run: Run,
  workdir: pathlib.Path,
  *,
  show_real_images: bool,
  per_class: int = EXAMPLES_PER_CLASS,
  name: str = '',
) -> Strips:
  """Returns for each class a strip of real and one of synthetic images.

  Args:
    run: what the workdir holds.
    workdir: where the images are.
    show_real_images: whether real ones may be shown.
    per_class: number of images a strip.
    name: begins the names of the files, where a page has several such strips.
  """
  real = real_examples(workdir, per_class) if show_real_images else {}
  synthetic = {}
  if run.rounds:
    folder = rounds_lib.folder_of(workdir, run.rounds[0].round)
    synthetic = synthetic_examples(folder, per_class)
  rows = []
  for k, of in enumerate(run.data.class_names if run.data else synthetic):
    cells: list[Picture | str] = []
    for kind, images in (('real', real), ('synthetic', synthetic)):
      if of in images and len(images[of]):
        alt = f'{len(images[of])} {kind} images of the class {of}'
        file = f'{name}{"_" * bool(name)}{kind}_{k}_{re.sub(r"[^A-Za-z0-9]+", "_", of)[:40]}.png'
        cells.append(Picture(file, alt, alt, {'light': strip(images[of])}))
      else:
        cells.append(_NOT_SHOWN[kind])
    rows.append((of, cells))
  return Strips(
    ['Real, training side', f'Synthetic{f", round {run.rounds[0].round}" if run.rounds else ""}'], rows
  )


def attribution(run: Run, strips: Strips) -> str:
  """Returns the line that must stand beneath strips; '' where they show no real image, or none that needs one."""
  del run, strips
  return ''


def previews(run: Run, workdir: pathlib.Path, *, with_rounds: bool) -> list[Picture]:
  """Returns the last sheet of the training, and (`with_rounds`) those of the rounds."""
  pictures = []
  sheets = sorted((workdir / 'diffusion' / 'samples').glob('step_*.png'), key=lambda p: (len(p.name), p.name))
  if sheets:
    step = int(re.sub(r'\D', '', sheets[-1].stem) or 0)
    caption = f'Synthetic images after {step:,} training steps, a row a class, drawn as the data set is but from other noise'
    pictures.append(Picture('training_samples.png', caption, caption, {'light': sheets[-1].read_bytes()}))
  for one in run.rounds if with_rounds else []:
    path = rounds_lib.folder_of(workdir, one.round) / 'preview.png'
    if path.is_file():
      caption = f'Synthetic images of round {one.round}, a row a class'
      pictures.append(Picture(f'round_{one.round}.png', caption, caption, {'light': path.read_bytes()}))
  return pictures


def real_examples(workdir: pathlib.Path, per_class: int) -> dict[str, UInt8[np.ndarray, 'n h w c']]:
  """Reads training images of every class, from all over the class; {} if there are no data."""
  if not (prepared_lib.folder_of(workdir) / prepared_lib.NAME).is_file():
    return {}
  prepared = prepared_lib.load(workdir)
  labels = prepared.records.labels[prepared.split.train]
  found = {}
  for k, name in enumerate(prepared.records.class_names):
    members = prepared.split.train[labels == k]
    found[name] = np.asarray(prepared.images[members[_spread(len(members), per_class)]])
  return found


def synthetic_examples(folder: pathlib.Path, per_class: int) -> dict[str, UInt8[np.ndarray, 'n h w c']]:
  """Reads images of every class of one round, from all over the class; {} if the folder holds no whole data set.

  Only these images are decoded: image k of a round is of class k // count.

  Raises:
    UserError: a file of the round is not the one that was written.
  """
  if not (folder / 'dataset_info.json').is_file():
    return {}
  found = rounds_lib.read(folder)
  found.check_files()
  source = found.source()
  read, first = {}, 0
  for name, count in found.manifest.counts.items():
    images = []
    for k in _spread(count, per_class):
      with Image.open(io.BytesIO(source[int(first + k)]['image'])) as image:
        images.append(np.atleast_3d(np.asarray(image)))
    first += count
    if images:
      read[name] = np.stack(images)
  return read


def _spread(n: int, wanted: int) -> np.ndarray:
  return np.linspace(0, max(n - 1, 0), min(n, wanted)).astype(np.int64)


def strip(images: UInt8[np.ndarray, 'n h w c'], most_pixels: int = 128) -> bytes:
  """Draws images side by side as a PNG, with clear gaps. Larger ones are scaled down to `most_pixels` a side."""
  tiles = [
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).convert('RGBA') for image in images
  ]
  for tile in tiles:
    tile.thumbnail((most_pixels, most_pixels))
  width, height = tiles[0].size
  gap = max(1, width // 32)
  sheet = Image.new('RGBA', (len(tiles) * (width + gap) - gap, height), (0, 0, 0, 0))
  for i, tile in enumerate(tiles):
    sheet.paste(tile, (i * (width + gap), 0))
  out = io.BytesIO()
  (sheet if images.shape[-1] == 3 else sheet.convert('LA')).save(out, 'PNG', optimize=True)
  return out.getvalue()
