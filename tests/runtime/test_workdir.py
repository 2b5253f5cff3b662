"""One run at a time in a workdir, and no other settings than those that its results are of."""

import json
import os
import pathlib
import subprocess
import sys

import pytest
from conftest import ROOT

from fetal_jax import config as config_lib
from fetal_jax.runtime import workdir
from fetal_jax.runtime.errors import UserError
from fetal_jax.runtime.files import read_json, write_json


def ended():
  """The number of a process that is no more."""
  process = subprocess.Popen([sys.executable, '-c', ''])
  process.wait()
  return process.pid


def leave_lock(folder, **changes):
  """A lock as a killed run of this machine leaves it, with changes."""
  write_json(folder / workdir.LOCK, {**workdir._myself(), 'pid': ended(), **changes})


def test_the_lock_says_who_and_goes_at_the_end(tmp_path):
  folder = tmp_path / 'run'  # is made
  with workdir.locked(folder):
    lock = read_json(folder / 'lock.json')
    assert lock['pid'] == os.getpid()
    assert {'host', 'since', 'process_started'} <= lock.keys()
  assert list(folder.iterdir()) == []
  with pytest.raises(ZeroDivisionError), workdir.locked(folder):
    _ = 1 / 0
  assert list(folder.iterdir()) == []


_HOLD = """
import sys
from fetal_jax import workdir
with workdir.locked(sys.argv[1]):
  print('held', flush=True)
  sys.stdin.read()
"""


def test_a_second_run_is_refused_and_goes_on_after_a_kill(tmp_path, caplog):
  process = subprocess.Popen(
    [sys.executable, '-c', _HOLD, str(tmp_path)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
  )
  assert process.stdout.readline() == b'held\n'
  first = (tmp_path / 'lock.json').read_text()
  with pytest.raises(UserError, match=f'another run is at work there .process {process.pid} on .*, since 20'):
    with workdir.locked(tmp_path):
      pytest.fail('two at a time')
  assert (tmp_path / 'lock.json').read_text() == first
  process.kill()
  process.communicate()
  assert (tmp_path / 'lock.json').is_file()
  with workdir.locked(tmp_path):
    assert read_json(tmp_path / 'lock.json')['pid'] == os.getpid()
  assert f'the run that held it is gone (process {process.pid}' in caplog.text


def test_without_locks_of_the_kernel_the_process_tells(tmp_path, monkeypatch):
  """As on a file system that has none."""

  def flock(descriptor, operation):
    raise OSError(38, 'Function not implemented')

  monkeypatch.setattr(workdir.fcntl, 'flock', flock)
  parent = os.getppid()
  leave_lock(tmp_path, pid=parent, process_started=workdir._process_started(parent))
  with pytest.raises(UserError, match=f'another run is at work there .process {parent} '):
    with workdir.locked(tmp_path):
      pytest.fail('two at a time')

  # Another process has got its number since, or this one has.
  for number in (parent, os.getpid()):
    leave_lock(tmp_path, pid=number, process_started='another boot 17')
    with workdir.locked(tmp_path):
      assert read_json(tmp_path / 'lock.json')['pid'] == os.getpid()


def test_a_lock_of_another_machine_is_left_to_the_user(tmp_path, monkeypatch):
  leave_lock(tmp_path, host='node7')
  with pytest.raises(UserError, match=r'on node7, since .*if it is over, delete .*lock\.json'):
    with workdir.locked(tmp_path):
      pytest.fail('two at a time')
  # Unless it was this very job of SLURM, which was queued again after its node failed.
  leave_lock(tmp_path, host='node7', slurm=['12', 0])
  for environment, goes in (('12', True), ('13', False)):
    monkeypatch.setenv('SLURM_JOB_ID', environment)
    monkeypatch.setenv('SLURM_RESTART_COUNT', '1')
    if goes:
      with workdir.locked(tmp_path):
        pass
      leave_lock(tmp_path, host='node7', slurm=['12', 0])
    else:
      with pytest.raises(UserError, match='delete'), workdir.locked(tmp_path):
        pytest.fail('two at a time')


@pytest.mark.parametrize('content', ['', '{"host": "no', '[]', '{}', '\0\0\0'])
def test_a_lock_cut_off_by_a_kill_is_taken_over(tmp_path, content):
  (tmp_path / 'lock.json').write_text(content)
  with workdir.locked(tmp_path):
    assert json.loads((tmp_path / 'lock.json').read_text())['pid'] == os.getpid()
  assert not (tmp_path / 'lock.json').exists()


def test_a_lock_that_a_user_deleted_is_not_taken_from_the_next_run(tmp_path):
  with workdir.locked(tmp_path):
    (tmp_path / 'lock.json').unlink()
    leave_lock(tmp_path)
  assert (tmp_path / 'lock.json').is_file()


# Settings.


def begin(folder: pathlib.Path, *names: str, **changes) -> None:
  """A workdir with results of the default config but for `changes`, whose dots are underscores twice."""
  write_json(folder / 'config.json', {'config': config_lib.to_dict(make_config(**changes))})
  for name in names:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).touch()


