"""The writer of a round: what it writes, and that no interruption shows in it."""

import contextlib
import itertools
import os
import pathlib
import re
import subprocess
import sys
import threading

import msgspec
import numpy as np
import pytest
from helpers import killed

from fetal_jax.data import rounds
from fetal_jax.data.rounds import CheckpointMark, SamplerSettings
from fetal_jax.data.rounds import writer as writer_lib
from fetal_jax.data.rounds.plan import Plan
from fetal_jax.data.rounds.staging import Staging
from fetal_jax.data.rounds.writer import RoundWriter
from fetal_jax.runtime import files, records
from fetal_jax.runtime.errors import DamagedFile, UserError
from fetal_jax.runtime.fingerprint import Fingerprint

PLAN = Plan(1, ('brain', 'femur', 'cervix'), 7, shard_size=4)  # shards of 4 3 4 3 4 3
SIZE = 16
IMAGES = np.random.default_rng(0).integers(0, 256, (PLAN.num_images, SIZE, SIZE, 1), dtype=np.uint8)
SETTINGS = {
  'seed': 5,
  'checkpoint': CheckpointMark(step=1000, ema_rate=0.999, split_hash='abc'),
  'config_hash': '0123',
  'sampler': SamplerSettings(method='ddim', steps=25, interval=(0, 500)),
  'image_size': SIZE,
  'channels': 1,
}


def open_writer(directory, plan=PLAN, **changes):
  return RoundWriter(directory, plan, **{**SETTINGS, **changes})


def draw_missing(writer, batch_size, images=IMAGES):
  """Puts what is missing, as the device loop does; a batch has consecutive indices."""
  missing = writer.missing()
  for run in np.split(missing, np.flatnonzero(np.diff(missing) != 1) + 1):
    for start in range(0, len(run), batch_size):
      indices = run[start : start + batch_size]
      writer.put(indices[0], images[indices])


def write_round(directory, batch_size=5):
  with open_writer(directory) as writer:
    draw_missing(writer, batch_size)
    writer.finish()


def is_complete(directory):
  """Whether the manifest says so, and every file that it names is there in full."""
  try:
    manifest = rounds.read(directory).manifest
    named = {shard.file: shard for shard in manifest.shards} | manifest.files
    return manifest.complete and all(
      (directory / name).stat().st_size == fingerprint.bytes for name, fingerprint in named.items()
    )
  except (FileNotFoundError, DamagedFile):
    return False


def contents(directory):
  return {str(p.relative_to(directory)): p.read_bytes() for p in directory.rglob('*') if p.is_file()}


def kept_on_disk(directory):
  """The images that a resumed run must not draw again, by what lies in the directory."""
  kept = set()
  if (directory / 'manifest.json').exists():
    shards = files.read_json(directory / 'manifest.json')['shards']
    shards += [files.read_json(path) for path in (directory / '.staging').glob('shard_*.json')]
    for shard in shards:
      kept |= set(range(shard['first'], shard['first'] + shard['count']))
    for path in (directory / '.staging').glob('images_*.npy'):
      kept |= set(range(*map(int, re.findall(r'\d+', path.name))))
  return kept


@pytest.fixture(scope='module')
def reference(tmp_path_factory):
  """The files of a round that nothing interrupted."""
  directory = tmp_path_factory.mktemp('reference') / 'round_1'
  write_round(directory)
  return directory


class Killed(BaseException):
  pass


def kill_at(monkeypatch, number, *, moved):
  """Ends the work at the `number`th file moved into place, just before or just after the move."""
  replace, calls = os.replace, []

  def dying(source, target):
    calls.append(target)
    if len(calls) < number or (moved and len(calls) == number):
      replace(source, target)
    if len(calls) >= number:
      raise Killed

  monkeypatch.setattr(os, 'replace', dying)


# What is written.


def test_tfds_reads_the_round_without_tensorflow(reference):
  code = """
import sys
import numpy as np
import tensorflow_datasets as tfds
builder = tfds.builder_from_directory(sys.argv[1])
source = builder.as_data_source('train')
assert 'tensorflow' not in sys.modules
assert builder.info.features['label'].names == ['brain', 'femur', 'cervix']
examples = [source[k] for k in range(len(source))]
np.savez(sys.argv[2], **{key: np.stack([e[key] for e in examples]) for key in examples[0]})
"""
  output = reference.parent / 'read.npz'
  subprocess.run([sys.executable, '-c', code, reference, output], check=True)
  with np.load(output) as read:
    np.testing.assert_array_equal(read['image'], IMAGES)
    np.testing.assert_array_equal(read['label'], PLAN.labels())
    np.testing.assert_array_equal(read['index'], np.arange(PLAN.num_images))
    assert read['name'][8] == b'round1_femur_00001'


