"""Counts of images beside the paper's."""

import pytest
from helpers import fake_run, fake_workdir

from fetal_jax.report import run as run_lib
from fetal_jax.report.sections import data


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  return run_lib.read(fake_workdir.make(tmp_path_factory.mktemp('data'), models=()))


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
  fake_workdir.make(tmp_path, class_names=('brain', 'heart'), models=(), num_images=60, image_size=8)
  run = run_lib.read(tmp_path)
  table = data.split_counts(run)
  assert [cell.text for cell in table.rows[1]][-2:] == ['–', '–']
  assert table.notes[-1] == 'The classes of this run are not (all) those of the paper.'
  assert [cell.text for cell in data.synthetic_counts(run).rows[1]] == ['heart', '8', '8', '–', '–']


def test_nothing_is_made_up():
  assert data.split_counts(fake_run.make()) is None
  assert data.synthetic_counts(fake_run.make()) is None
  assert data.section(fake_run.make()).title == 'Data'
