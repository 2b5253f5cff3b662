"""The sweep over samplers: its table, and the flags that it recommends."""

from typing import Any

from fetal_jax.report import fidelity
from fetal_jax.report.tables import DASH, Cell, Table, duration

_FIGURES = {
  'fid': 'FID',
  'kid': 'KID',
  'precision': 'Precision',
  'recall': 'Recall',
  'coverage': 'Coverage',
}


def table(results: dict[str, Any]) -> Table | None:
  """A row a setting, the recommended one highlighted; None without a sweep."""
  sweep = results['sweep']
  if not sweep or not sweep.get('settings'):
    return None
  chosen = sweep['recommended'] or {}
  rows = []
  for row in sweep['settings'].values():
    best = all(chosen.get(key) == row[key] for key in ('method', 'steps', 'guidance_scale'))
    cells = [Cell(f'{row["guidance_scale"]:g}'), Cell(duration(row['seconds']))]
    rows.append(
      [
        Cell(f'{row["method"]}, {row["steps"]} steps', small='recommended' if best else '', best=best),
        *cells,
        *_figures(row, best),
        Cell(_percent(row.get('classifier_accuracy'))),
        Cell(_percent(row.get('guide_accuracy'))),
      ]
    )
  if sweep.get('floor'):
    real = Cell(_percent(sweep.get('real_accuracy')))
    floor = Cell('Real training images', small='the floor')
    rows.append([floor, Cell(DASH), Cell(DASH), *_figures(sweep['floor']), real, Cell(DASH)])
  notes = [
    f'{sweep["images"]:,} images a setting, from the same labels and noise; compared with {sweep["reference"]}.'
  ]
  if sweep.get('judge'):
    notes.append(f'Judge: {sweep["judge"]}. Its share for real images is that of the real reference.')
  if chosen:
    notes.append(f'Recommended: {chosen["why"]}.')
  columns = ['Sampler', 'Guidance scale', 'Time', *_FIGURES.values(), 'Judge agrees (%)', 'Guide agrees (%)']
  return Table('sweep-table', 'Settings of the sampler', columns, rows, notes)


def flags(results: dict[str, Any]) -> list[str]:
  """What to add to the command for the recommended setting; [] if there is none."""
  return list(((results['sweep'] or {}).get('recommended') or {}).get('flags') or ())


def _figures(row: dict[str, Any], best: bool = False) -> list[Cell]:
  cells = []
  for key in _FIGURES:
    sd = row.get('kid_sd') if key == 'kid' else None
    small = f'±\u00a0{fidelity.digits(sd)}' if sd is not None else ''
    cells.append(Cell(fidelity.digits(row.get(key)), small=small, best=best and key == 'kid'))
  return cells


def _percent(value: float | None) -> str:
  return DASH if value is None else f'{100 * value:.1f}'
