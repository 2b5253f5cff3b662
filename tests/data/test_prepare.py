import errno
import io
import json
import logging
import os
import shutil
import subprocess
import sys

import ml_collections
import numpy as np
import pytest
from PIL import Image

from fetal_jax.data import prepare, splits
from fetal_jax.data import prepared as prepared_lib
from fetal_jax.data.sources.intake import Intake
from fetal_jax.runtime.errors import UserError


def get_config(**data):
  defaults = {
    'source': 'image_folder',
    'path': '',
    'allow_missing': False,
    'patients_csv': '',
    'image_size': 16,
    'channels': 1,
    'resize': 'stretch',
    'split': 'patient',
    'test_fraction': 0.2,
    'phantom_images': 60,
    'phantom_seed': 0,
    'num_workers': 0,
  }
  return ml_collections.ConfigDict(
    {'seed': 0, 'data': {**defaults, **data}, 'classify': {'protocol': 'honest'}}
  )


@pytest.fixture
def folder(tmp_path):
  """30 images in two classes; image i of a class is of the one grey value 20 * label + i."""
  for label, name in enumerate(('round', 'square')):
    (tmp_path / 'mine' / name).mkdir(parents=True)
    for i in range(15):
      Image.new('L', (20, 10), 20 * label + i).save(tmp_path / 'mine' / name / f'{i:02}.png')
  return tmp_path / 'mine'


def stamps(workdir):
  return {path: path.stat().st_mtime_ns for path in sorted(workdir.rglob('*')) if path.is_file()}


def test_prepares_and_loads(tmp_path, folder):
  prepare.run(get_config(path=str(folder)), tmp_path / 'work')
  prepared = prepared_lib.load(tmp_path / 'work')
  assert prepared.images.shape == (30, 16, 16, 1)
  assert prepared.images.dtype == np.uint8
  assert isinstance(prepared.images, np.memmap)
  expected = [20 * label + i for label in range(2) for i in range(15)]
  np.testing.assert_array_equal(prepared.images[:, 8, 8, 0], expected)
  assert prepared.records.names[16] == 'square/01'
  assert prepared.records.labels.tolist() == [0] * 15 + [1] * 15
  assert prepared.records.official_train is None
  assert splits.split_hash(prepared.records, prepared.split) == prepared.info.split_hash
  assert prepared.info.class_names == ('round', 'square')
  assert prepared.info.images['test'] == {'round': 3, 'square': 3}
  assert prepared.info.totals == {'train': len(prepared.split.train), 'validation': 2, 'test': 6}


def test_work_that_is_done_is_not_done_again_even_without_the_source(tmp_path, folder):
  config = get_config(path=str(folder))
  prepare.run(config, tmp_path / 'work')
  before = stamps(tmp_path / 'work')
  shutil.rmtree(folder)
  prepare.run(config, tmp_path / 'work')
  assert stamps(tmp_path / 'work') == before


@pytest.mark.parametrize('name', prepared_lib.RESULTS)
def test_what_is_lost_is_made_again_from_the_tfds_data_set(tmp_path, folder, name):
  config = get_config(path=str(folder))
  prepare.run(config, tmp_path / 'work')
  data = tmp_path / 'work' / 'data'
  before = {result: (data / result).read_bytes() for result in prepared_lib.RESULTS}
  shutil.rmtree(folder)
  (data / name).unlink()
  prepare.run(config, tmp_path / 'work')
  assert {result: (data / result).read_bytes() for result in prepared_lib.RESULTS} == before


def test_a_changed_cache_is_made_again(tmp_path, folder):
  config = get_config(path=str(folder))
  prepare.run(config, tmp_path / 'work')
  images = tmp_path / 'work' / 'data' / 'images.npy'
  before = images.read_bytes()
  images.write_bytes(before[:-1] + b'\xff')
  prepare.run(config, tmp_path / 'work')
  assert images.read_bytes() == before


