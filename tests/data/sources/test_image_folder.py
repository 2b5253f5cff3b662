import io
import logging
import os

import numpy as np
import pytest
import tensorflow_datasets as tfds
from helpers.hostile import refusal
from PIL import Image

from fetal_jax.data import decode
from fetal_jax.data.sources.image_folder import ImageFolder, as_png
from fetal_jax.data.sources.intake import Intake
from fetal_jax.runtime.errors import UserError

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
  assert 'the patients of 4 of 4 images are unknown (no data.patients_csv)' in caplog.text
  assert class_names == ['Square', 'round ones']
  names = ['Square/b', 'Square/c', 'round ones/b', 'round ones/deeper/a']
  assert [example['name'].decode() for example in examples] == names
  assert [example['patient'].decode() for example in examples] == ['', '', '', '']
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


def test_a_table_of_some_patients_leaves_the_others_unknown(tmp_path, folder, caplog):
  table = tmp_path / 'patients.csv'
  table.write_text('image,patient\na,Ann\n')
  with caplog.at_level(logging.WARNING):
    examples, _ = build(tmp_path, folder, patients_csv=table)
  assert [example['patient'] for example in examples] == [b'', b'', b'', b'Ann']
  assert f'the patients of 3 of 4 images are unknown (no row in {table})' in caplog.text


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('', 'patients.csv: empty'),
    ('file,patient\na,1\n', "no column image; it needs image,patient .found 'file,patient'"),
    ('image;patient\na;1\n', "columns are not separated by ','; save it with that separator"),
    ('image,patient\nz,1\n', "line 2: image 'z' is not in"),
    ('image,patient\nb,1\n', "line 2: image 'b' stands for 2 images"),
    ('image,patient\na,\n', "line 2: image 'a' has no patient"),
    ('image,patient\na\n', 'line 2: 1 cells where the header has 2'),
    ('image,patient\na,1\nc,2\na,2\n', "line 4: image 'a' has two patients, 1 and 2"),
    ('image,patient\na,1\n"c,2\n', 'line 3: no CSV .unexpected end of data.; mend its quotes'),
    ('image,patient\n../a,1\n', "line 2: image '../a' is not in"),
    (
      'image,patient\nz,1\ny,1\na,1\n',
      "line 2: image 'z' is not in .* .and 1 more of 3 rows: line 3: image 'y' is not in",
    ),
  ],
)
def test_bad_table_of_patients(tmp_path, folder, text, message):
  (tmp_path / 'patients.csv').write_text(text)
  with pytest.raises(UserError, match=message):
    ImageFolder(data_dir=tmp_path, path=folder, patients_csv=tmp_path / 'patients.csv')


def test_bad_folders(tmp_path, folder):
  def error(path):
    return refusal(build, tmp_path, path)

  assert 'no such folder' in error(tmp_path / 'nowhere')
  save(tmp_path / 'flat' / 'a.png')
  assert 'two classes or more, found none' in error(tmp_path / 'flat')
  save(tmp_path / 'one' / 'round' / 'a.png')
  assert 'two classes or more, found only round' in error(tmp_path / 'one')
  (folder / 'empty').mkdir()
  assert 'empty: no images for this class' in error(folder)
  (folder / 'empty' / 'scan.dcm').write_bytes(b'')
  assert '.webp; found .dcm); add some or remove the folder' in error(folder)
  (folder / 'empty' / 'scan.dcm').unlink()
  (folder / 'empty').rmdir()
  save(folder / 'Square' / 'b.png')
  assert 'b.png and b.tif' in error(folder) or 'b.tif and b.png' in error(folder)
  (folder / 'Square' / 'b.png').unlink()
  (folder / 'Square' / 'b.tif').write_bytes(b'no image')
  assert 'b.tif: not a readable image' in error(folder)


