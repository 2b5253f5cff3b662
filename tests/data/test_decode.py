import io
import pathlib
import struct
import threading
import tracemalloc
import warnings
import zlib

import numpy as np
import pytest
from helpers.hostile import SEEDS, damaged, refusal, repeatable
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fetal_jax.data import decode
from fetal_jax.data.brightness import Brightness
from fetal_jax.runtime.errors import UserError


def png(pixels, mode=None) -> bytes:
  buffer = io.BytesIO()
  image = Image.fromarray(np.asarray(pixels))
  (image.convert(mode) if mode else image).save(buffer, 'PNG')
  return buffer.getvalue()


RAMP = (np.arange(48).reshape(6, 8) * 5).astype(np.uint8)


@pytest.mark.parametrize('mode', ['L', 'LA', 'RGB', 'RGBA', 'P'])
def test_grey_is_the_same_in_every_mode(mode):
  image = decode.decode(png(RAMP[:6, :6], mode), 6, 1)
  assert image.dtype == np.uint8
  np.testing.assert_array_equal(image[..., 0], RAMP[:6, :6])
  colour = decode.decode(png(RAMP[:6, :6], mode), 6, 3)
  np.testing.assert_array_equal(colour, np.repeat(RAMP[:6, :6, None], 3, axis=2))


def test_colour_becomes_grey_by_luminance():
  red, green, blue = np.eye(3, dtype=np.uint8) * 255
  image = decode.decode(png([[red, green], [blue, red + green]]), 2, 1)
  np.testing.assert_allclose(image.ravel(), [76, 150, 29, 226], atol=1)


def test_transparency_shows_black():
  rgba = np.full((2, 2, 4), 200, np.uint8)
  rgba[..., 3] = [[0, 255], [128, 255]]
  np.testing.assert_allclose(decode.decode(png(rgba), 2, 1)[..., 0], [[0, 200], [100, 200]], atol=1)


def test_sixteen_bits_are_scaled_to_eight_by_their_full_range():
  pixels = np.array([[0, 257], [257 * 100, 65535]], np.uint16)
  np.testing.assert_array_equal(decode.decode(png(pixels), 2, 1)[..., 0], [[0, 1], [100, 255]])
  rounded = np.array([[128, 129], [4095, 65406]], np.uint16)
  np.testing.assert_array_equal(decode.decode(png(rounded), 2, 1)[..., 0], [[0, 1], [16, 254]])
  np.testing.assert_array_equal(decode.decode(png(pixels), 2, 3)[..., 1], [[0, 1], [100, 255]])


def chunk(kind, content):
  return struct.pack('>I', len(content)) + kind + content + struct.pack('>I', zlib.crc32(kind + content))


def raw_png(width, height, depth, colour, rows, *before):
  """A PNG of any kind that the standard has; `rows` are its bytes without filters' numbers."""
  packed = zlib.compress(b''.join(b'\0' + row for row in rows))
  header = struct.pack('>IIBBBBB', width, height, depth, colour, 0, 0, 0)
  chunks = [chunk(b'IHDR', header), *before, chunk(b'IDAT', packed), chunk(b'IEND', b'')]
  return b'\x89PNG\r\n\x1a\n' + b''.join(chunks)


def test_sixteen_bit_colour_and_alpha():
  grey, alpha, colour, both = 0, 4, 2, 6
  values = [0, 257 * 7, 257 * 200, 65535]
  row = lambda *samples: struct.pack(f'>{len(samples)}H', *samples)  # noqa: E731
  of_kind = {
    grey: row(*values),
    alpha: row(*(x for v in values for x in (v, 65535))),
    colour: row(*(v for v in values for _ in range(3))),
    both: row(*(x for v in values for x in (v, v, v, 65535))),
  }
  for kind, content in of_kind.items():
    image = decode.decode(raw_png(4, 1, 16, kind, [content]), 4, 1, 'pad')
    np.testing.assert_array_equal(image[1 if image[1].any() else 2, :, 0], [0, 7, 200, 255])
  clear = row(*(x for v in values for x in (v, 0)))
  assert not decode.decode(raw_png(4, 1, 16, alpha, [clear]), 4, 1).any()
  keyed = raw_png(4, 1, 16, grey, [row(*values)], chunk(b'tRNS', struct.pack('>H', 65535)))
  assert decode.decode(keyed, 4, 1).max() < 255


