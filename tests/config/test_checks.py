"""What cannot run is refused with its key."""

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


@pytest.mark.parametrize(
  ('changes', 'said'),
  [
    ({'data.image_size': 0}, 'config.data.image_size=0: must be at least 1'),
    ({'data.resize': 'zoom'}, "config.data.resize='zoom': must be one of stretch, pad, crop"),
    ({'data.image_size': 100}, 'config.data.image_size=100: must be divisible by 16'),
    ({'data.source': 'mnist'}, 'config.data.source='),
    ({'data.split': 'random'}, 'must be one of paper, official, patient'),
    ({'diffusion.microbatches': 3}, 'config.diffusion.microbatches=3'),
    ({'diffusion.steps': 100_001}, 'config.diffusion.steps=100001'),
    ({'diffusion.steps_per_call': 0}, 'config.diffusion.steps_per_call=0'),
    ({'diffusion.learning_rate': -1.0}, 'config.diffusion.learning_rate=-1.0'),
    ({'diffusion.unet.attention_resolutions': (30,)}, 'has a side of 30 px, only of 128, 64, 32, 16, 8; set'),
    ({'diffusion.unet.attention_resolutions': ('a',)}, "attention_resolutions='a': must be whole numbers"),
    (
      {'diffusion.guide.channel_mult': ()},
      'config.diffusion.guide.channel_mult=(): give one or more numbers',
    ),
    ({'diffusion.unet.num_heads': 5}, 'unet.num_heads=5: must divide the 256 channels of level 3'),
    ({'diffusion.guide.num_head_channels': 48}, 'guide.num_head_channels=48: must divide the 256 channels'),
    ({'seed': -1}, 'config.seed=-1: must be a whole number from 0 to 2^63 - 1'),
    ({'seed': 2**63}, 'config.seed=9223372036854775808: must be a whole number from 0 to 2^63 - 1'),
    ({'data.source': 'fetal_phantom', 'data.phantom_seed': -1}, 'config.data.phantom_seed=-1: must be'),
    ({'diffusion.init_from': ('nul\0.pt',)}, 'no such file; give a .pt'),
    ({'diffusion.ema_rates': ()}, 'config.diffusion.ema_rates'),
    ({'sample.steps': 1001}, 'config.sample.steps=1001'),
    ({'sample.eta': 0.5}, 'config.sample.eta=0.5: sample.method=ancestral has no use for it'),
    ({'sample.guidance_at': 'mean', 'sample.method': 'ddim'}, 'sample.method=ddim cannot do it'),
    ({'sample.guidance_scale': -0.5}, 'config.sample.guidance_scale'),
    ({'sample.guidance_interval': (800, 100)}, 'config.sample.guidance_interval'),
    ({'diffusion.train': 'unet'}, 'config.sample.guidance_scale=0'),
    ({'data.source': 'image_folder'}, 'config.data.path is empty: set --config.data.path to a folder'),
    (
      {'data.split': 'patient', 'data.test_fraction': 1.0},
      'config.data.test_fraction=1.0: must be between 0',
    ),
    ({'data.channels': 2}, 'config.data.channels=2: must be one of 1, 3'),
    ({'data.num_workers': -1}, 'config.data.num_workers=-1: must be at least 1, or 0 for all cores'),
    (
      {'diffusion.learning_rate': float('nan')},
      'config.diffusion.learning_rate=nan: must be a number above 0',
    ),
    ({'diffusion.skip_nonfinite': -1}, 'config.diffusion.skip_nonfinite=-1: must be 0 or more'),
    ({'diffusion.init_from': ('none.pt',)}, "config.diffusion.init_from='none.pt': no such file; give a .pt"),
    ({'sample.batch_size': -1}, 'config.sample.batch_size=-1: must be at least 1, or 0 to find it'),
    ({'filter.min_confidence': 1.0}, 'config.filter.min_confidence=1.0: must be in [0, 1)'),
    ({'filter.top_k': -1}, 'config.filter.top_k=-1: must be at least 1, or 0 for all'),
    *(
      (
        {'sweep.samplers': (wrong,)},
        f'config.sweep.samplers={wrong!r}: must be method:steps, such as ddim:50',
      )
      for wrong in ('ddim', 'ddim:', 'euler:50', 'ddim:0', 'ddim:-1')
    ),
  ],
)
def test_what_cannot_run_is_refused_with_its_key(config, changes, said):
  config.update_from_flattened_dict(changes)
  with pytest.raises(UserError) as error:
    config_lib.validate(config)
  assert said in str(error.value)


@pytest.mark.parametrize(
  ('size', 'nearest'), [(96, '24,12,6'), (160, '40,20,10'), (192, '24,12'), (224, '28,14'), (256, '32,16')]
)
def test_attention_is_where_it_was_asked_for_or_refused(config, size, nearest):
  config.data.image_size = size
  for name in ('unet', 'guide'):
    with pytest.raises(UserError) as error:
      config_lib.validate(config)
    assert f'no feature map of a {size} px image has a side of' in str(error.value)
    flag = f'--config.diffusion.{name}.attention_resolutions={nearest}'
    assert str(error.value).endswith(flag)
    key, _, value = flag.removeprefix('--config.').partition('=')
    config_lib.override(config, key, value)  # the advice works
  config_lib.validate(config)


def test_a_network_that_is_not_trained_is_not_looked_at(config):
  config.update_from_flattened_dict({'diffusion.train': 'guide', 'diffusion.unet.channel_mult': (1,) * 9})
  config_lib.validate(config)


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


def test_a_setting_of_another_source_or_split_does_not_matter(config):
  config.data.update(phantom_images=0, test_fraction=7.0)
  config_lib.validate(config)


def test_one_section_alone(config):
  config.update_from_flattened_dict({'seed': 0, 'diffusion.steps': 0})
  config_lib.check_values(config, 'data')
  with pytest.raises(UserError, match=r'config\.diffusion\.steps=0: must be at least 1'):
    config_lib.check_values(config, 'diffusion')
