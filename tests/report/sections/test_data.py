"""Counts of images beside the paper's."""

import msgspec
import pytest
from helpers import fake_run, fake_workdir

from fetal_jax.report import run as run_lib
from fetal_jax.report.sections import data


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  return run_lib.read(fake_workdir.make(tmp_path_factory.mktemp('data'), models=(), source='fetal_planes_db'))


def test_real_images_beside_the_papers(run):
  table = data.split_counts(run)
  assert [cell.text for cell in table.rows[0]][-2:] == ['569', '142']
  assert [cell.text for cell in table.rows[-1]][-2:] == ['9,923', '2,477']
  ours = sum(int(row[table.columns.index('This run: test')].text) for row in table.rows[:-1])
  assert ours == run.data.totals['test']
  assert table.notes[0].endswith('of those in test are also on the training side.')


def test_synthetic_images_beside_the_papers(run):
  table = data.synthetic_counts(run)
  assert [cell.text for cell in table.rows[1]] == ['brain', '8', '8', '5,000', '5,000']
  assert [cell.text for cell in table.rows[-1]] == ['all', '48', '48', '30,000', '30,000']


def test_classes_that_the_paper_lacks_have_dashes(tmp_path):
  fake_workdir.make(
    tmp_path, class_names=('brain', 'heart'), models=(), num_images=60, image_size=8, source='fetal_planes_db'
  )
  run = run_lib.read(tmp_path)
  table = data.split_counts(run)
  assert [cell.text for cell in table.rows[1]][-2:] == ['–', '–']
  assert table.notes[-1] == 'The classes of this run are not (all) those of the paper.'
  assert [cell.text for cell in data.synthetic_counts(run).rows[1]] == ['heart', '8', '8', '–', '–']


@pytest.mark.parametrize(
  ('source', 'title'), [('image_folder', 'Real images'), ('fetal_phantom', 'Drawn images')]
)
def test_other_data_have_no_columns_of_the_paper(run, source, title):
  other = msgspec.structs.replace(run, data=msgspec.structs.replace(run.data, source=source))
  table = data.split_counts(other)
  assert table.title == title
  assert table.columns == ['Class', 'Train', 'Validation', 'Test']
  assert [len(row) for row in table.rows] == [4] * 7
  assert table.rows[-1][0].text == 'all'
  assert table.rows[-1][3].text == f'{run.data.totals["test"]}'
  drawn = data.synthetic_counts(other)
  assert (drawn.title, drawn.columns) == ('Synthetic images', ['Class', 'Round 1', 'Round 2'])
  assert [cell.text for cell in drawn.rows[-1]] == ['all', '48', '48']


def test_unknown_patients_are_said(run):
  about = msgspec.structs.replace(
    run.data, patients_known=False, images_of_unknown_patients=40, patients=None, shared_patients=None
  )
  table = data.split_counts(msgspec.structs.replace(run, data=about))
  assert table.notes[0] == 'Patients: unknown of 40 of 240 images.'


def test_nothing_is_made_up():
  assert data.split_counts(fake_run.make()) is None
  assert data.synthetic_counts(fake_run.make()) is None
  assert data.section(fake_run.make()).title == 'Data'