def test_a_colour_of_the_palette_that_is_transparent_shows_black():
  image = Image.fromarray(np.array([[0, 1], [2, 3]], np.uint8), 'P')
  image.putpalette([9, 9, 9, 80, 80, 80, 200, 200, 200, 50, 50, 50])
  buffer = io.BytesIO()
  image.save(buffer, 'PNG', transparency=2)
  np.testing.assert_array_equal(decode.decode(buffer.getvalue(), 2, 1)[..., 0], [[9, 80], [0, 50]])


def saved(image, form, **options):
  buffer = io.BytesIO()
  image.save(buffer, form, **options)
  return buffer.getvalue()


SMOOTH = np.add.outer(np.arange(24), np.arange(32)).astype(np.uint8) * 4


@pytest.mark.parametrize('mode', ['L', 'RGB', 'CMYK'])
def test_photographs(mode):
  image = decode.decode(saved(Image.fromarray(SMOOTH).convert(mode), 'JPEG', quality=95), 24, 1, 'crop')
  assert np.abs(image[..., 0].astype(int) - SMOOTH[:, 4:28]).max() <= 6


TURNED = Image.Exif()
TURNED[0x0112] = 6  # by a quarter


@pytest.mark.parametrize(
  ('form', 'mode', 'options'),
  [
    ('PNG', 'L', {}),
    ('PNG', 'RGB', {}),
    ('PNG', 'I;16', {}),
    ('PNG', 'P', {}),
    ('TIFF', 'L', {}),
    ('TIFF', 'I;16', {}),
    ('JPEG', 'L', {'quality': 95}),
    ('WEBP', 'RGB', {'lossless': True}),
  ],
)
def test_an_image_is_turned_as_a_viewer_turns_it(form, mode, options):
  image = (
    Image.fromarray(SMOOTH.astype(np.uint16) * 257)
    if mode == 'I;16'
    else Image.fromarray(SMOOTH).convert(mode)
  )
  shown = decode.decode(saved(image, form, exif=TURNED, **options), 32, 1, 'pad')[:, 4:28, 0]
  assert np.abs(shown.astype(int) - np.rot90(SMOOTH, -1)).max() <= (6 if form == 'JPEG' else 0)


def test_damaged_exif_data_says_nothing():
  for content in (b'Exif\0\0', b'MM\0\x2a\xff\xff\xff\xff', b'\xff' * 40):
    image = raw_png(4, 1, 8, 0, [bytes([0, 9, 200, 255])], chunk(b'eXIf', content))
    assert decode.decode(image, 4, 1)[1, :, 0].tolist() == [0, 9, 200, 255]


def tiff(pixels, bits, photometric):
  """A grey TIFF of one strip, little-endian."""
  pixels = np.asarray(pixels, np.uint16)
  data = pixels.astype('<u2').tobytes()
  if bits == 12:  # two pixels in three bytes, most significant bits first
    data = b''.join(int(a << 12 | b).to_bytes(3, 'big') for a, b in pixels.reshape(-1, 2).tolist())
  height, width = pixels.shape
  tags = [
    (256, width),
    (257, height),
    (258, bits),
    (259, 1),
    (262, photometric),
    (273, 8),
    (277, 1),
    (278, height),
    (279, len(data)),
  ]
  directory = b''.join(struct.pack('<HHII', tag, 4, 1, value) for tag, value in tags)
  return (
    b'II*\0' + struct.pack('<I', 8 + len(data)) + data + struct.pack('<H', len(tags)) + directory + bytes(4)
  )


@pytest.mark.parametrize(
  ('bits', 'photometric', 'values', 'shown'),
  [
    (16, 1, [0, 257 * 7, 257 * 200, 65535], [0, 7, 200, 255]),
    (16, 0, [0, 257 * 7, 257 * 200, 65535], [255, 248, 55, 0]),  # white is zero
    (12, 1, [0, 4095, 2048, 16], [0, 255, 128, 1]),
  ],
)
def test_a_grey_tiff_has_its_full_range(bits, photometric, values, shown):
  image = decode.decode(tiff([values, values], bits, photometric), 4, 1, 'pad')
  assert image[1, :, 0].tolist() == shown


def test_the_brightest_value_is_counted():
  brightness = Brightness()
  decode.decode(png(RAMP.astype(np.uint16) * 16), 8, 1, brightness=brightness)
  assert (
    '1 of 1 images of 16 bits hold 12 bits or fewer (their brightest value is 3,760 of'
    in brightness.warning()
  )
  row = struct.pack('>6H', *([4000, 900, 15, 0, 0, 0]))
  decode.decode(raw_png(2, 1, 16, 2, [row]), 8, 3, brightness=brightness)
  assert (
    '2 of 2 images of 16 bits hold 12 bits or fewer (their brightest value is 3,855 of'
    in brightness.warning()
  )


