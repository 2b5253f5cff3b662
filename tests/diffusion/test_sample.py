"""The pure sampling function and the programmatic sampler: an image depends on its seed, round and index alone."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fetal_jax import config as config_lib
from fetal_jax import models
from fetal_jax.diffusion.sample import cast_blocks, image_keys, make_sample, to_float, to_uint8
from fetal_jax.diffusion.samplers import SAMPLERS
from fetal_jax.diffusion.schedule import make_process
from fetal_jax.runtime import devices
from fetal_jax.runtime.errors import UserError
from fetal_jax.sample.sampler import Sampler
from fetal_jax.sample.trained import Trained

SMALL = {
  'width': 8,
  'channel_mult': (1,),
  'num_res_blocks': 1,
  'attention_downsamples': (),  # there is attention in the middle
  'num_head_channels': 8,
}


@functools.cache
def trained() -> Trained:
  """Random networks; their zeroed layers are filled so that input, label and guide all matter."""
  unet = models.create('unet', out_channels=2, num_classes=3, **SMALL)
  guide = models.create('half_unet', image_size=8, num_classes=3, **SMALL)
  x, t = jnp.zeros((1, 8, 8, 1)), jnp.zeros((1,), jnp.int32)

  def fill(shapes):
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda s: jnp.asarray(0.2 * rng.standard_normal(s.shape), jnp.float32), shapes)

  params = {
    'unet': fill(jax.eval_shape(unet.init, jax.random.key(0), x, t, t)['params']),
    'guide': fill(jax.eval_shape(guide.init, jax.random.key(0), x, t)['params']),
  }
  config = config_lib.default_config()
  config.data.image_size = 8
  return Trained(config, unet, guide, params, ('a', 'b', 'c'), 1, 'hash', devices.make_mesh())


@functools.cache
def sampler() -> Sampler:
  return Sampler(trained())


FEW = {'steps': 3, 'guidance_scale': 2.0}
BATCH = 3  # one size, so that tests share what is compiled


def close(a, b):
  assert np.abs(a.astype(int) - b.astype(int)).max() <= 1


@pytest.mark.slow
def test_an_image_does_not_depend_on_its_batch():
  labels = np.array([0, 1, 2, 0, 1])
  whole = sampler()(labels, batch_size=5, **FEW)
  assert whole.shape == (5, 8, 8, 1)
  assert whole.dtype == np.uint8
  close(sampler()(labels, batch_size=2, **FEW), whole)  # with padding in the last batch
  alone = [np.asarray(i) for _, i in sampler().batches(labels[3:4], indices=[3], batch_size=2, **FEW)]
  close(alone[0][0], whole[3])


def test_seed_round_index_and_label_all_matter():
  def draw(label=0, **settings):
    return next(np.asarray(i)[0] for _, i in sampler().batches([label], batch_size=BATCH, **FEW, **settings))

  first = draw()
  np.testing.assert_array_equal(first, draw())
  for other in (draw(seed=1), draw(round=1), draw(indices=[1]), draw(label=1)):
    assert (first != other).any()


def test_the_guide_has_its_say():
  """How much it says is tested against known answers in tests/diffusion/test_samplers.py."""
  drawn = [
    sampler()([0, 1, 2], batch_size=BATCH, steps=3, guidance_scale=scale) for scale in (0.0, 2.0, 5000.0)
  ]
  moved = [np.abs(images.astype(int) - drawn[0]).mean() for images in drawn[1:]]
  assert moved[1] > moved[0]
  assert moved[1] > 1


def test_the_unet_knows_the_label_without_a_guide():
  one, other = (sampler()([label], batch_size=BATCH, steps=3, guidance_scale=0.0) for label in (0, 1))
  assert (one != other).any()


def test_scale_zero_needs_no_guide():
  lone = Sampler(dataclasses.replace(trained(), guide=None, params={'unet': trained().params['unet']}))
  np.testing.assert_array_equal(
    lone([0, 1], batch_size=BATCH, steps=3, guidance_scale=0.0),
    sampler()([0, 1], batch_size=BATCH, steps=3, guidance_scale=0.0),
  )
  with pytest.raises(UserError, match='without a guide'):
    lone([0], batch_size=1, steps=3, guidance_scale=1.0)


@pytest.mark.parametrize('method', ['ancestral', 'ddim', 'dpmpp_2m'])
def test_every_method_draws(method):
  images = sampler()([0, 1, 2], method=method, batch_size=BATCH, **FEW)
  assert images.std() > 0


@pytest.mark.parametrize('labels', [[3], [-1]])
def test_labels_out_of_range_are_refused(labels):
  with pytest.raises(UserError, match=r'0 … 2, or names: 0 a, 1 b, 2 c'):
    sampler()(labels, **FEW)


def test_no_labels_no_images():
  assert sampler()(np.zeros(0, int), batch_size=BATCH, **FEW).shape == (0, 8, 8, 1)


def test_the_pure_function_composes_with_vmap():
  """Two seeds at once."""
  unet = trained().unet
  sample = make_sample(unet, None, make_process('linear', 1000, '3'), image_shape=(8, 8, 1))
  keys = jnp.stack([image_keys(jax.random.key(s), jnp.arange(2)) for s in (0, 1)])
  labels = jnp.asarray([0, 1])
  both = jax.jit(jax.vmap(sample, in_axes=(None, 0, None)))(trained().params, keys, labels)
  close(np.asarray(both[1]), np.asarray(jax.jit(sample)(trained().params, keys[1], labels)))


def test_every_setting_reaches_the_sampler(monkeypatch):
  given = []

  def record(reverse, x):
    given.append(reverse)
    return x

  monkeypatch.setitem(SAMPLERS, 'record', record)
  settings = {'guidance_scale': 2.5, 'guidance_at': 'mean', 'eta': 0.5, 'clip': 'dynamic'}
  networks = trained().unet, trained().guide
  process = make_process('linear', 1000, '3')
  sample = make_sample(
    *networks, process, image_shape=(8, 8, 1), method='record', guidance_interval=(3, 700), **settings
  )
  sample(trained().params, image_keys(jax.random.key(0), jnp.arange(2)), jnp.asarray([0, 1]))
  (reverse,) = given
  assert reverse.process is process
  assert reverse.interval == (3, 700)
  assert {name: getattr(reverse, name) for name in settings} == settings


@pytest.mark.parametrize(
  ('settings', 'said'),
  [
    ({'method': 'euler'}, "method='euler': must be one of ancestral, ddim, dpmpp_2m"),
    ({'guidance_interval': (9, 5)}, 'interval=(9, 5)'),
    ({'method': 'dpmpp_2m', 'eta': 1.0}, 'eta=1.0: dpmpp_2m has no use for it'),
    ({'guidance_scale': 1.0}, 'guidance_scale=1.0: there is no guide'),
  ],
)
def test_a_program_that_cannot_be_is_refused_when_it_is_made(settings, said):
  process = make_process('linear', 1000, '3')
  with pytest.raises(UserError) as error:
    make_sample(trained().unet, None, process, image_shape=(8, 8, 1), **settings)
  assert str(error.value).startswith(said)


def test_only_the_convolutions_of_blocks_are_cast():
  cast = cast_blocks(trained().params, jnp.bfloat16)['unet']
  assert cast['in_1_res']['conv_in']['kernel'].dtype == jnp.bfloat16
  assert cast['in_1_res']['embed']['kernel'].dtype == jnp.float32
  assert cast['in_1_res']['norm_in']['scale'].dtype == jnp.float32
  assert cast['conv_out']['kernel'].dtype == jnp.float32


def test_grey_levels_truncate_as_the_reference_does():
  levels = jnp.arange(256, dtype=jnp.uint8)
  x = to_float(levels)
  assert float(x[0]) == -1
  assert float(x[255]) == 1
  np.testing.assert_array_equal(
    to_uint8(jnp.asarray([-2.0, -1.0, 0.0, 0.999, 1.0, 3.0])), [0, 0, 127, 254, 255, 255]
  )
