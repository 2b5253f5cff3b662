import io
import zipfile

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from fetal_jax.data import decode
from fetal_jax.data.sources.fetal_planes_db import read_metadata
from fetal_jax.data.sources.fetal_planes_db.fetal_planes_db_dataset_builder import FetalPlanesDb
from fetal_jax.data.sources.fetal_planes_db.metadata import CSV_NAME
from fetal_jax.runtime.errors import UserError

HEADER = 'Image_name;Patient_num;Plane;Brain_plane;Operator;US_Machine;Train '
ROWS = [
  'P1_1;1;Fetal brain;Trans-thalamic;Op. 1;Voluson E6;1 ',
  'P1_2;1;Other;Not A Brain;Op. 1;Voluson E6;1 ',
  'P2_1;2;Maternal cervix;Not A Brain;Other;Aloka;0 ',
  'P3_1;3;Fetal abdomen;Not A Brain;Op. 3;Voluson S10;0 ',
]


def table(*rows, header=HEADER, newline='\n'):
  return newline.join([header, *rows, '']).encode()


def png(value, mode='L'):
  buffer = io.BytesIO()
  Image.new('L', (9, 7), value).convert(mode).save(buffer, 'PNG')
  return buffer.getvalue()


IMAGES = {
  'P1_1': png(10),
  'P1_2': png(20, 'RGB'),
  'P2_1': png(30, 'RGBA'),
  'P3_1': png(40, 'P'),
}


def as_zip(path, files):
  with zipfile.ZipFile(path, 'w') as archive:
    for name, content in files.items():
      archive.writestr(name, content)
  return path


def build(tmp_path, source, **kwargs):
  """Builds, then opens the folder as anybody would; returns all examples."""
  builder = FetalPlanesDb(data_dir=tmp_path / 'tfds', source=str(source), **kwargs)
  builder.download_and_prepare()
  return list(decode.examples(decode.open_source(tfds.builder_from_directory(builder.data_dir))))


def test_published_table(real_data):
  records = read_metadata(real_data / CSV_NAME)
  assert len(records) == 12400
  assert len(np.unique(records.patients)) == 1792
  assert records.class_names == ('abdomen', 'brain', 'femur', 'thorax', 'cervix', 'other')
  assert np.bincount(records.labels).tolist() == [711, 3092, 1040, 1718, 1626, 4213]
  assert records.official_train.sum() == 7129
  assert records.names[0] == 'Patient00001_Plane1_1_of_15'
  planes, number = np.unique(records.brain_planes, return_counts=True)
  assert dict(zip(planes.tolist(), number.tolist(), strict=True))['Trans-thalamic'] == 1638
  assert (records.machines == 'Voluson E6').sum() == 5862


@pytest.mark.parametrize(
  'content',
  [
    table(*ROWS),
    table(*ROWS, newline='\r\n'),
    b'\xef\xbb\xbf' + table(*ROWS),
    table(*ROWS, header=HEADER.strip()),
    table(*(row.replace(';', ' ; ') for row in ROWS), '', ' ; ; ; ; ; ; '),
    table(*(row.replace(';', '.png;', 1) for row in ROWS)),
  ],
)
def test_quirks_of_the_table(tmp_path, content):
  (tmp_path / 'planes.csv').write_bytes(content)
  records = read_metadata(tmp_path / 'planes.csv')
  assert records.names.tolist() == ['P1_1', 'P1_2', 'P2_1', 'P3_1']
  assert records.labels.tolist() == [1, 5, 4, 0]
  assert records.patients.tolist() == ['1', '1', '2', '3']
  assert records.operators.tolist() == ['Op. 1', 'Op. 1', 'Other', 'Op. 3']
  assert records.official_train.tolist() == [True, True, False, False]


