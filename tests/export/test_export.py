"""The export: every layout holds the images bit for bit, and is there as a whole or not at all."""

import csv
import json
import shutil
import subprocess
import sys
import tracemalloc
import zipfile

import ml_collections
import numpy as np
import pytest
import yaml
from helpers import killed
from PIL import Image

from fetal_jax.data import prepare
from fetal_jax.data import prepared as prepared_lib
from fetal_jax.data.rounds import CheckpointMark, SamplerSettings
from fetal_jax.data.rounds.plan import Plan
from fetal_jax.data.rounds.writer import RoundWriter
from fetal_jax.data.sources.fetal_planes_db import CLASS_NAMES, PLANES, read_metadata
from fetal_jax.data.sources.image_folder import find_images
from fetal_jax.export import __main__ as command_lib
from fetal_jax.export import export, select
from fetal_jax.runtime import files
from fetal_jax.runtime.errors import UserError

SIZE, PER_CLASS = 16, 5
FORMATS = ('png', 'imagefolder', 'npz')


def draw(workdir, number, class_names=CLASS_NAMES, *, per_class=PER_CLASS, size=SIZE, channels=1, put=None):
  """Writes a round of random images, of which only the first `put` are there if that is given."""
  plan = Plan(number, tuple(class_names), per_class, shard_size=2 if per_class < 100 else 500)
  shape = (plan.num_images, size, size, channels)
  images = np.random.default_rng(number).integers(0, 256, shape, dtype=np.uint8)
  writer = RoundWriter(
    workdir / 'synthetic' / f'round_{number}',
    plan,
    seed=7,
    checkpoint=CheckpointMark(step=1000, ema_rate=0.999, split_hash='a split'),
    config_hash='0123',
    sampler=SamplerSettings(method='ddim', steps=25, interval=(0, 500)),
    image_size=size,
    channels=channels,
  )
  with writer:
    writer.put(0, images[:put])
    if put is None:
      writer.finish()
  return images


@pytest.fixture(scope='module')
def drawn(tmp_path_factory):
  """A workdir with rounds 1 and 2 and an unfinished round 3, and the images of the first two."""
  workdir = tmp_path_factory.mktemp('drawn')
  images = np.stack([draw(workdir, 1), draw(workdir, 2)])
  draw(workdir, 3, put=3)
  return workdir, images


def stored(workdir, number):
  """Name -> PNG bytes, as TFDS reads the round."""
  import tensorflow_datasets as tfds

  folder = workdir / 'synthetic' / f'round_{number}'
  decoders = {'image': tfds.decode.SkipDecoding()}
  source = tfds.builder_from_directory(folder).as_data_source('train', decoders=decoders)
  return {record['name'].decode(): record['image'] for record in source}


def contents(folder):
  return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob('*') if p.is_file()}


def read_table(path, **options):
  with open(path, newline='', encoding='utf-8') as f:
    return list(csv.reader(f, **options))


def out_path(folder, format):
  return folder / ('out.npz' if format == 'npz' else 'out')


# FETAL_PLANES_DB's layout.


def test_png_files_are_the_stored_bytes(drawn, tmp_path):
  workdir, _ = drawn
  assert export(workdir, tmp_path / 'out', format='png') == 60
  written = contents(tmp_path / 'out')
  written.pop('FETAL_PLANES_DB_data.csv')
  expected = {**stored(workdir, 1), **stored(workdir, 2)}
  assert written == {f'Images/{name}.png': png for name, png in expected.items()}
  assert [path.name for path in tmp_path.iterdir()] == ['out']