GREY = Image.fromarray(RAMP)


@pytest.mark.parametrize(
  ('content', 'why'),
  [
    (b'', 'not an image, or not of a known format: PNG, JPEG, BMP, TIFF, GIF, WEBP'),
    (b'<html>404</html>', 'not an image'),
    (b'\x89PNG\r\n\x1a\n', 'not an image'),
    (b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EOF\n', 'not an image'),  # would run Ghostscript
    (saved(GREY, 'PPM'), 'not an image'),
    (saved(GREY, 'PNG', save_all=True, append_images=[GREY.rotate(180)]), '2 frames in one file'),
    (
      saved(GREY, 'GIF', save_all=True, append_images=[GREY.rotate(180)] * 3),
      'frames in one file; save each',
    ),
    (saved(GREY, 'TIFF', save_all=True, append_images=[GREY]), '2 frames in one file'),
    (saved(GREY, 'WEBP', save_all=True, append_images=[GREY.rotate(180)]), '2 frames in one file'),
    (saved(GREY.convert('F'), 'TIFF'), 'floating-point pixels; save it with 8 or 16 bits'),
    (saved(Image.fromarray(RAMP.astype(np.int32) * 1000), 'TIFF'), 'grey values from 0 to 235000'),
    (saved(Image.fromarray(RAMP.astype(np.int32) - 9), 'TIFF'), 'grey values from -9 to 226'),
    (png(RAMP)[:-12], 'truncated PNG file'),
    (png(RAMP)[:-20], '[Tt]runcated'),
    (png(RAMP).replace(b'IDAT', b'IDAX'), 'not an image'),
    (raw_png(0, 2, 8, 0, [b'', b'']), '.'),
  ],
)
def test_what_is_no_picture(content, why):
  with pytest.raises(decode.BadImage, match=why) as error:
    decode.decode(content, 8, 1)
  assert '\n' not in str(error.value)
  assert '0x' not in str(error.value)


def test_every_bit_of_a_png_is_checked():
  """Its pixels are told apart from those that were written even where they still look like an image."""
  content = saved(
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16), dtype=np.uint8)),
    'PNG',
    compress_level=0,
  )
  for at in range(len(content) - 13, len(content) - 300, -1):
    with pytest.raises(decode.BadImage):
      decode.decode(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :], 16, 1)


