"""Fresh networks start as the references do: every array's mean and standard deviation, against measured ones."""

import json
import math
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.quick_keys import COUNTING

from fetal_jax import convert, models
from fetal_jax.convert import guided_diffusion as gd

# Of freshly constructed PyTorch networks, pooled over 8 seeds: {network: config, {entry: [mean, deviation]}}.
REFERENCE = json.loads((pathlib.Path(__file__).parent.parent / 'golden' / 'initial.json').read_text())


def fresh(name, config):
  """A fresh network's arrays by PyTorch name."""
  key = jax.random.key(0, impl=COUNTING)
  if name in models.CLASSIFIERS:
    model = models.create(name, num_classes=6, **config)
    images = jnp.zeros((1, 64, 64, 3))
    return convert.to_torch(name, jax.jit(lambda: model.init(key, images))())
  model, size = gd.build(config), config['image_size']
  t = jnp.zeros(1, jnp.int32)
  labels = (t,) if config.get('num_classes') else ()
  images = jnp.zeros((1, size, size, config['in_channels']))
  return gd.to_torch(jax.jit(lambda: model.init(key, images, t, *labels))(), config)


# An array or a rule of initialisation of each kind is in the first ones.
QUICK = ('resnet50', 'medmamba_t', 'unet')


@pytest.mark.parametrize(
  'name', [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in REFERENCE]
)
def test_every_array_starts_as_the_references(name):
  expected = REFERENCE[name]['parameters']
  arrays = fresh(name, REFERENCE[name]['config'])
  statistics = ('running_mean', 'running_var')
  assert {entry for entry in arrays if not entry.endswith(statistics)} == expected.keys()
  for entry, (mean, deviation) in expected.items():
    found, value = np.asarray(arrays[entry], np.float64), f'{name}: {entry} {arrays[entry].shape}'
    if deviation == 0:  # constants: zeros, ones
      np.testing.assert_allclose(found, mean, rtol=1e-4, err_msg=value)
      continue
    # Five standard errors, of ours and of the reference's 8 draws; a normal's deviation has 1 / sqrt(2 n).
    error = 5 * math.sqrt(1 + 1 / 8) / math.sqrt(found.size)
    assert found.mean() == pytest.approx(mean, abs=error * deviation), value
    assert found.std() == pytest.approx(deviation, rel=error), value
