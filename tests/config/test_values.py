"""Configs from defaults, files and a command line."""

import json

import pytest

from fetal_jax import config as config_lib
from fetal_jax.config import values
from fetal_jax.runtime.errors import UserError


@pytest.fixture
def config():
  return config_lib.default_config()


def test_a_trip_through_json_is_the_identity(config):
  config.diffusion.ema_rates = (0.99, 0.999)
  again = config_lib.from_dict(json.loads(json.dumps(config_lib.to_dict(config))))
  assert again == config
  assert config_lib.config_hash(again.diffusion) == config_lib.config_hash(config.diffusion)


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