def test_the_csv_is_spelled_as_the_published_one(drawn, tmp_path):
  export(drawn[0], tmp_path / 'out', format='png')
  lines = (tmp_path / 'out' / 'FETAL_PLANES_DB_data.csv').read_bytes().decode().split('\n')
  assert lines[0] == 'Image_name;Patient_num;Plane;Brain_plane;Operator;US_Machine;Train '
  assert lines[1] == 'round1_abdomen_00000;10000000;Fetal abdomen;Not A Brain;Synthetic;Synthetic;1 '
  assert lines[6] == 'round1_brain_00000;10000005;Fetal brain;Other;Synthetic;Synthetic;1 '
  assert lines[-2] == 'round2_other_00004;20000029;Other;Not A Brain;Synthetic;Synthetic;1 '
  assert lines[-1] == ''
  patients = [line.split(';')[1] for line in lines[1:-1]]
  assert len(set(patients)) == 60


def test_the_header_is_that_of_the_real_table(drawn, tmp_path, real_data):
  export(drawn[0], tmp_path / 'out', format='png', limit_per_class=1)
  with open(real_data / 'FETAL_PLANES_DB_data.csv', 'rb') as real:
    with open(tmp_path / 'out' / 'FETAL_PLANES_DB_data.csv', 'rb') as ours:
      assert ours.readline() == real.readline()


def test_this_projects_own_loader_reads_it(drawn, tmp_path):
  workdir, images = drawn
  export(workdir, tmp_path / 'out', format='png', rounds=[2])
  data = {
    'source': 'fetal_planes_db',
    'path': str(tmp_path / 'out'),
    'allow_missing': False,
    'image_size': SIZE,
    'channels': 1,
    'resize': 'stretch',
    'split': 'patient',
    'test_fraction': 0.2,
    'num_workers': 1,
  }
  prepare.run(
    ml_collections.ConfigDict({'seed': 0, 'data': data, 'classify': {'protocol': 'paper'}}), tmp_path / 'work'
  )
  prepared = prepared_lib.load(tmp_path / 'work')
  np.testing.assert_array_equal(prepared.images, images[1])
  np.testing.assert_array_equal(prepared.records.labels, np.repeat(np.arange(6), PER_CLASS))
  assert prepared.records.class_names == CLASS_NAMES
  assert prepared.records.names[6] == 'round2_brain_00001'
  assert prepared.records.official_train.all()


def test_a_subset_of_the_known_classes_keeps_their_planes(tmp_path):
  draw(tmp_path, 1, ('femur', 'brain'))
  export(tmp_path, tmp_path / 'out', format='png')
  records = read_metadata(tmp_path / 'out' / 'FETAL_PLANES_DB_data.csv')
  assert [CLASS_NAMES[label] for label in records.labels] == ['femur'] * 5 + ['brain'] * 5


def test_other_class_names_stay_as_they_are(tmp_path):
  draw(tmp_path, 1, ('brain', 'left; kidney'))
  export(tmp_path, tmp_path / 'out', format='png')
  _, *rows = read_table(tmp_path / 'out' / 'FETAL_PLANES_DB_data.csv', delimiter=';')
  assert [row[2] for row in rows] == ['brain'] * 5 + ['left; kidney'] * 5
  assert {row[3] for row in rows} == {'Other'}
  assert 'Fetal brain' in PLANES.values()  # which would be a claim about somebody else's class


# Hugging Face's layout.


def test_imagefolder_files_are_the_stored_bytes(drawn, tmp_path):
  workdir, _ = drawn
  assert export(workdir, tmp_path / 'out', format='imagefolder', rounds=[1]) == 30
  written = contents(tmp_path / 'out')
  del written['README.md'], written['train/metadata.csv']
  expected = {f'train/{name.split("_")[1]}/{name}.png': png for name, png in stored(workdir, 1).items()}
  assert written == expected

  header, *rows = read_table(tmp_path / 'out' / 'train' / 'metadata.csv')
  assert header == ['file_name', 'label', 'round', 'index']
  assert rows[5] == ['brain/round1_brain_00000.png', 'brain', '1', '5']
  assert {f'train/{row[0]}' for row in rows} == set(expected)
  assert all(row[0].startswith(f'{row[1]}/') for row in rows)


def test_this_projects_image_folder_source_finds_its_classes(drawn, tmp_path):
  export(drawn[0], tmp_path / 'out', format='imagefolder')
  found = find_images(tmp_path / 'out' / 'train')
  assert {name: len(paths) for name, paths in found.items()} == dict.fromkeys(sorted(CLASS_NAMES), 10)


