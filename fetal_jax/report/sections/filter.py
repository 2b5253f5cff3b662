"""The quality filter: what it kept and dropped, and what that changed."""

import pathlib

from fetal_jax.evaluate.paired import RegimeComparison
from fetal_jax.evaluate.verdict import Word
from fetal_jax.report import sizes, verdicts
from fetal_jax.report.estimates import changed, difference_cell, mcnemar_cell, resampled, score_cell
from fetal_jax.report.groups import with_start
from fetal_jax.report.names import regime_title
from fetal_jax.report.page import DASH, Block, Cell, Picture, Pictures, Section, Table, Text
from fetal_jax.report.run import Run
from fetal_jax.train import regimes as regimes_lib
from fetal_jax.train.kept import Kept

_SHEETS = {
  'kept': 'Kept, a row a class: those that the judge was the least sure of',
  'dropped': 'Dropped, a row a class: those whose class the judge found the least probable',
}


_HEADS = {
  Word.HELPED: 'The filter helped',
  Word.HURT: 'The filter hurt',
  Word.NO_DIFFERENCE: 'No difference by the filter was shown',
  Word.CANNOT_SAY: 'Whether the filter helped cannot be said',
}


def section(run: Run, workdir: pathlib.Path) -> Section | None:
  """Tells what the filter did; None where neither it nor its regimes have run."""
  if run.filter is None:
    return None
  kept = run.filter.kept
  blocks: list[Block] = [Text(did_it_help(run))]
  if kept:
    blocks.append(Text(rule(kept)))
  if effect := changes(run):
    blocks.append(effect)
  if kept:
    blocks.append(by_class(kept))
    if sheets := pictures(workdir):
      blocks.append(Pictures(sheets, style='sheet'))
  return Section('filter', 'Quality filter', blocks, nav='Filter')


def did_it_help(run: Run) -> str:
  """Gives the verdict of the comparison that was fixed beforehand, what it lacks, and what was measured."""
  planned, found = run.filter.planned if run.filter else None, verdicts.of_filter(run)
  if planned is None:
    return (
      'Whether the filter helped cannot be said: no model has predictions of a regime on the kept images and of the same '
      'regime on all of them.'
    )
  images = f'the kept images of {"both rounds" if "r12" in planned.regime else "round 1"}'
  what, against = {
    'synthetic': (f'training on {images} alone', 'training on all of them'),
    'then_real': (f'pretraining on {images} and fine-tuning on real ones', 'pretraining on all of them'),
    'plus_real': (f'mixing {images} with the real ones', 'mixing in all of them'),
  }[str(regimes_lib.use(planned.regime))]
  change = f'{what} {changed(planned, against)}'
  if not found.lacks:
    return f'{_HEADS[found.word]}: {change}.'
  return (
    f'{_HEADS[found.word]}: {verdicts.missing(found, "the same without the filter")}. Measured: {change}.'
  )


def rule(kept: Kept) -> str:
  """Says what was kept and by whose judgement."""
  return (
    f'{choice(kept)}. The judge: {kept.judge}. It knows real images, so whatever is trained on its choice owes '
    'something to them.'
  )


def choice(kept: Kept) -> str:
  """Says how many images were kept, and which."""
  asked, left = (sum(_totals(kept, key)) for key in ('asked', 'kept_per_class'))
  least, top_k = kept.rule.min_confidence, kept.rule.top_k
  sure = f', with a probability of at least {100 * least:g} %' if least else ''
  most = f'; of those at most {top_k:,} a class and round, the most probable ones' if top_k else ''
  return (
    f'The filter kept {left:,} of {asked:,} synthetic images: those for which a judging classifier finds the class that '
    f'was asked for the most probable one{sure}{most}'
  )


def _totals(kept: Kept, key: str) -> list[int]:
  """Sums counts by class over all rounds."""
  return [sum(counts) for counts in zip(*(getattr(r, key) for r in kept.rounds.values()), strict=True)]