@pytest.mark.parametrize(
  ('content', 'message'),
  [
    (b'', 'planes.csv: empty'),
    (table(), 'planes.csv: a header but no rows'),
    (table(*ROWS).replace(b';', b','), "not separated by ';'"),
    (
      table(*ROWS).replace(b'US_Machine', b'Machine'),
      'no column US_Machine; it needs Image_name;Patient_num',
    ),
    (table(*ROWS, 'P4;4;Fetal toe;;;;1'), "line 6: unknown Plane 'Fetal toe'; one of Fetal abdomen, "),
    (table(*ROWS, 'P1_2;4;Other;;;;1'), 'line 6: image P1_2 is also on line 3'),
    (table(*ROWS, 'P4;;Other;;;;1'), 'line 6: column Patient_num is empty'),
    (table(*ROWS, 'P4;4;Other;;;;yes'), "line 6: column Train is 'yes'"),
    (table(*ROWS, 'P4;4;Other'), 'line 6: 3 cells where the header has 7'),
    (table(*ROWS, 'P4;Müller;Other;;;;1').decode().encode('latin-1'), 'not UTF-8'),
  ],
)
def test_bad_table_names_the_place(tmp_path, content, message):
  (tmp_path / 'planes.csv').write_bytes(content)
  with pytest.raises(UserError, match=message):
    read_metadata(tmp_path / 'planes.csv')


def test_table_that_is_not_there(tmp_path):
  with pytest.raises(UserError, match=r'planes.csv: cannot be read \(No such file'):
    read_metadata(tmp_path / 'planes.csv')


@pytest.mark.parametrize('packed', [True, False])
def test_builder_finds_the_files_anywhere_and_keeps_the_bytes(tmp_path, packed):
  content = {
    f'top/meta/{CSV_NAME}': table(*ROWS),
    f'__MACOSX/top/meta/._{CSV_NAME}': b'resource fork',
    '__MACOSX/top/Images/._P1_1.png': b'resource fork',
    'top/Images/._P1_1.png': b'resource fork',
    'top/Images/unlisted.png': b'whatever',
    'top/Images/P1_2.txt': b'a note',
    **{f'top/Images/more/{name}.png': image for name, image in reversed(IMAGES.items())},
  }
  source = tmp_path / 'source'
  if packed:
    as_zip(source, {'top/': b'', 'top/Images/': b'', **content})
  else:
    for name, data in content.items():
      (source / name).parent.mkdir(parents=True, exist_ok=True)
      (source / name).write_bytes(data)
  examples = build(tmp_path, source)
  assert [example['name'].decode() for example in examples] == list(IMAGES)
  assert [example['image'] for example in examples] == list(IMAGES.values())
  assert [decode.decode(example['image'], 4, 1)[0, 0, 0] for example in examples] == [10, 20, 30, 40]
  assert [example['label'] for example in examples] == [1, 5, 4, 0]
  assert [example['official_train'] for example in examples] == [1, 1, 0, 0]
  third = {key: examples[2][key].decode() for key in ('patient', 'brain_plane', 'operator', 'machine')}
  assert third == {'patient': '2', 'brain_plane': 'Not A Brain', 'operator': 'Other', 'machine': 'Aloka'}


def test_missing_images(tmp_path):
  source = as_zip(tmp_path / 'z.zip', {CSV_NAME: table(*ROWS), 'P2_1.png': IMAGES['P2_1']})
  with pytest.raises(UserError, match=r'3 of 4 .* absent \(P1_1, P1_2, P3_1\).*data.allow_missing=True'):
    build(tmp_path, source)
  examples = build(tmp_path, source, allow_missing=True)
  assert [example['name'] for example in examples] == [b'P2_1']


@pytest.mark.parametrize(
  ('content', 'message'),
  [
    ({'a.txt': b''}, f'no {CSV_NAME} inside'),
    ({f'{x}/{CSV_NAME}': table(*ROWS) for x in 'ab'}, f'2 files {CSV_NAME} inside'),
    ({CSV_NAME: table(*ROWS), **{f'{x}/P1_1.png': b'' for x in 'ab'}}, 'image P1_1 is there twice'),
    ({CSV_NAME: table(*ROWS)}, 'must lie in the same zip or folder'),
    ({f'a/{CSV_NAME}': table(*ROWS, ROWS[0])}, f'z.zip: a/{CSV_NAME}, line 6: image P1_1 is also on line 2'),
  ],
)
def test_bad_archive(tmp_path, content, message):
  with pytest.raises(UserError, match=message):
    build(tmp_path, as_zip(tmp_path / 'z.zip', content), allow_missing=True)
  assert not list((tmp_path / 'tfds').rglob('*.array_record*'))


