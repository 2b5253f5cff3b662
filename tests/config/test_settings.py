"""The table of settings says each thing once."""

import pytest

from fetal_jax import config as config_lib
from fetal_jax.data import decode, sources, splits
from fetal_jax.diffusion import samplers
from fetal_jax.models import CLASSIFIERS


def test_names_are_unique_and_make_the_config():
  names = [setting.name for setting in config_lib.SETTINGS]
  assert len(set(names)) == len(names)
  values = config_lib.default_config().to_dict()
  assert set(values) == {
    'name', 'seed', 'dtype', 'compilation_cache', 'mesh', 'data', 'diffusion', 'sample', 'classify', 'filter',
    'evaluate', 'sweep', 'report',
  }  # fmt: skip
  assert values['diffusion']['guide'] == {
    'width': 128, 'channel_mult': (1, 1, 2, 3, 4), 'num_res_blocks': 2, 'attention_resolutions': (32, 16, 8),
    'num_head_channels': 64, 'pool': 'attention', 'norm_groups': 32, 'dropout': 0.0,
    'resblock_updown': True, 'use_scale_shift_norm': True,
  }  # fmt: skip


@pytest.mark.parametrize(
  ('name', 'there'),
  [
    ('data.source', sources.SOURCES),
    ('data.split', splits.SPLITS),
    ('data.resize', decode.RESIZES),
    ('sample.method', samplers.SAMPLERS),
  ],
)
def test_the_values_of_a_setting_are_those_of_the_code(name, there):
  (setting,) = (setting for setting in config_lib.SETTINGS if setting.name == name)
  assert sorted(setting.allowed.words.removeprefix('must be one of ').split(', ')) == sorted(there)
  assert all(setting.allowed.holds(value) for value in there)


def test_every_classifier_has_arguments():
  assert set(config_lib.default_config().classify.model_args) == set(CLASSIFIERS)


def test_settings_of_a_source():
  assert config_lib.of_source('fetal_phantom') == ('phantom_images', 'phantom_seed')
  assert config_lib.of_source('fetal_planes_db') == ('path', 'allow_missing')
  assert config_lib.of_source('image_folder') == ('path', 'patients_csv')


def test_what_a_setting_decides():
  assert config_lib.decides('data.image_size') == ('data', 'diffusion', 'synthetic', 'classify')
  assert config_lib.decides('diffusion.steps') == ('synthetic',)
  assert config_lib.decides('diffusion.log_every') == ()
  assert config_lib.decides('classify.epochs') == ('classify',)
  assert config_lib.decides('classify.models') == config_lib.decides('classify.model_args') == ()


def test_the_same_settings_have_the_hash_they_had():
  config = config_lib.default_config()
  assert config_lib.config_hash(config.diffusion, 'a split', 0) == '91e32c552a6f1847'
  config.diffusion.skip_nonfinite = 3
  assert config_lib.config_hash(config.diffusion, 'a split', 0) == '91e32c552a6f1847'
  config.diffusion.unet.resblock_updown = False
  assert config_lib.config_hash(config.diffusion, 'a split', 0) != '91e32c552a6f1847'
