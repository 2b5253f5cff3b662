"""synthetic/kept.json: what is written is read, and a choice among other images is refused."""

import pytest

from fetal_jax.runtime.errors import DamagedFile, UserError
from fetal_jax.train import kept
from fetal_jax.train.kept import Kept, KeptRound, Rule


def choice(round_hash='a'):
  about = KeptRound(
    round_hash=round_hash, asked=[2, 2], judged_right=[2, 1], kept_per_class=[1, 1], kept=[0, 3]
  )
  rule = Rule(min_confidence=0.5, top_k=0)
  return Kept(inputs='i', judge='resnet50', rule=rule, class_names=['x', 'y'], rounds={'1': about})


def test_what_is_written_is_read(tmp_path):
  kept.write(tmp_path, choice())
  assert (tmp_path / 'synthetic' / 'kept.json').is_file()
  assert kept.read(tmp_path) == choice()
  assert {r: indices.tolist() for r, indices in kept.read_indices(tmp_path, {1: 'a'}).items()} == {1: [0, 3]}


def test_a_choice_knows_its_rounds():
  assert choice().is_of({1: 'a'})
  assert not choice().is_of({1: 'b'})
  assert not choice().is_of({1: 'a', 2: 'b'})
  assert not choice().is_of({})


def test_without_a_filter_there_is_none(tmp_path):
  assert kept.read_indices(tmp_path, {1: 'a'}) is None


@pytest.mark.parametrize(('hashes', 'number'), [({1: 'b'}, 1), ({1: 'a', 2: 'b'}, 2)])
def test_a_choice_among_other_images_is_refused(tmp_path, hashes, number):
  kept.write(tmp_path, choice())
  with pytest.raises(UserError, match=f'another round {number}; delete this file and run --stage=filter'):
    kept.read_indices(tmp_path, hashes)


def test_an_edited_choice_is_refused(tmp_path):
  kept.write(tmp_path, choice())
  path = tmp_path / 'synthetic' / 'kept.json'
  path.write_text(path.read_text().replace('3\n', '2\n'))
  with pytest.raises(DamagedFile, match='run --stage=filter again'):
    kept.read_indices(tmp_path, {1: 'a'})