def test_what_is_no_image_of_a_class_is_counted(tmp_path, folder):
  save(folder / 'beside.png')
  save(folder / 'Square' / '.ipynb_checkpoints' / 'c.png')
  save(folder / '__MACOSX' / 'Square' / 'c.png')
  builder = ImageFolder(data_dir=tmp_path / 'tfds', path=folder)
  assert builder.intake == Intake(
    files=8,
    images=4,
    left_out={'hidden files': 1, 'files beside the folders of classes': 2, 'files that are no images': 1},
  )


def test_sides_of_a_split_are_no_classes(tmp_path):
  for name in ('train/round/a.png', 'train/square/b.png', 'Test/round/c.png'):
    save(tmp_path / 'mine' / name)
  message = refusal(build, tmp_path, tmp_path / 'mine')
  assert 'Test, train are sides of a split, not classes; put the images of a class into one folder' in message
  (tmp_path / 'mine' / 'Test').rename(tmp_path / 'mine' / 'round')
  assert build(tmp_path, tmp_path / 'mine')[1] == ['round', 'train']


@pytest.mark.parametrize(
  'sides',
  [
    ('training_set', 'test_set'),
    ('train', 'test', 'masks'),
    ('train_images', 'TestImages'),
    ('fold1', 'fold2'),
  ],
)
def test_sides_by_other_names(tmp_path, sides):
  for side in sides:
    for name in ('one', 'two'):
      save(tmp_path / 'mine' / side / name / 'a.png')
  assert 'are sides of a split, not classes' in refusal(build, tmp_path, tmp_path / 'mine')


def test_a_side_beside_the_classes(tmp_path, folder, caplog):
  for name in ('a.png', 'square/b.png', 'Round ones/c.png'):
    save(folder / 'test set' / name)
  assert 'test set are sides of a split' in refusal(build, tmp_path, folder)
  (folder / 'test set' / 'square').rename(folder / 'test set' / 'others')
  with caplog.at_level(logging.WARNING):
    assert build(tmp_path, folder)[1] == ['Square', 'round ones', 'test set']
  assert 'test set: taken for a class, though its name is that of a side of a split' in caplog.text


def test_sides_within_a_class_are_said(tmp_path, folder, caplog):
  save(folder / 'Square' / 'train' / 'x.png')
  save(folder / 'Square' / 'test' / 'y.png')
  with caplog.at_level(logging.WARNING):
    assert len(build(tmp_path, folder)[0]) == 6
  assert (
    'Square: test, train in it are taken together; config.data.split divides the images anew' in caplog.text
  )


def test_sides_within_every_class_are_the_owners_split(tmp_path):
  for label in ('round', 'square'):
    for i, side in enumerate(('train', 'TestImages', 'val')):
      save(tmp_path / 'mine' / label / side / f'{i}.png')
  examples, _ = build(tmp_path, tmp_path / 'mine')
  sides = {example['name'].decode(): example['official_train'] for example in examples}
  assert sides == {
    'round/TestImages/1': 0, 'round/train/0': 1, 'round/val/2': 1, 'square/TestImages/1': 0, 'square/train/0': 1,
    'square/val/2': 1,
  }  # fmt: skip
  save(tmp_path / 'mine' / 'square' / 'another.png')
  examples, _ = build(tmp_path / 'again', tmp_path / 'mine')
  assert {example['official_train'] for example in examples} == {-1}


def test_a_folder_of_masks_is_no_class(tmp_path, folder):
  save(folder / 'Ground_Truth' / 'a.png')
  message = refusal(build, tmp_path, folder)
  assert (
    'Ground_Truth are masks or labels of images by their names, not classes; take the folders out' in message
  )


def test_masks_beside_images_are_left_out_and_counted(tmp_path, folder):
  save(folder / 'Square' / 'b_mask.png')
  save(folder / 'Square' / 'b_mask_1.png')
  save(folder / 'round ones' / 'Masks' / 'b.png')
  save(folder / 'round ones' / 'seg_7.png')  # of nothing that is there
  builder = ImageFolder(data_dir=tmp_path, path=folder)
  assert builder.intake.images == 5
  assert builder.intake.left_out['masks of images, by their names'] == 3
  for path in (folder / 'round ones').iterdir():
    if path.name != 'Masks':
      path.rename(tmp_path / path.name)
  assert 'round ones: no images for this class' in refusal(build, tmp_path, folder)


