"""Pictures of certainty, of the search for copies, and of the sweep."""

import io
import pathlib
from typing import Any

import numpy as np
from PIL import Image

from fetal_jax.data.grid import MARGIN
from fetal_jax.report import audit_figures, certainty
from fetal_jax.report import run as run_lib
from fetal_jax.report.pictures import Picture, chart

_HIDDEN = 128  # grey level of an image that is not to be shown


def reliability(
  model: str, by_regime: dict[str, list[dict[str, Any]]], results: dict[str, Any]
) -> Picture | None:
  """One model's reliability diagram, on real images alone and in its best regime, all seeds' images together."""
  diagrams = {}
  for regime in certainty.shown_regimes(by_regime):
    known = [run['scores']['reliability'] for run in by_regime[regime] if run['scores']]
    if known:
      diagrams[regime] = audit_figures.pooled(known)
  if not diagrams:
    return None
  said = ', '.join(
    f'{regime}: confidence {100 * certainty.mean_confidence(bins):.0f} %, accuracy {100 * _accuracy(bins):.0f} %'
    for regime, bins in diagrams.items()
  )
  title = run_lib.model_title(model)
  return chart(
    f'reliability_{model}',
    f'Reliability diagram of {title}: accuracy against confidence. On average, {said}.',
    f'{title}: is it right as often as it says? On the dotted line it is; below, it is too sure.',
    audit_figures.reliability,
    diagrams,
    results['rounds'],
  )


def _accuracy(bins: list[dict[str, Any]]) -> float:
  return sum(b['count'] * b['accuracy'] for b in bins if b['count']) / sum(b['count'] for b in bins)


_SPACES = {'pixel': 'pixels', 'feature': 'features of the encoder'}


def ratios(results: dict[str, Any]) -> list[Picture]:
  """Histograms of the distance ratio, one a space that has it."""
  found = (results['evaluation'] or {}).get('memorisation') or {'spaces': {}}
  pictures = []
  for name, space in found['spaces'].items():
    if not space or not space['histogram']:
      continue
    near = space['near']
    threshold = near['threshold'] / space['median_heldout'] if near else None
    medians = {
      kind: space['ratio'][kind][space['ratio']['quantiles'].index(0.5)] for kind in ('synthetic', 'heldout')
    }
    what = f'Distance to the nearest training image in {_SPACES[name]}'
    alt = (
      f'{what}, as a multiple of the median of held-out images: the median is {medians["synthetic"]:.2f} for synthetic '
      f'images and {medians["heldout"]:.2f} for held-out ones.'
    )
    caption = f'{what}: copies would stand out at the left.'
    pictures.append(
      chart(f'copies_{name}', alt, caption, audit_figures.ratios, space['histogram'], threshold)
    )
  return pictures


def pairs(results: dict[str, Any], workdir: pathlib.Path, show_real_images: bool) -> list[Picture]:
  """The closest pairs as the evaluate stage drew them, one sheet a space.

  Training images are greyed out where they may not be shown.
  """
  found = (results['evaluation'] or {}).get('memorisation') or {'spaces': {}}
  hidden = '' if show_real_images else ' Training images are not shown here: grey boxes stand for them.'
  pictures = []
  for name, space in found['spaces'].items():
    path = workdir / 'evaluate' / f'pairs_{name}.png'
    if not space or not path.is_file():
      continue
    count = len(space['pairs'])
    data = path.read_bytes() if show_real_images else _conceal(path, count)
    if data is None:
      continue
    alt = (
      f'The {count} synthetic images that are nearest to a training image in {_SPACES[name]}, a row each: the synthetic '
      f'image, its training image, and the latter flipped and shifted as it was found.{hidden}'
    )
    caption = (
      f'The {count} closest pairs in {_SPACES[name]}, nearest first: synthetic | nearest training image | the same, '
      f'flipped and shifted as it matches best. The number is the distance.{hidden}'
    )
    pictures.append(Picture(f'closest_pairs_{name}.png', alt, caption, {'light': data}))
  return pictures


def _conceal(path: pathlib.Path, rows: int) -> bytes | None:
  """The picture with its two right columns grey, whatever it showed; None if it is no grid of so many rows.

  It may have been drawn when real images could still be shown.
  """
  with Image.open(path) as picture:
    pixels = np.array(picture)
  side, rest = divmod(pixels.shape[0] - MARGIN, rows) if rows else (0, 1)
  side -= MARGIN
  left = pixels.shape[1] - 2 * (side + MARGIN)
  if rest or left < side:
    return None
  for row in range(rows):
    top = MARGIN + row * (side + MARGIN)
    for start in (left, left + side + MARGIN):
      pixels[top : top + side, start : start + side] = _HIDDEN
  out = io.BytesIO()
  Image.fromarray(pixels).save(out, 'PNG', optimize=True)
  return out.getvalue()


def sweep_grids(results: dict[str, Any], workdir: pathlib.Path) -> list[Picture]:
  """The sheets that the sweep drew: rows the settings, columns the noise."""
  sheets = {
    'scales': 'Guidance scales from 0 upwards, a row each, from the same noise, a column each',
    'samplers': 'Methods and numbers of steps, a row each, from the same noise, a column each',
  }
  return [
    Picture(f'sweep_{name}.png', f'Synthetic images. {what}.', f'{what}.', {'light': path.read_bytes()})
    for name, what in sheets.items()
    if results['sweep'] and (path := workdir / 'sweep' / f'{name}.png').is_file()
  ]
