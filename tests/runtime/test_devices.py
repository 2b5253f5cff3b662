"""Meshes, shardings and start-up in one process.

tests/train/test_diffusion_step.py has meshes at work on eight devices, tests/test_multiprocess.py on two processes.
"""

import os
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fetal_jax.runtime import devices, hosts
from fetal_jax.runtime.errors import UserError


def test_a_mesh_of_one():
  mesh = devices.make_mesh()
  assert dict(mesh.shape) == {'data': 1, 'fsdp': 1}
  batch = devices.put_batch(mesh, {'a': np.arange(4)})
  np.testing.assert_array_equal(batch['a'], np.arange(4))


@pytest.mark.parametrize('shape', [(3, 1), (1, 2), (-1, 3), (0, 1), (-1, 0)])
def test_a_mesh_that_does_not_fit_is_refused(shape):
  with pytest.raises(UserError, match=r'config\.mesh'):
    devices.make_mesh(*shape)


def test_a_batch_that_does_not_divide_is_refused(monkeypatch):
  mesh = jax.sharding.AbstractMesh((4, 2), ('data', 'fsdp'))
  devices.check_batch(mesh, 16, 'diffusion.batch_size')
  with pytest.raises(UserError, match=r'config.diffusion.batch_size=12: must be divisible by the 8 devices'):
    devices.check_batch(mesh, 12, 'diffusion.batch_size')


def test_large_arrays_are_spread_over_fsdp_along_their_widest_dimension():
  mesh = jax.sharding.AbstractMesh((2, 4), ('data', 'fsdp'))
  shapes = {
    'kernel': jax.ShapeDtypeStruct((3, 3, 64, 128), jnp.float32),
    'bias': jax.ShapeDtypeStruct((7,), jnp.float32),
  }
  sharding = devices.state_sharding(mesh, shapes)
  assert sharding['kernel'].spec == jax.sharding.PartitionSpec(None, None, None, 'fsdp')
  assert sharding['bias'].is_fully_replicated


def test_the_cache_of_a_user_without_a_home_is_off(monkeypatch, tmp_path):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
  assert devices._cache_folder() == tmp_path / 'fetal_jax' / 'xla'
  monkeypatch.setenv('XDG_CACHE_HOME', 'relative')
  monkeypatch.setenv('HOME', '/home/me')
  assert devices._cache_folder() == pathlib.Path('/home/me/.cache/fetal_jax/xla')
  monkeypatch.setattr(os.path, 'expanduser', lambda path: path)  # no HOME, and no entry in passwd
  assert devices._cache_folder() is None


def test_devices_that_are_not_there_are_refused(monkeypatch):
  def none():
    raise RuntimeError("Unable to initialize backend 'foo': not\nknown")

  monkeypatch.setattr(jax, 'devices', none)
  for use in (devices.all_devices, devices.make_mesh, devices.make_local_mesh):
    with pytest.raises(
      UserError, match=r"^JAX finds no device \(Unable to initialize backend 'foo': not known\)"
    ):
      use()


def test_the_compilation_cache_can_be_off_and_the_users_own_wins(monkeypatch, tmp_path):
  before = jax.config.jax_compilation_cache_dir
  devices.enable_compilation_cache(str(tmp_path / 'other'))
  assert jax.config.jax_compilation_cache_dir == before  # the test's environment names one
  devices.enable_compilation_cache('off')
  assert jax.config.jax_compilation_cache_dir == before


@pytest.fixture
def no_cache():
  """The config as it is where the environment names no cache, and back."""
  before = {
    name: jax.config.values[name]
    for name in ('jax_compilation_cache_dir', 'jax_persistent_cache_min_compile_time_secs')
  }
  jax.config.update('jax_compilation_cache_dir', None)
  yield
  for name, value in before.items():
    jax.config.update(name, value)


def test_a_cache_is_made_for_the_user_alone(tmp_path, no_cache):
  devices.enable_compilation_cache(str(tmp_path / 'a' / 'cache'))
  assert jax.config.jax_compilation_cache_dir == str(tmp_path / 'a' / 'cache')
  assert (tmp_path / 'a' / 'cache').stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize('by', ['setting', 'environment'])
