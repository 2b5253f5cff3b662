"""Were images copied? The search for copies of training images: a sentence, a table, histograms and the closest pairs."""

import io
import pathlib
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from fetal_jax.data.grid import MARGIN
from fetal_jax.evaluate.results import CopiesAudit, Histogram, SpaceAudit
from fetal_jax.report import sources
from fetal_jax.report.charts import SKY, VERMILION, Theme, chart, new_axes
from fetal_jax.report.format import digits, p_value
from fetal_jax.report.page import DASH, Block, Cell, Heading, Picture, Pictures, Section, Table, Text
from fetal_jax.report.run import Run

if TYPE_CHECKING:
  from matplotlib.figure import Figure

# Names of the spaces: in a table, in a sentence, and beneath a picture.
_TITLES = {'pixel': 'Pixels', 'feature': 'Features'}
_IN = {'pixel': 'pixels', 'feature': 'the encoder’s features'}
_PICTURED = {'pixel': 'pixels', 'feature': 'features of the encoder'}

_HIDDEN = 128  # grey level of an image that is not to be shown

READING = (
  'Each synthetic image has some nearest training image; what counts is whether it is nearer than that of real images '
  'which the generator has not seen. Near: nearer than the nearest 1 % of those. Duplicates: nearer than even one of as many '
  'fresh images would come by chance. AuthPct: images that are farther from '
  'their training image than that is from its own neighbour. C_T below about −2: synthetic images are nearer throughout; '
  'well above 0: farther. Median ratio: distance over that of held-out images, 1 as for a fresh image.'
)


def section(run: Run, workdir: pathlib.Path, *, show_real_images: bool) -> Section | None:
  """Tells what the search for copies found; None without synthetic images."""
  if not run.evaluation and not run.rounds:
    return None
  blocks: list[Block] = [Text(was_it_copied(run))]
  if run.evaluation:
    found = run.evaluation.memorisation
    if said := caveat(run):
      blocks.append(Text(said, callout=True))
    blocks.append(table(found))
    if histograms := ratios(found):
      blocks.append(Pictures(histograms))
    if closest := pairs(found, workdir, show_real_images=show_real_images):
      blocks += [Heading('The closest pairs'), Pictures(closest, style='sheet')]
      if show_real_images and (line := sources.of_run(run).attribution):
        blocks.append(Text(line))
  return Section('copies', 'Were images copied?', blocks, nav='Copies')


# MARK: Sentences


def was_it_copied(run: Run) -> str:
  """Says what the search for copies found, or that there was none."""
  if run.evaluation is None:
    return 'Whether anything was copied has not been examined: run --stage=evaluate.'
  found = run.evaluation.memorisation
  if any(space.duplicates.count for space in _examined(found).values() if space.duplicates):
    return _single_copies(found)
  return _cannot_be_said(found) if found.copied is None else _shares(found)


def _examined(found: CopiesAudit) -> dict[str, SpaceAudit]:
  return {name: space for name, space in found.spaces.items() if space}


def _single_copies(found: CopiesAudit) -> str:
  listed = ' and '.join(
    f'{space.duplicates.count:,} in {_IN[name]}'
    for name, space in _examined(found).items()
    if space.duplicates and space.duplicates.count
  )
  return (
    f'Training images were copied: of {found.n_synthetic:,} synthetic images {listed} are nearer to a training image '
    'than a single fresh image would come by chance; look at the closest pairs.'
  )


def _cannot_be_said(found: CopiesAudit) -> str:
  nearer = ' and '.join(
    f'{100 * space.nearer:.0f} % in {_IN[name]}'
    for name, space in _examined(found).items()
    if space.nearer is not None
  )
  on_the_whole = f'; on the whole, a synthetic image is the nearer one with a chance of {nearer}, where 50 % would say nothing'
  return (
    f'Whether anything was copied cannot be said: {found.n_heldout:,} held-out images are too few to know how near '
    f'the nearest 1 % of fresh real images come to the training images{on_the_whole if nearer else ""}.'
  )