def test_the_card_tells_what_load_dataset_needs_and_what_drew_the_images(tmp_path):
  class_names = ('test', 'a: "b" # é', '7', 'x|y')
  draw(tmp_path, 1, class_names)
  export(tmp_path, tmp_path / 'out', format='imagefolder', classes=['test', 'x|y'])
  _, front, text = (tmp_path / 'out' / 'README.md').read_text(encoding='utf-8').split('---\n', 2)
  card = yaml.safe_load(front)
  assert card['size_categories'] == ['n<1K']
  (config,) = card['configs']
  # Without this, `train/test/` would be taken for a test split.
  assert config['data_files'] == [{'split': 'train', 'path': 'train/**'}]
  features = {feature['name']: feature['dtype'] for feature in config['features']}
  assert features == {
    'image': 'image',
    'label': {'class_label': {'names': {str(label): name for label, name in enumerate(class_names)}}},
    'round': 'int64',
    'index': 'int64',
  }
  assert '| test | 5 |\n| x\\|y | 5 |\n' in text
  assert '| sampler: method | ddim |' in text
  assert '| sampler: interval | [0, 500] |' in text
  assert '| checkpoint: step | 1000 |' in text
  assert '10 grey images of 16 x 16 pixels' in text


NASTY = ('NA', '=1+1', 'a', 'A', '01', 'x' * 255)


def test_labels_come_back_whatever_classes_are_called(tmp_path):
  draw(tmp_path, 1, NASTY)
  export(tmp_path, tmp_path / 'out', format='imagefolder')
  _, *rows = read_table(tmp_path / 'out' / 'train' / 'metadata.csv')
  assert [int(row[1]) for row in rows] == [label for label in range(6) for _ in range(5)]
  assert rows[0][0] == 'NA/round1_NA_00000.png'
  assert [row[0].split('/')[0] for row in rows[5::5]] == ['class_1', 'class_2', 'class_3', '01', 'class_5']
  assert rows[-1][0] == 'class_5/round1_class_5_00029.png'
  assert all((tmp_path / 'out' / 'train' / row[0]).is_file() for row in rows)
  card = yaml.safe_load((tmp_path / 'out' / 'README.md').read_text(encoding='utf-8').split('---\n', 2)[1])
  names = card['configs'][0]['features'][1]['dtype']['class_label']['names']
  assert names == {str(label): name for label, name in enumerate(NASTY)}

  export(tmp_path, tmp_path / 'planes', format='png')
  _, *rows = read_table(tmp_path / 'planes' / 'FETAL_PLANES_DB_data.csv', delimiter=';')
  planes = ['class NA', 'class =1+1', 'a', 'A', 'class 01', 'x' * 255]
  assert [row[2] for row in rows] == [plane for plane in planes for _ in range(5)]
  assert all((tmp_path / 'planes' / 'Images' / f'{row[0]}.png').is_file() for row in rows)


def test_other_readers_see_the_same_labels(tmp_path):
  """Where they are installed: they are no part of what this project needs."""
  pandas, datasets = pytest.importorskip('pandas'), pytest.importorskip('datasets')
  draw(tmp_path, 1, NASTY)
  export(tmp_path, tmp_path / 'out', format='imagefolder')
  expected = [label for label in range(6) for _ in range(5)]
  assert pandas.read_csv(tmp_path / 'out' / 'train' / 'metadata.csv')['label'].tolist() == expected
  loaded = datasets.load_dataset(str(tmp_path / 'out'), cache_dir=str(tmp_path / 'cache'))['train']
  assert loaded['label'] == expected
  assert loaded.features['label'].names == list(NASTY)


# One .npz.


