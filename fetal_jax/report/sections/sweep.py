"""The sweep over samplers: its table, its sheets of images, and the flags that it recommends."""

import pathlib

from fetal_jax.evaluate.sweep_results import Recommended, SweepResults, SweepRow
from fetal_jax.report.page import DASH, Block, Cell, Flags, Picture, Pictures, Section, Table
from fetal_jax.report.run import Run
from fetal_jax.report.sections import fidelity
from fetal_jax.runtime.units import duration

_FIGURES = {
  'fid': 'FID',
  'kid': 'KID',
  'precision': 'Precision',
  'recall': 'Recall',
  'coverage': 'Coverage',
}
_SHEETS = {
  'scales': 'Guidance scales from 0 upwards, a row each, from the same noise, a column each',
  'samplers': 'Methods and numbers of steps, a row each, from the same noise, a column each',
}


def section(run: Run, workdir: pathlib.Path) -> Section | None:
  """Shows the settings that the sweep compared; None without a sweep."""
  if run.sweep is None or not run.sweep.settings:
    return None
  blocks: list[Block] = []
  if run.recommended:
    blocks.append(Flags('Recommended', run.recommended.flags))
  blocks.append(table(run.sweep, run.recommended))
  if sheets := pictures(workdir):
    blocks.append(Pictures(sheets, style='sheet'))
  return Section('sweep', 'Sweep of the sampler', blocks, nav='Sweep')


def table(sweep: SweepResults, recommended: Recommended | None) -> Table:
  """Shows a row a setting, the recommended one highlighted, and real training images as the floor."""
  rows = [_row(row, best=_is(row, recommended)) for row in sweep.settings.values()]
  floor = [Cell('Real training images', small='the floor'), Cell(DASH), Cell(DASH)]
  floor += fidelity.figures(sweep.floor, _FIGURES)
  rows.append([*floor, Cell(_percent(sweep.real_accuracy)), Cell(DASH)])
  notes = [
    f'{sweep.images:,} images a setting, from the same labels and noise; compared with {sweep.reference}.',
    f'Judge: {sweep.judge}. Its share for real images is that of the real reference.',
  ]
  if recommended:
    notes.append(f'Recommended: {recommended.why}.')
  columns = ['Sampler', 'Guidance scale', 'Time', *_FIGURES.values(), 'Judge agrees (%)', 'Guide agrees (%)']
  return Table('sweep-table', 'Settings of the sampler', columns, rows, notes)


def _row(row: SweepRow, *, best: bool) -> list[Cell]:
  return [
    Cell(f'{row.method}, {row.steps} steps', small='recommended' if best else '', best=best),
    Cell(f'{row.guidance_scale:g}'),
    Cell(duration(row.seconds)),
    *fidelity.figures(row, _FIGURES, best=best),
    Cell(_percent(row.classifier_accuracy)),
    Cell(_percent(row.guide_accuracy)),
  ]


def _is(row: SweepRow, chosen: Recommended | None) -> bool:
  keys = ('method', 'steps', 'guidance_scale')
  return chosen is not None and all(getattr(chosen, key) == getattr(row, key) for key in keys)


def pictures(workdir: pathlib.Path) -> list[Picture]:
  """Returns the sheets that the sweep drew: rows the settings, columns the noise."""
  return [
    Picture(f'sweep_{name}.png', f'Synthetic images. {what}.', f'{what}.', {'light': path.read_bytes()})
    for name, what in _SHEETS.items()
    if (path := workdir / 'sweep' / f'{name}.png').is_file()
  ]


def _percent(value: float | None) -> str:
  return DASH if value is None else f'{100 * value:.1f}'
