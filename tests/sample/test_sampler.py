"""The sampler's settings; what it draws is tested in tests/diffusion/test_sample.py and tests/sample/test_stage.py."""

import dataclasses

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


def test_labels_out_of_range_are_refused(sampler):
  with pytest.raises(
    UserError, match='labels must lie in 0 … 5: abdomen, brain, femur, thorax, cervix, other'
  ):
    sampler([6], steps=3)


def test_no_labels_give_no_images(sampler):
  assert sampler([], steps=3).shape == (0, 8, 8, 1)


def test_a_program_is_compiled_once(sampler):
  first = sampler.compiled(1, steps=3)
  assert sampler.compiled(1, steps=3, guidance_scale=2.0) is first  # the model's own scale
  assert sampler.compiled(1, steps=2) is not first
