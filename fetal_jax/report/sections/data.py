"""The data: real images by class and side, synthetic images by class and round (the paper's Tables 1 and 2)."""

from fetal_jax.report import paper
from fetal_jax.report.page import DASH, Beside, Block, Cell, Section, Table
from fetal_jax.report.run import Run, num_images


def section(run: Run) -> Section:
  """Shows how many images there are."""
  tables: list[Block] = [found for found in (split_counts(run), synthetic_counts(run)) if found]
  return Section('data', 'Data', [Beside(tables)] if tables else [], nav='Data')


def split_counts(run: Run) -> Table | None:
  """Returns Table 1: images by class on each side, with the paper's; None without data."""
  data = run.data
  if data is None:
    return None
  sides = [side for side, n in data.totals.items() if n]
  rows = []
  for name in data.class_names:
    known = paper.TABLE_1.get(name)
    theirs = [f'{n:,}' for n in known] if known else [DASH, DASH]
    rows.append([Cell(t) for t in (name, *(f'{data.images[side][name]:,}' for side in sides), *theirs)])
  totals = [f'{data.totals[side]:,}' for side in sides]
  theirs = [f'{sum(pair[i] for pair in paper.TABLE_1.values()):,}' for i in (0, 1)]
  rows.append([Cell(t) for t in ('all', *totals, *theirs)])
  patients = ', '.join(f'{side} {data.patients[side]:,}' for side in sides)
  notes = [f'Patients: {patients}; {data.shared_patients:,} of those in test are also on the training side.']
  if set(data.class_names) != set(paper.TABLE_1):
    notes.append('The classes of this run are not (all) those of the paper.')
  columns = ['Class', *(f'This run: {side}' for side in sides), 'Paper: train', 'Paper: test']
  return Table('table-1', 'Table 1 · Real images', columns, rows, notes)


def synthetic_counts(run: Run) -> Table | None:
  """Returns Table 2: synthetic images by class and round, with the paper's; None without any."""
  if not run.rounds:
    return None
  names = list(dict.fromkeys(name for one in run.rounds for name in one.counts))
  each = [f'{paper.TABLE_2_PER_CLASS:,}'] * paper.TABLE_2_ROUNDS
  rows = []
  for name in names:
    ours = [f'{one.counts.get(name, 0):,}' for one in run.rounds]
    theirs = each if name in paper.TABLE_1 else [DASH] * paper.TABLE_2_ROUNDS
    rows.append([Cell(t) for t in (name, *ours, *theirs)])
  totals = [f'{num_images(one):,}' for one in run.rounds]
  whole = [f'{paper.TABLE_2_PER_CLASS * len(paper.TABLE_1):,}'] * paper.TABLE_2_ROUNDS
  rows.append([Cell(t) for t in ('all', *totals, *whole)])
  columns = [
    'Class',
    *(f'This run: round {one.round}' for one in run.rounds),
    *(f'Paper: round {k + 1}' for k in range(paper.TABLE_2_ROUNDS)),
  ]
  return Table('table-2', 'Table 2 · Synthetic images', columns, rows)
