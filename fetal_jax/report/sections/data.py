"""The data: real images by class and side, synthetic images by class and round (the paper's Tables 1 and 2)."""

from collections.abc import Mapping, Sequence

from fetal_jax.report import paper, sources
from fetal_jax.report.page import DASH, Beside, Block, Cell, Section, Table
from fetal_jax.report.run import Data, Run, num_images


def section(run: Run) -> Section:
  """Shows how many images there are."""
  tables: list[Block] = [found for found in (split_counts(run), synthetic_counts(run)) if found]
  return Section('data', 'Data', [Beside(tables)] if tables else [], nav='Data')


def split_counts(run: Run) -> Table | None:
  """Returns Table 1: images by class on each side, with the paper's where these are its data; None without data."""
  data, source = run.data, sources.of_run(run)
  if data is None:
    return None
  sides = [side for side, n in data.totals.items() if n]
  counts = {name: [data.images[side][name] for side in sides] for name in data.class_names}
  totals, notes = [data.totals[side] for side in sides], [_patients(data, sides)]
  if not source.in_paper:
    title = f'{source.real.split(",")[0]} images'
    return Table('table-1', title, ['Class', *map(str.capitalize, sides)], _rows(counts, totals), notes)
  if set(data.class_names) != set(paper.TABLE_1):
    notes.append('The classes of this run are not (all) those of the paper.')
  columns = ['Class', *(f'This run: {side}' for side in sides), 'Paper: train', 'Paper: test']
  rows = _rows(counts, totals, {name: list(pair) for name, pair in paper.TABLE_1.items()})
  return Table('table-1', 'Table 1 · Real images', columns, rows, notes)


def synthetic_counts(run: Run) -> Table | None:
  """Returns Table 2: synthetic images by class and round, with the paper's where these are its data; None without any."""
  if not run.rounds:
    return None
  names = list(dict.fromkeys(name for one in run.rounds for name in one.counts))
  counts = {name: [one.counts.get(name, 0) for one in run.rounds] for name in names}
  totals = [num_images(one) for one in run.rounds]
  if not sources.of_run(run).in_paper:
    columns = ['Class', *(f'Round {one.round}' for one in run.rounds)]
    return Table('table-2', 'Synthetic images', columns, _rows(counts, totals))
  columns = [
    'Class',
    *(f'This run: round {one.round}' for one in run.rounds),
    *(f'Paper: round {k + 1}' for k in range(paper.TABLE_2_ROUNDS)),
  ]
  theirs = {name: [paper.TABLE_2_PER_CLASS] * paper.TABLE_2_ROUNDS for name in paper.TABLE_1}
  return Table('table-2', 'Table 2 · Synthetic images', columns, _rows(counts, totals, theirs))


def _rows(
  counts: Mapping[str, list[int]], totals: list[int], theirs: Mapping[str, list[int]] | None = None
) -> list[list[Cell]]:
  """Returns a row a class and one of all, of this run's counts and, if given, of the paper's beside them."""
  rows = [[name, *(f'{n:,}' for n in ours)] for name, ours in counts.items()]
  rows.append(['all', *(f'{n:,}' for n in totals)])
  if theirs:
    whole = [sum(column) for column in zip(*theirs.values(), strict=True)]
    for row, name in zip(rows, [*counts, None], strict=True):
      known = whole if name is None else theirs.get(name)
      row += [f'{n:,}' for n in known] if known else [DASH] * len(whole)
  return [[Cell(text) for text in row] for row in rows]


def _patients(data: Data, sides: Sequence[str]) -> str:
  """Says how many patients are on each side, or that nobody knows."""
  if data.patients is None:
    images, unknown = sum(data.totals.values()), data.images_of_unknown_patients
    return f'Patients: unknown of {unknown:,} of {images:,} images.'
  patients = ', '.join(f'{side} {data.patients[side]:,}' for side in sides)
  return f'Patients: {patients}; {data.shared_patients:,} of those in test are also on the training side.'