@pytest.mark.parametrize(('width', 'height'), [(20_000, 5_000), (20_000, 20_000), (2**31 - 1, 2**31 - 1)])
def test_a_bomb_is_refused_by_its_header(width, height, recwarn):
  bomb = raw_png(width, height, 1, 0, [bytes(width // 8) if width < 2**20 else b''])
  assert len(bomb) < 1000
  out = np.zeros((1, 8, 8, 1), np.uint8)
  message = refusal(decode.decode_all, [('P1', bomb)], out)
  assert message.startswith('image P1 is damaged (')
  assert 'limit of' in message
  assert message.endswith('); replace it or take it out of the data set')
  assert not recwarn


@pytest.mark.parametrize('limit', ['MAX_PIXELS', 'MAX_SIDE'])
def test_the_limit_of_pixels(monkeypatch, limit):
  most = {'MAX_PIXELS': 48, 'MAX_SIDE': 8}[limit]
  monkeypatch.setattr(decode, limit, most)
  assert decode.decode(png(RAMP), 8, 1).any()
  monkeypatch.setattr(decode, limit, most - 1)
  with pytest.raises(decode.BadImage, match='8 x 6 pixels, over the limit of '):
    decode.decode(png(RAMP), 8, 1)


@pytest.mark.parametrize(
  ('width', 'height', 'bits'), [(9459, 9459, 16), (1, 80_000_000, 8), (70_000, 1, 8), (5793, 5793, 8)]
)
def test_what_would_fill_the_memory_is_refused_before_it_is_decoded(width, height, bits):
  header = struct.pack('>4sIIBBBBB', b'IHDR', width, height, bits, 0, 0, 0, 0)
  image = b'\x89PNG\r\n\x1a\n' + struct.pack('>I', 13) + header + struct.pack('>I', zlib.crc32(header))
  image += struct.pack('>I4s', 1000, b'IDAT')  # and none of it is there
  said = refusal(decode.decode_all, [('a/bomb', image)], np.empty((1, 8, 8, 1), np.uint8))
  limits = '33,554,432 in all and 65,535 a side'
  assert said.startswith(f'image a/bomb is damaged ({width} x {height} pixels, over the limit of {limits})')


@pytest.mark.parametrize(('format', 'dtype'), [('PNG', np.uint16), ('TIFF', np.uint16), ('TIFF', np.int32)])
def test_sixteen_bits_take_the_memory_that_is_promised(format, dtype):
  file = io.BytesIO()
  Image.fromarray(np.full((512, 1024), 515, dtype)).save(file, format)
  encoded = file.getvalue()
  assert (decode.decode(encoded, 8, 1) == 2).all()
  tracemalloc.start()  # sees NumPy's arrays; Pillow's images take 4 bytes a pixel beside them
  try:
    decode.decode(encoded, 8, 1)
    peak = tracemalloc.get_traced_memory()[1]
  finally:
    tracemalloc.stop()
  assert peak <= 9 * 512 * 1024


def test_an_image_that_finds_no_memory_is_named(monkeypatch):
  def decode_none(*args, **kwargs):
    raise MemoryError

  monkeypatch.setattr(decode, 'decode', decode_none)
  said = refusal(decode.decode_all, [('a/large', b'')], np.empty((1, 8, 8, 1), np.uint8))
  assert said.startswith('image a/large: not enough memory to decode it; ')


@pytest.mark.parametrize('size', [(1, 1), (1, 3000), (3000, 1)])
@pytest.mark.parametrize('resize', decode.RESIZES)
def test_odd_shapes(size, resize):
  image = decode.decode(png(np.full(size, 77, np.uint8)), 8, 1, resize)
  assert image.max() == 77
  assert (image.min() == 77) == (resize != 'pad' or size == (1, 1))


def test_all_damaged_images_are_named_and_no_worker_is_left():
  before = threading.active_count()
  encoded = ((f'P{i}', b'no image' if i in (5, 7) else png(RAMP)) for i in range(50))
  message = refusal(decode.decode_all, encoded, np.zeros((50, 4, 4, 1), np.uint8), workers=3)
  assert message.startswith('Decoding images: 2 things are wrong: image P5 is damaged (not an image')
  assert 'image P7 is damaged (not an image' in message
  assert message.endswith('; replace it or take it out of the data set')
  assert threading.active_count() == before


@repeatable(100)
@given(
  seed=SEEDS,
  size=st.tuples(st.integers(1, 20), st.integers(1, 20)),
  kind=st.sampled_from(['1', 'L', 'LA', 'P', 'RGB', 'RGBA', 'I;16']),
  channels=st.sampled_from([1, 3]),
  level=st.integers(0, 9),
)
def test_any_png_has_the_pixels_that_were_written(seed, size, kind, channels, level):
  rng = np.random.default_rng(seed)
  colour = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
  alpha = rng.integers(0, 2, size, dtype=np.uint8) * 255
  grey = colour[..., 0]
  if kind == 'I;16':
    image, expected = Image.fromarray(grey.astype(np.uint16) * 257), grey
  elif kind == '1':
    image, expected = Image.fromarray(grey > 127), (grey > 127) * 255
  elif kind in ('LA', 'RGBA'):
    image = Image.fromarray(grey if kind == 'LA' else colour)
    image.putalpha(Image.fromarray(alpha))
    expected = np.where(alpha if kind == 'LA' else alpha[..., None], grey if kind == 'LA' else colour, 0)
  else:
    image, expected = (
      Image.fromarray(colour if kind == 'RGB' else grey).convert(kind),
      colour if kind == 'RGB' else grey,
    )
  if expected.ndim == 2:
    expected = np.repeat(expected[..., None], 3, 2)
  if channels == 1:
    expected = np.asarray(Image.fromarray(expected.astype(np.uint8)).convert('L'))[..., None]
  side = max(size)
  decoded = decode.decode(saved(image, 'PNG', compress_level=level), side, channels, 'pad')
  top, left = (side - size[0]) // 2, (side - size[1]) // 2
  np.testing.assert_array_equal(decoded[top : top + size[0], left : left + size[1]], expected)
  assert decoded.sum() == expected.astype(int).sum()  # nothing but black around it


def pictures():
  """Files of every format and many modes: (format, bytes, what they decode to)."""
  rng = np.random.default_rng(0)
  grey = Image.fromarray(rng.integers(0, 256, (9, 7), dtype=np.uint8))
  colour = Image.fromarray(rng.integers(0, 256, (9, 7, 3), dtype=np.uint8))
  deep = Image.fromarray(rng.integers(0, 65536, (9, 7)).astype(np.uint16))
  modes = [
    grey,
    colour,
    deep,
    grey.convert('1'),
    colour.convert('P'),
    grey.convert('LA'),
    colour.convert('RGBA'),
  ]
  files = [('PNG', saved(image, 'PNG')) for image in modes]
  files += [('JPEG', saved(image, 'JPEG')) for image in (grey, colour, colour.convert('CMYK'))]
  files += [('BMP', saved(image, 'BMP')) for image in (grey, colour, grey.convert('1'))]
  files += [('TIFF', saved(image, 'TIFF')) for image in (grey, colour, deep, colour.convert('LAB'))]
  files += [
    ('GIF', saved(grey, 'GIF')),
    ('WEBP', saved(colour, 'WEBP')),
    ('WEBP', saved(colour, 'WEBP', lossless=True)),
  ]
  return files


PICTURES = pictures()


@repeatable(400)
@given(number=st.integers(0, len(PICTURES) - 1), seed=SEEDS)
def test_a_damaged_image_is_refused_or_a_png_has_its_pixels(number, seed):
  form, content = PICTURES[number]
  with warnings.catch_warnings():
    warnings.simplefilter('ignore')  # as decode_all does
    try:
      image = decode.decode(damaged(content, seed), 8, 3)
    except decode.BadImage as error:
      refused = str(error)
    else:
      assert image.shape == (8, 8, 3)
      if form == 'PNG':
        np.testing.assert_array_equal(image, decode.decode(content, 8, 3))
      return
  assert refused
  assert '\n' not in refused


def test_one_bit():
  np.testing.assert_array_equal(
    decode.decode(png([[True, False], [False, True]]), 2, 1)[..., 0], np.eye(2) * 255
  )


def test_stretch_is_anti_aliased():
  stripes = np.tile(np.array([0, 255], np.uint8), (64, 32))
  image = decode.decode(png(stripes), 8, 1)
  assert np.abs(image.astype(int)[:, 1:-1] - 127).max() <= 8  # nearest neighbour would give 0 or 255


def test_pad_keeps_the_aspect_ratio_and_crop_takes_the_centre():
  wide = np.zeros((20, 40), np.uint8)
  wide[:, 10:30] = 200
  padded = decode.decode(png(wide), 20, 1, 'pad')[..., 0]
  assert padded.shape == (20, 20)
  assert (padded[:5] == 0).all()
  assert (padded[15:] == 0).all()
  assert (padded[6:14, 7:13] == 200).all()
  assert (decode.decode(png(wide), 20, 1, 'crop') == 200).all()
  thin = decode.decode(png(np.full((1000, 1), 9, np.uint8)), 8, 1, 'pad')
  assert (thin[:, 3] == 9).all()
  assert (thin[:, 0] == 0).all()


def test_decode_all_keeps_the_order_with_any_number_of_threads():
  encoded = [(f'image{i}', png(np.full((5, 7), i, np.uint8))) for i in range(50)]
  for workers in (0, 1, 7):
    out = np.zeros((50, 4, 4, 3), np.uint8)
    decode.decode_all(iter(encoded), out, workers=workers)
    np.testing.assert_array_equal(out, np.broadcast_to(np.arange(50)[:, None, None, None], out.shape))


@pytest.mark.parametrize('damage', [lambda b: b[: len(b) // 2], lambda b: b'not an image', lambda b: b''])
def test_damaged_image_is_named(damage):
  good = png(np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8))
  out = np.zeros((3, 8, 8, 1), np.uint8)
  with pytest.raises(UserError, match=r'image Patient7 is damaged .*; replace it'):
    decode.decode_all([('a', good), ('Patient7', damage(good)), ('b', good)], out)


def test_real_image_has_its_brightness_and_shape(real_data):
  import zipfile

  with zipfile.ZipFile(real_data / 'fetal_planes_sample_native.zip') as archive:
    name = next(n for n in archive.namelist() if pathlib.PurePath(n).suffix == '.png')
    content = archive.read(name)
  with Image.open(io.BytesIO(content)) as image:
    native = np.asarray(image)
  small = decode.decode(content, 64, 1)
  assert small.shape == (64, 64, 1)
  assert abs(small.mean() - native.mean()) < 0.5  # a resize that drops or doubles pixels would not keep it