def test_a_cache_that_others_can_write_is_not_used(tmp_path, no_cache, caplog, by):
  tmp_path.chmod(0o777)
  if by == 'environment':
    jax.config.update('jax_compilation_cache_dir', str(tmp_path))
  devices.enable_compilation_cache(str(tmp_path))
  assert jax.config.jax_compilation_cache_dir is None
  (said,) = caplog.messages
  assert said.startswith(
    f'{tmp_path}: compiled programs are not kept there, since what is in it is run as it is, and'
  )
  assert 'everybody can write it; name a folder of your own: --config.compilation_cache' in said


def test_a_cache_that_cannot_be_made_stops_nothing(tmp_path, no_cache, caplog):
  (tmp_path / 'file').write_bytes(b'')
  for place in ('file', 'file/cache'):
    devices.enable_compilation_cache(str(tmp_path / place))
  assert jax.config.jax_compilation_cache_dir is None
  assert len(caplog.messages) == 2


def test_a_local_mesh_takes_what_fsdp_it_can():
  assert dict(devices.make_local_mesh(4).shape) == {'data': 1, 'fsdp': 1}
  names = np.asarray([f'device {number}' for number in range(6)])
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(devices.jax, 'local_devices', lambda: names)
    patch.setattr(devices, 'Mesh', lambda devices, names: devices.shape)
    assert [devices.make_local_mesh(fsdp) for fsdp in (1, 2, 4, 6)] == [(6, 1), (3, 2), (3, 2), (1, 6)]


def test_one_process_waits_for_nobody():
  calls = []
  assert hosts.on_one_host(lambda x: calls.append(x) or 'result', 1) == 'result'
  assert hosts.first_host_first(lambda: calls.append(2) or 'opened') == 'opened'
  assert calls == [1, 2]
  with pytest.raises(UserError, match='mine'), hosts.together():
    raise UserError('mine')


CLUSTERS = (
  'JAX_COORDINATOR_ADDRESS',
  'JAX_NUM_PROCESSES',
  'JAX_PROCESS_ID',
  'SLURM_STEP_NUM_TASKS',
  'OMPI_COMM_WORLD_SIZE',
  'TPU_WORKER_HOSTNAMES',
)


@pytest.mark.parametrize(
  ('environment', 'expected'),
  [
    ({}, None),
    ({'SLURM_STEP_NUM_TASKS': '1'}, None),
    ({'SLURM_STEP_NUM_TASKS': '8'}, ()),
    ({'OMPI_COMM_WORLD_SIZE': '2'}, ()),
    ({'TPU_WORKER_HOSTNAMES': 'localhost'}, None),
    ({'TPU_WORKER_HOSTNAMES': 't1v-0,t1v-1'}, ()),
    (
      {'JAX_COORDINATOR_ADDRESS': 'host:1', 'JAX_NUM_PROCESSES': '3', 'JAX_PROCESS_ID': '0'},
      ('host:1', 3, 0),
    ),
  ],
)
def test_several_hosts_are_joined_where_there_are_any(monkeypatch, environment, expected):
  for name in CLUSTERS:
    monkeypatch.delenv(name, raising=False)
  for name, value in environment.items():
    monkeypatch.setenv(name, value)
  calls = []
  monkeypatch.setattr(jax.distributed, 'initialize', lambda *args: calls.append(args))
  assert hosts.initialize_hosts() == 0
  assert calls == ([] if expected is None else [expected])


@pytest.mark.parametrize(
  'others',
  [
    {},
    {'JAX_NUM_PROCESSES': '2'},
    {'JAX_NUM_PROCESSES': '2', 'JAX_PROCESS_ID': '2'},
    {'JAX_PROCESS_ID': 'x'},
  ],
)
def test_half_an_address_is_refused(monkeypatch, others):
  for name in CLUSTERS:
    monkeypatch.delenv(name, raising=False)
  for name, value in {'JAX_COORDINATOR_ADDRESS': 'host:1', **others}.items():
    monkeypatch.setenv(name, value)
  with pytest.raises(UserError, match='set all three'):
    hosts.initialize_hosts()