def test_npz_holds_images_and_what_is_known_of_them(drawn, tmp_path):
  workdir, images = drawn
  assert export(workdir, tmp_path / 'out.npz', format='npz') == 60
  with np.load(tmp_path / 'out.npz', allow_pickle=False) as npz:
    assert npz.files[:2] == ['arr_0', 'arr_1']
    assert npz['arr_0'].dtype == np.uint8
    np.testing.assert_array_equal(npz['arr_0'], images.reshape(60, SIZE, SIZE, 1))
    assert npz['arr_1'].dtype == np.int32
    np.testing.assert_array_equal(npz['arr_1'], np.tile(np.repeat(np.arange(6), PER_CLASS), 2))
    assert npz['names'].tolist() == [*stored(workdir, 1), *stored(workdir, 2)]
    assert npz['rounds'].tolist() == [1] * 30 + [2] * 30
    assert npz['indices'].tolist() == [*range(30), *range(30)]
    assert npz['class_names'].tolist() == list(CLASS_NAMES)
    manifests = json.loads(str(npz['manifest']))
  folders = [workdir / 'synthetic' / f'round_{number}' for number in (1, 2)]
  assert manifests == [files.read_json(folder / 'manifest.json') for folder in folders]


def test_rgb_npz_reads_as_openais_evaluation_reads_it(drawn, tmp_path):
  _, images = drawn
  export(drawn[0], tmp_path / 'out.npz', format='npz', rounds=[1], rgb=True)
  with zipfile.ZipFile(tmp_path / 'out.npz') as archive, archive.open('arr_0.npy') as f:
    assert np.lib.format.read_magic(f) == (1, 0)
    shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(f)
    assert (shape, fortran_order, dtype) == ((30, SIZE, SIZE, 3), False, np.uint8)
    pixels = np.frombuffer(f.read(), np.uint8).reshape(shape)
  np.testing.assert_array_equal(pixels, np.repeat(images[0], 3, axis=-1))


def test_the_same_export_is_the_same_file(drawn, tmp_path):
  for name in ('a.npz', 'b.npz'):
    export(drawn[0], tmp_path / name, format='npz', limit_per_class=2)
  assert (tmp_path / 'a.npz').read_bytes() == (tmp_path / 'b.npz').read_bytes()


@pytest.mark.slow
def test_npz_needs_no_more_memory_for_more_images(tmp_path):
  images = draw(tmp_path, 1, ('a', 'b'), per_class=1000, size=64)
  export(
    tmp_path, tmp_path / 'small.npz', format='npz', limit_per_class=1
  )  # imports are not what is measured
  tracemalloc.start()
  export(tmp_path, tmp_path / 'out.npz', format='npz', rgb=True)
  peak = tracemalloc.get_traced_memory()[1]
  tracemalloc.stop()
  assert peak < 3 * images.nbytes / 2  # half of what is written; the images of a batch are an eighth of it
  with np.load(tmp_path / 'out.npz') as npz:
    np.testing.assert_array_equal(npz['arr_0'], np.repeat(images, 3, axis=-1))


# What is chosen, in any layout.


@pytest.mark.parametrize('format', ['png', 'imagefolder'])
def test_colour_is_kept(tmp_path, format):
  images = draw(tmp_path, 1, ('a', 'b'), channels=3)
  export(tmp_path, tmp_path / 'out', format=format)
  paths = sorted((tmp_path / 'out').rglob('*.png'))
  np.testing.assert_array_equal(np.stack([np.asarray(Image.open(path)) for path in paths]), images)
  export(tmp_path, tmp_path / 'out.npz', format='npz')
  with np.load(tmp_path / 'out.npz') as npz:
    np.testing.assert_array_equal(npz['arr_0'], images)


def test_classes_and_limit_take_the_first_and_keep_the_labels(drawn, tmp_path):
  workdir, images = drawn
  out = tmp_path / 'out.npz'
  assert export(workdir, out, format='npz', classes=['cervix', 'brain'], limit_per_class=7) == 14
  with np.load(out) as npz:
    assert npz['arr_1'].tolist() == [1] * 5 + [4] * 5 + [1] * 2 + [4] * 2
    assert npz['indices'].tolist() == [*range(5, 10), *range(20, 25), 5, 6, 20, 21]
    np.testing.assert_array_equal(npz['arr_0'], images[npz['rounds'] - 1, npz['indices']])
    assert npz['class_names'].tolist() == list(CLASS_NAMES)


