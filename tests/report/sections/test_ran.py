"""What ran, in words."""

import pytest
from helpers import fake_run, fake_workdir

from fetal_jax.report import run as run_lib
from fetal_jax.report.sections import ran


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  return run_lib.read(fake_workdir.make(tmp_path_factory.mktemp('ran'), models=(), image_size=8))


def test_settings_in_words(run):
  facts = dict(ran.facts(run))
  assert facts['Configuration'] == 'fake'
  assert facts['Data'] == 'fetal_phantom'
  assert facts['Split'] == f'paper (seed 0, hash {run.data.split_hash[:12]})'
  assert facts['Images'] == '8 × 8 px, grey'
  assert facts['Diffusion model'] == '2,000 steps of batch 64, UNet width 64'
  assert facts['Sampler'].startswith('method ancestral, steps 250, guidance_scale 0.5')
  assert facts['Sampler'].endswith('; checkpoint of step 2,000')
  assert facts['Code'] == 'git commit 0123456789ab'
  assert facts['Versions'] == 'python 3.11.7, jax 0.10.2, flax 0.12.8, fetal_jax 0.1.0'
  assert 'Model selection' not in facts


def test_time_and_memory_by_stage(run):
  table = ran.stages(run)
  assert [[cell.text for cell in row] for row in table.rows] == [
    ['prepare', '1 x cpu', '31 s', '1.5 GiB', '2026-01-01 10:00'],
    ['diffusion', '1 x cpu', '4 h 12 min', '2.5 GiB', '2026-01-02 10:00'],
    ['sample', '1 x cpu', '2 h 33 min', '3.5 GiB', '2026-01-03 10:00'],
    ['classify', '1 x cpu', '13 min 22 s', '4.5 GiB', '2026-01-04 10:00'],
  ]


def test_nothing_is_made_up():
  assert ran.facts(fake_run.make()) == [('Configuration', 'fake'), ('Code', 'git commit unknown')]
  assert ran.stages(fake_run.make()) is None
  assert len(ran.section(fake_run.make()).blocks) == 1