@pytest.mark.parametrize(
  ('key', 'value', 'message'),
  [
    ('image_size', 8, 'data.image_size=16, not 8'),
    ('resize', 'pad', "data.resize='stretch', not 'pad'"),
    ('source', 'fetal_phantom', "data.source='image_folder', not 'fetal_phantom'"),
    ('test_fraction', 0.3, 'data.test_fraction=0.2, not 0.3'),
  ],
)
def test_other_settings_need_another_workdir(tmp_path, folder, key, value, message):
  prepare.run(get_config(path=str(folder)), tmp_path / 'work')
  (tmp_path / 'work' / 'data' / 'images.npy').unlink()
  before = stamps(tmp_path / 'work')
  with pytest.raises(UserError, match=f'{message}: use a new --workdir'):
    prepare.run(get_config(**{'path': str(folder), key: value}), tmp_path / 'work')
  assert stamps(tmp_path / 'work') == before


def test_the_papers_protocol_holds_nothing_out(tmp_path, folder, caplog):
  honest, paper = get_config(path=str(folder)), get_config(path=str(folder))
  paper.classify.protocol = 'paper'
  prepare.run(honest, tmp_path / 'honest')
  with caplog.at_level(logging.INFO):
    prepare.run(paper, tmp_path / 'paper')
  before, after = prepared_lib.load(tmp_path / 'honest'), prepared_lib.load(tmp_path / 'paper')
  assert len(before.split.validation)
  assert after.split.validation.tolist() == []
  assert after.split.train.tolist() == before.split.train_side.tolist()
  assert after.split.test.tolist() == before.split.test.tolist()
  assert (before.info.protocol, after.info.protocol) == ('honest', 'paper')
  assert after.info.totals['validation'] == after.info.patients['validation'] == 0
  assert (
    'no image is held out for validation (classify.protocol=paper): the test images choose' in caplog.text
  )
  assert 'nothing can be said of it' not in caplog.text
  with pytest.raises(UserError, match=r"with classify\.protocol='paper', not 'honest': use a new --workdir"):
    prepare.run(honest, tmp_path / 'paper')


def test_a_mended_source_is_read_again(tmp_path, folder):
  config = get_config(path=str(folder))
  (folder / 'square' / '07.png').write_bytes(b'\x89PNG and then nothing')
  with pytest.raises(UserError, match='image square/07 is damaged'):
    prepare.run(config, tmp_path / 'work')
  Image.new('L', (20, 10), 99).save(folder / 'square' / '07.png')
  prepare.run(config, tmp_path / 'work')
  assert (prepared_lib.load(tmp_path / 'work').images[22] == 99).all()


def test_another_source_after_a_failure_leaves_nothing_of_the_first(tmp_path, folder):
  (folder / 'square' / '07.png').write_bytes(b'\x89PNG and then nothing')
  with pytest.raises(UserError, match='image square/07 is damaged'):
    prepare.run(get_config(path=str(folder)), tmp_path / 'work')
  assert not (tmp_path / 'work' / 'data' / 'images.npy').exists()
  folder.rename(tmp_path / 'other')
  Image.new('L', (20, 10), 27).save(tmp_path / 'other' / 'square' / '07.png')
  (tmp_path / 'other' / 'square').rename(tmp_path / 'other' / 'cubic')
  prepare.run(get_config(path=str(tmp_path / 'other')), tmp_path / 'work')
  assert prepared_lib.load(tmp_path / 'work').records.class_names == ('cubic', 'round')


def test_what_was_read_and_left_out_is_said_and_kept(tmp_path, folder, caplog):
  (folder / 'square' / 'notes.txt').write_text('')
  (folder / 'round' / '.hidden.png').write_text('')
  config = get_config(path=str(folder))
  with caplog.at_level(logging.INFO):
    prepare.run(config, tmp_path / 'work')
  left_out = 'left out: 1 hidden files, 1 files that are no images'
  assert f'prepare: {folder}: 32 files read, 30 images taken; {left_out}' in caplog.messages
  expected = Intake(files=32, images=30, left_out={'hidden files': 1, 'files that are no images': 1})
  assert prepared_lib.load(tmp_path / 'work').info.intake == expected
  (tmp_path / 'work' / 'data' / 'split.json').unlink()
  shutil.rmtree(folder)
  prepare.run(config, tmp_path / 'work')
  assert prepared_lib.load(tmp_path / 'work').info.intake == expected


