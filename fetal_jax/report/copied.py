"""The search for copies and for leaks: what was found, as a table and as sentences."""

from typing import Any

from fetal_jax.report import certainty, fidelity
from fetal_jax.report.tables import DASH, Cell, Table

_SPACES = {'pixel': 'Pixels', 'feature': 'Features'}

READING = (
  'Each synthetic image has some nearest training image; what counts is whether it is nearer than that of real images '
  'which the generator has not seen. Near: nearer than the nearest 1 % of those. Duplicates: nearer than even one of as many '
  'fresh images would come by chance. AuthPct: images that are farther from '
  'their training image than that is from its own neighbour. C_T below about −2: synthetic images are nearer throughout; '
  'well above 0: farther. Median ratio: distance over that of held-out images, 1 as for a fresh image.'
)


def table(results: dict[str, Any]) -> Table | None:
  """The figures of every space; None if nothing was evaluated."""
  found = (results['evaluation'] or {}).get('memorisation')
  if not found:
    return None
  rows, notes = [], [READING]
  for name, space in found['spaces'].items():
    if space is None:
      notes.append(f'{_SPACES[name]}: not examined, {found["notes"].get(name, "unknown why")}.')
      continue
    near = space['near']
    median = space['ratio']['synthetic'][space['ratio']['quantiles'].index(0.5)] if space['ratio'] else None
    alone = space.get('duplicates')
    copied = True if alone and alone['count'] else near and near['copied']
    verdict = {True: 'copies', False: 'no sign', None: 'cannot be said'}[copied]
    rows.append(
      [
        Cell(_SPACES[name], small=verdict),
        Cell(f'{100 * near["share"]:.1f} %', small=_percentages(near['interval'])) if near else Cell(DASH),
        Cell(f'{100 * near["rate"]:.1f} %' if near else DASH),
        Cell(certainty.p_value(near['p']) if near else DASH),
        Cell(f'{alone["count"]:,}' if alone else DASH),
        Cell(_percent(space['authpct'])),
        Cell(_percent(space['authpct_heldout'])),
        Cell(DASH if space['c_t'] is None else f'{space["c_t"]:.1f}'.replace('-', '−')),
        Cell(DASH if space['nearer'] is None else f'{100 * space["nearer"]:.0f} %'),
        Cell(fidelity.digits(median)),
      ]
    )
    notes.append(f'{_SPACES[name]}: {space["description"]}.')
    notes += [f'{_SPACES[name]}, {key}: {reason}.' for key, reason in space['notes'].items()]
  columns = [
    'Compared in',
    'Near',
    'Expected of fresh images',
    'p',
    'Duplicates',
    'AuthPct',
    'AuthPct, held-out images',
  ]
  columns += ['C_T', 'Nearer than a held-out image', 'Median ratio']
  counts = ', '.join(
    f'{found[f"n_{key}"]:,} {title}'
    for key, title in (('synthetic', 'synthetic'), ('train', 'training'), ('heldout', 'held-out images'))
  )
  notes.insert(0, f'{counts}{_heldout_note(found)}.')
  return Table('copies-table', 'Synthetic images beside fresh real ones', columns, rows, notes)


def _heldout_note(found: dict[str, Any]) -> str:
  notes = [found['notes'][key] for key in ('n_heldout', 'n_judged') if key in found['notes']]
  return f' ({"; ".join(notes)})' if notes else ''


def caveat(results: dict[str, Any]) -> str:
  """Said where the held-out images are not fresh; '' where they are."""
  found = (results['evaluation'] or {}).get('memorisation')
  if not found or found.get('heldout_unseen', True):
    return ''
  return (
    'Too few held-out images show patients whom the generator has not seen, so all test images were taken: they are nearer '
    'to the training images than fresh ones, and copies stand out less.'
  )


def overlap(data: dict[str, Any] | None) -> str:
  """Plainly: who is seen on both sides of the split."""
  if data is None:
    return ''
  share, shared = data['test_patient_overlap'], data['shared_patients']
  if not shared:
    return 'No patient is on both sides of the split: test images show people whom neither generator nor classifier has seen.'
  text = (
    f'{shared:,} patients are on both sides of the split: {100 * share:.0f} % of the test images show a patient who is '
    f'also on the training side, and {100 * data["test_patient_class_overlap"]:.0f} % show that patient in the same class. '
    'Test accuracies are therefore optimistic for new patients.'
  )
  if data['split'] == 'paper':
    text += (
      ' The split reproduces the counts of the paper; for new patients take one that keeps patients apart '
      '("patient", or "official" where the source has it).'
    )
  return text


def leakage(results: dict[str, Any]) -> list[tuple[str, str]]:
  """Who has seen what, as (term, value) pairs; [] without data."""
  data, found = results['data'], (results['evaluation'] or {}).get('leakage')
  if not data:
    return []
  facts = [('Split', f'{data["split"]}, hash {data["split_hash"][:12]}'), ('Patients', overlap(data))]
  if found:
    trained = found['trained_on']
    checked = (
      f'{trained[0].upper()}{trained[1:]}; by recorded split hash, anything of another split is refused'
    )
  else:
    checked = 'Whether generator, guide and judge saw this training side alone has not been checked: run --stage=evaluate'
  return [*facts, ('Trained on', f'{checked}.')]


def _percentages(ends: list[float]) -> str:
  return f'[{100 * ends[0]:.1f},\u00a0{100 * ends[1]:.1f}]'


def _percent(value: float | None) -> str:
  return DASH if value is None else f'{value:.1f}'