def test_all_that_is_wrong_is_said_in_one_go(tmp_path, folder):
  for name in ('empty', 'also empty'):
    (folder / name).mkdir()
  save(folder / 'Square' / 'c.bmp')
  message = refusal(build, tmp_path, folder)
  assert message.startswith(
    f'{folder}: 3 things are wrong: {folder}/also empty, {folder}/empty: no images for this'
  )
  assert f'{folder}/Square/c.png and c.bmp: the names differ only in their extension; rename' in message
  for name in ('also empty', 'empty'):
    (folder / name).rmdir()
  (folder / 'Square' / 'c.bmp').unlink()
  for i in range(22):
    (folder / 'Square' / f'z{i:02}.{"jpg" if i % 2 else "png"}').write_bytes(
      b'\x89PNG' if i % 2 else b'no image'
    )
  message = refusal(build, tmp_path, folder)
  assert message.startswith(
    f'{folder}: 22 things are wrong, of which the first 20 are: {folder}/Square/z00.png, '
  )
  assert 'z19.jpg: not a readable image (not an image, or not' in message
  assert 'z20' not in message


@pytest.mark.parametrize('name', ['round ', '\tround', 'ro\nund', os.fsdecode(b'r\xf6und')])
def test_names_of_classes_that_would_not_come_back(tmp_path, folder, name):
  save(folder / name / 'x.png')
  message = refusal(build, tmp_path, folder)
  assert repr(name)[1:-1] in message
  assert 'rename' in message


def test_links(tmp_path, folder):
  save(tmp_path / 'elsewhere' / 'd.png')
  (folder / 'linked').symlink_to(tmp_path / 'elsewhere')
  (folder / 'Square' / 'e.png').symlink_to(save(tmp_path / 'e.png'))
  examples, class_names = build(tmp_path, folder)
  assert class_names == ['Square', 'linked', 'round ones']
  assert [example['name'].decode() for example in examples][2:4] == ['Square/e', 'linked/d']
  (folder / 'Square' / 'f.png').symlink_to('/etc/hostname')
  assert 'Square/f.png: not a readable image (not an image' in refusal(build, tmp_path / 'again', folder)
  (folder / 'Square' / 'f.png').unlink()
  (folder / 'Square' / 'f.png').symlink_to('../round ones/b.png')
  assert 'are the same by a symbolic link' in refusal(build, tmp_path, folder)


COLOUR = np.random.default_rng(1).integers(0, 256, (6, 8, 3), dtype=np.uint8)
DEEP = PIXELS.astype(np.uint16) * 257