def test_damage_elsewhere_does_not_matter(drawn, tmp_path):
  workdir = shutil.copytree(drawn[0], tmp_path / 'work')
  (workdir / 'synthetic' / 'round_1' / 'synthetic-train.array_record-00000-of-00018').unlink()
  assert export(workdir, tmp_path / 'out', format='png', classes=['brain']) == 10
  assert export(workdir, tmp_path / 'two', format='png', rounds=[2]) == 30


def test_an_empty_folder_and_a_link_to_one_are_filled(drawn, tmp_path):
  (tmp_path / 'there').mkdir()
  (tmp_path / 'link').symlink_to('there')
  export(drawn[0], tmp_path / 'link', format='png', limit_per_class=1)
  assert (tmp_path / 'link').is_symlink()
  assert len(list((tmp_path / 'there' / 'Images').iterdir())) == 6


# Errors and interruptions.


def run_main(monkeypatch, capsys, *arguments):
  """Exit code and the one line of `main`."""
  monkeypatch.setattr(command_lib, '_start_logging', lambda: None)
  code = command_lib.main([str(argument) for argument in arguments])
  lines = capsys.readouterr().err.splitlines()
  assert len(lines) == 1, lines
  return code, lines[0]


@pytest.mark.parametrize(
  ('flags', 'said'),
  [
    (['--rounds=1,4'], 'no round 4 (there: 1, 2, 3)'),
    (['--rounds=3'], 'round_3: not finished; run --stage=sample'),
    (['--rounds=one'], "--rounds: 'one' is not a number"),
    (['--classes=brain,brian'], "no class 'brian'; choose from abdomen, brain, femur"),
    (['--limit_per_class=0'], 'limit_per_class is 0'),
    (['--limit_per_class=many'], "--limit_per_class: 'many' is not a number"),
    (['--rgb'], '--rgb goes with --format=npz'),
    (['--format=npz'], 'out: npz is one file; end its name in .npz'),
    (['--workdir=nowhere'], 'nowhere: no such folder'),
  ],
)
def test_bad_flags_are_one_line(drawn, tmp_path, monkeypatch, capsys, flags, said):
  base = (f'--workdir={drawn[0]}', f'--out={tmp_path / "out"}', '--format=png')
  code, line = run_main(monkeypatch, capsys, *base, *flags)
  assert code == 2
  assert said in line
  assert not list(tmp_path.iterdir())


def test_a_workdir_without_a_finished_round_is_named(tmp_path):
  draw(tmp_path / 'work', 1, put=3)
  with pytest.raises(UserError, match='work: no finished synthetic round; run --stage=sample first'):
    export(tmp_path / 'work', tmp_path / 'out', format='png')


