"""What ran, in words."""

import msgspec
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
    ['prepare', '1 x cpu', 'float32', '31 s', '1.5 GiB', '2026-01-01 10:00'],
    ['diffusion', '1 x cpu', 'float32', '4 h 12 min', '2.5 GiB', '2026-01-02 10:00'],
    ['sample', '1 x cpu', 'float32', '2 h 33 min', '3.5 GiB', '2026-01-03 10:00'],
    ['classify', '1 x cpu', 'float32', '13 min 22 s', '4.5 GiB', '2026-01-04 10:00'],
  ]


def with_another_maker(run, stage, **changes):
  """The run, of whose stage a part was done with something else."""
  account = run.stages[stage]
  makers = [*account.makers, msgspec.structs.replace(account.makers[0], **changes)]
  stages = {**run.stages, stage: msgspec.structs.replace(account, makers=makers, finished=None)}
  return msgspec.structs.replace(run, stages=stages)


def test_who_did_a_stage_is_named_and_not_who_read_it_last(run):
  facts = dict(ran.facts(msgspec.structs.replace(run, git_commit='last', versions={'jax': '9'})))
  assert (facts['Code'], facts['Versions'][:21]) == ('git commit 0123456789ab', 'python 3.11.7, jax 0.')
  facts = dict(ran.facts(with_another_maker(run, 'sample', git_commit=None, versions={'jax': '0.11'})))
  assert facts['Code'] == (
    'git commit 0123456789ab (prepare, diffusion, sample, classify); git commit unknown (sample)'
  )
  assert facts['Versions'].endswith(
    'fetal_jax 0.1.0 (prepare, diffusion, sample, classify); jax 0.11 (sample)'
  )


def test_a_stage_on_two_devices_that_is_not_finished(run):
  rows = ran.stages(with_another_maker(run, 'sample', device='1 x H100', dtype='bfloat16')).rows
  assert [cell.text for cell in rows[2]] == [
    'sample', '1 x cpu, then 1 x H100', 'float32, then bfloat16', '2 h 33 min', '3.5 GiB', 'not finished'
  ]  # fmt: skip


def test_the_report_itself_counts_for_nothing(run):
  account = msgspec.structs.replace(run.stages['sample'], makers=[])
  other = with_another_maker(run, 'sample', git_commit='fedc')
  stages = {**run.stages, 'report': other.stages['sample']}
  assert dict(ran.facts(msgspec.structs.replace(run, stages=stages)))['Code'] == 'git commit 0123456789ab'
  nothing = msgspec.structs.replace(run, stages={'report': account})
  assert dict(ran.facts(nothing))['Code'] == 'git commit 0123456789ab'


def test_nothing_is_made_up():
  assert ran.facts(fake_run.make()) == [('Configuration', 'fake'), ('Code', 'git commit unknown')]
  assert ran.stages(fake_run.make()) is None
  assert len(ran.section(fake_run.make()).blocks) == 1
