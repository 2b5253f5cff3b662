import io
import logging

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from fetal_jax.data import decode
from fetal_jax.data.image_folder import ImageFolder
from fetal_jax.errors import UserError

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 8), dtype=np.uint8)


def save(path, pixels=PIXELS, **kwargs):
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(pixels).save(path, **kwargs)
  return path


@pytest.fixture
def folder(tmp_path):
  root = tmp_path / 'mine'
  save(root / 'round ones' / 'b.png')
  save(root / 'round ones' / 'deeper' / 'a.BMP')
  save(root / 'Square' / 'b.tif')
  save(root / 'Square' / 'c.png')
  (root / 'Square' / '._c.png').write_bytes(b'resource fork')
  (root / 'Square' / 'notes.txt').write_text('no image')
  (root / '.hidden').mkdir()
  (root / 'readme.md').write_text('no class')
  return root


def build(tmp_path, folder, **kwargs):
  builder = ImageFolder(data_dir=tmp_path / 'tfds', path=folder, **kwargs)
  builder.download_and_prepare()
  opened = tfds.builder_from_directory(builder.data_dir)
  return list(decode.examples(decode.open_source(opened))), opened.info.features['label'].names


def test_folder_becomes_a_data_set(tmp_path, folder, caplog):
  with caplog.at_level(logging.WARNING):
    examples, class_names = build(tmp_path, folder)
  assert 'every image counts as a patient of its own' in caplog.text
  assert class_names == ['Square', 'round ones']
  names = ['Square/b', 'Square/c', 'round ones/b', 'round ones/deeper/a']
  assert [example['name'].decode() for example in examples] == names
  assert [example['patient'].decode() for example in examples] == names
  assert [example['label'] for example in examples] == [0, 0, 1, 1]
  assert {example['official_train'] for example in examples} == {-1}
  for example in examples:  # TIFF and BMP came through pixel for pixel
    with Image.open(io.BytesIO(example['image']), formats=['PNG']) as image:
      np.testing.assert_array_equal(np.asarray(image), PIXELS)
  assert examples[1]['image'] == (folder / 'Square' / 'c.png').read_bytes()


def test_patients_from_a_table(tmp_path, folder, caplog):
  table = tmp_path / 'patients.csv'
  table.write_text(
    'patient,image\nAnn,Square/b\nAnn,Square/c.png\nBea,a\n Bea , round ones/b \n', encoding='utf-8-sig'
  )
  with caplog.at_level(logging.WARNING):
    examples, _ = build(tmp_path, folder, patients_csv=table)
  assert [example['patient'] for example in examples] == [b'Ann', b'Ann', b'Bea', b'Bea']
  assert 'patient' not in caplog.text


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('', 'first row must be image,patient'),
    ('file,patient\na,1\n', 'first row must be image,patient .found file,patient'),
    ('image,patient\nz,1\n', "line 2: image 'z' is not in"),
    ('image,patient\nb,1\n', "line 2: image 'b' stands for 2 images"),
    ('image,patient\na,\n', "line 2: image 'a' has no patient"),
    ('image,patient\na\n', 'line 2: 1 cells where the header has 2'),
    ('image,patient\na,1\nc,2\na,2\n', "line 4: image 'a' has two patients, 1 and 2"),
    ('image,patient\na,1\nc,2\n', 'no row for 2 of 4 images .first Square/b'),
  ],
)
def test_bad_table_of_patients(tmp_path, folder, text, message):
  (tmp_path / 'patients.csv').write_text(text)
  with pytest.raises(UserError, match=message):
    ImageFolder(data_dir=tmp_path, path=folder, patients_csv=tmp_path / 'patients.csv')


def test_bad_folders(tmp_path, folder):
  def error(path):
    with pytest.raises(UserError) as caught:
      build(tmp_path, path)
    return str(caught.value)

  assert 'no such folder' in error(tmp_path / 'nowhere')
  save(tmp_path / 'flat' / 'a.png')
  assert 'two classes or more, found none' in error(tmp_path / 'flat')
  save(tmp_path / 'one' / 'round' / 'a.png')
  assert 'two classes or more, found only round' in error(tmp_path / 'one')
  (folder / 'empty').mkdir()
  assert 'empty: no images for this class' in error(folder)
  (folder / 'empty').rmdir()
  save(folder / 'Square' / 'b.png')
  assert 'b.png and b.tif' in error(folder) or 'b.tif and b.png' in error(folder)
  (folder / 'Square' / 'b.png').unlink()
  (folder / 'Square' / 'b.tif').write_bytes(b'no image')
  assert 'b.tif: not a readable image' in error(folder)


def test_photographs_are_turned_upright(tmp_path, folder):
  exif = Image.Exif()
  exif[0x0112] = 6  # turned by a quarter
  smooth = np.tile(np.arange(0, 240, 8, dtype=np.uint8), (16, 1))
  save(folder / 'Square' / 'z.jpg', smooth, exif=exif, quality=95)
  examples, _ = build(tmp_path, folder)
  with Image.open(io.BytesIO(examples[2]['image'])) as image:
    assert image.size == (16, 30)
    assert np.abs(np.asarray(image).astype(int) - np.rot90(smooth, -1)).max() <= 4
