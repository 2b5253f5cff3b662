"""Images of any format become PNGs, and PNGs stay what they are; formats one by one are tried in test_image_folder.py."""

import io

import numpy as np
import pytest
from PIL import Image

from fetal_jax.data import decode
from fetal_jax.data.sources import encode

PIXELS = np.arange(48, dtype=np.uint8).reshape(6, 8) * 5


def saved(form, **options):
  out = io.BytesIO()
  Image.fromarray(PIXELS).save(out, form, **options)
  return out.getvalue()


def test_a_png_stays_byte_for_byte():
  png = saved('PNG')
  assert encode.as_png(png) is png
  assert encode.as_png(png[:30]) == png[:30]  # looked at when it is decoded
  with pytest.raises(decode.BadImage):
    encode.check(png[:30])


def test_others_become_pngs_once_turned():
  exif = Image.Exif()
  exif[0x0112] = 3
  png = encode.as_png(saved('TIFF', exif=exif))
  assert png.startswith(b'\x89PNG')
  encode.check(png)
  np.testing.assert_array_equal(decode.decode(png, 8, 1, 'pad')[1:7, :, 0], PIXELS[::-1, ::-1])