def test_archive_that_is_not_whole(tmp_path):
  with pytest.raises(UserError, match='no such zip or folder'):
    build(tmp_path, tmp_path / 'nowhere.zip')
  whole = as_zip(tmp_path / 'z.zip', {CSV_NAME: table(*ROWS), **{f'{n}.png': b for n, b in IMAGES.items()}})
  content = whole.read_bytes()
  (tmp_path / 'cut.zip').write_bytes(content[:-100])
  with pytest.raises(UserError, match=r'cut.zip: not a whole zip file .*download it again'):
    build(tmp_path, tmp_path / 'cut.zip')
  at = content.index(IMAGES['P2_1']) + 40
  (tmp_path / 'bad.zip').write_bytes(content[:at] + b'\x00\xff' + content[at + 2 :])
  with pytest.raises(UserError, match=r'bad.zip: P2_1.png cannot be read \(Bad CRC'):
    build(tmp_path, tmp_path / 'bad.zip')


@pytest.mark.parametrize('named', [False, True])
def test_planes_of_other_formats_are_read(tmp_path, named):
  rows = [row.replace(';', '.JPG;', 1) for row in ROWS] if named else ROWS
  jpg = io.BytesIO()
  Image.open(io.BytesIO(IMAGES['P1_1'])).save(jpg, 'JPEG')
  content = {
    CSV_NAME: table(*rows),
    'P1_1.JPG': jpg.getvalue(),
    **{f'{n}.png': IMAGES[n] for n in list(IMAGES)[1:]},
  }
  examples = build(tmp_path, as_zip(tmp_path / 'z.zip', content))
  assert [example['name'].decode() for example in examples] == list(IMAGES)
  assert examples[0]['image'].startswith(b'\x89PNG')
  assert abs(int(decode.decode(examples[0]['image'], 4, 1)[0, 0, 0]) - 10) <= 2


def test_all_damaged_images_are_said(tmp_path):
  broken = {'P1_1.jpg': b'no image', 'P1_2.png': IMAGES['P1_2'], 'P2_1.png': b'\x89PNG', 'P3_1.gif': b''}
  whole = as_zip(tmp_path / 'z.zip', {CSV_NAME: table(*ROWS), **broken}).read_bytes()
  at = whole.index(IMAGES['P1_2']) + 40
  (tmp_path / 'bad.zip').write_bytes(whole[:at] + b'\x00\xff' + whole[at + 2 :])
  with pytest.raises(UserError) as error:
    build(tmp_path, tmp_path / 'bad.zip')
  said = str(error.value)
  assert said.startswith(
    f'{tmp_path}/bad.zip: 4 things are wrong: {tmp_path}/bad.zip: image P1_1 is damaged (not an'
  )
  assert 'image P2_1 is damaged' in said
  assert 'image P3_1 is damaged' in said
  assert 'P1_2.png cannot be read (Bad CRC-32' in said


def test_downloads_the_archive_without_a_source(tmp_path, monkeypatch):
  from fetal_jax.data.sources import download

  archive = as_zip(tmp_path / 'z.zip', {CSV_NAME: table(*ROWS), **{f'{n}.png': b for n, b in IMAGES.items()}})
  asked = []

  def fetch(url, path, *, md5, size):
    asked.append((url, path.name, md5, size))
    return archive

  monkeypatch.setattr(download, 'fetch', fetch)
  assert len(build(tmp_path, '')) == 4
  url = 'https://zenodo.org/records/3904280/files/FETAL_PLANES_ZENODO.zip'
  assert asked == [(url, 'FETAL_PLANES_ZENODO.zip', '2a5fcc2cefb789bcc0f6c1f73e0ea43f', 2_088_522_169)]


def test_real_sample_through_tfds(real_data, tmp_path):
  examples = build(tmp_path, real_data / 'fetal_planes_sample_native.zip')
  with zipfile.ZipFile(real_data / 'fetal_planes_sample_native.zip') as archive:
    for example in examples:
      assert example['image'] == archive.read(f'Images/{example["name"].decode()}.png')
  assert np.bincount([example['label'] for example in examples]).tolist() == [10] * 6
  assert sum(example['official_train'] for example in examples) == 30


def test_documents_itself(tmp_path):
  from tensorflow_datasets.core import dataset_metadata

  builder = FetalPlanesDb(data_dir=tmp_path)
  assert builder.name == 'fetal_planes_db'
  assert 'CC BY 4.0' in builder.info.description
  assert '10.1038/s41598-020-67076-5' in builder.info.citation
  assert '10.5281/zenodo.3904280' in builder.info.citation
  tags = dataset_metadata.load(builder.pkg_dir_path).tags
  assert tags
  assert set(tags) <= set(dataset_metadata.valid_tags())