def test_rows_without_an_image_are_counted(tmp_path, caplog):
  from fetal_jax.data.sources.fetal_planes_db.metadata import COLUMNS, CSV_NAME

  rows = [f'P{i};{i};{"Fetal brain" if i % 2 else "Other"};;;;1' for i in range(41)]
  (tmp_path / 'planes').mkdir()
  (tmp_path / 'planes' / CSV_NAME).write_text('\n'.join([';'.join(COLUMNS), *rows]))
  for i in (*range(40), 99):
    Image.new('L', (9, 9), i).save(tmp_path / 'planes' / f'P{i}.png')
  config = get_config(source='fetal_planes_db', path=str(tmp_path / 'planes'), allow_missing=True)
  with caplog.at_level(logging.INFO):
    prepare.run(config, tmp_path / 'work')
  said = (
    '41 rows and 42 files read, 40 images taken; left out: 1 rows without an image, 1 images without a row'
  )
  assert f'prepare: {tmp_path / "planes"}: {said}' in caplog.messages
  info = prepared_lib.load(tmp_path / 'work').info
  assert info.intake.left_out == {'rows without an image': 1, 'images without a row': 1}


@pytest.mark.parametrize('damage', ['flip', 'cut', 'gone', 'note'])
def test_a_damaged_tfds_data_set_is_built_again(tmp_path, folder, damage, caplog):
  config = get_config(path=str(folder))
  prepare.run(config, tmp_path / 'work')
  data = tmp_path / 'work' / 'data'
  before = (data / 'images.npy').read_bytes()
  (shard,) = data.glob('tfds/**/*.array_record*')
  content = bytearray(shard.read_bytes())
  content[len(content) // 2] ^= 1
  if damage == 'gone':
    shard.unlink()
  elif damage == 'note':
    (data / 'tfds' / prepare.ORIGIN).write_bytes((data / 'tfds' / prepare.ORIGIN).read_bytes()[:-9])
  else:
    shard.write_bytes(content if damage == 'flip' else content[:-9])
  (data / 'images.npy').unlink()
  prepare.run(config, tmp_path / 'work')
  assert (data / 'images.npy').read_bytes() == before
  name = 'origin.json' if damage == 'note' else shard.name
  assert any(name in message and 'reading the source again' in message for message in caplog.messages)


def test_only_data_sets_of_ours_are_deleted(tmp_path, folder):
  """Of a killed build, or of another source."""
  tfds, home = tmp_path / 'work' / 'data' / 'tfds', tmp_path / 'home'
  for name in ('other/1.0.0', 'labelled_images/1.0.0.incompleteAB12', 'mine/notes', 'downloads/a'):
    (tfds / name).mkdir(parents=True)
  home.mkdir()
  (home / '1.0.0').mkdir()
  (tfds / 'link').symlink_to(home)
  prepare.run(get_config(path=str(folder)), tmp_path / 'work')
  assert sorted(path.name for path in tfds.iterdir()) == [
    'downloads',
    'labelled_images',
    'link',
    'mine',
    'origin.json',
  ]
  assert [path.name for path in (tfds / 'labelled_images').iterdir()] == ['1.0.0']
  assert (home / '1.0.0').is_dir()


def test_a_full_disk_is_noticed_before_the_cache_is_filled(tmp_path, folder, monkeypatch):
  def full(descriptor, offset, size):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

  allocate = os.posix_fallocate
  monkeypatch.setattr(os, 'posix_fallocate', full)
  config = get_config(path=str(folder))
  with pytest.raises(OSError, match='No space left on device') as error:
    prepare.run(config, tmp_path / 'work')
  assert error.value.filename.endswith('data/images.npy')  # `fetal_jax.runtime.exits` names it
  assert not list((tmp_path / 'work' / 'data').glob('*images.npy*'))
  monkeypatch.setattr(os, 'posix_fallocate', allocate)
  prepare.run(config, tmp_path / 'work')
  assert (tmp_path / 'work' / 'data' / 'images.npy').stat().st_blocks * 512 >= 30 * 16 * 16


def test_class_without_test_images_is_warned_of(tmp_path, folder, caplog):
  rows = [f'round/{i:02},{i}' for i in range(15)] + [f'square/{i:02},same' for i in range(15)]
  (tmp_path / 'patients.csv').write_text('\n'.join(['image,patient', *rows]))
  config = get_config(path=str(folder), patients_csv=str(tmp_path / 'patients.csv'))
  with caplog.at_level(logging.WARNING):
    prepare.run(config, tmp_path / 'work')
  assert 'class square has no test images' in caplog.text
  assert 'class round has no test images' not in caplog.text


def test_load_before_run(tmp_path):
  with pytest.raises(UserError, match='run --stage=prepare first'):
    prepared_lib.load(tmp_path)


def test_load_of_a_cut_cache(tmp_path, folder):
  prepare.run(get_config(path=str(folder)), tmp_path / 'work')
  images = tmp_path / 'work' / 'data' / 'images.npy'
  images.write_bytes(images.read_bytes()[:-1000])
  with pytest.raises(UserError, match=r'images\.npy: is not what was written; run --stage=prepare again'):
    prepared_lib.load(tmp_path / 'work')


# The source changes under a prepared workdir.


def patients(path, names, patient_of):
  path.write_text('image,patient\n' + ''.join(f'{name},{patient_of(i)}\n' for i, name in enumerate(names)))


@pytest.fixture
def with_table(tmp_path, folder):
  """The config of images in `folder` with a table of patients, prepared in `work`; and the names of the images."""
  names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob('*.png'))
  patients(tmp_path / 'patients.csv', names, lambda i: f'P{i}')
  config = get_config(path=str(folder), patients_csv=str(tmp_path / 'patients.csv'))
  prepare.run(config, tmp_path / 'work')
  return config, names


