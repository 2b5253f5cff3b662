"""The verdict on image quality, on made-up figures whose right words are known."""

import msgspec
import pytest

from fetal_jax.evaluate import quality
from fetal_jax.evaluate.quality import Apart, Nearness, Word
from fetal_jax.evaluate.results import (
  Agreement,
  Fidelity,
  FidelityScores,
  FidelitySet,
  JudgeRecall,
  TwoSample,
  TwoSampleScore,
)


def kid(value, sd=0.01):
  scores = FidelityScores(
    n_real=60, n_fake=60, fid=1.0, kid=value, kid_sd=sd, kid_subset_size=20, precision=None, recall=None, density=None,
    coverage=None, notes={},
  )  # fmt: skip
  return FidelitySet(overall=scores, per_class=[])


def near(ours, *, floor=0.0, phantom=1.0, noise=9.0, sd=0.01):
  return Fidelity(
    n=60, reference=60, synthetic=kid(ours, sd), real_train=kid(floor), synthetic_to_train=kid(ours), noise=kid(noise),
    phantom=None if phantom is None else kid(phantom),
  )  # fmt: skip


def told(low, high, *, control=(0.45, 0.55), space='features'):
  def score(low, high):
    return TwoSampleScore(images=100, accuracy=(low + high) / 2, low=low, high=high)

  return TwoSample(
    space=space, classifier='a classifier', synthetic=score(low, high), control=score(*control)
  )


FEW = TwoSample(
  space='features',
  classifier='a classifier',
  synthetic=TwoSampleScore(images=9, why='few'),
  control=TwoSampleScore(images=9, why='few'),
)


@pytest.mark.parametrize(
  ('fidelity', 'nearness', 'drawn'),
  [
    (near(0.5), Nearness.NEARER, True),
    (near(0.005), Nearness.AS_REAL, True),
    (near(0.02), Nearness.NEARER, True),
    (near(1.2), Nearness.NOT_NEARER, True),
    (near(0.995), Nearness.NOT_NEARER, True),  # nearer by less than the scatter
    (near(0.9, sd=0.2), Nearness.NOT_NEARER, True),
    (near(0.9, sd=None), Nearness.NEARER, True),
    (near(1.2, phantom=None), Nearness.NEARER, False),
    (near(9.5, phantom=None), Nearness.NOT_NEARER, False),
    (near(0.5, phantom=9.5, noise=0.4), Nearness.NOT_NEARER, False),  # noise is the nearer of the two
    (near(None), Nearness.UNKNOWN, True),
  ],
)
def test_kid_is_read_between_its_floor_and_its_ceiling(fidelity, nearness, drawn):
  assert quality.how_near(fidelity) is nearness
  assert quality.ceiling(fidelity)[1] is drawn


@pytest.mark.parametrize(
  ('tests', 'apart'),
  [
    ([told(0.6, 0.7)], Apart.YES),
    ([told(0.45, 0.55)], Apart.NO),
    ([told(0.55, 0.65, control=(0.5, 0.6))], Apart.NO),  # real images differ as much from real ones
    ([told(0.51, 0.6, control=(0.3, 0.45))], Apart.YES),
    ([told(0.49, 0.6, control=(0.3, 0.45))], Apart.NO),
    ([told(0.45, 0.55), told(0.9, 0.95, space='pixels')], Apart.YES),
    ([FEW], Apart.UNKNOWN),
    ([FEW, told(0.45, 0.55, space='pixels')], Apart.NO),
  ],
)
def test_told_apart_is_more_than_chance_and_more_than_the_control(tests, apart):
  assert quality.told_apart(tests) is apart


def test_the_test_that_tells_best_is_quoted():
  tests = [told(0.6, 0.7, control=(0.6, 0.8)), told(0.56, 0.6, space='pixels')]
  assert quality._best(tests).space == 'pixels'
  assert quality._best([told(0.45, 0.55), told(0.47, 0.57, space='pixels')]).space == 'pixels'
  assert quality._best([FEW]) is None


NAMES = ('brain', 'femur', 'thorax', 'cervix', 'other')
AGREEMENT = Agreement(
  accuracy=0.5,
  per_class=dict(zip(NAMES, (0.9, 0.4, 0.2, 0.2, None), strict=True)),
  confusion=[[18, 2, 0, 0, 0], [12, 8, 0, 0, 0], [16, 0, 4, 0, 0], [16, 0, 0, 4, 0], [0] * 5],
)
RECALL = JudgeRecall(
  images=100,
  accuracy=0.7,
  per_class=dict(zip(NAMES, (0.8, 0.5, 0.49, 0.9, 0.9), strict=True)),
  counts=dict(zip(NAMES, (40, 20, 20, 9, 20), strict=True)),
)


def test_classes_fail_where_the_judge_knows_them_and_does_not_find_them():
  fail, not_judged = quality.classes(AGREEMENT, RECALL)
  assert fail == ('femur',)
  assert not_judged == ('thorax', 'cervix', 'other')  # too low a recall, too few real ones, no synthetic ones


def test_a_class_without_real_images_cannot_be_judged():
  recall = msgspec.structs.replace(RECALL, per_class={**RECALL.per_class, 'femur': None})
  assert quality.classes(AGREEMENT, recall)[0] == ()


@pytest.mark.parametrize(
  ('nearness', 'apart', 'fail', 'word'),
  [
    (Nearness.AS_REAL, Apart.NO, (), Word.LIKE_REAL),
    (Nearness.AS_REAL, Apart.YES, (), Word.CLOSE),
    (Nearness.AS_REAL, Apart.UNKNOWN, (), Word.UNKNOWN),
    (Nearness.AS_REAL, Apart.NO, ('femur',), Word.BETWEEN),
    (Nearness.NEARER, Apart.NO, (), Word.BETWEEN),
    (Nearness.NEARER, Apart.YES, (), Word.BETWEEN),
    (Nearness.NOT_NEARER, Apart.NO, (), Word.POOR),
    (Nearness.UNKNOWN, Apart.YES, (), Word.UNKNOWN),
  ],
)
def test_the_word_is_that_of_the_weakest_part(nearness, apart, fail, word):
  assert quality._word(nearness, apart, fail) is word
