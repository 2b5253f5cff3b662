"""The sources by name."""

import inspect

import pytest

from fetal_jax.config import of_source
from fetal_jax.data import sources


@pytest.mark.parametrize('name', sources.SOURCES)
def test_a_source_takes_the_settings_that_decide_what_is_in_it(name):
  folder, *settings = inspect.signature(sources.SOURCES[name]).parameters
  assert folder == 'folder'
  assert sorted(settings) == sorted(of_source(name))


def test_settings_reach_the_builder(tmp_path):
  builder = sources.SOURCES['fetal_phantom'](tmp_path, phantom_images=7, phantom_seed=3)
  assert (builder.builder_config.images, builder.builder_config.seed) == (7, 3)


def test_only_the_published_archive_is_downloaded():
  assert sources.download_dir('fetal_planes_db', 'planes.zip') is None
  assert sources.download_dir('fetal_phantom', '') is None
  assert sources.download_dir('fetal_planes_db', '').name == 'downloads'
