"""Grids of images."""

import numpy as np
import pytest

from fetal_jax.data.grid import MARGIN, grid


@pytest.mark.parametrize(('channels', 'mode'), [(1, 'L'), (3, 'RGB')])
def test_every_image_lies_in_its_cell(channels, mode):
  images = np.random.default_rng(0).integers(0, 256, (2, 3, 5, 7, channels), dtype=np.uint8)
  picture = grid(images)

  assert picture.mode == mode
  assert picture.size == (3 * (7 + MARGIN) + MARGIN, 2 * (5 + MARGIN) + MARGIN)
  sheet = np.asarray(picture).reshape(picture.height, picture.width, channels).copy()
  for row, column in np.ndindex(2, 3):
    top, left = MARGIN + row * (5 + MARGIN), MARGIN + column * (7 + MARGIN)
    cell = sheet[top : top + 5, left : left + 7]
    np.testing.assert_array_equal(cell, images[row, column])
    cell[:] = 255
  assert (sheet == 255).all()  # nothing is drawn between the cells


def test_labels_stand_left_of_their_row():
  images = np.full((2, 1, 32, 32, 1), 255, np.uint8)
  plain, labelled = grid(images), grid(images, ['', 'brain'])
  ink = np.argwhere(np.asarray(labelled) < 128)

  assert labelled.height == plain.height
  assert ink[:, 0].min() >= MARGIN + 32 + MARGIN  # in the second row
  assert ink[:, 1].max() < labelled.width - plain.width  # left of the images


def test_rows_too_low_to_read_have_no_labels():
  images = np.zeros((1, 2, 8, 8, 1), np.uint8)
  assert grid(images, ['brain']).tobytes() == grid(images).tobytes()


def test_what_cannot_be_drawn_is_refused():
  with pytest.raises(ValueError, match='1 or 3 channels, not 4'):
    grid(np.zeros((1, 1, 8, 8, 4), np.uint8))
  with pytest.raises(ValueError, match='2 labels for 1 rows'):
    grid(np.zeros((1, 1, 8, 8, 1), np.uint8), ['a', 'b'])