def test_the_manifest_tells_where_the_images_come_from(reference):
  manifest = files.read_json(reference / 'manifest.json')
  shards, others = manifest.pop('shards'), manifest.pop('files')

  assert manifest == {
    'round': 1,
    'seed': 5,
    'class_names': ['brain', 'femur', 'cervix'],
    'counts': {'brain': 7, 'femur': 7, 'cervix': 7},
    'shard_size': 4,
    'image_size': SIZE,
    'channels': 1,
    'sampler': {
      'method': 'ddim',
      'steps': 25,
      'guidance_scale': 0.0,
      'interval': [0, 500],
      'guidance_at': 'x_t',
      'eta': 0.0,
      'clip': 'static',
    },
    'checkpoint': {'step': 1000, 'ema_rate': 0.999, 'split_hash': 'abc'},
    'config_hash': '0123',
    'complete': True,
  }
  assert [(s['class'], s['label'], s['first'], s['count']) for s in shards] == [
    ('brain', 0, 0, 4),
    ('brain', 0, 4, 3),
    ('femur', 1, 7, 4),
    ('femur', 1, 11, 3),
    ('cervix', 2, 14, 4),
    ('cervix', 2, 18, 3),
  ]
  for shard in shards:
    assert shard['sha256'] == files.sha256(reference / shard['file'])
    assert (shard['seed'], shard['checkpoint_step'], shard['config_hash']) == (5, 1000, '0123')
  assert set(others) == {'dataset_info.json', 'features.json', 'label.labels.txt', 'preview.png'}
  assert others == {name: records.to_json(Fingerprint.of(reference / name)) for name in others}


def test_tfds_is_loaded_by_the_callers_thread(tmp_path, monkeypatch):
  """While it is imported, an import in any other thread may fail, as of JAX's parts in the thread that draws."""
  made_by, encoder = [], writer_lib.Encoder
  monkeypatch.setattr(
    writer_lib, 'Encoder', lambda *args: made_by.append(threading.current_thread()) or encoder(*args)
  )
  write_round(tmp_path / 'run')
  assert made_by == [threading.main_thread()]


def test_nothing_else_is_left(reference):
  assert set(contents(reference)) == {
    *(f'synthetic-train.array_record-{k:05d}-of-00006' for k in range(6)),
    *('dataset_info.json', 'features.json', 'label.labels.txt', 'manifest.json', 'preview.png'),
  }
  assert not (reference / '.staging').exists()


def test_the_preview_shows_classes_in_rows(reference):
  from PIL import Image

  from fetal_jax.data.grid import grid

  expected = grid(IMAGES.reshape(3, 7, SIZE, SIZE, 1), PLAN.class_names)
  with Image.open(reference / 'preview.png') as preview:
    assert preview.tobytes() == expected.tobytes()


def test_colour(tmp_path):
  import tensorflow_datasets as tfds

  plan = Plan(2, ('a',), 3)
  images = np.random.default_rng(1).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
  with open_writer(tmp_path / 'round_2', plan, image_size=8, channels=3) as writer:
    writer.put(0, images)
    writer.finish()

  source = tfds.builder_from_directory(tmp_path / 'round_2').as_data_source('train')
  np.testing.assert_array_equal(np.stack([example['image'] for example in source]), images)


def test_jax_arrays_are_taken(tmp_path):
  import jax.numpy as jnp

  with open_writer(tmp_path) as writer:
    writer.put(0, jnp.asarray(IMAGES[:5]))
    writer.close()
    assert writer.missing().tolist() == list(range(5, PLAN.num_images))


def test_three_thousand_images_in_silence(tmp_path, capfd):
  plan = Plan(1, ('a', 'b', 'c'), 1000, shard_size=400)
  images = np.random.default_rng(2).integers(0, 256, (3000, 32, 32, 1), dtype=np.uint8)
  with open_writer(tmp_path, plan, image_size=32) as writer:
    draw_missing(writer, 128, images)
    writer.finish()

  assert is_complete(tmp_path)
  assert capfd.readouterr() == ('', '')


