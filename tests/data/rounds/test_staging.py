"""Staged batches and notes: what is whole is found again, what is not is deleted by one process alone."""

import msgspec
import numpy as np
import pytest
from helpers import damage, killed, tiny

from fetal_jax.data.rounds.staging import Staging
from fetal_jax.runtime.errors import UserError

IMAGES = np.random.default_rng(0).integers(0, 256, (10, 4, 4, 1), np.uint8)
ENTRIES = tiny.manifest(1, ('a', 'b'), 5).shards


def found(folder, *, tidy=True):
  staging, is_staged = Staging(folder, (4, 4, 1)), np.zeros(10, bool)
  staging.take_stock(is_staged, tidy=tidy)
  return staging, np.flatnonzero(is_staged).tolist()


@pytest.fixture
def folder(tmp_path):
  staging = Staging(tmp_path / 'staging', (4, 4, 1))
  staging.add(2, IMAGES[2:5])
  staging.add(7, IMAGES[7:9])
  return tmp_path / 'staging'


def test_batches_are_found_again(folder):
  staging, staged = found(folder)
  assert staged == [2, 3, 4, 7, 8]
  np.testing.assert_array_equal(staging.images(3, 5), IMAGES[3:5])


def test_a_shard_is_put_together_from_several_batches(folder):
  staging, _ = found(folder)
  staging.add(5, IMAGES[5:7])
  np.testing.assert_array_equal(staging.images(4, 8), IMAGES[4:8])


@pytest.mark.parametrize('kind', damage.KINDS[:3])
def test_a_damaged_batch_is_deleted_by_the_process_that_tidies(folder, kind):
  kind(folder / 'images_2_5.npy')
  assert found(folder, tidy=False)[1] == [7, 8]
  assert (folder / 'images_2_5.npy').exists()
  assert found(folder)[1] == [7, 8]
  assert not (folder / 'images_2_5.npy').exists()


def test_a_batch_of_another_shape_is_not_taken(folder):
  (folder / 'images_2_5.npy').rename(folder / 'images_2_6.npy')
  assert found(folder)[1] == [7, 8]


def test_spent_batches_are_deleted(folder):
  staging, _ = found(folder)
  finished = np.zeros(10, bool)
  finished[:5] = True
  staging.remove_spent(finished)
  assert [path.name for path in folder.iterdir()] == ['images_7_9.npy']


def test_notes_are_kept_until_removed(folder):
  staging, _ = found(folder)
  for entry in ENTRIES:
    staging.write_note(entry)
  assert found(folder)[0].notes() == list(ENTRIES)  # tidying leaves them
  staging.remove_note(0)
  assert staging.notes() == [ENTRIES[1]]


def test_a_damaged_note_is_left_out(folder):
  staging, _ = found(folder)
  for entry in ENTRIES:
    staging.write_note(entry)
  damage.flip(folder / 'shard_000000005.json')
  assert staging.notes() == [ENTRIES[0]]
  (folder / 'shard_000000000.json').write_bytes(msgspec.json.encode(ENTRIES[0]))  # without a seal
  assert staging.notes() == []


def test_clear_deletes_all(folder):
  staging, _ = found(folder)
  for entry in ENTRIES:
    staging.write_note(entry)
  killed.left_behind(folder / 'images_0_2.npy')
  staging.clear()
  assert not folder.exists()


def test_what_somebody_else_put_there_stays(folder, tmp_path):
  (tmp_path / 'precious').write_bytes(b'x')
  names = ('thesis.txt', '.images_0_2.npy.tmp', 'images_0_2.npy.bak', 'shard_1.jsonl')
  for name in names:
    (folder / name).write_bytes(b'x')
  (folder / 'images_0_3.npy').mkdir()
  (folder / 'images_5_7.npy').symlink_to(tmp_path / 'precious')
  assert found(folder)[1] == [2, 3, 4, 7, 8]  # the link is no whole batch, and goes
  found(folder)[0].clear()
  assert sorted(path.name for path in folder.iterdir()) == sorted([*names, 'images_0_3.npy'])
  assert (tmp_path / 'precious').read_bytes() == b'x'


def test_a_folder_that_is_a_link_is_refused(folder, tmp_path):
  (tmp_path / 'link').symlink_to(folder)
  with pytest.raises(UserError, match='link: a link; remove it'):
    found(tmp_path / 'link')
  assert len(list(folder.iterdir())) == 2
