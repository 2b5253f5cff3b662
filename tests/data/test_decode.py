import io
import pathlib

import numpy as np
import pytest
from PIL import Image

from fetal_jax.data import decode
from fetal_jax.errors import UserError


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


def test_sixteen_bits_are_scaled_to_eight():
  pixels = np.array([[0, 257], [257 * 100, 65535]], np.uint16)
  np.testing.assert_array_equal(decode.decode(png(pixels), 2, 1)[..., 0], [[0, 1], [100, 255]])


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


def test_read_images_of_a_tfds_folder(tmp_path):
  import tensorflow_datasets as tfds

  from fetal_jax.data.features import example, features

  writer = tfds.core.SequentialWriter(
    ds_info=tfds.core.DatasetInfo(
      builder=tfds.core.dataset_info.DatasetIdentity(
        name='round', version=tfds.core.Version('1.0.0'), data_dir=str(tmp_path), module_name=''
      ),
      features=features(('round', 'square')),
    ),
    max_examples_per_shard=4,
    file_format='array_record',
  )
  writer.initialize_splits(['train'])
  for i in range(10):
    row = example(png(np.full((6, 6), 10 * i, np.uint8)), label=i % 2, name=f'n{i}', patient='')
    writer.add_examples({'train': [row]})
  writer.close_all()

  images, labels, info = decode.read_images(tmp_path, 6, 1)
  np.testing.assert_array_equal(images[:, 3, 3, 0], 10 * np.arange(10))
  np.testing.assert_array_equal(labels, np.arange(10) % 2)
  assert labels.dtype == np.int32
  assert info == {'class_names': ('round', 'square'), 'names': [f'n{i}' for i in range(10)]}
  with pytest.raises(UserError, match='no whole TFDS data set'):
    decode.read_images(tmp_path, 6, 1, split='test')


def test_read_images_without_a_data_set(tmp_path):
  with pytest.raises(UserError, match='no whole TFDS data set'):
    decode.read_images(tmp_path / 'nowhere', 6, 1)


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
