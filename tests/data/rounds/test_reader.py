"""The reader of rounds: which rounds there are, and their images."""

import shutil

import msgspec
import numpy as np
import pytest
from helpers import damage, tiny

from fetal_jax.data import rounds
from fetal_jax.data.rounds import CheckpointMark, SamplerSettings, manifest
from fetal_jax.data.rounds.plan import Plan
from fetal_jax.data.rounds.writer import RoundWriter
from fetal_jax.runtime.errors import DamagedFile, UserError

FINISHED = tiny.manifest(1, ('a', 'b'), 3)


def unfinished(number):
  return msgspec.structs.replace(tiny.manifest(number), complete=False, files={}, shards=())


def test_finished_rounds_are_found_in_order(tmp_path):
  for number in (10, 2, 1):
    manifest.write(rounds.folder_of(tmp_path, number), tiny.manifest(number))
  manifest.write(rounds.folder_of(tmp_path, 3), unfinished(3))
  rounds.folder_of(tmp_path, 4).mkdir()
  (tmp_path / 'synthetic' / 'round_x').mkdir()
  assert [found.number for found in rounds.find(tmp_path)] == [1, 2, 10]
  begun = rounds.begun(tmp_path)
  assert list(begun) == [1, 2, 3, 4, 10]
  assert [number for number, found in begun.items() if found is None] == [3, 4]


def test_where_nothing_is_drawn_nothing_is_found(tmp_path):
  assert rounds.find(tmp_path) == []
  assert rounds.begun(tmp_path) == {}
  with pytest.raises(FileNotFoundError):
    rounds.read(rounds.folder_of(tmp_path, 1))


def test_a_damaged_manifest_hides_no_round(tmp_path):
  manifest.write(rounds.folder_of(tmp_path, 1), FINISHED)
  damage.cut(tmp_path / 'synthetic' / 'round_1' / 'manifest.json')
  with pytest.raises(DamagedFile, match=r'round_1.manifest\.json: damaged'):
    rounds.find(tmp_path)


def test_a_round_under_another_name_is_refused(tmp_path):
  manifest.write(rounds.folder_of(tmp_path, 2), FINISHED)
  with pytest.raises(
    DamagedFile, match=r'round_2.manifest\.json: is of round 1; put the folder back'
  ) as error:
    rounds.find(tmp_path)
  assert '\n' not in str(error.value)


def test_labels_and_number_of_images(tmp_path):
  manifest.write(tmp_path, FINISHED)
  found = rounds.read(tmp_path)
  assert found.num_images == 6
  assert found.labels().tolist() == [0, 0, 0, 1, 1, 1]


def test_the_hash_is_of_the_shards_alone(tmp_path):
  manifest.write(tmp_path, FINISHED)
  found = rounds.read(tmp_path)
  assert found.hash == 'fc4f2dd162d43ec6'  # sha256 of '[["10", "11"]]', the first 16 digits
  other = rounds.Round(tmp_path, msgspec.structs.replace(FINISHED, image_size=16))
  assert other.hash == found.hash
  assert rounds.Round(tmp_path, tiny.manifest(2, ('a', 'b'), 3)).hash != found.hash


@pytest.fixture(scope='module')
def drawn(tmp_path_factory):
  """A round of six images."""
  folder = tmp_path_factory.mktemp('drawn') / 'round_1'
  images = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 1), np.uint8)
  writer = RoundWriter(
    folder,
    Plan(1, ('a', 'b'), 3),
    seed=0,
    checkpoint=CheckpointMark(step=1, ema_rate=0.9, split_hash='a split'),
    config_hash='0',
    sampler=SamplerSettings(),
    image_size=8,
    channels=1,
  )
  with writer:
    writer.put(0, images)
    writer.finish()
  return rounds.read(folder), images


def test_images_are_what_was_drawn(drawn):
  found, images = drawn
  np.testing.assert_array_equal(found.images(8, 1), images)
  np.testing.assert_array_equal(found.images(8, 3), np.repeat(images, 3, -1))
  assert found.images(4, 1).shape == (6, 4, 4, 1)


def test_the_source_gives_png_bytes(drawn):
  found, _ = drawn
  record = found.source()[4]
  assert record['image'].startswith(b'\x89PNG')
  assert (record['name'], record['label'], record['index']) == (b'round1_b_00001', 1, 4)


def test_a_damaged_file_is_named_before_images_are_read(drawn, tmp_path):
  found = rounds.read(shutil.copytree(drawn[0].folder, tmp_path / 'round_1'))
  found.check_files()
  damage.flip(found.folder / 'preview.png')
  for use in (found.check_files, lambda: found.images(8, 1)):
    with pytest.raises(UserError, match=r'preview\.png: .*; run --stage=sample again, it draws what is lost'):
      use()


def test_a_folder_that_tfds_does_not_know_is_named(tmp_path):
  manifest.write(tmp_path, FINISHED)
  with pytest.raises(UserError, match='no whole TFDS data set'):
    rounds.read(tmp_path).source()


@pytest.mark.parametrize('content', ['3', '"x"', 'null', '[]', '[' * 100_000, '{"featuresDict": 7}'])
def test_metadata_of_another_shape_is_named_in_one_line(drawn, tmp_path, content):
  found = rounds.read(shutil.copytree(drawn[0].folder, tmp_path / 'round_1'))
  (found.folder / 'features.json').write_text(content)
  with pytest.raises(UserError, match='no whole TFDS data set') as error:
    found.source()
  assert '\n' not in str(error.value)