# Interruptions.


@pytest.mark.parametrize('moved', [False, True], ids=['before', 'after'])
@pytest.mark.parametrize('number', range(1, 25))
def test_a_kill_at_any_file_leaves_no_trace(tmp_path, monkeypatch, reference, number, moved):
  with monkeypatch.context() as patch:
    kill_at(patch, number, moved=moved)
    with pytest.raises(Killed):
      write_round(tmp_path, batch_size=5)
  assert is_complete(tmp_path) == (number == 24 and moved)
  kept = kept_on_disk(tmp_path)

  with open_writer(tmp_path) as writer:
    assert set(writer.missing().tolist()) == set(range(PLAN.num_images)) - kept
    draw_missing(writer, 2)
    writer.finish()
  assert contents(tmp_path) == contents(reference)


@pytest.mark.parametrize('batch_size', [1, 3, 21])
def test_the_batch_size_leaves_no_trace(tmp_path, reference, batch_size):
  write_round(tmp_path, batch_size)
  assert contents(tmp_path) == contents(reference)


def test_images_may_come_in_any_order(tmp_path, reference):
  with open_writer(tmp_path) as writer:
    for start in (15, 0, 18, 6, 3, 12, 9):
      writer.put(start, IMAGES[start : start + 3])
    writer.finish()
  assert contents(tmp_path) == contents(reference)


