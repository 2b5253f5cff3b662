"""A grid of images on one sheet, for the previews of training and of synthetic rounds."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from fetal_jax.data.spellings import short

MARGIN = 2  # pixels around every cell
FONT_SIZE = 12  # pixels; lower rows get no label


def grid(images: UInt8[np.ndarray, 'r c h w ch'], row_labels: Sequence[str] | None = None) -> Image.Image:
  """Draws images in rows and columns on white.

  Args:
    images: uint8 [rows, columns, height, width, channels], channels 1 (grey) or 3 (RGB).
    row_labels: one text a row, drawn left of it; left out where rows are too low to read it.

  Returns:
    An image of mode L or RGB, like `images`.

  Raises:
    ValueError: another number of channels, or not one label a row.
  """
  rows, columns, height, width, channels = images.shape
  if channels not in (1, 3):
    raise ValueError(f'a grid shows 1 or 3 channels, not {channels}')
  if row_labels is not None and len(row_labels) != rows:
    raise ValueError(f'{len(row_labels)} labels for {rows} rows')

  labels = list(map(short, row_labels)) if row_labels is not None and height >= FONT_SIZE else []
  font = ImageFont.load_default(FONT_SIZE)
  left = max([math.ceil(font.getlength(text)) + 2 * MARGIN for text in labels], default=0)

  # Each cell brings the margin above and left of it; the sheet adds the last ones.
  cells = np.pad(images, [(0, 0), (0, 0), (MARGIN, 0), (MARGIN, 0), (0, 0)], constant_values=255)
  sheet = cells.transpose(0, 2, 1, 3, 4).reshape(
    rows * (height + MARGIN), columns * (width + MARGIN), channels
  )
  sheet = np.pad(sheet, [(0, MARGIN), (left, MARGIN), (0, 0)], constant_values=255)
  picture = Image.fromarray(sheet[..., 0] if channels == 1 else sheet)

  draw = ImageDraw.Draw(picture)
  for row, text in enumerate(labels):
    middle = MARGIN + row * (height + MARGIN) + height // 2
    draw.text((MARGIN, middle), text, fill='black', font=font, anchor='lm')
  return picture
