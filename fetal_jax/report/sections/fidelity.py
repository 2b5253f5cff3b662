"""Fidelity: how near the synthetic images come to real ones, beside a floor and a ceiling."""

from fetal_jax.evaluate.results import Agreement, Evaluation, Fidelity, FidelityScores
from fetal_jax.report.format import brackets, digits
from fetal_jax.report.page import DASH, Block, Cell, Fold, Section, Table, Text
from fetal_jax.report.run import Run
from fetal_jax.report.sections import quality

# Sets of `Fidelity`: (title, what each is).
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
  'ask the same and depend less on single images. Read each against the floor, real training images judged in the same way.'
)


def section(run: Run) -> Section | None:
  """Tells how near the synthetic images come to real ones; None if there are none."""
  blocks: list[Block]
  if run.evaluation:
    found = run.evaluation
    blocks = [
      overall(found),
      told_apart(found),
      agreement(found),
      Fold('Class by class', [by_class(found.fidelity)]),
    ]
  elif run.rounds:
    blocks = [
      Text('How near the synthetic images come to real ones has not been measured: run --stage=evaluate.')
    ]
  else:
    return None
  return Section('fidelity', 'Fidelity', blocks, nav='Fidelity')


def overall(evaluation: Evaluation) -> Table:
  """Shows the sets beside each other, over all classes."""
  rows, notes = [], [READING]
  for key, (title, what) in _SETS.items():
    if found := getattr(evaluation.fidelity, key):
      rows.append([Cell(title, small=what), *figures(found.overall, _FIGURES), *_counts(found.overall)])
      notes += _notes(title, found.overall)
  notes.append(f'Distances are of features: {evaluation.encoder}. KID ± standard deviation over subsets.')
  columns = ['Set', *_FIGURES.values(), 'Images', 'Compared with']
  return Table('fidelity-overall', 'Fidelity and diversity', columns, rows, list(dict.fromkeys(notes)))


def told_apart(evaluation: Evaluation) -> Table:
  """Shows how well classifiers tell synthetic images, and real training images, from real test images."""
  rows, notes = (
    [],
    [
      'Balanced accuracy in percent on images that the classifier was not trained on, whole patients at a time where they '
      'are known; 50 is chance. Both sets have equally many images of every class.'
    ],
  )
  for title, score in quality.tests(evaluation.two_sample):
    value = DASH if score.accuracy is None else f'{100 * score.accuracy:.1f}'
    rows.append([Cell(title), Cell(value, small=brackets(score)), Cell(f'{score.images:,}')])
    if score.why:
      notes.append(f'{title}: {score.why}.')
  columns = ['Told from real test images', 'Right', 'Images of each']
  return Table('two-sample', 'Can they be told from real images?', columns, rows, notes)


def by_class(fidelity: Fidelity) -> Table:
  """Shows the synthetic images of every class, with the figures of real training images beneath."""
  floor = {row.name: row for row in fidelity.real_train.per_class}
  rows, notes = [], []
  for row in fidelity.synthetic.per_class:
    cells = [
      Cell(ours.text, small=f'floor {digits(getattr(floor[row.name], key))}' if row.name in floor else '')
      for key, ours in zip(_FIGURES, figures(row, _FIGURES), strict=True)
    ]
    rows.append([Cell(row.name), *cells, *_counts(row)])
    notes += _notes('', row)
  columns = ['Class', *_FIGURES.values(), 'Synthetic', 'Real']
  return Table('fidelity-classes', 'Fidelity by class', columns, rows, list(dict.fromkeys(notes)))


def agreement(evaluation: Evaluation) -> Table:
  """Shows how often the judge sees the class that was asked for, and what it sees instead."""
  found = evaluation.agreement
  rows = []
  real = evaluation.judge_recall
  for k, (name, share) in enumerate(found.per_class.items()):
    cells = (name, _percent(share), _percent(real.per_class[name]), _else_seen_as(found, k))
    counts = (f'{sum(found.confusion[k]):,}', f'{real.counts[name]:,}')
    rows.append([Cell(text) for text in (*cells, *counts)])
  total = sum(sum(row) for row in found.confusion)
  last = ('all', _percent(found.accuracy), _percent(real.accuracy), DASH, f'{total:,}', f'{real.images:,}')
  rows.append([Cell(text) for text in last])
  columns = [
    'Asked for',
    'Judge agrees',
    'Right on real test images',
    'Else most often seen as',
    'Synthetic',
    'Real',
  ]
  notes = [
    f'Percent. The judge: {evaluation.judge}. Where it is right for fewer than half of the real images of a class, it '
    'cannot judge that class.'
  ]
  return Table('agreement', 'Does a classifier see what was asked for?', columns, rows, notes)


def _percent(share: float | None) -> str:
  return DASH if share is None else f'{100 * share:.1f}'


def _else_seen_as(found: Agreement, k: int) -> str:
  """Returns the class that the judge most often sees in place of class k, with its count."""
  names = list(found.per_class)
  counts = [n if j != k else 0 for j, n in enumerate(found.confusion[k])]
  most = max(counts)
  return f'{names[counts.index(most)]} ({most:,})' if most else DASH


def figures(scores: FidelityScores, keys: dict[str, str], *, best: bool = False) -> list[Cell]:
  """Shows some of the figures.

  Args:
    scores: the figures.
    keys: those to show, with their titles.
    best: whether to highlight KID.
  """
  cells = []
  for key in keys:
    sd = scores.kid_sd if key == 'kid' else None
    small = f'±\u00a0{digits(sd)}' if sd is not None else ''
    cells.append(Cell(digits(getattr(scores, key)), small=small, best=best and key == 'kid'))
  return cells


def _counts(scores: FidelityScores) -> list[Cell]:
  return [Cell(f'{scores.n_fake:,}'), Cell(f'{scores.n_real:,}')]


def _notes(title: str, scores: FidelityScores) -> list[str]:
  """Returns why figures are missing, or what to keep in mind; those with the same reason share a sentence."""
  reasons: dict[str, list[str]] = {}
  for key, reason in scores.notes.items():
    if key in _FIGURES:
      reasons.setdefault(reason, []).append(_FIGURES[key])
  return [
    f'{f"{title}, " if title and len(keys) < len(_FIGURES) else ""}{", ".join(keys)}: {reason}.'
    for reason, keys in reasons.items()
  ]
