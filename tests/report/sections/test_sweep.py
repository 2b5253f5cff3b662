"""The sweep's table, flags and sheets against what the sweep wrote."""

import pytest
from helpers import fake_run, fake_workdir

from fetal_jax.evaluate import sweep_results
from fetal_jax.report import run as run_lib
from fetal_jax.report.page import Flags, Pictures, Table
from fetal_jax.report.sections import sweep


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
  return fake_workdir.make(tmp_path_factory.mktemp('sweep'), models=(), swept=True)


@pytest.fixture(scope='module')
def run(workdir):
  return run_lib.read(workdir)


def _blocks(run, workdir, kind):
  return [block for block in sweep.section(run, workdir).blocks if isinstance(block, kind)]


def test_the_recommended_setting_stands_out(workdir, run):
  (table,) = _blocks(run, workdir, Table)
  chosen = sweep_results.read_recommended(workdir)
  (best,) = [row for row in table.rows if row[0].best]
  assert best[0].text == f'{chosen.method}, {chosen.steps} steps'
  assert table.rows[-1][0].text == 'Real training images'
  assert len(table.rows) == len(sweep_results.read(workdir).settings) + 1
  (flags,) = _blocks(run, workdir, Flags)
  assert flags.words[0] == f'--config.sample.method={chosen.method}'


def test_times_and_shares_are_in_words(workdir, run):
  (table,) = _blocks(run, workdir, Table)
  row = dict(zip(table.columns, table.rows[0], strict=True))
  assert row['Sampler'].text == 'ancestral, 250 steps'
  assert row['Time'].text == '25 s'
  assert row['Judge agrees (%)'].text == '70.0'
  assert row['Guide agrees (%)'].text == '90.0'
  assert [cell.text for cell in table.rows[-1][-2:]] == ['93.0', '–']


def test_the_sheets_are_those_of_the_sweep(workdir, run):
  (pictures,) = _blocks(run, workdir, Pictures)
  assert [p.file for p in pictures.pictures] == ['sweep_scales.png', 'sweep_samplers.png']
  assert pictures.pictures[0].data['light'] == (workdir / 'sweep' / 'scales.png').read_bytes()


def test_without_a_sweep_there_is_no_section(workdir):
  assert sweep.section(fake_run.make(), workdir) is None