def test_many_kills_leave_no_trace(tmp_path, monkeypatch, reference):
  sessions = 0
  while not is_complete(tmp_path):
    sessions += 1
    with monkeypatch.context() as patch:
      kill_at(patch, 2 + sessions // 4, moved=sessions % 2 == 0)
      with contextlib.suppress(Killed):
        write_round(tmp_path, batch_size=1 + sessions % 4)
  assert sessions > 5
  assert contents(tmp_path) == contents(reference)


def test_a_killed_process_leaves_no_trace(tmp_path, reference):
  # A process that dies for good runs no `finally`: temporary files stay behind.
  code = """
import os, sys
sys.path[:0] = [sys.argv[1], sys.argv[2]]
import test_writer
replace = os.replace
def dying(source, target):
  if str(target).endswith(sys.argv[4]):
    os._exit(9)
  replace(source, target)
os.replace = dying
import pathlib
test_writer.write_round(pathlib.Path(sys.argv[3]))
"""
  here = pathlib.Path(__file__).resolve()
  for fatal in ('images_15_20.npy', '00004-of-00006', 'preview.png'):
    command = [sys.executable, '-c', code, here.parents[2], here.parent, tmp_path, fatal]
    assert subprocess.run(command).returncode == 9
    assert list(tmp_path.rglob('*.tmp'))
  write_round(tmp_path)
  assert contents(tmp_path) == contents(reference)


def test_an_error_in_the_loop_keeps_what_was_put(tmp_path):
  def interrupted():
    with open_writer(tmp_path) as writer:
      writer.put(0, IMAGES[:6])
      raise KeyboardInterrupt

  with pytest.raises(KeyboardInterrupt):
    interrupted()
  with open_writer(tmp_path) as writer:
    assert writer.missing().tolist() == list(range(6, PLAN.num_images))


# Several processes.


def open_writers(directory, count):
  """As `count` processes do: the first one before the others."""
  return [open_writer(directory, share=(index, count)) for index in range(count)]


@pytest.mark.parametrize('count', [2, 3, 7])
def test_the_number_of_processes_leaves_no_trace(tmp_path, reference, count):
  writers = open_writers(tmp_path, count)
  owned = [writer.own().tolist() for writer in writers]
  assert sorted(itertools.chain(*owned)) == list(range(PLAN.num_images))
  for writer in reversed(writers):  # one after the other here, at once in life
    draw_missing(writer, 3)
    writer.close()
  assert not is_complete(tmp_path)
  writers[0].finish()
  assert contents(tmp_path) == contents(reference)
  assert all(writer.complete for writer in open_writers(tmp_path, count))


@pytest.mark.parametrize(('before', 'after'), [(1, 2), (2, 1), (3, 2)])
def test_another_number_of_processes_goes_on_from_there(tmp_path, reference, before, after):
  for writer in open_writers(tmp_path, before):
    own = writer.own()
    for start in range(0, len(own) * 2 // 3, 2):  # about two thirds, in pieces of at most two
      for run in np.split(own[start : start + 2], np.flatnonzero(np.diff(own[start : start + 2]) != 1) + 1):
        writer.put(run[0], IMAGES[run])
    writer.close()
  kept = kept_on_disk(tmp_path)
  assert len(kept) >= 12

  writers = open_writers(tmp_path, after)
  assert sorted(k for writer in writers for k in writer.missing()) == sorted(
    set(range(PLAN.num_images)) - kept
  )
  for writer in writers:
    draw_missing(writer, 3)
    writer.close()
  writers[0].finish()
  assert contents(tmp_path) == contents(reference)


def test_only_the_first_process_tidies(tmp_path):
  first = open_writer(tmp_path, share=(0, 2))
  half_written = killed.left_behind(tmp_path / '.staging' / 'images_0_2.npy')
  half_written.write_bytes(b'by the first process, this moment')
  with open_writer(tmp_path, share=(1, 2)) as second:
    assert half_written.exists()
    with pytest.raises(ValueError, match='belong to another process'):
      second.put(0, IMAGES[:2])
  first.close()
  with open_writer(tmp_path, share=(0, 2)):
    assert not half_written.exists()


def test_a_share_that_is_missing_is_noticed(tmp_path):
  first, second = open_writers(tmp_path, 2)
  draw_missing(first, 5)
  second.close()
  with pytest.raises(ValueError, match='9 images are missing, from 4 on'):
    first.finish()


# Damage.


def test_a_truncated_staging_file_is_drawn_again(tmp_path, reference):
  with open_writer(tmp_path) as writer:
    writer.put(0, IMAGES[:2])
    writer.put(8, IMAGES[8:10])
    writer.put(15, IMAGES[15:17])
  staging = tmp_path / '.staging'
  os.truncate(staging / 'images_0_2.npy', 300)
  os.truncate(staging / 'images_8_10.npy', 0)

  with open_writer(tmp_path) as writer:
    assert writer.missing().tolist() == [*range(15), *range(17, PLAN.num_images)]
    assert [path.name for path in staging.iterdir()] == ['images_15_17.npy']
    draw_missing(writer, 4)
    writer.finish()
  assert contents(tmp_path) == contents(reference)


@pytest.mark.parametrize('damage', ['bit', 'gone'])
def test_a_damaged_shard_is_drawn_again(tmp_path, reference, caplog, damage):
  write_round(tmp_path)
  path = tmp_path / 'synthetic-train.array_record-00002-of-00006'
  if damage == 'bit':
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
  else:
    path.unlink()
    assert not is_complete(tmp_path)

  with caplog.at_level('WARNING', logger='absl'), open_writer(tmp_path) as writer:
    assert writer.missing().tolist() == [7, 8, 9, 10]
    assert path.name in caplog.text
    assert not is_complete(tmp_path)
    draw_missing(writer, 3)
    writer.finish()
  assert contents(tmp_path) == contents(reference)


def test_staged_work_of_unknown_settings_is_not_used(tmp_path):
  with open_writer(tmp_path) as writer:
    writer.put(0, IMAGES[:2])
  (tmp_path / 'manifest.json').unlink()

  with open_writer(tmp_path) as writer:
    assert len(writer.missing()) == PLAN.num_images


@pytest.mark.parametrize('damaged', [b'{"round": ', b'\xff\x00'])
def test_a_damaged_manifest_is_named(tmp_path, damaged):
  (tmp_path / 'manifest.json').write_bytes(damaged)
  assert not is_complete(tmp_path)
  with pytest.raises(UserError, match=r'manifest\.json: damaged'):
    open_writer(tmp_path)


def test_a_finished_round_opens_as_finished(tmp_path, reference):
  write_round(tmp_path)
  with open_writer(tmp_path) as writer:
    assert writer.missing().size == 0
  assert contents(tmp_path) == contents(reference)


def test_is_complete_needs_every_shard_in_full(tmp_path):
  assert not is_complete(tmp_path / 'absent')
  write_round(tmp_path)
  assert is_complete(tmp_path)
  os.truncate(tmp_path / 'synthetic-train.array_record-00005-of-00006', 100)
  assert not is_complete(tmp_path)


# Errors.


@pytest.mark.parametrize(
  ('changes', 'difference'),
  [
    ({'seed': 6}, 'seed is 5 there but 6 now'),
    ({'config_hash': '4567'}, 'config_hash is "0123" there but "4567" now'),
    (
      {'checkpoint': msgspec.structs.replace(SETTINGS['checkpoint'], step=2000)},
      'checkpoint.step is 1000 there but 2000 now',
    ),
    (
      {'sampler': msgspec.structs.replace(SETTINGS['sampler'], steps=50)},
      'sampler.steps is 25 there but 50 now',
    ),
    ({'image_size': 32}, 'image_size is 16 there but 32 now'),
    ({'plan': Plan(1, PLAN.class_names, 7, shard_size=5)}, 'shard_size is 4 there but 5 now'),
    ({'plan': Plan(1, PLAN.class_names, 8, shard_size=4)}, 'counts.brain is 7 there but 8 now'),
  ],
)
def test_a_round_of_other_settings_is_refused(reference, changes, difference):
  before = contents(reference)
  with pytest.raises(UserError) as error:
    open_writer(reference, **changes)
  assert difference in str(error.value)
  assert 'another workdir, or delete' in str(error.value)
  assert '\n' not in str(error.value)
  assert contents(reference) == before


@pytest.mark.skipif(not os.path.exists('/dev/full'), reason='no /dev/full to stand for a full disk')
@pytest.mark.parametrize(
  'full', ['images_0_5.npy', 'synthetic-train.array_record-00000-of-00006', 'preview.png']
)
def test_a_full_disk_names_the_file_and_loses_nothing(tmp_path, monkeypatch, reference, full):
  replacing = files.replacing

  @contextlib.contextmanager
  def replacing_on_full_disk(path):
    with replacing(path) as new:
      if path.name == full:
        new.unlink()
        new.symlink_to('/dev/full')
      yield new

  with monkeypatch.context() as patch:
    patch.setattr(files, 'replacing', replacing_on_full_disk)
    with pytest.raises(UserError, match=rf'{full}: the disk is full; free some space'):
      write_round(tmp_path)
  write_round(tmp_path)
  assert contents(tmp_path) == contents(reference)


def test_an_error_of_the_thread_does_not_block_the_caller(tmp_path, monkeypatch):
  monkeypatch.setattr(Staging, 'add', lambda *args: 1 / 0)
  writer = open_writer(tmp_path)
  with pytest.raises(ZeroDivisionError):
    draw_missing(writer, 1)
  with pytest.raises(ZeroDivisionError):
    writer.finish()


def test_put_waits_for_the_disk(tmp_path, monkeypatch):
  disk, staged = threading.Event(), []

  def slow_add(self, first, images):
    disk.wait(30)
    staged.append(first)

  monkeypatch.setattr(Staging, 'add', slow_add)
  writer, put = open_writer(tmp_path), []

  def device_loop():
    for k in range(8):
      writer.put(k, IMAGES[k : k + 1])
      put.append(k)

  loop = threading.Thread(target=device_loop)
  loop.start()
  loop.join(0.3)
  assert loop.is_alive()
  assert len(put) <= 3  # one at the disk, two in the queue
  disk.set()
  loop.join()
  writer.close()
  assert staged == list(range(8))


def test_wrong_batches_are_refused(tmp_path):
  with open_writer(tmp_path) as writer:
    # A TypeError where annotations are checked at run time.
    with pytest.raises((ValueError, TypeError), match=r'(?i)uint8'):
      writer.put(0, IMAGES[:2].astype(np.float32))
    with pytest.raises(ValueError, match='must be uint8'):
      writer.put(0, IMAGES[:2, :8])
    with pytest.raises(ValueError, match=r'no images \[20, 22\)'):
      writer.put(20, IMAGES[:2])
    with pytest.raises(ValueError, match=r'no images \[3, 3\)'):
      writer.put(3, IMAGES[:0])
    writer.put(0, IMAGES[:2])
    with pytest.raises(ValueError, match='there already'):
      writer.put(1, IMAGES[1:3])
  with pytest.raises(ValueError, match='closed'):
    writer.put(5, IMAGES[5:6])
  with pytest.raises(ValueError, match='19 images are missing, from 2 on'):
    writer.finish()
