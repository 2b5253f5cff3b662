"""The sweep: what it draws, judges and recommends."""

import pytest

from fetal_jax import config as config_lib
from fetal_jax.evaluate import judge, sweep
from fetal_jax.runtime.errors import UserError


def row(steps, kid, sd=0.01, **values):
  return {'method': 'ddim', 'steps': steps, 'guidance_scale': 1.0, 'kid': kid, 'kid_sd': sd, **values}


def test_the_cheapest_of_the_indistinguishable_is_recommended():
  assert sweep.recommend([row(250, 0.10), row(50, 0.105), row(25, 0.109), row(10, 0.3)])['steps'] == 25
  assert sweep.recommend([row(250, 0.10, sd=None), row(50, 0.105)])['steps'] == 250
  same_cost = [row(25, 0.109), row(25, 0.101, method='dpmpp_2m'), row(250, 0.10)]
  assert sweep.recommend(same_cost)['method'] == 'dpmpp_2m'


def test_settings_are_scales_then_samplers_each_once():
  config = config_lib.default_config()
  config.sample.update(method='ddim', steps=50, guidance_scale=0.5)
  config.sweep.update(scales=(0, 0.5), samplers=('ddim:50', 'dpmpp_2m:10', 'ancestral:5000'))
  names = [sweep.name(s) for s in sweep.make_settings(config, has_guide=True)]
  assert names == ['ddim_50_scale_0', 'ddim_50_scale_0.5', 'dpmpp_2m_10_scale_0.5']
  unguided = [sweep.name(s) for s in sweep.make_settings(config, has_guide=False)]
  assert unguided == ['ddim_50_scale_0', 'dpmpp_2m_10_scale_0']


def test_a_sweep_needs_a_judge(tmp_path):
  config = config_lib.default_config()
  with pytest.raises(UserError, match=r'no classifier trained on real images .* run --stage=classify first'):
    judge.load_judge(config, tmp_path)
  config.evaluate.encoder = 'inception'
  with pytest.raises(UserError, match='must be classifier, inception:FILE or dinov2:FILE'):
    judge.load_encoder(config, None)
