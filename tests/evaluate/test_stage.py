"""The guard of the evaluate stage: what was trained on another split is refused."""

import types

import numpy as np
import pytest

from fetal_jax.data.prepared import Prepared
from fetal_jax.data.records import Records
from fetal_jax.data.splits import Split
from fetal_jax.evaluate import stage as evaluate_stage

CLASSES = ('a', 'b')


def _data(patients: str, split: str = 'patient') -> Prepared:
  """Six images, of the patients named by a letter each; two train, two validate, two test."""
  blank = np.array([''] * 6)
  labels = np.array([0, 1] * 3, np.int32)
  names = np.array([f'image{i}' for i in range(6)])
  records = Records(names, labels, np.array(list(patients)), CLASSES, blank, blank, blank, None)
  sides = Split(*np.arange(6).reshape(3, 2))
  return Prepared(
    np.zeros((6, 8, 8, 1), np.uint8), records, sides, types.SimpleNamespace(split=split, split_hash='ours')
  )


def test_agreement_counts_what_the_judge_sees_instead():
  labels, judged = np.array([0, 0, 0, 1]), np.array([0, 1, 0, 1])
  found = evaluate_stage.agreement(labels, judged, CLASSES)
  assert found.accuracy == 0.75
  assert found.per_class == {'a': pytest.approx(2 / 3), 'b': 1.0}
  assert found.confusion == [[2, 1], [0, 1]]


def test_held_out_patients_that_the_generator_never_saw_speak_where_there_are_enough(monkeypatch):
  data = _data('abccad', 'paper')  # test images 4 and 5, of a (seen in training) and of d
  images, unseen = evaluate_stage.unseen_side(data)
  assert (images.tolist(), unseen) == ([4, 5], False)
  monkeypatch.setattr(evaluate_stage, '_ENOUGH_UNSEEN', 1)
  images, unseen = evaluate_stage.unseen_side(data)
  assert (images.tolist(), unseen) == ([5], True)