def _shares(found: CopiesAudit) -> str:
  """Says how many images are near: in all spaces, or where there are copies, in those that show them."""
  spaces = {name: space.near for name, space in _examined(found).items() if space.near}
  shares = ' and '.join(
    f'{100 * near.share:.1f} % (95 % interval {100 * near.interval[0]:.1f} to {100 * near.interval[1]:.1f} %) '
    f'in {_IN[name]}'
    for name, near in spaces.items()
    if near.copied or not found.copied
  )
  rate = 100 * next(iter(spaces.values())).rate
  fresh = 'fresh' if found.heldout_unseen else 'held-out'
  nearer = f'nearer to a training image than {100 - rate:.1f} % of {fresh} real images are'
  if found.copied:
    return (
      f'Training images were copied, or nearly: of {found.n_synthetic:,} synthetic images {shares} are '
      f'{nearer}, where {rate:.1f} % would be by chance; look at the closest pairs.'
    )
  searched = any(space.duplicates for space in _examined(found).values())
  return (
    f'No sign of copying was found: of {found.n_synthetic:,} synthetic images {shares} are {nearer}, '
    f'where {rate:.1f} % would be by chance{", and none is a near duplicate" if searched else ""}.'
  )


def caveat(run: Run) -> str:
  """Says where the held-out images are not fresh, or nobody knows; '' where they are."""
  if run.evaluation is None or run.evaluation.memorisation.heldout_unseen:
    return ''
  if run.evaluation.memorisation.heldout_unseen is None:
    return (
      'The patients are unknown: held-out images may show somebody whom the generator has seen. Then they are nearer to the '
      'training images than fresh ones, and copies stand out less.'
    )
  return (
    'Too few held-out images show patients whom the generator has not seen, so all test images were taken: they are nearer '
    'to the training images than fresh ones, and copies stand out less.'
  )


# MARK: Table


def table(found: CopiesAudit) -> Table:
  """Shows the figures of every space."""
  rows, notes = [], [f'{_counts(found)}.', READING]
  for name, space in found.spaces.items():
    if space is None:
      notes.append(f'{_TITLES[name]}: not examined, {found.notes.get(name, "unknown why")}.')
      continue
    rows.append(_row(_TITLES[name], space))
    notes.append(f'{_TITLES[name]}: {space.description}.')
    notes += [f'{_TITLES[name]}, {key}: {reason}.' for key, reason in space.notes.items()]
  columns = ['Compared in', 'Near', 'Expected of fresh images', 'p', 'Duplicates', 'AuthPct']
  columns += ['AuthPct, held-out images', 'C_T', 'Nearer than a held-out image', 'Median ratio']
  return Table('copies-table', 'Synthetic images beside fresh real ones', columns, rows, notes)


def _row(title: str, space: SpaceAudit) -> list[Cell]:
  near, single = space.near, space.duplicates
  copied = True if single and single.count else near.copied if near else None
  verdict = {True: 'copies', False: 'no sign', None: 'cannot be said'}[copied]
  interval = f'[{100 * near.interval[0]:.1f},\u00a0{100 * near.interval[1]:.1f}]' if near else ''
  return [
    Cell(title, small=verdict),
    Cell(f'{100 * near.share:.1f} %' if near else DASH, small=interval),
    Cell(f'{100 * near.rate:.1f} %' if near else DASH),
    Cell(p_value(near.p) if near else DASH),
    Cell(f'{single.count:,}' if single else DASH),
    *(
      Cell(DASH if percent is None else f'{percent:.1f}')
      for percent in (space.authpct, space.authpct_heldout)
    ),
    Cell(DASH if space.c_t is None else f'{space.c_t:.1f}'.replace('-', '−')),
    Cell(DASH if space.nearer is None else f'{100 * space.nearer:.0f} %'),
    Cell(digits(_median(space, 'synthetic'))),
  ]


def _median(space: SpaceAudit, kind: str) -> float | None:
  """Returns the median distance ratio of the `synthetic` or the `heldout` images."""
  return getattr(space.ratio, kind)[space.ratio.quantiles.index(0.5)] if space.ratio else None


