"""An image is the same on any number of devices, spread over them in any way, in batches of any size."""

import subprocess
import sys

import numpy as np
import pytest
from helpers import tiny
from helpers.processes import with_devices

from fetal_jax.sample.sampler import load_sampler

# 8 devices: batches of 4 and of 1 a device; weights spread over 4.
ON_EIGHT = """
import sys
import numpy as np
from fetal_jax.runtime import devices
from fetal_jax.sample.sampler import load_sampler
labels, results = np.arange(40) % 6, {}
for name in sys.argv[3:]:
  fsdp, batch = {'same': (1, 32), 'other': (1, 8), 'fsdp': (4, 32)}[name]
  sampler = load_sampler(sys.argv[1], mesh=devices.make_local_mesh(fsdp))
  results[name] = sampler(labels, batch_size=batch, steps=3, guidance_scale=2.0)
  spread = [a for a in sampler.trained.params['unet']['time_embed']['dense_1'].values() if a.ndim == 2]
  results[name + '_share'] = spread[0].addressable_shards[0].data.size / spread[0].size
np.savez(sys.argv[2], **results)
"""


LABELS = np.arange(40) % 6


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
  return tiny.make_workdir(tmp_path_factory.mktemp('tiny'))


def on_eight(workdir, *names):
  """Returns the images that a process with eight devices draws, by name; and the share of the weights that a device has."""
  command = [sys.executable, '-c', ON_EIGHT, workdir, workdir / 'eight.npz', *names]
  subprocess.run(command, check=True, env=with_devices(8))
  return dict(np.load(workdir / 'eight.npz'))


@pytest.fixture(scope='module')
def one(workdir):
  """Drawn by one device."""
  return load_sampler(workdir)(LABELS, batch_size=4, steps=3, guidance_scale=2.0)


def test_an_image_depends_on_no_device(workdir, one):
  assert len(np.unique(one.reshape(40, -1), axis=0)) == 40
  eight = on_eight(workdir, 'same')
  np.testing.assert_array_equal(eight['same'], one)  # four a device, as here
  assert eight['same_share'] == 1


@pytest.mark.slow
def test_an_image_depends_on_no_batch_and_on_no_place_of_the_weights(workdir, one):
  eight = on_eight(workdir, 'other', 'fsdp')
  seven = load_sampler(workdir)(LABELS, batch_size=7, steps=3, guidance_scale=2.0)
  for images in (eight['other'], eight['fsdp'], seven):
    assert np.abs(images.astype(int) - one).max() <= 1
  assert eight['fsdp_share'] == 1 / 4
