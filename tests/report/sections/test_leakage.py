"""Who is seen on both sides of the split, and what was checked."""

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


def test_without_data_there_is_no_section():
  assert leakage.section(fake_run.make()) is None