def by_class(kept: Kept) -> Table:
  """Shows how many images of each class were asked for, judged right, kept and dropped."""
  asked, right, left = (_totals(kept, key) for key in ('asked', 'judged_right', 'kept_per_class'))
  counts = list(zip(kept.class_names, asked, right, left, strict=True))
  rows = []
  for name, n, agreed, stays in [*counts, ('all', sum(asked), sum(right), sum(left))]:
    share = f'{100 * stays / n:.1f}' if n else DASH
    rows.append([Cell(name), *(Cell(f'{number:,}') for number in (n, agreed, stays, n - stays)), Cell(share)])
  columns = ['Class', 'Asked for', 'Judge agrees', 'Kept', 'Dropped', 'Kept (%)']
  rounds = len(kept.rounds)
  notes = [f'Images of {rounds} rounds together.'] if rounds > 1 else []
  return Table('filter-classes', 'What the filter kept', columns, rows, notes)


def changes(run: Run) -> Table | None:
  """Shows every filtered regime beside the same one without filter; None where none has run."""
  models = run.filter.models if run.filter else {}
  if not models:
    return None
  rows = []
  for model, by_name in models.items():
    rows += [_change(run, model, regime, compared) for regime, compared in by_name.items()]
  first = next(iter(next(iter(models.values())).values()))
  notes = [
    f'Accuracy in percent, differences in percentage points, with 95 % intervals ({first.resamples:,} resamples of '
    f'{resampled(first.patients, first.images)}) and p of the exchange test. Highlighted: the interval '
    "leaves out 0. McNemar's test: images that only the classifier without filter has right : only the one with it, seed "
    'by seed; its p is too small where patients have several images. No p is corrected for the number of comparisons.',
    'The filter leaves fewer images and so, at equal epochs, fewer optimiser steps: a difference is that of all of this.',
  ]
  columns = ['Model and regime', 'Synthetic images', 'Of these kept', 'Accuracy without filter']
  columns += ['Accuracy with filter', 'Difference', "McNemar's test"]
  return Table('filter-changes', 'What the filter changed', columns, rows, notes)


def _change(run: Run, model: str, regime: str, compared: RegimeComparison) -> list[Cell]:
  """Returns the row of one filtered regime."""
  before, found = regimes_lib.without_filter(regime), compared.regimes[regime]
  title = sizes.title_cell(run, model, regime_title(before, run.rounds))
  trained, after = _trained_on(run, model, regime), score_cell(found.scores['accuracy'])
  if found.difference is None:  # the regime without filter has not run
    return [title, Cell(DASH, small='not run'), trained, Cell(DASH), after, Cell(DASH), Cell(DASH)]
  return [
    title,
    _trained_on(run, model, before),
    trained,
    score_cell(compared.regimes[before].scores['accuracy']),
    after,
    difference_cell(found.difference['accuracy'], found.p_value),
    mcnemar_cell(found.mcnemar),
  ]


def _trained_on(run: Run, model: str, regime: str) -> Cell:
  """Shows how many images a regime is trained on, those of the run that it starts from included."""
  everything = with_start(run.runs, 'synthetic_images')
  synthetic = sorted({n for (m, r, _), n in everything.items() if (m, r) == (model, regime) and n})
  runs = [one for one in run.runs if (one.model, one.regime) == (model, regime)]
  real = sorted({one.real_images for one in runs if one.real_images})
  text = '–'.join(f'{n:,}' for n in synthetic) or DASH
  return Cell(text, small=f'+ {"–".join(f"{n:,}" for n in real)} real' if real else '')


def pictures(workdir: pathlib.Path) -> list[Picture]:
  """Returns the sheets that the filter drew; synthetic images only."""
  return [
    Picture(f'filter_{name}.png', f'Synthetic images. {what}.', f'{what}.', {'light': path.read_bytes()})
    for name, what in _SHEETS.items()
    if (path := workdir / 'synthetic' / f'{name}.png').is_file()
  ]
