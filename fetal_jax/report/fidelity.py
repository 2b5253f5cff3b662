"""Tables of how near the synthetic images come to real ones, beside a floor and a ceiling."""

from typing import Any

from fetal_jax.report.tables import DASH, Cell, Table

# Key of the results: (title, what it is).
_SETS = {
  'synthetic': ('Synthetic images', 'against test images'),
  'real_train': ('Real training images', 'the floor: as good as can be'),
  'synthetic_to_train': ('Synthetic, against training images', 'what copying would make too good'),
  'phantom': ('Drawn planes', 'no ultrasound at all'),
  'noise': ('Noise', 'the ceiling'),
}
_FIGURES = {
  'fid': 'FID',
  'kid': 'KID',
  'precision': 'Precision',
  'recall': 'Recall',
  'density': 'Density',
  'coverage': 'Coverage',
}

READING = (
  'FID and KID: less is nearer, and only figures of one encoder and one n compare. Precision: the share of synthetic '
  'images that lie among real ones; recall: the share of real ones that lie among synthetic ones. Density and coverage '
  'ask the same less touchily. Read each against the floor, real training images judged in the same way.'
)


def overall(results: dict[str, Any]) -> Table | None:
  """The sets beside each other, over all classes; None if nothing was evaluated."""
  evaluation = results['evaluation'] or {}
  found = evaluation.get('fidelity')
  if not found:
    return None
  rows, notes = [], [READING]
  for key, (title, what) in _SETS.items():
    if key in found:
      figures = found[key]['overall']
      rows.append([Cell(title, small=what), *_figures(figures), *_counts(figures)])
      notes += _notes(title, figures)
  columns = ['Set', *_FIGURES.values(), 'Images', 'Compared with']
  encoder = evaluation.get('encoder')
  if encoder:
    notes.append(f'Distances are of features: {encoder}. KID ± standard deviation over subsets.')
  return Table('fidelity-overall', 'Fidelity and diversity', columns, rows, list(dict.fromkeys(notes)))


def by_class(results: dict[str, Any]) -> Table | None:
  """The synthetic images of every class, with those of real training images small beneath."""
  found = (results['evaluation'] or {}).get('fidelity')
  if not found:
    return None
  floor = {row['name']: row for row in found['real_train']['per_class']}
  rows, notes = [], []
  for row in found['synthetic']['per_class']:
    cells = [
      Cell(ours.text, small=f'floor {digits(floor[row["name"]][key])}' if row['name'] in floor else '')
      for key, ours in zip(_FIGURES, _figures(row), strict=True)
    ]
    rows.append([Cell(row['name']), *cells, *_counts(row)])
    notes += _notes('', row)
  return Table(
    'fidelity-classes',
    'Fidelity by class',
    ['Class', *_FIGURES.values(), 'Synthetic', 'Real'],
    rows,
    list(dict.fromkeys(notes)),
  )


def agreement(results: dict[str, Any]) -> Table | None:
  """How often the judge sees the class that was asked for, and what it sees instead."""
  evaluation = results['evaluation'] or {}
  found = evaluation.get('agreement')
  if not found:
    return None
  names = list(found['per_class'])
  rows = []
  for k, name in enumerate(names):
    counts = [n if j != k else 0 for j, n in enumerate(found['confusion'][k])]
    other = names[max(range(len(names)), key=lambda j: counts[j])] if any(counts) else ''
    share = found['per_class'][name]
    rows.append(
      [
        Cell(name),
        Cell(DASH if share is None else f'{100 * share:.1f}'),
        Cell(f'{other} ({max(counts):,})' if other else DASH),
        Cell(f'{sum(found["confusion"][k]):,}'),
      ]
    )
  total = sum(sum(row) for row in found['confusion'])
  rows.append([Cell('all'), Cell(f'{100 * found["accuracy"]:.1f}'), Cell(DASH), Cell(f'{total:,}')])
  notes = [f'Percent. The judge: {evaluation["judge"]}.'] if evaluation.get('judge') else []
  columns = ['Asked for', 'Judge agrees', 'Else most often seen as', 'Images']
  return Table('agreement', 'Does a classifier see what was asked for?', columns, rows, notes)


def digits(value: float | None) -> str:
  """Three digits, or as many as a large number has."""
  if value is None:
    return DASH
  return f'{value:,.0f}' if abs(value) >= 1000 else f'{value:.3g}'.replace('-', '−')


def _figures(figures: dict[str, Any]) -> list[Cell]:
  cells = []
  for key in _FIGURES:
    sd = figures.get('kid_sd') if key == 'kid' else None
    cells.append(Cell(digits(figures[key]), small=f'±\u00a0{digits(sd)}' if sd is not None else ''))
  return cells


def _counts(figures: dict[str, Any]) -> list[Cell]:
  return [Cell(f'{figures["n_fake"]:,}'), Cell(f'{figures["n_real"]:,}')]


def _notes(title: str, figures: dict[str, Any]) -> list[str]:
  """What was noted of figures, those that share a reason together."""
  reasons: dict[str, list[str]] = {}
  for key, reason in (figures.get('notes') or {}).items():
    if key in _FIGURES:
      reasons.setdefault(reason, []).append(_FIGURES[key])
  return [
    f'{f"{title}, " if title and len(keys) < len(_FIGURES) else ""}{", ".join(keys)}: {reason}.'
    for reason, keys in reasons.items()
  ]
