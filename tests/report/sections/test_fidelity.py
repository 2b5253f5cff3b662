"""Tables of fidelity and agreement against what the evaluate stage wrote."""

import msgspec
import pytest
from helpers import fake_run, fake_workdir

from fetal_jax.report import run as run_lib
from fetal_jax.report.page import Fold, Text
from fetal_jax.report.sections import fidelity


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  workdir = fake_workdir.make(tmp_path_factory.mktemp('fidelity'), models=(), evaluated=True, copies=12)
  return run_lib.read(workdir)


def _row(table, title):
  return dict(zip(table.columns, next(r for r in table.rows if r[0].text == title), strict=True))


def test_fidelity_stands_between_floor_and_ceiling(run):
  table = fidelity.overall(run.evaluation)
  found = run.evaluation.fidelity.synthetic.overall
  assert [row[0].text for row in table.rows] == [
    'Synthetic images', 'Real training images', 'Synthetic, against training images', 'Drawn planes', 'Noise'
  ]  # fmt: skip
  row = _row(table, 'Synthetic images')
  assert row['FID'].text == f'{found.fid:.3g}'
  assert row['KID'].small == f'±\xa0{found.kid_sd:.3g}'
  assert (row['Images'].text, row['Compared with'].text) == ('60', '60')
  assert any('trained by this run on the real training images alone' in note for note in table.notes)


def test_what_could_not_be_measured_has_its_reason(run):
  why = dict.fromkeys(('precision', 'recall'), 'needs 4 real and 4 synthetic images; there are 3 and 3')
  found = run.evaluation.fidelity
  overall = msgspec.structs.replace(found.synthetic.overall, precision=None, recall=None, notes=why)
  synthetic = msgspec.structs.replace(found.synthetic, overall=overall)
  changed = msgspec.structs.replace(
    run.evaluation, fidelity=msgspec.structs.replace(found, synthetic=synthetic)
  )
  table = fidelity.overall(changed)
  assert _row(table, 'Synthetic images')['Precision'].text == '–'
  assert (
    'Synthetic images, Precision, Recall: needs 4 real and 4 synthetic images; there are 3 and 3.'
    in table.notes
  )


def test_drawn_planes_have_no_row_of_drawn_planes(run):
  found = msgspec.structs.replace(run.evaluation.fidelity, phantom=None)
  table = fidelity.overall(msgspec.structs.replace(run.evaluation, fidelity=found))
  assert 'Drawn planes' not in [row[0].text for row in table.rows]


def test_classes_have_their_floor_beneath(run):
  table = fidelity.by_class(run.evaluation.fidelity)
  assert [row[0].text for row in table.rows] == list(fake_workdir.CLASSES)
  floor = run.evaluation.fidelity.real_train.per_class[0].fid
  assert table.rows[0][1].small == f'floor {floor:.3g}'


def test_agreement_by_class_and_in_all(run):
  found = run.evaluation.agreement
  table = fidelity.agreement(run.evaluation)
  assert table.rows[-1][1].text == f'{100 * found.accuracy:.1f}'
  counts = found.confusion[0]
  other = max(range(1, 6), key=lambda j: counts[j])
  assert table.rows[0][3].text == f'{fake_workdir.CLASSES[other]} ({counts[other]})'
  # The judge's own recall on real images stands beside, with their number.
  assert (table.columns[2], table.rows[0][2].text, table.rows[0][5].text) == (
    'Right on real test images', '85.0', '40'
  )  # fmt: skip
  assert (table.rows[-1][2].text, table.rows[-1][5].text) == ('85.0', '240')
  assert table.notes[0].startswith('Percent. The judge: last hidden layer of resnet50')


def test_how_well_sets_are_told_apart_stands_beside_its_control(run):
  table = fidelity.told_apart(run.evaluation)
  assert [[cell.text for cell in row] for row in table.rows] == [
    ['Synthetic images, by a logistic regression on the features', '72.0', '60'],
    ['Real training images, by a logistic regression on the features', '51.0', '60'],
  ]
  assert table.rows[0][1].small == '[66.0,\xa078.0]'


def test_too_few_images_to_tell_apart_are_a_dash_with_a_reason(run):
  one = run.evaluation.two_sample[0]
  few = msgspec.structs.replace(
    one, control=msgspec.structs.replace(one.control, accuracy=None, low=None, high=None, why='too few')
  )
  table = fidelity.told_apart(msgspec.structs.replace(run.evaluation, two_sample=[few]))
  assert table.rows[1][1].text == '–'
  assert table.notes[-1] == 'Real training images, by a logistic regression on the features: too few.'


def test_the_section_has_its_tables_in_order(run):
  overall, apart, agreement, classes = fidelity.section(run).blocks
  assert (overall.id, apart.id, agreement.id) == ('fidelity-overall', 'two-sample', 'agreement')
  assert isinstance(classes, Fold)
  assert [table.id for table in classes.blocks] == ['fidelity-classes']


def test_images_that_nobody_has_judged_are_named(run):
  (text,) = fidelity.section(fake_run.make(rounds=run.rounds)).blocks
  assert isinstance(text, Text)
  assert text.text.endswith('has not been measured: run --stage=evaluate.')


def test_without_images_there_is_no_section():
  assert fidelity.section(fake_run.make()) is None
