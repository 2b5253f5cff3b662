"""Shared fixtures, and the environment that every test runs in."""

import os
import pathlib

os.environ.setdefault('JAX_PLATFORMS', 'cpu')

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
GOLDEN = ROOT / 'tests' / 'golden'


@pytest.fixture(scope='session')
def real_data() -> pathlib.Path:
  """The folder with FETAL_PLANES_DB's metadata and its image samples."""
  folder = pathlib.Path(os.environ.get('FETAL_JAX_DATA') or ROOT.parent / 'shared' / 'data')
  if not (folder / 'FETAL_PLANES_DB_data.csv').is_file():
    pytest.skip(f'no real images: {folder} has no FETAL_PLANES_DB_data.csv; set FETAL_JAX_DATA')
  return folder
