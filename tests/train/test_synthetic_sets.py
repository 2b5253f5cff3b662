"""Which synthetic images a regime trains on."""

import itertools

import numpy as np
import pytest

from fetal_jax.data.loader import Source
from fetal_jax.runtime.errors import UserError
from fetal_jax.train.synthetic_sets import SyntheticSets, first_images


def _round(first: int, per_class: int, num_classes: int = 3) -> Source:
  """Images whose pixels are their number, class after class."""
  n = per_class * num_classes
  images = np.arange(first, first + n, dtype=np.uint8).reshape(n, 1, 1, 1)
  return Source(
    images, np.repeat(np.arange(num_classes, dtype=np.int32), per_class), np.arange(n), real=False
  )


def _numbers(sources) -> list[int]:
  return [int(i) for source in sources for i in source.images[source.indices].ravel()]


def test_the_first_images_are_the_same_number_of_each_class_round_one_first():
  rounds = [_round(0, 4), _round(100, 4)]
  assert _numbers(first_images(rounds, 6)) == [0, 1, 4, 5, 8, 9]
  assert _numbers(first_images(rounds, 12)) == list(range(12))
  assert _numbers(first_images(rounds, 15)) == [*range(12), 100, 104, 108]
  assert _numbers(first_images(rounds, 24)) == [*range(12), *range(100, 112)]


def test_a_remainder_goes_to_the_first_classes():
  assert _numbers(first_images([_round(0, 4)], 5)) == [0, 1, 4, 5, 8]


def test_a_smaller_set_is_part_of_every_larger_one():
  rounds = [_round(0, 4), _round(100, 4)]
  sets = [set(_numbers(first_images(rounds, count))) for count in range(1, 25)]
  assert all(small < large for small, large in itertools.pairwise(sets))
  assert [len(s) for s in sets] == list(range(1, 25))


def test_more_images_than_there_are_is_refused():
  with pytest.raises(UserError, match=r'25 images of 3 classes are more than the 24'):
    first_images([_round(0, 4), _round(100, 4)], 25)


def test_every_regime_gets_its_images():
  kept = {1: np.array([1, 5]), 2: np.array([0])}
  sets = SyntheticSets({1: _round(0, 4), 2: _round(100, 4)}, {1: 'a', 2: 'b'}, kept)
  assert _numbers(sets.sources('real')) == []
  assert _numbers(sets.sources('synth_r1')) == list(range(12))
  assert _numbers(sets.sources('synth_r12_kept')) == [1, 5, 100]
  assert _numbers(sets.sources('synth_r1_kept_plus_real')) == [1, 5]
  assert _numbers(sets.sources('synth_6')) == [0, 1, 4, 5, 8, 9]
  assert _numbers(sets.sources('synth_r12_then_real')) == []  # its start has seen them
  assert not any(source.real for source in sets.sources('synth_r12'))


def test_a_fingerprint_tells_other_images_apart():
  rounds = {1: _round(0, 4), 2: _round(100, 4)}
  sets = SyntheticSets(rounds, {1: 'a', 2: 'b'}, {1: np.array([1]), 2: np.array([2])})
  other = SyntheticSets(rounds, {1: 'a', 2: 'b'}, {1: np.array([1]), 2: np.array([3])})
  assert sets.fingerprint('real') == ''
  assert sets.fingerprint('synth_r1_then_real') == sets.fingerprint('synth_r1') == '-a'
  assert sets.fingerprint('synth_6') == '-a-b'
  assert sets.seen_by('real') == {}
  assert sets.seen_by('synth_r1_then_real') == {1: 'a'}
  assert sets.seen_by('synth_6') == sets.seen_by('synth_r12_kept') == {1: 'a', 2: 'b'}
  assert sets.fingerprint('synth_r1_kept') == other.fingerprint('synth_r1_kept') != '-a'
  assert sets.fingerprint('synth_r12_kept') != other.fingerprint('synth_r12_kept')


def test_without_the_filters_result_its_regimes_wait():
  with pytest.raises(UserError, match='run --stage=filter'):
    SyntheticSets({1: _round(0, 4)}, {1: 'a'}).sources('synth_r1_kept')
