"""The public names."""

import importlib

import pytest

import fetal_jax


def test_public_names_are_found_when_they_are_used():
  assert sorted(fetal_jax.__all__) == [
    'Sampler',
    'UserError',
    'default_config',
    'load_sampler',
    'make_sample',
  ]
  assert fetal_jax.default_config().name == 'custom'
  assert issubclass(fetal_jax.UserError, Exception)
  assert fetal_jax.make_sample is importlib.import_module('fetal_jax.diffusion.sample').make_sample
  assert fetal_jax.load_sampler is importlib.import_module('fetal_jax.sample.sampler').load_sampler


def test_another_name_is_refused():
  with pytest.raises(AttributeError, match="'fetal_jax' has no attribute 'load_sampel'"):
    _ = fetal_jax.load_sampel


@pytest.mark.parametrize(
  ('module', 'name'),
  [
    ('fetal_jax.models', 'create'),
    ('fetal_jax.convert', 'from_torch'),
    ('fetal_jax.convert.guided_diffusion', 'build'),
    ('fetal_jax.convert.guided_diffusion', 'from_torch'),
    ('fetal_jax.data.fetal_planes_db', 'read_metadata'),
    ('fetal_jax.main', 'main'),
    ('fetal_jax.export', 'export'),
  ],
)
def test_documented_functions_are_where_they_were(module, name):
  assert callable(getattr(importlib.import_module(module), name))
