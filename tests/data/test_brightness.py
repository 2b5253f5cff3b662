"""12 bits in 16, and whole sets that come out dark, are said."""

import numpy as np
import pytest
from PIL import Image

from fetal_jax.data.brightness import Brightness


def tally(*images):
  brightness = Brightness()
  for shown, wide in images:
    brightness.add(Image.fromarray(np.array([[0, shown]], np.uint8)), wide)
  return brightness.warning()


def test_twelve_bits_in_sixteen_are_said_with_the_brightest_value():
  said = tally((15, 3984), (16, 4095), (255, 65535), (200, None))
  assert said == (
    '2 of 3 images of 16 bits hold 12 bits or fewer (their brightest value is 4,095 of 65,535), so they come out '
    'dark: multiply their values by 16 in the files, and prepare them in a new --workdir'
  )


def test_a_dark_set_is_said():
  assert 'the brightest value of all images is 15 of 255' in tally((15, None), (3, None))
  assert 'brightest value of all images is 127 of 255' in tally((127, None))


@pytest.mark.parametrize(
  'images', [[], [(128, None)], [(3, None), (200, None)], [(128, 32768)], [(0, 0), (255, 65535)]]
)
def test_nothing_is_said_of_others(images):
  assert tally(*images) is None


def test_colour_counts_by_its_brightest_band():
  brightness = Brightness()
  brightness.add(Image.fromarray(np.array([[[3, 200, 9]]], np.uint8)), None)
  assert brightness.warning() is None
