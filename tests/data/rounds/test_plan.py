"""The label plan: which image shows which class, in which shard."""

import numpy as np
import pytest

from fetal_jax.data.rounds.plan import Plan, Shard


def test_a_round_of_the_paper():
  plan = Plan(1, ('abdomen', 'brain', 'femur', 'thorax', 'cervix', 'other'), 5000)
  shards = plan.shards()

  assert plan.num_images == 30_000
  assert len(shards) == 30
  assert shards[7] == Shard(index=7, label=1, start=7000, stop=8000)
  assert plan.labels().dtype == np.int32
  assert np.bincount(plan.labels()).tolist() == [5000] * 6


def test_class_major():
  assert Plan(1, ('a', 'b'), 3).labels().tolist() == [0, 0, 0, 1, 1, 1]


def test_shards_end_at_class_borders():
  assert Plan(1, ('a', 'b'), 5, shard_size=2).shards() == [
    Shard(0, 0, 0, 2),
    Shard(1, 0, 2, 4),
    Shard(2, 0, 4, 5),
    Shard(3, 1, 5, 7),
    Shard(4, 1, 7, 9),
    Shard(5, 1, 9, 10),
  ]


@pytest.mark.parametrize('per_class', [1, 6, 7, 8, 23])
def test_shards_cover_the_round_once_and_have_one_class(per_class):
  plan = Plan(2, ('a', 'b', 'c'), per_class, shard_size=7)

  covered = [k for shard in plan.shards() for k in range(shard.start, shard.stop)]
  assert covered == list(range(plan.num_images))
  assert [shard.index for shard in plan.shards()] == list(range(len(plan.shards())))
  for shard in plan.shards():
    assert set(plan.labels()[shard.start : shard.stop]) == {shard.label}


def test_names_are_numbered_within_the_class():
  plan = Plan(1, ('abdomen', 'brain'), 20)

  assert plan.name(32) == 'round1_brain_00012'
  assert len({plan.name(k) for k in range(plan.num_images)}) == plan.num_images


def test_shards_are_named_as_tfds_expects():
  plan = Plan(1, ('a', 'b'), 5, shard_size=2)
  assert plan.file_name(plan.shards()[4]) == 'synthetic-train.array_record-00004-of-00006'


@pytest.mark.parametrize(
  ('changes', 'reason'),
  [
    ({'round': 0}, 'round must be at least 1'),
    ({'per_class': 0}, 'per_class must be at least 1'),
    ({'shard_size': -5}, 'shard_size must be at least 1'),
    ({'class_names': ()}, 'every class needs a name'),
    ({'class_names': ('a', '')}, 'every class needs a name'),
    ({'class_names': ('a', 'a')}, 'given twice'),
  ],
)
def test_impossible_plans_are_refused(changes, reason):
  with pytest.raises(ValueError, match=reason):
    Plan(**{'round': 1, 'class_names': ('a', 'b'), 'per_class': 3, **changes})


def test_a_shard_is_found_by_its_first_image():
  plan = Plan(1, ('a', 'b'), 5, shard_size=2)
  assert [plan.shard_at(start) for start in (0, 4, 7)] == [
    Shard(0, 0, 0, 2),
    Shard(2, 0, 4, 5),
    Shard(4, 1, 7, 9),
  ]
  assert [plan.shard_at(start) for start in (-5, -1, 1, 3, 6, 10, 10**18)] == [None] * 7
  assert plan.num_shards == 6


def test_a_plan_of_more_shards_than_a_memory_holds_is_a_plan():
  plan = Plan(1, ('a', 'b'), 10**15, shard_size=1)
  assert plan.num_shards == 2 * 10**15
  assert plan.shard_at(10**15 + 3) == Shard(10**15 + 3, 1, 10**15 + 3, 10**15 + 4)