@pytest.mark.parametrize(
  ('name', 'image', 'options', 'expected'),
  [
    ('16.tif', Image.fromarray(DEEP), {}, PIXELS),
    ('32.tif', Image.fromarray(DEEP.astype(np.int32)), {}, PIXELS),
    ('1.bmp', Image.fromarray(PIXELS > 127), {}, (PIXELS > 127) * 255),
    ('p.gif', Image.fromarray(PIXELS), {}, PIXELS),
    ('rgb.webp', Image.fromarray(COLOUR), {'lossless': True}, COLOUR),
    ('rgb.tif', Image.fromarray(COLOUR), {'compression': 'tiff_lzw'}, COLOUR),
    ('rgb.png', Image.fromarray(COLOUR), {}, COLOUR),
    ('cmyk.tif', Image.fromarray(COLOUR).convert('CMYK'), {}, COLOUR),
    ('a.webp', Image.fromarray(np.dstack([COLOUR, COLOUR[..., :1] // 128 * 255])), {'lossless': True, 'exact': True},
     np.where(COLOUR[..., :1] > 127, COLOUR, 0)),
    ('la.tif', Image.merge('LA', [Image.fromarray(PIXELS), Image.fromarray((PIXELS > 9) * np.uint8(255))]), {},
     np.where(PIXELS > 9, PIXELS, 0)),
  ],
)  # fmt: skip
def test_every_kind_of_image_keeps_its_pixels(tmp_path, name, image, options, expected):
  image.save(tmp_path / name, **options)
  decoded = decode.decode(as_png(tmp_path / name), 8, 3, 'pad')[1:7]
  np.testing.assert_array_equal(decoded, expected if expected.ndim == 3 else np.dstack([expected] * 3))


def test_a_photograph_with_a_preview_is_the_photograph(tmp_path):
  smooth = Image.fromarray(np.tile(np.arange(0, 240, 8, dtype=np.uint8), (16, 1)))
  smooth.save(tmp_path / 'a.jpg', 'MPO', save_all=True, append_images=[smooth.resize((4, 4))], quality=95)
  with Image.open(tmp_path / 'a.jpg') as image:
    assert (image.format, image.n_frames) == ('MPO', 2)
  decoded = decode.decode(as_png(tmp_path / 'a.jpg'), 30, 1, 'pad')
  assert np.abs(decoded[7:23, :, 0].astype(int) - np.asarray(smooth)).max() <= 4


@pytest.mark.parametrize(
  ('name', 'image', 'options', 'message'),
  [
    ('a.tif', Image.fromarray(PIXELS / np.float32(255)), {}, 'floating-point pixels; save it with 8 or 16 bits'),
    ('a.tif', Image.fromarray(PIXELS.astype(np.int32) * 1000), {}, f'grey values from {PIXELS.min()}000 to {PIXELS.max()}000'),
    ('a.gif', Image.fromarray(PIXELS), {'save_all': True, 'append_images': [Image.fromarray(PIXELS.T)]}, '2 frames in'),
    ('a.tif', Image.fromarray(PIXELS), {'save_all': True, 'append_images': [Image.fromarray(PIXELS.T)]}, '2 frames in'),
    ('a.jpg', Image.fromarray(PIXELS), {'format': 'EPS'}, 'not an image, or not of a known format'),
    ('a.bmp', Image.fromarray(PIXELS), {'format': 'PPM'}, 'not an image, or not of a known format'),
  ],
)  # fmt: skip
def test_what_is_refused_with_its_path(tmp_path, name, image, options, message):
  image.save(tmp_path / name, **options)
  said = refusal(as_png, tmp_path / name)
  assert said.startswith(f'{tmp_path / name}: not a readable image ({message}')
  assert said.endswith('; replace or remove it')


def test_images_that_are_too_large_or_cannot_be_read(tmp_path, monkeypatch):
  save(tmp_path / 'a.bmp')
  monkeypatch.setattr(decode, 'MAX_PIXELS', 47)
  assert '8 x 6 pixels, over the limit of 47' in refusal(as_png, tmp_path / 'a.bmp')
  monkeypatch.setattr(decode, 'MAX_BYTES', 99)
  assert 'bytes, over the limit of 99' in refusal(as_png, tmp_path / 'a.bmp')
  assert 'cannot be read (No such file' in refusal(as_png, tmp_path / 'gone.bmp')


def test_photographs_are_turned_upright(tmp_path, folder):
  exif = Image.Exif()
  exif[0x0112] = 6  # turned by a quarter
  smooth = np.tile(np.arange(0, 240, 8, dtype=np.uint8), (16, 1))
  save(folder / 'Square' / 'z.jpg', smooth, exif=exif, quality=95)
  examples, _ = build(tmp_path, folder)
  with Image.open(io.BytesIO(examples[2]['image'])) as image:
    assert image.size == (16, 30)
    assert np.abs(np.asarray(image).astype(int) - np.rot90(smooth, -1)).max() <= 4