def begin(workdir):
  """As if something was trained."""
  (workdir / 'classify' / 'resnet50' / 'real' / 'seed_0' / 'checkpoints').mkdir(parents=True)


def mend_table(tmp_path, names):
  patients(tmp_path / 'patients.csv', names, lambda i: f'P{i // 3}')
  return 'patients.csv has another content'


def add_images(tmp_path, names):
  Image.new('L', (20, 10), 99).save(tmp_path / 'mine' / 'round' / 'new.png')
  patients(tmp_path / 'patients.csv', [*names, 'round/new.png'], lambda i: f'P{i}')
  return 'mine/round has 16 files, 15 then'


def take_out_an_image(tmp_path, names):
  (tmp_path / 'mine' / 'square' / '03.png').unlink()
  patients(tmp_path / 'patients.csv', [name for name in names if name != 'square/03.png'], lambda i: f'P{i}')
  return 'mine/square has 14 files, 15 then'


def replace_an_image(tmp_path, names):
  Image.new('L', (40, 30), 99).save(tmp_path / 'mine' / 'square' / '03.png')
  return 'mine/square has other files'


@pytest.mark.parametrize('change', [mend_table, add_images, take_out_an_image, replace_an_image])
def test_a_source_that_has_changed_is_prepared_again_or_refused(tmp_path, with_table, change, caplog):
  config, names = with_table
  said = change(tmp_path, names)
  before = stamps(tmp_path / 'work')
  begin(tmp_path / 'work')
  with pytest.raises(
    UserError, match=f'was prepared from other data .*{said}.*use a new --workdir for'
  ) as error:
    prepare.run(config, tmp_path / 'work')
  assert '\n' not in str(error.value)
  assert stamps(tmp_path / 'work') == before
  shutil.rmtree(tmp_path / 'work' / 'classify')
  with caplog.at_level(logging.WARNING):
    assert prepare.run(config, tmp_path / 'work')
  assert said in caplog.text
  assert caplog.text.count('preparing again') == 1
  fresh = tmp_path / 'fresh'
  prepare.run(config, fresh)
  for name in prepared_lib.RESULTS:
    assert (tmp_path / 'work' / 'data' / name).read_bytes() == (fresh / 'data' / name).read_bytes()
  assert not prepare.run(config, tmp_path / 'work')


