"""The sampler's settings; what it draws is tested in tests/diffusion/test_sample.py and tests/sample/test_stage.py."""

import dataclasses
import math

import numpy as np
import pytest
from helpers import tiny

from fetal_jax.data.rounds import SamplerSettings
from fetal_jax.runtime.errors import UserError
from fetal_jax.sample.sampler import Sampler, load_sampler


@pytest.fixture(scope='module')
def sampler(tmp_path_factory):
  return load_sampler(tiny.make_workdir(tmp_path_factory.mktemp('model')))


def test_settings_have_the_defaults_of_the_model_and_of_the_paper(sampler):
  assert sampler.settings() == SamplerSettings(
    method='ancestral',
    steps=250,
    guidance_scale=2.0,
    interval=None,
    guidance_at='x_t',
    eta=0.0,
    clip='static',
  )
  assert sampler.settings(guidance_scale=0.0, steps=3) == SamplerSettings(steps=3)


def test_without_a_guide_there_is_no_guidance(sampler):
  trained = dataclasses.replace(sampler.trained, guide=None, params={'unet': sampler.trained.params['unet']})
  lone = Sampler(trained)
  assert lone.settings().guidance_scale == 0
  with pytest.raises(UserError, match='use guidance_scale=0'):
    lone.settings(guidance_scale=1.0)


def test_an_unknown_setting_is_named(sampler):
  for use in (sampler, lambda *args, **kwargs: next(sampler.batches(*args, **kwargs))):
    with pytest.raises(TypeError, match='colour'):
      use([0], colour='blue')


def test_labels_are_numbers_or_names(sampler):
  drawn = sampler(['femur', 'brain'], steps=1, batch_size=2)
  np.testing.assert_array_equal(drawn, sampler(np.array([2, 1]), steps=1, batch_size=2))


CLASSES = '0 abdomen, 1 brain, 2 femur, 3 thorax, 4 cervix, 5 other'


@pytest.mark.parametrize(
  ('labels', 'settings', 'said'),
  [
    ([6], {}, f'labels must be whole numbers in 0 … 5, or names: {CLASSES}'),
    ([-1], {}, f'labels must be whole numbers in 0 … 5, or names: {CLASSES}'),
    (np.array([1.5]), {}, f'labels must be whole numbers in 0 … 5, or names: {CLASSES}'),
    ([True], {}, f'labels must be whole numbers in 0 … 5, or names: {CLASSES}'),
    (['knee'], {}, f"labels: there is no class 'knee'; there are: {CLASSES}"),
    (np.array([[0, 1]]), {}, f'labels of shape (1, 2): must be one list of classes: {CLASSES}'),
    (np.array(0), {}, f'labels of shape (): must be one list of classes: {CLASSES}'),
    ([0], {'method': 'dpm++'}, "method='dpm++': must be one of ancestral, ddim, dpmpp_2m"),
    ([0], {'steps': 0}, 'steps=0: must be a whole number from 1 to 1000'),
    ([0], {'steps': 5000}, 'steps=5000: must be a whole number from 1 to 1000'),
    ([0], {'steps': 2.5}, 'steps=2.5: must be a whole number from 1 to 1000'),
    ([0], {'guidance_scale': -1.0}, 'guidance_scale=-1.0: must be a number from 0 on'),
    ([0], {'guidance_scale': math.nan}, 'guidance_scale=nan: must be a number from 0 on'),
    ([0], {'guidance_at': 'x'}, "guidance_at='x': must be x_t or mean"),
    ([0], {'clip': 'hard'}, "clip='hard': must be static, dynamic or None"),
    ([0], {'interval': (800, 100)}, 'interval=(800, 100): must be (low, high) timesteps, or None for all'),
    ([0], {'eta': 0.5}, 'eta=0.5: ancestral has no use for it; leave it at 0.0'),
    (
      [0],
      {'method': 'ddim', 'guidance_at': 'mean'},
      'guidance_at=mean: ddim has no use for it; leave it at x_t',
    ),
    ([0], {'seed': -1}, 'seed=-1: must be a whole number from 0 to 2^63 - 1'),
    ([0], {'batch_size': -1}, 'batch_size=-1: must be a whole number from 0 on'),
    ([0], {'indices': [0, 1]}, 'indices: must be 1 whole numbers from 0 to 2^31 - 1, one a label'),
  ],
)
def test_what_cannot_be_drawn_is_refused(sampler, labels, settings, said):
  with pytest.raises(UserError) as error:
    sampler(labels, **{'batch_size': 1, **settings})
  assert str(error.value).startswith(said)
  assert '\n' not in str(error.value)


def test_no_labels_give_no_images(sampler):
  assert sampler([], steps=3).shape == (0, 8, 8, 1)


def test_a_program_is_compiled_once(sampler):
  first = sampler.compiled(1, steps=3)
  assert sampler.compiled(1, steps=3, guidance_scale=2.0) is first  # the model's own scale
  assert sampler.compiled(1, steps=2) is not first