@pytest.mark.parametrize('format', FORMATS)
@pytest.mark.parametrize('damage', ['bit', 'cut', 'gone'])
def test_a_damaged_shard_is_named_and_nothing_is_left(drawn, tmp_path, monkeypatch, capsys, format, damage):
  workdir = shutil.copytree(drawn[0], tmp_path / 'work')
  shard = workdir / 'synthetic' / 'round_2' / 'synthetic-train.array_record-00007-of-00018'
  content = bytearray(shard.read_bytes())
  content[len(content) // 2] ^= 1
  shard.unlink()
  if damage != 'gone':
    shard.write_bytes(content if damage == 'bit' else content[:-1])
  code, line = run_main(
    monkeypatch, capsys, f'--workdir={workdir}', f'--format={format}', f'--out={out_path(tmp_path, format)}'
  )
  assert code == 2
  assert shard.name in line
  assert '--stage=sample' in line
  assert [path.name for path in tmp_path.iterdir()] == ['work']


@pytest.mark.parametrize('content', [b'{"round": ', b'\xff', b'{}', b'[]', b'3'])
def test_a_damaged_manifest_is_named(drawn, tmp_path, content):
  workdir = shutil.copytree(drawn[0], tmp_path / 'work')
  (workdir / 'synthetic' / 'round_1' / 'manifest.json').write_bytes(content)
  with pytest.raises(UserError, match=r'round_1.manifest\.json: damaged'):
    export(workdir, tmp_path / 'out', format='png')


def test_a_round_without_its_metadata_is_named(drawn, tmp_path):
  workdir = shutil.copytree(drawn[0], tmp_path / 'work')
  (workdir / 'synthetic' / 'round_1' / 'features.json').unlink()
  with pytest.raises(UserError, match=r'round_1: no whole TFDS data set'):
    export(workdir, tmp_path / 'out', format='png')


@pytest.mark.parametrize('changes', [{'size': 8}, {'channels': 3}, {'class_names': CLASS_NAMES[::-1]}])
def test_rounds_that_do_not_fit_together_are_refused(tmp_path, changes):
  draw(tmp_path, 1)
  draw(tmp_path, 2, **changes)
  with pytest.raises(UserError, match=r'round_2: not drawn by this run \(its (image size|classes): '):
    export(tmp_path, tmp_path / 'out', format='png')


def test_a_class_name_does_not_lead_out_of_the_folder(tmp_path):
  draw(tmp_path, 1, ('a', '../../b'))
  with pytest.raises(UserError, match='cannot name a file'):
    export(tmp_path, tmp_path / 'out', format='imagefolder')
  assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('format', FORMATS)
def test_what_is_there_is_not_touched(drawn, tmp_path, format):
  out = out_path(tmp_path, format)
  if format == 'npz':
    out.write_bytes(b'mine')
  else:
    out.mkdir()
    (out / 'mine').write_bytes(b'mine')
  before = contents(tmp_path)
  with pytest.raises(UserError, match='choose another --out'):
    export(drawn[0], out, format=format)
  assert contents(tmp_path) == before


@pytest.mark.parametrize('format', FORMATS)
def test_ctrl_c_leaves_nothing(drawn, tmp_path, monkeypatch, capsys, format):
  def interrupted(self, done, note=''):
    if done == 17:
      raise KeyboardInterrupt

  arguments = (f'--workdir={drawn[0]}', f'--format={format}', f'--out={out_path(tmp_path, format)}')
  with monkeypatch.context() as patch:
    patch.setattr(select.Progress, 'update', interrupted)
    code, line = run_main(patch, capsys, *arguments)
  assert code == 130
  assert 'nothing was exported' in line
  assert not list(tmp_path.iterdir())


def test_what_a_killed_export_left_does_no_harm(drawn, tmp_path):
  left = killed.left_behind(tmp_path / 'out', folder=True)
  (left / 'half.png').write_bytes(b'')
  export(drawn[0], tmp_path / 'out', format='png', limit_per_class=1)
  assert [path.name for path in tmp_path.iterdir()] == ['out']
  assert not (tmp_path / 'out' / 'half.png').exists()


@pytest.mark.parametrize('format', FORMATS)
def test_what_has_a_similar_name_is_not_touched(drawn, tmp_path, format):
  out, victim = out_path(tmp_path, format), tmp_path / 'victim'
  victim.write_bytes(b'precious')
  for i, name in enumerate((f'.{out.name}.tmp', f'.{out.name}.0123456789abcdef-01234567.tmp')):
    (tmp_path / name).mkdir()
    (tmp_path / name / 'thesis').write_bytes(b'mine')
    (tmp_path / f'{name}{i}').symlink_to(victim)
  before = contents(tmp_path)
  export(drawn[0], out, format=format, limit_per_class=1)
  after = contents(tmp_path)
  assert {name: after[name] for name in before} == before


@pytest.mark.parametrize('format', FORMATS)
def test_of_two_exports_to_one_place_the_second_is_told_of_the_first(drawn, tmp_path, format):
  out = out_path(tmp_path, format)
  begin = files.replacing if format == 'npz' else files.replacing_folder
  with begin(out) as first:
    with pytest.raises(UserError, match=r'out.*: another process is writing it; wait') as error:
      export(drawn[0], out, format=format)
    assert 'room' not in str(error.value)
    assert first.exists()
    if format == 'npz':
      first.write_bytes(b'the first')
  assert out.exists()
  assert [path.name for path in tmp_path.iterdir()] == [out.name]


@pytest.mark.parametrize('format', FORMATS)
def test_what_came_there_meanwhile_is_not_replaced(drawn, tmp_path, monkeypatch, format):
  out = out_path(tmp_path, format)

  def update(self, done, note=''):
    if format == 'npz':
      out.write_bytes(b'mine')
    else:
      out.mkdir(exist_ok=True)
      (out / 'mine').write_bytes(b'mine')

  monkeypatch.setattr(select.Progress, 'update', update)
  with pytest.raises(UserError, match='delete it or choose another --out'):
    export(drawn[0], out, format=format, limit_per_class=1)
  assert [path.read_bytes() for path in tmp_path.rglob('*') if path.is_file()] == [b'mine']


def test_a_record_whose_name_leads_elsewhere_is_refused(drawn, tmp_path, monkeypatch):
  source = select.Round.source

  class Planted:
    def __init__(self, one):
      self.rows = source(one)

    def __getitems__(self, indices):
      return [{**row, 'name': b'../../../planted'} for row in self.rows.__getitems__(indices)]

  monkeypatch.setattr(select.Round, 'source', lambda one: Planted(one))
  with pytest.raises(UserError, match=r"round_1: has a record '../../../planted' that is not of this round"):
    export(drawn[0], tmp_path / 'a' / 'b' / 'out', format='png')
  assert not [path for path in tmp_path.rglob('*') if path.is_file()]


def test_home_is_the_same_for_the_workdir_and_the_export(drawn, tmp_path, monkeypatch):
  monkeypatch.setenv('HOME', str(drawn[0].parent))
  export(f'~/{drawn[0].name}', tmp_path / 'out', format='png', limit_per_class=1)
  monkeypatch.setenv('HOME', str(tmp_path))
  monkeypatch.chdir(tmp_path)
  export(drawn[0], '~/other', format='png', limit_per_class=1)
  assert sorted(path.name for path in tmp_path.iterdir()) == ['other', 'out']


@pytest.mark.parametrize('format', FORMATS)
def test_an_out_that_cannot_be_written_is_named(drawn, tmp_path, format):
  (tmp_path / 'file').write_bytes(b'')
  with pytest.raises(UserError, match=r'file.*: .* choose another --out'):
    export(drawn[0], out_path(tmp_path / 'file', format), format=format)


# The command.


def test_the_command(drawn, tmp_path):
  out = tmp_path / 'new' / 'planes'
  flags = [f'--workdir={drawn[0]}', f'--out={out}', '--format=png', '--rounds=1,2', '--classes=brain,other']
  command = [sys.executable, '-m', 'fetal_jax.export', *flags, '--limit_per_class=6']
  process = subprocess.run(command, capture_output=True, text=True, check=False)
  assert process.returncode == 0, process.stderr
  assert 'export: 12 images.' in process.stderr
  assert len(read_metadata(out / 'FETAL_PLANES_DB_data.csv')) == 12
  again = subprocess.run(command, capture_output=True, text=True, check=False)
  assert again.returncode == 2
  assert again.stderr == f'fetal_jax: {out}: is not empty; delete it or choose another --out\n'


def test_help_needs_no_heavy_library():
  code = """
import sys
from fetal_jax.export import __main__ as command
try:
  command.main(['--help'])
except SystemExit as stop:
  assert stop.code == 0
assert not {'jax', 'tensorflow_datasets', 'tensorflow', 'PIL', 'numpy'} & set(sys.modules), sorted(sys.modules)
"""
  process = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=False)
  assert process.returncode == 0, process.stderr
  assert '--limit_per_class' in process.stdout
