"""The files of a round; what TFDS reads of them is tested in test_writer.py."""

import errno
import io
import os
import pathlib

import numpy as np
import pytest
from PIL import Image

from fetal_jax.data.rounds.dataset import Encoder, explaining
from fetal_jax.runtime.errors import UserError

PATH = pathlib.Path('synthetic/round_1/preview.png')


@pytest.mark.parametrize(
  ('error', 'said'),
  [
    (
      OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
      'the disk is full; free some space and run the same command',
    ),
    (OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)), 'the disk is full'),
    (RuntimeError('UNKNOWN: No space left on device'), 'the disk is full'),
    (PermissionError(errno.EACCES, 'Permission denied'), 'cannot be written .*Permission denied'),
  ],
)
def test_a_disk_that_cannot_be_written_is_the_users(error, said):
  with pytest.raises(UserError, match=rf'preview\.png: {said}') as found, explaining(PATH):
    raise error
  assert '\n' not in str(found.value)
  assert 'it resumes from here' in str(found.value)


def test_other_errors_stay_what_they_are():
  with pytest.raises(RuntimeError, match='a bug'), explaining(PATH):
    raise RuntimeError('a bug')


@pytest.mark.parametrize('channels', [1, 3])
def test_an_example_holds_a_png(channels):
  image = np.random.default_rng(0).integers(0, 256, (4, 4, channels), np.uint8)
  record = Encoder(('a', 'b'), image.shape)(image, 1, 'round1_b_00000', 3)
  assert record == Encoder(('a', 'b'), image.shape)(image, 1, 'round1_b_00000', 3)
  png = record[record.index(b'\x89PNG') :]
  with Image.open(io.BytesIO(png)) as read:
    np.testing.assert_array_equal(np.asarray(read).reshape(image.shape), image)
  assert b'round1_b_00000' in record
