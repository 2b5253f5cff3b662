"""Networks and processes are those that the settings say."""

import numpy as np
import pytest

from fetal_jax import networks
from fetal_jax.config import default_config


@pytest.fixture
def config():
  return default_config()


def test_the_unet_has_the_papers_sizes(config):
  unet = networks.make_unet(config, 6)
  assert (unet.out_channels, unet.width, unet.channel_mult) == (2, 128, (1, 1, 2, 3, 4))
  assert (unet.num_res_blocks, unet.num_heads, unet.num_head_channels) == (2, 4, None)
  assert unet.attention_downsamples == (4, 8, 16)  # 128 px to 32, 16 and 8
  assert (unet.num_classes, unet.norm_groups, unet.dropout, unet.remat) == (6, 32, 0.0, False)


def test_settings_reach_the_unet(config):
  config.data.update(image_size=64, channels=3)
  config.diffusion.update(learn_sigma=False, class_cond=False, remat=True)
  config.diffusion.unet.update(num_head_channels=32, attention_resolutions=(16,), norm_groups=8, dropout=0.1)
  unet = networks.make_unet(config, 6)
  assert (unet.out_channels, unet.num_classes, unet.num_head_channels) == (3, None, 32)
  assert (unet.attention_downsamples, unet.norm_groups, unet.dropout, unet.remat) == ((4,), 8, 0.1, True)


def test_networks_of_improved_diffusion_can_be_asked_for(config):
  for make, section in (
    (networks.make_unet, config.diffusion.unet),
    (networks.make_guide, config.diffusion.guide),
  ):
    net = make(config, 6)
    assert (net.resblock_updown, net.use_scale_shift_norm) == (True, True)
    section.update(resblock_updown=False, use_scale_shift_norm=False)
    net = make(config, 6)
    assert (net.resblock_updown, net.use_scale_shift_norm) == (False, False)


def test_the_guide_has_its_own_section(config):
  config.diffusion.guide.update(width=64, channel_mult=(1, 2), pool='adaptive')
  guide = networks.make_guide(config, 3)
  assert (guide.image_size, guide.num_classes, guide.width, guide.channel_mult) == (128, 3, 64, (1, 2))
  assert (guide.num_head_channels, guide.pool, guide.attention_downsamples) == (64, 'adaptive', (4, 8, 16))


def test_steps_are_spaced_as_suits_the_method(config):
  steps = {
    method: networks.make_sampling_process(config, method, 5).timesteps.tolist()
    for method in ('ancestral', 'ddim', 'dpmpp_2m')
  }
  assert steps['ancestral'] == [0, 250, 500, 749, 999]
  assert steps['ddim'] == [0, 200, 400, 600, 800]
  assert steps['dpmpp_2m'] == [0, 62, 250, 562, 999]  # 999 (k / 4)^2
  evenly = networks.make_sampling_process(config, 'ddim', 3).timesteps  # 3 does not divide 1000
  assert evenly.tolist() == [0, 500, 999]
  np.testing.assert_array_equal(networks.make_training_process(config).timesteps, np.arange(1000))


def test_a_classifier_gets_its_arguments(config):
  with config.unlocked():
    config.classify.model_args.vit_b_32 = {'patch_size': 16}
  vit = networks.make_classifier(config, 'vit_b_32', 6)
  assert (vit.image_size, vit.patch_size, vit.num_classes) == (128, 16, 6)
