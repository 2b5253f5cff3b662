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
for name, fsdp, batch in (('same', 1, 32), ('other', 1, 8), ('fsdp', 4, 32)):
  sampler = load_sampler(sys.argv[1], mesh=devices.make_local_mesh(fsdp))
  results[name] = sampler(labels, batch_size=batch, steps=3, guidance_scale=2.0)
  spread = [a for a in sampler.trained.params['unet']['time_embed']['dense_1'].values() if a.ndim == 2]
  results[name + '_share'] = spread[0].addressable_shards[0].data.size / spread[0].size
np.savez(sys.argv[2], **results)
"""


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
  return tiny.make_workdir(tmp_path_factory.mktemp('tiny'))


def test_an_image_depends_on_no_device_and_no_batch(workdir):
  labels = np.arange(40) % 6
  sampler = load_sampler(workdir)
  one = sampler(labels, batch_size=4, steps=3, guidance_scale=2.0)
  assert len(np.unique(one.reshape(40, -1), axis=0)) == 40
  command = [sys.executable, '-c', ON_EIGHT, workdir, workdir / 'eight.npz']
  subprocess.run(command, check=True, env=with_devices(8))
  eight = dict(np.load(workdir / 'eight.npz'))

  np.testing.assert_array_equal(eight['same'], one)  # four a device, as here
  for images in (
    eight['other'],
    eight['fsdp'],
    sampler(labels, batch_size=7, steps=3, guidance_scale=2.0),
  ):
    assert np.abs(images.astype(int) - one).max() <= 1
  assert [eight[f'{name}_share'] for name in ('same', 'fsdp')] == [1, 1 / 4]
