"""Configs from defaults, files and a command line."""

import json

import pytest

from fetal_jax import config as config_lib
from fetal_jax.config import settings, values
from fetal_jax.runtime.errors import DamagedFile, UserError


@pytest.fixture
def config():
  return config_lib.default_config()


def test_a_trip_through_json_is_the_identity(config):
  config.diffusion.ema_rates = (0.99, 0.999)
  again = config_lib.from_dict(json.loads(json.dumps(config_lib.to_dict(config))))
  assert again == config
  assert config_lib.config_hash(again.diffusion) == config_lib.config_hash(config.diffusion)


HOME = [
  ('data.path', '~/a.zip', '/home/me/a.zip'),
  ('data.patients_csv', '~/a/b.csv', '/home/me/a/b.csv'),
  ('compilation_cache', '~', '/home/me'),
  ('diffusion.init_from', '~/a.pt,b.pt', ('/home/me/a.pt', 'b.pt')),
  ('classify.init_from', '~/a.pt', ('/home/me/a.pt',)),
  ('evaluate.encoder', 'inception:~/a.pt', 'inception:/home/me/a.pt'),
  ('data.path', './~/a', './~/a'),
  ('data.path', '/a:~/b', '/a:~/b'),
  ('name', '~/a', '~/a'),
]


@pytest.mark.parametrize(('key', 'text', 'value'), HOME)
def test_home_is_put_in_place_of_its_sign_wherever_a_setting_is_a_path(config, monkeypatch, key, text, value):
  monkeypatch.setenv('HOME', '/home/me')
  config_lib.override(config, key, text)
  assert values.get(config, key) == value


def test_home_in_a_config_file_and_of_it(tmp_path, monkeypatch):
  monkeypatch.setenv('HOME', str(tmp_path))
  (tmp_path / 'a.py').write_text("""
from fetal_jax.config import default_config

def get_config():
  config = default_config()
  config.data.path = '~/images'
  config.classify.init_from = ('~/a.pt', 'b.pt')
  config.compilation_cache = '~/cache'
  return config
""")
  config = config_lib.load_file('~/a.py')
  assert config.data.path == f'{tmp_path}/images'
  assert config.classify.init_from == (f'{tmp_path}/a.pt', 'b.pt')
  assert config.compilation_cache == f'{tmp_path}/cache'
  with pytest.raises(UserError, match='~nobody_here/a: no home folder is known'):
    config_lib.override(config, 'data.path', '~nobody_here/a')


def test_every_setting_that_names_files_is_marked():
  marked = {setting.name for setting in settings.SETTINGS if setting.path}
  assert marked == {key for key, _, _ in HOME} - {'name'}


def test_a_program_gives_whole_paths(config):
  config.data.update(source='image_folder', path='~/images')
  with pytest.raises(
    UserError, match=r"config\.data\.path='~/images': begins with ~, .*; give the whole path"
  ):
    config_lib.check_values(config, 'data')


@pytest.mark.parametrize(
  ('key', 'text', 'value'),
  [
    ('diffusion.learning_rate', '1e-3', 1e-3),
    ('diffusion.learning_rate', '1', 1.0),
    ('data.path', 'a.zip', 'a.zip'),
    ('data.allow_missing', 'true', True),
    ('classify.models', 'resnet50,swin_t', ('resnet50', 'swin_t')),
    ('classify.models', 'resnet50', ('resnet50',)),
    ('sample.guidance_interval', '(100, 800)', (100, 800)),
    ('diffusion.unet.channel_mult', '1,2', (1, 2)),
  ],
)
def test_overrides_keep_the_type_of_the_default(config, key, text, value):
  config_lib.override(config, key, text)
  assert values.get(config, key) == value


@pytest.mark.parametrize(
  ('key', 'text', 'said'),
  [
    ('diffusion.learning_rates', '1', 'did you mean --config.diffusion.learning_rate'),
    ('learning_rate', '1', 'did you mean'),
    ('seed', 'abc', 'must be a whole number'),
    ('seed', '1.5', 'must be a whole number'),
    ('data.allow_missing', '3', 'must be true or false'),
    ('diffusion', '3', 'this is a section'),
    ('seed.x', '3', 'no such key'),
  ],
)
def test_overrides_refuse_unknown_keys_and_wrong_types(config, key, text, said):
  with pytest.raises(UserError, match=said) as error:
    config_lib.override(config, key, text)
  assert f'--config.{key}' in str(error.value)
  assert '\n' not in str(error.value)


def test_paper_widths():
  assert config_lib.load_file('configs/paper.py:w256').diffusion.unet.width == 256
  with pytest.raises(UserError, match='the widths are w128 and w256'):
    config_lib.load_file('configs/paper.py:w512')


def test_a_config_file_with_an_unknown_key_is_refused(tmp_path):
  file = tmp_path / 'mine.py'
  file.write_text(
    'from fetal_jax.config import default_config\n'
    'def get_config():\n  config = default_config()\n  config.data.image_sise = 64\n  return config\n'
  )
  with pytest.raises(UserError, match='image_sise'):
    config_lib.load_file(str(file))


@pytest.mark.parametrize(
  'values',
  [
    {'seed': 'x'},
    {'data': 'x'},
    {'diffusion': {'unet': {'width': [1]}}},
    {'data': {'image_size': 1.5}},
    {'sample': 3},
  ],
)
def test_kept_settings_of_another_type_are_damage(values):
  with pytest.raises(DamagedFile, match='settings that a run has kept are damaged'):
    config_lib.from_dict(values)