def _counts(found: CopiesAudit) -> str:
  remarks = '; '.join(found.notes[key] for key in ('n_heldout', 'n_judged') if key in found.notes)
  counts = f'{found.n_synthetic:,} synthetic, {found.n_train:,} training, {found.n_heldout:,} held-out images'
  return f'{counts} ({remarks})' if remarks else counts


# MARK: Pictures


def ratios(found: CopiesAudit) -> list[Picture]:
  """Draws histograms of the distance ratio, one a space that has it."""
  pictures = []
  for name, space in _examined(found).items():
    if not space.histogram:
      continue
    what = f'Distance to the nearest training image in {_PICTURED[name]}'
    pictures.append(
      chart(
        f'copies_{name}',
        f'{what}, as a multiple of the median of held-out images: the median is {_median(space, "synthetic"):.2f} for '
        f'synthetic images and {_median(space, "heldout"):.2f} for held-out ones.',
        f'{what}: copies would stand out at the left.',
        figure,
        space.histogram,
        space.near.threshold / space.median_heldout if space.near and space.median_heldout else None,
      )
    )
  return pictures


def figure(histogram: Histogram, threshold: float | None, theme: Theme) -> 'Figure':
  """Draws how near images come to the training images: shares of synthetic and of held-out ones by distance ratio.

  Args:
    histogram: of the ratio.
    threshold: the ratio under which an image counts as near, None if there is none.
    theme: colours.
  """
  drawing, axes = new_axes(4.8, 3.2)
  edges = np.asarray(histogram.edges)
  kinds = (
    (histogram.heldout, 'held-out real images', SKY, '-', True),
    (histogram.synthetic, 'synthetic images', VERMILION, '--', False),
  )
  for counts, label, colour, line, filled in kinds:
    share = 100 * np.asarray(counts, np.float64) / max(sum(counts), 1)
    axes.stairs(share, edges, color=colour, linewidth=1.5, linestyle=line, label=label)
    if filled:
      axes.stairs(share, edges, color=colour, fill=True, alpha=0.35)
  if threshold is not None:
    dotted, label = (0, (1, 2)), 'nearest 1 % of held-out images'
    axes.axvline(threshold, color=theme.ink, linewidth=1, linestyle=dotted, label=label)
  axes.set_xlim(0, edges[-1])
  axes.set_ylim(bottom=0)
  axes.set_xlabel('distance to the nearest training image / median of held-out images')
  axes.set_ylabel('share of the images (%)')
  drawing.legend(loc='outside lower center', ncols=2, labelcolor=theme.ink)
  return drawing


def pairs(found: CopiesAudit, workdir: pathlib.Path, *, show_real_images: bool) -> list[Picture]:
  """Returns the closest pairs as the evaluate stage drew them, one sheet a space.

  Training images are grey where they may not be shown.
  """
  hidden = '' if show_real_images else ' Training images are not shown here: grey boxes stand for them.'
  pictures = []
  for name, space in _examined(found).items():
    path, count = workdir / 'evaluate' / f'pairs_{name}.png', len(space.pairs)
    if not path.is_file():
      continue
    data = path.read_bytes() if show_real_images else _conceal(path, count)
    if data is None:
      continue
    alt = (
      f'The {count} synthetic images that are nearest to a training image in {_PICTURED[name]}, a row each: the synthetic '
      f'image, its training image, and the latter flipped and shifted as it was found.{hidden}'
    )
    caption = (
      f'The {count} closest pairs in {_PICTURED[name]}, nearest first: synthetic | nearest training image | the same, '
      f'flipped and shifted as it matches best. The number is the distance.{hidden}'
    )
    pictures.append(Picture(f'closest_pairs_{name}.png', alt, caption, {'light': data}))
  return pictures


def _conceal(path: pathlib.Path, rows: int) -> bytes | None:
  """Returns the sheet with its two right columns grey; None if it is no grid of so many rows.

  The sheet may have been drawn when real images could still be shown, so it is greyed out whatever it shows.
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
