"""Tables of fidelity, copies, leakage and the sweep against what those stages wrote."""

import pytest
from helpers import fake_workdir

from fetal_jax.report import copied, fidelity, sweeps
from fetal_jax.report import run as run_lib


@pytest.fixture(scope='module')
def results(tmp_path_factory):
  workdir = fake_workdir.make(
    tmp_path_factory.mktemp('audits'), models=(), evaluated=True, copies=12, swept=True
  )
  return run_lib.read_results(workdir)


def _row(table, title):
  return dict(zip(table.columns, next(r for r in table.rows if r[0].text == title), strict=True))


def test_fidelity_stands_between_floor_and_ceiling(results):
  table = fidelity.overall(results)
  found = results['evaluation']['fidelity']
  assert [row[0].text for row in table.rows][:2] == ['Synthetic images', 'Real training images']
  row = _row(table, 'Synthetic images')
  assert row['FID'].text == f'{found["synthetic"]["overall"]["fid"]:.3g}'
  assert row['KID'].small == f'±\xa0{found["synthetic"]["overall"]["kid_sd"]:.3g}'
  assert (row['Images'].text, row['Compared with'].text) == ('60', '60')
  assert {'Noise', 'Drawn planes'} <= {r[0].text for r in table.rows}
  assert any('trained by this run on the real training images alone' in note for note in table.notes)


def test_what_could_not_be_measured_has_its_reason(results):
  import copy

  changed = copy.deepcopy(results)
  figures = changed['evaluation']['fidelity']['synthetic']['overall']
  figures |= {'precision': None, 'recall': None}
  figures['notes'] |= dict.fromkeys(
    ('precision', 'recall'), 'needs 4 real and 4 synthetic images; there are 3 and 3'
  )
  table = fidelity.overall(changed)
  assert _row(table, 'Synthetic images')['Precision'].text == '–'
  assert (
    'Synthetic images, Precision, Recall: needs 4 real and 4 synthetic images; there are 3 and 3.'
    in table.notes
  )


def test_classes_have_their_floor_beneath(results):
  table = fidelity.by_class(results)
  found = results['evaluation']['fidelity']
  assert [row[0].text for row in table.rows] == list(fake_workdir.CLASSES)
  floor = found['real_train']['per_class'][0]['fid']
  assert table.rows[0][1].small == f'floor {fidelity.digits(floor)}'


def test_agreement_by_class_and_in_all(results):
  found = results['evaluation']['agreement']
  table = fidelity.agreement(results)
  assert table.rows[-1][1].text == f'{100 * found["accuracy"]:.1f}'
  counts = found['confusion'][0]
  other = max(range(1, 6), key=lambda j: counts[j])
  assert table.rows[0][2].text == f'{fake_workdir.CLASSES[other]} ({counts[other]})'


def test_copies_are_seen_in_both_spaces(results):
  table = copied.table(results)
  for title, name in (('Pixels', 'pixel'), ('Features', 'feature')):
    near = results['evaluation']['memorisation']['spaces'][name]['near']
    row = _row(table, title)
    assert row['Compared in'].small == 'copies'
    assert row['Near'].text == f'{100 * near["share"]:.1f} %'
    assert float(row['Near'].text[:-2]) >= 12.5  # 12 of 96 are copies
    assert row['Expected of fresh images'].text == '0.8 %'  # 1 of 121
  assert table.notes[0] == '96 synthetic, 60 training, 120 held-out images.'


def test_held_out_images_of_known_patients_are_a_caveat(results):
  assert copied.caveat(results) == ''
  found = results['evaluation']['memorisation'] | {'heldout_unseen': False}
  changed = results | {'evaluation': results['evaluation'] | {'memorisation': found}}
  assert 'copies stand out less' in copied.caveat(changed)


def test_leakage_says_who_was_checked(results):
  said = dict(copied.leakage(results))
  assert 'patients are on both sides of the split' in said['Patients']
  assert said['Trained on'].startswith('The training side of this split alone: UNet, guide')
  unchecked = dict(copied.leakage(results | {'evaluation': None}))
  assert 'has not been checked: run --stage=evaluate' in unchecked['Trained on']


def test_the_recommended_setting_stands_out(results):
  table = sweeps.table(results)
  chosen = results['sweep']['recommended']
  (best,) = [row for row in table.rows if row[0].best]
  assert best[0].text == f'{chosen["method"]}, {chosen["steps"]} steps'
  assert len(table.rows) == len(results['sweep']['settings']) + 1
  assert table.rows[-1][0].text == 'Real training images'
  assert sweeps.flags(results)[0] == f'--config.sample.method={chosen["method"]}'


def test_nothing_is_made_up(results):
  nothing = results | {'evaluation': None, 'sweep': None}
  for table in (fidelity.overall, fidelity.by_class, fidelity.agreement, copied.table, sweeps.table):
    assert table(nothing) is None
  assert sweeps.flags(nothing) == []


@pytest.mark.parametrize(
  ('value', 'text'), [(None, '–'), (12345.6, '12,346'), (0.01234, '0.0123'), (-0.5, '−0.5')]
)
def test_digits(value, text):
  assert fidelity.digits(value) == text
