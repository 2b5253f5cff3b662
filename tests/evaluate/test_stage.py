"""The evaluate stage: which images speak, and what the judge sees in them."""

import types

import numpy as np
import pytest
from helpers.prepared import CLASSES, six_images

from fetal_jax.evaluate import stage as evaluate_stage
from fetal_jax.evaluate.compared import Compared, Sets


def test_agreement_counts_what_the_judge_sees_instead():
  labels, judged = np.array([0, 0, 0, 1]), np.array([0, 1, 0, 1])
  found = evaluate_stage.agreement(labels, judged, CLASSES)
  assert found.accuracy == 0.75
  assert found.per_class == {'a': pytest.approx(2 / 3), 'b': 1.0}
  assert found.confusion == [[2, 1], [0, 1]]


def test_held_out_patients_that_the_generator_never_saw_speak_where_there_are_enough(monkeypatch):
  data = six_images('abccad', 'paper')  # test images 4 and 5, of a (seen in training) and of d
  images, unseen = evaluate_stage.unseen_side(data)
  assert (images.tolist(), unseen) == ([4, 5], False)
  monkeypatch.setattr(evaluate_stage, '_ENOUGH_UNSEEN', 1)
  images, unseen = evaluate_stage.unseen_side(data)
  assert (images.tolist(), unseen) == ([5], True)


def test_the_judges_recall_is_of_the_test_images_that_it_has_not_seen():
  data = six_images('abccad')  # labels 0 1 0 1 0 1
  judge = types.SimpleNamespace(
    parts=types.SimpleNamespace(test=np.array([3, 4, 5])),
    encoder=lambda images: np.array([[0.0, 1.0], [0.0, 1.0], [1.0, 0.0]]),
    probabilities=lambda encoded: encoded,
  )
  found = evaluate_stage.judge_recall(data, judge)  # says 1 1 0 of 1 0 1
  assert (found.images, found.accuracy) == (3, pytest.approx(1 / 3))
  assert found.per_class == {'a': 0.0, 'b': 0.5}
  assert found.counts == {'a': 1, 'b': 2}


def test_synthetic_images_are_compared_with_test_images_and_real_training_images_are_the_control():
  rng = np.random.default_rng(0)

  def compared(level, name):
    images = rng.normal(level, 4, (60, 8, 8, 1)).clip(0, 255).astype(np.uint8)
    return Compared(images, np.arange(60) % 2, np.array([f'{name}{k}' for k in range(60)]))

  sets = Sets(
    test=compared(80, 'test'),
    train=compared(80, 'train'),
    synthetic=compared(95, 'synthetic'),
    noise=compared(200, 'noise'),
    phantom=None,
  )

  def grey(images):
    return images.reshape(len(images), -1).astype(np.float32)

  near, tests = evaluate_stage.compare_sets(sets, grey, CLASSES, seed=0)
  assert (near.n, near.reference, near.phantom) == (60, 60, None)
  kids = [one.overall.kid for one in (near.real_train, near.synthetic, near.noise)]
  assert kids[0] < kids[1] < kids[2]
  assert near.synthetic_to_train.overall.kid == pytest.approx(kids[1], rel=0.2)
  assert [one.space for one in tests] == ['features', 'pixels']
  for one in tests:
    assert one.synthetic.accuracy > 0.95
    assert one.control.low < 0.5 < one.control.high