def make_config(**changes):
  config = config_lib.default_config()
  with config.unlocked():
    config.update_from_flattened_dict({key.replace('__', '.'): value for key, value in changes.items()})
  return config


PREPARED, TRAINED, DRAWN = 'data/split.json', 'diffusion/checkpoints/40/x', 'synthetic/round_1/manifest.json'
JUDGED, KEPT = (
  'classify/resnet50/real/seed_0/metrics.json',
  'classify/swin_t/synth_r1_kept/seed_0/metrics.json',
)
ALL = (PREPARED, TRAINED, DRAWN, JUDGED, KEPT)


@pytest.mark.parametrize(
  ('result', 'changes'),
  [
    (PREPARED, {'data__image_size': 64}),
    (PREPARED, {'data__path': 'other.zip'}),
    (PREPARED, {'seed': 1}),
    (TRAINED, {'diffusion__unet__width': 64}),
    (TRAINED, {'diffusion__steps_per_call': 5}),
    (TRAINED, {'data__channels': 3}),
    (DRAWN, {'sample__steps': 50}),
    (DRAWN, {'diffusion__steps': 200_000}),
    (DRAWN, {'diffusion__learning_rate': 1e-3}),
    (JUDGED, {'classify__epochs': 10}),
    (JUDGED, {'classify__model_args': {'resnet50': {'depths': (1, 1)}}}),
    (KEPT, {'filter__min_confidence': 0.9}),
  ],
)
def test_settings_that_results_depend_on_are_refused_from_then_on(tmp_path, result, changes):
  begin(tmp_path)
  workdir.check_config(make_config(**changes), tmp_path)  # nothing is there yet
  begin(tmp_path, result)
  with pytest.raises(UserError, match='holds results of other settings') as error:
    workdir.check_config(make_config(**changes), tmp_path)
  key = next(iter(changes)).replace('__', '.')
  assert f'config.{key}' in str(error.value)


def test_the_differences_are_named_one_by_one(tmp_path):
  begin(tmp_path, TRAINED)
  with pytest.raises(UserError, match=r'config\.diffusion\.unet\.width: 128 there, 256 asked.*new --workdir'):
    workdir.check_config(make_config(diffusion__unet__width=256), tmp_path)
  many = make_config(**{f'diffusion__{key}': 0.5 for key in ('learning_rate', 'weight_decay', 'grad_clip')})
  many.diffusion.update(batch_size=64, timesteps=500, schedule='cosine', learn_sigma=False)
  with pytest.raises(UserError, match='; and 2 more') as error:
    workdir.check_config(many, tmp_path)
  assert '\n' not in str(error.value)


@pytest.mark.parametrize(
  'changes',
  [
    {'name': 'other', 'dtype': 'float32', 'compilation_cache': 'off', 'mesh__fsdp': 2},
    {
      'data__num_workers': 3,
      'data__phantom_images': 7,
      'data__patients_csv': 'a.csv',
      'data__test_fraction': 0.5,
    },
    {'diffusion__log_every': 1, 'diffusion__checkpoint_every': 10, 'diffusion__keep_checkpoints': 9},
    {'diffusion__eval_every': 1, 'diffusion__preview_every': 10, 'diffusion__remat': True},
    {'diffusion__skip_nonfinite': 3, 'classify__skip_nonfinite': 3},
    {'sample__rounds': 3, 'sample__batch_size': 0},
    {'classify__models': ('resnet50',), 'classify__num_seeds': 5, 'classify__regimes': ('real',)},
    {'classify__curve': (10,), 'classify__checkpoint_epochs': 1, 'classify__eval_batch_size': 1},
    {'classify__model_args': {'densenet169': {'growth': 8}}},  # of which there is no run
    {'evaluate__max_images': 10, 'sweep__per_class': 3, 'report__show_real_images': False},
  ],
)
def test_settings_that_change_no_result_are_free(tmp_path, changes):
  """Those of another source of data, and those of runs that are not there, among them."""
  begin(tmp_path, *ALL)
  workdir.check_config(make_config(**changes), tmp_path)


def test_a_model_may_be_trained_for_longer_until_it_is_sampled_from(tmp_path):
  begin(tmp_path, TRAINED)
  workdir.check_config(make_config(diffusion__steps=200_000), tmp_path)


def test_settings_that_came_later_have_the_value_they_had(tmp_path):
  begin(tmp_path, *ALL)
  recorded = read_json(tmp_path / 'config.json')
  del recorded['config']['sample']['clip'], recorded['config']['filter']
  write_json(tmp_path / 'config.json', recorded)
  workdir.check_config(make_config(), tmp_path)
  with pytest.raises(UserError, match=r'config\.sample\.clip: static there, none asked'):
    workdir.check_config(make_config(sample__clip='none'), tmp_path)


def test_the_table_names_settings_that_there_are():
  keys = [key for key, _ in config_lib.flatten(config_lib.to_dict(config_lib.default_config()))]
  for name, decided in config_lib.DECIDES.items():
    if name != 'classify.model_args':
      assert any(key == name or key.startswith(f'{name}.') for key in keys), name
    assert set(decided) <= set(workdir._BEGUN), name