def test_what_does_not_count_may_change(tmp_path, with_table):
  config, names = with_table
  (tmp_path / 'mine' / 'notes.txt').write_text('mine')
  (tmp_path / 'mine' / 'round' / '.DS_Store').write_text('a browser')
  for name in names:
    os.utime(tmp_path / 'mine' / name, (0, 0))  # as a copy has it
  begin(tmp_path / 'work')
  assert not prepare.run(config, tmp_path / 'work')
  (tmp_path / 'patients.csv').unlink()
  assert not prepare.run(config, tmp_path / 'work')


@pytest.mark.parametrize('packed', [False, True])
def test_a_changed_table_of_the_data_set_is_noticed(tmp_path, packed):
  rows = [
    (patient, plane, int(patient < 7)) for patient in range(9) for plane in ('Fetal femur', 'Fetal brain')
  ]
  config = planes(tmp_path, *rows)

  def pack():
    if packed:
      shutil.make_archive(str(tmp_path / 'db'), 'zip', tmp_path / 'db')
      config.data.path = str(tmp_path / 'db.zip')

  pack()
  prepare.run(config, tmp_path / 'work')
  assert not prepare.run(config, tmp_path / 'work')
  table = tmp_path / 'db' / 'FETAL_PLANES_DB_data.csv'
  table.write_text(table.read_text().replace('Op. 1', 'Op. 2', 1))  # as long as before
  pack()
  begin(tmp_path / 'work')
  with pytest.raises(UserError, match=r'was prepared from other data \(.*db(\.zip)? has other files\)'):
    prepare.run(config, tmp_path / 'work')


@pytest.mark.parametrize('split', splits.SPLITS)
def test_real_images(real_data, tmp_path, split):
  config = get_config(
    source='fetal_planes_db', path=str(real_data / 'fetal_planes_sample_native.zip'), split=split, channels=3
  )
  prepare.run(config, tmp_path)
  prepared = prepared_lib.load(tmp_path)
  assert prepared.images.shape == (60, 16, 16, 3)
  assert 20 < prepared.images.mean() < 80
  assert prepared.images.std(axis=(1, 2, 3)).min() > 5  # every one of them shows something
  assert prepared.records.official_train.sum() == 30
  assert all(count for count in prepared.info.images['test'].values())
  if split != 'paper':
    assert prepared.info.shared_patients == 0


def test_real_subset_images_fit_their_labels(real_data, tmp_path):
  """Pixels, labels and names stay together through zip, TFDS and threads."""
  import zipfile

  config = get_config(
    source='fetal_planes_db', path=str(real_data / 'fetal_planes_subset_256px.zip'), split='official'
  )
  prepare.run(config, tmp_path)
  prepared = prepared_lib.load(tmp_path)
  counts = list(prepared.info.images['test'].values())
  assert counts == [81, 134, 65, 91, 12, 9]
  with zipfile.ZipFile(real_data / 'fetal_planes_subset_256px.zip') as archive:
    for i in (0, 700, 1350):
      with Image.open(io.BytesIO(archive.read(f'Images/{prepared.records.names[i]}.png'))) as image:
        resized = image.convert('L').resize((16, 16), Image.Resampling.BICUBIC)
      np.testing.assert_array_equal(prepared.images[i, ..., 0], np.asarray(resized))


