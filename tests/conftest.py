"""Shared fixtures, and the environment that every test runs in."""

import logging
import os
import pathlib
import subprocess
import sys
from importlib import metadata

ROOT = pathlib.Path(__file__).resolve().parent.parent
GOLDEN = ROOT / 'tests' / 'golden'

# Tests that start processes of their own share what was compiled with them.
os.environ.setdefault('JAX_PLATFORMS', 'cpu')
os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', str(ROOT / '.jax_cache'))
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0.2')
# Programs of a test run for a moment and are compiled for minutes: these two make that five times quicker. With
# `FETAL_JAX_OPTIMISE=1` programs are compiled as for users: so does `make test-slow` with comparisons with references.
if not os.environ.get('FETAL_JAX_OPTIMISE'):
  os.environ.setdefault('JAX_DISABLE_MOST_OPTIMIZATIONS', '1')
  if metadata.version('jaxlib') < '0.11':  # later ones end the process: they no longer know the flag
    os.environ['XLA_FLAGS'] = f'{os.environ.get("XLA_FLAGS", "")} --xla_cpu_use_fusion_emitters=false'.strip()

import pytest
from helpers.processes import with_devices
from jaxtyping import install_import_hook

# Every call of a public function in a test checks the shapes and dtypes that its signature states.
install_import_hook(
  [
    'fetal_jax.diffusion',
    'fetal_jax.models',
    'fetal_jax.sample',
    'fetal_jax.data.rounds',
    'fetal_jax.data.augment',
  ],
  'beartype.beartype',
)


@pytest.fixture(scope='session')
def real_data() -> pathlib.Path:
  """The folder with FETAL_PLANES_DB's metadata and its image samples."""
  folder = pathlib.Path(os.environ.get('FETAL_JAX_DATA') or ROOT.parent / 'shared' / 'data')
  if not (folder / 'FETAL_PLANES_DB_data.csv').is_file():
    pytest.skip(f'no real images: {folder} has no FETAL_PLANES_DB_data.csv; set FETAL_JAX_DATA')
  return folder


# A file runs in one worker, so that its tests share what one of them made; the longest files start first.
LONGEST = (
  'test_end_to_end.py',
  'test_audit.py',
  'test_diffusion_step.py',
  'test_classifiers.py',
  'test_guided_diffusion.py',
  'test_initial.py',
  'test_sample.py',
  'test_determinism.py',
)

# The same of the slow tests, which come before all others where they run.
LONGEST_SLOW = (
  'test_end_to_end.py',
  'test_hosts.py',
  'test_notebooks.py',
  'test_torture.py',
  'test_stage.py',
  'test_mutants.py',
)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
  for item in items:
    if getattr(item.obj, 'is_hypothesis_test', False):
      item.add_marker('fuzz')
    if hasattr(item.module, 'GOLDEN') and 'equal' in item.name:
      item.add_marker('reference')

  def place(item):
    slow = item.get_closest_marker('slow') is not None
    order = LONGEST_SLOW if slow else LONGEST
    return not slow, order.index(item.path.name) if item.path.name in order else len(order)

  items.sort(key=place)


@pytest.fixture(scope='session')
def command():
  """Runs `python -m fetal_jax.main` as a user does; returns the finished process with its output as text."""

  def run(*arguments: str, devices: int = 1, **environment: str) -> subprocess.CompletedProcess:
    env = {**(with_devices(devices) if devices > 1 else os.environ), **environment}
    return subprocess.run(
      [sys.executable, '-m', 'fetal_jax.main', *arguments],
      cwd=ROOT,
      env=env,
      capture_output=True,
      text=True,
      check=False,
    )

  return run


@pytest.fixture
def command_here(capsys):
  """Runs the same in this process, where nothing has to be imported again; returns the same."""
  from fetal_jax import main

  def run(*arguments: str) -> subprocess.CompletedProcess:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
      code = main.main(list(arguments))
    finally:
      for handler in set(root.handlers) - set(handlers):
        handler.close()
      root.handlers[:], root.level = handlers, level
    said = capsys.readouterr()
    return subprocess.CompletedProcess(arguments, code, said.out, said.err)

  return run
