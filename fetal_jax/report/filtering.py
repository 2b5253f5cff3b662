"""The quality filter: what it kept and dropped, and what that changed."""

import pathlib
from typing import Any

from fetal_jax.report import certainty, kinds, summary, tables
from fetal_jax.report.pictures import Picture
from fetal_jax.report.run import model_title
from fetal_jax.report.tables import DASH, Cell, Table


def section(results: dict[str, Any], workdir: pathlib.Path) -> dict[str, Any] | None:
  """What the page shows: `sentence`, `rule` (or ''), `by_class`, `changes` (or None), `pictures`; None without filter."""
  if not results['filter']:
    return None
  return {
    'sentence': did_it_help(results),
    'rule': rule(results),
    'by_class': by_class(results),
    'changes': changes(results),
    'pictures': pictures(results, workdir),
  }


def did_it_help(results: dict[str, Any]) -> str:
  """One sentence on the comparison that was fixed beforehand, with its interval."""
  planned = results['filter']['planned']
  if planned is None:
    return (
      'Whether the filter helped cannot be said: no model has predictions of a regime on the kept images and of the same '
      'regime on all of them.'
    )
  images = f'the kept images of {"both rounds" if "r12" in planned["regime"] else "round 1"}'
  what, against = {
    'synthetic': (f'training on {images} alone', 'training on all of them'),
    'then_real': (f'pretraining on {images} and fine-tuning on real ones', 'pretraining on all of them'),
    'plus_real': (f'mixing {images} with the real ones', 'mixing in all of them'),
  }[str(kinds.use(planned['regime']))]
  change = f'{what} {summary.changed(planned, against)}'
  if planned['low'] is None:
    return f'Whether the filter helped cannot be said: {change}.'
  if planned['low'] > 0:
    return f'The filter helped: {change}.'
  if planned['high'] < 0:
    return f'The filter hurt: {change}.'
  return f'No difference by the filter could be shown: {change}.'


def rule(results: dict[str, Any]) -> str:
  """What is kept, by whose judgement, and how much that was; '' where it is not known."""
  kept = results['filter']['kept']
  if kept is None:
    return ''
  return (
    f'{choice(kept)}. The judge: {kept["judge"]}. It knows real images, so whatever is trained on its choice owes '
    'something to them.'
  )


def choice(kept: dict[str, Any]) -> str:
  """How many images were kept, and which."""
  asked, left = (sum(_totals(kept, key)) for key in ('asked', 'kept_per_class'))
  least, top_k = kept['rule']['min_confidence'], kept['rule']['top_k']
  sure = f', with a probability of at least {100 * least:g} %' if least else ''
  most = f'; of those at most {top_k:,} a class and round, the most probable ones' if top_k else ''
  return (
    f'The filter kept {left:,} of {asked:,} synthetic images: those for which a judging classifier finds the class that '
    f'was asked for the most probable one{sure}{most}'
  )


def _totals(kept: dict[str, Any], key: str) -> list[int]:
  """By class, over all rounds."""
  return [sum(counts) for counts in zip(*(about[key] for about in kept['rounds'].values()), strict=True)]


def by_class(results: dict[str, Any]) -> Table | None:
  """How many images of each class were asked for, judged right, kept and dropped."""
  kept = results['filter']['kept']
  if kept is None:
    return None
  asked, right, left = (_totals(kept, key) for key in ('asked', 'judged_right', 'kept_per_class'))
  counts = list(zip(kept['class_names'], asked, right, left, strict=True))
  rows = []
  for name, n, agreed, stays in [*counts, ('all', sum(asked), sum(right), sum(left))]:
    share = f'{100 * stays / n:.1f}' if n else DASH
    rows.append([Cell(name), *(Cell(f'{number:,}') for number in (n, agreed, stays, n - stays)), Cell(share)])
  columns = ['Class', 'Asked for', 'Judge agrees', 'Kept', 'Dropped', 'Kept (%)']
  rounds = len(kept['rounds'])
  notes = [f'Images of {rounds} rounds together.'] if rounds > 1 else []
  return Table('filter-classes', 'What the filter kept', columns, rows, notes)


def changes(results: dict[str, Any]) -> Table | None:
  """Every filtered regime beside the same one without filter; None where none has run."""
  models = results['filter']['models']
  if not models:
    return None
  synthetic = summary.with_start(results['runs'], 'synthetic_images')
  real = {(run['model'], run['regime'], run['seed']): run.get('real_images') for run in results['runs']}

  def trained_on(model: str, regime: str) -> Cell:
    numbers = sorted({n for (m, r, _), n in synthetic.items() if (m, r) == (model, regime) and n})
    others = sorted({n for (m, r, _), n in real.items() if (m, r) == (model, regime) and n})
    text = '–'.join(f'{n:,}' for n in numbers) or DASH
    return Cell(text, small=f'+ {"–".join(f"{n:,}" for n in others)} real' if others else '')

  rows, notes = [], []
  for model, by_regime in models.items():
    for regime, compared in by_regime.items():
      before, found = kinds.without_filter(regime), compared['regimes'][regime]
      title = Cell(model_title(model), small=summary.regime_title(before, results['rounds']))
      after = certainty.score_cell(found['scores']['accuracy'])
      if compared['baseline'] is None:
        rows.append([title, Cell(DASH, small='not run'), trained_on(model, regime), Cell(DASH), after])
        rows[-1] += [Cell(DASH)] * 2
        continue
      rows.append(
        [
          title,
          trained_on(model, before),
          trained_on(model, regime),
          certainty.score_cell(compared['regimes'][before]['scores']['accuracy']),
          after,
          certainty.difference_cell(found['difference']['accuracy'], found['p_value']),
          certainty.mcnemar_cell(found['mcnemar']),
        ]
      )
    runs = [run for run in results['runs'] if run['model'] == model and kinds.is_kept(run['regime'])]
    notes += tables.mismatches(summary.by_regime(runs))
  first = next(iter(next(iter(models.values())).values()))
  notes = [
    f'Accuracy in percent, differences in percentage points, with 95 % intervals ({first["resamples"]:,} resamples of '
    f'{first["patients"]:,} patients, {first["images"]:,} images) and p of the exchange test. Highlighted: the interval '
    "leaves out 0. McNemar's test: images that only the classifier without filter has right : only the one with it, seed "
    'by seed; its p is too small where patients have several images. No p is corrected for the number of comparisons.',
    'The filter leaves fewer images and so, at equal epochs, fewer optimiser steps: a difference is that of all of this.',
    *notes,
  ]
  columns = ['Model and regime', 'Synthetic images', 'Of these kept', 'Accuracy without filter']
  columns += ['Accuracy with filter', 'Difference', "McNemar's test"]
  return Table('filter-changes', 'What the filter changed', columns, rows, notes)


_SHEETS = {
  'kept': 'Kept, a row a class: those that the judge was the least sure of',
  'dropped': 'Dropped, a row a class: those whose class the judge found the least probable',
}


def pictures(results: dict[str, Any], workdir: pathlib.Path) -> list[Picture]:
  """The sheets that the filter drew; synthetic images only."""
  if results['filter']['kept'] is None:
    return []
  return [
    Picture(f'filter_{name}.png', f'Synthetic images. {what}.', f'{what}.', {'light': path.read_bytes()})
    for name, what in _SHEETS.items()
    if (path := workdir / 'synthetic' / f'{name}.png').is_file()
  ]