def test_tensorflow_is_never_imported(tmp_path, folder):
  config = get_config(path=str(folder)).to_json()
  code = (
    'import json, sys, ml_collections\n'
    'from fetal_jax.data import prepare\n'
    'prepare.run(ml_collections.ConfigDict(json.loads(sys.argv[1])), sys.argv[2])\n'
    'print(json.dumps([m for m in ("tensorflow", "torch", "jax") if m in sys.modules]))\n'
  )
  done = subprocess.run(
    [sys.executable, '-W', 'error', '-c', code, config, str(tmp_path / 'work')],
    capture_output=True, text=True, check=True,
  )  # fmt: skip
  assert json.loads(done.stdout.splitlines()[-1]) == []


def planes(tmp_path, *rows):
  """A part of FETAL_PLANES_DB: rows of (patient, plane, train), four images each."""
  folder = tmp_path / 'db'
  folder.mkdir()
  lines = ['Image_name;Patient_num;Plane;Brain_plane;Operator;US_Machine;Train ']
  for patient, plane, train in rows:
    for i in range(4):
      lines.append(f'{patient}_{plane[-5:]}_{i};{patient};{plane};Not A Brain;Op. 1;Voluson E6;{train} ')
      Image.new('L', (20, 10), 9 * i).save(folder / f'{patient}_{plane[-5:]}_{i}.png')
  (folder / 'FETAL_PLANES_DB_data.csv').write_text('\n'.join(lines) + '\n')
  return get_config(source='fetal_planes_db', path=str(folder), split='official')


def test_classes_without_images_are_left_out(tmp_path, caplog):
  rows = [
    (patient, plane, int(patient < 7)) for patient in range(9) for plane in ('Fetal femur', 'Fetal brain')
  ]
  with caplog.at_level(logging.WARNING):
    prepare.run(planes(tmp_path, *rows), tmp_path / 'work')
  assert 'no images of abdomen, thorax, cervix, other: trained and sampled without them' in caplog.text
  data = prepared_lib.load(tmp_path / 'work')
  assert data.records.class_names == ('brain', 'femur')
  assert [data.records.class_names[label] for label in data.records.labels[:8]] == ['femur'] * 4 + [
    'brain'
  ] * 4


def test_a_class_that_nobody_can_learn_is_refused(tmp_path):
  rows = [(patient, 'Fetal brain', int(patient < 7)) for patient in range(9)] + [(9, 'Fetal femur', 0)]
  with pytest.raises(
    UserError, match=r'no training images of femur under data.split=official.* use another data.split'
  ):
    prepare.run(planes(tmp_path, *rows), tmp_path / 'work')
  assert not (tmp_path / 'work' / 'data' / 'split.json').exists()


def test_one_class_alone_is_refused(tmp_path):
  rows = [(patient, 'Fetal brain', int(patient < 7)) for patient in range(9)]
  with pytest.raises(
    UserError, match=r'images of brain alone, none of abdomen, femur, .*: two classes or more are'
  ):
    prepare.run(planes(tmp_path, *rows), tmp_path / 'work')


def test_what_must_be_said_of_a_data_set(tmp_path, folder, caplog):
  for path in folder.rglob('*.png'):
    Image.fromarray(np.full((10, 20), 4000, np.uint16)).save(path)
  (folder / 'square').rename(folder / 'Round')
  names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob('*.png'))
  table = tmp_path / 'patients.csv'
  table.write_text(
    'image,patient\n' + ''.join(f'{name},{i // 2}{".0" * (i % 2)}\n' for i, name in enumerate(names))
  )
  with caplog.at_level(logging.WARNING):
    prepare.run(get_config(path=str(folder), patients_csv=str(table)), tmp_path / 'work')
  assert "15 patients have several spellings ('0' and '0.0'; '1' and '1.0'; " in caplog.text
  assert "names of classes differ only in case, blanks or Unicode form ('Round' and 'round')" in caplog.text
  assert (
    '30 of 30 images of 16 bits hold 12 bits or fewer (their brightest value is 4,000 of 65,535)'
    in caplog.text
  )
