"""Who is seen on both sides of the split, and what was checked."""

import msgspec
import pytest
from helpers import fake_run, fake_workdir

from fetal_jax.report import run as run_lib
from fetal_jax.report.sections import leakage


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  return run_lib.read(fake_workdir.make(tmp_path_factory.mktemp('leakage'), models=(), evaluated=True))


def _said(run):
  (terms,) = leakage.section(run).blocks
  return {term: value for term, _, value in terms.rows}


def test_leakage_says_who_was_checked(run):
  said = _said(run)
  assert list(said) == ['Split', 'Patients', 'Trained on']
  assert said['Split'] == f'paper, hash {run.data.split_hash[:12]}'
  assert 'patients are on both sides of the split' in said['Patients']
  assert said['Trained on'].startswith('The training side of this split alone: UNet, guide')


def test_what_nobody_has_checked_is_said(run):
  unchecked = _said(fake_run.make(data=run.data))
  assert 'has not been checked: run --stage=evaluate.' in unchecked['Trained on']


def test_a_split_by_patient_has_nobody_on_both_sides(tmp_path):
  fake_workdir.make(tmp_path, models=(), num_images=60, image_size=8, split='patient')
  assert _said(run_lib.read(tmp_path))['Patients'].startswith('No patient is on both sides of the split')


@pytest.mark.parametrize(
  ('split', 'unknown', 'which', 'how'),
  [
    ('patient', 240, 'all 240 images', 'They were divided one by one, as if each showed another patient.'),
    ('patient', 40, '40 of 240 images', 'They were divided one by one, as if each showed another patient.'),
    ('official', 240, 'all 240 images', "The division is that of the data's owner; whether it keeps patients apart is not known."),
    ('paper', 240, 'all 240 images', 'They were divided by image.'),
  ],
)  # fmt: skip
def test_of_unknown_patients_nothing_is_claimed(run, split, unknown, which, how):
  data = msgspec.structs.replace(
    run.data, source='image_folder', split=split, patients_known=False, images_of_unknown_patients=unknown, patients=None,
    shared_patients=None, test_patient_overlap=None, test_patient_class_overlap=None,
  )  # fmt: skip
  assert leakage.overlap(data) == (
    f'The patients of {which} are unknown. {how} Whether test images show somebody who is also on the training side cannot be '
    'said; if they do, test accuracies are optimistic for new patients.'
  )


def test_only_the_papers_data_have_its_counts(run):
  planes = msgspec.structs.replace(run.data, source='fetal_planes_db')
  assert 'The split reproduces the counts of the paper' in leakage.overlap(planes)
  own = msgspec.structs.replace(run.data, source='image_folder')
  assert 'The split is by image; for new patients take one that keeps patients apart' in leakage.overlap(own)


def test_without_data_there_is_no_section():
  assert leakage.section(fake_run.make()) is None
