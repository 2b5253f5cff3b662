"""Defaults, overrides from the command line, and refusals that name their key."""

import json

import pytest

from fetal_jax import config as config_lib
from fetal_jax.runtime.errors import UserError
from fetal_jax.train import regimes


@pytest.fixture
def config():
  return config_lib.default_config()


def test_the_default_is_valid(config):
  config_lib.validate(config)
  regimes.check(config)
  assert config.sample.rounds * 6 * config.sample.per_class == 60_000


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
  assert config_lib._get(config, key) == value


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


@pytest.mark.parametrize(
  ('changes', 'said'),
  [
    ({'data.image_size': 100}, 'config.data.image_size=100: must be divisible by 16'),
    ({'data.source': 'mnist'}, 'config.data.source='),
    ({'data.split': 'random'}, 'must be one of paper, official, patient'),
    ({'diffusion.microbatches': 3}, 'config.diffusion.microbatches=3'),
    ({'diffusion.steps': 100_001}, 'config.diffusion.steps=100001'),
    ({'diffusion.steps_per_call': 0}, 'config.diffusion.steps_per_call=0'),
    ({'diffusion.learning_rate': -1.0}, 'config.diffusion.learning_rate=-1.0'),
    ({'diffusion.unet.attention_resolutions': (30,)}, '30 px is not a feature-map side'),
    ({'diffusion.ema_rates': ()}, 'config.diffusion.ema_rates'),
    ({'sample.steps': 1001}, 'config.sample.steps=1001'),
    ({'sample.guidance_scale': -0.5}, 'config.sample.guidance_scale'),
    ({'sample.guidance_interval': (800, 100)}, 'config.sample.guidance_interval'),
    ({'diffusion.train': 'unet'}, 'config.sample.guidance_scale=0'),
  ],
)
def test_what_cannot_run_is_refused_with_its_key(config, changes, said):
  config.update_from_flattened_dict(changes)
  with pytest.raises(UserError) as error:
    config_lib.validate(config)
  assert said in str(error.value)


@pytest.mark.parametrize(
  ('changes', 'said'),
  [
    ({'classify.models': ('resnet18',)}, "no classifier named 'resnet18'"),
    ({'classify.regimes': ('mixed',)}, "no regime named 'mixed'"),
    ({'sample.rounds': 1}, 'config.sample.rounds=1'),
    ({'data.image_size': 48}, 'multiple of its patch size 32'),
  ],
)
def test_classifiers_that_cannot_run_are_refused(config, changes, said):
  config.update_from_flattened_dict(changes)
  with pytest.raises(UserError) as error:
    regimes.check(config)
  assert said in str(error.value)


def test_every_config_file_is_valid():
  for path in ('smoke.py', 'demo.py', 'subset.py', 'fast.py', 'paper.py', 'paper.py:w128', 'paper.py:w256'):
    config = config_lib.load_file(f'configs/{path}')
    config_lib.validate(config)
    regimes.check(config)
    assert config.is_locked


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
