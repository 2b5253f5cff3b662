"""The quality filter's choice."""

import numpy as np
import pytest

from fetal_jax.evaluate.filter import _choose_of_round, check_classes, select
from fetal_jax.runtime.errors import UserError
from fetal_jax.train.kept import Rule

# Of three classes; the fourth image is labelled 1 and looks like 0.
PROBABILITIES = np.array(
  [[0.9, 0.1, 0.0], [0.4, 0.3, 0.3], [0.6, 0.2, 0.2], [0.8, 0.2, 0.0], [0.1, 0.7, 0.2], [0.2, 0.2, 0.6]],
  np.float32,
)
LABELS = np.array([0, 0, 0, 1, 1, 2], np.int32)


def test_the_label_must_be_the_judges_and_confident():
  assert select(PROBABILITIES, LABELS, min_confidence=0.0).tolist() == [0, 1, 2, 4, 5]
  assert select(PROBABILITIES, LABELS, min_confidence=0.5).tolist() == [0, 2, 4, 5]
  assert select(PROBABILITIES, LABELS, min_confidence=0.65).tolist() == [0, 4]


def test_top_k_takes_the_most_confident_of_each_class():
  assert select(PROBABILITIES, LABELS, min_confidence=0.0, top_k=1).tolist() == [0, 4, 5]
  assert select(PROBABILITIES, LABELS, min_confidence=0.0, top_k=2).tolist() == [0, 2, 4, 5]
  assert select(PROBABILITIES, LABELS, min_confidence=0.65, top_k=2).tolist() == [0, 4]


def test_top_k_is_exact_where_confidences_are_equal_and_labels_mixed():
  labels = np.array([1, 0, 1, 0, 1], np.int32)
  probabilities = np.where(labels[:, None] == np.arange(2), 0.75, 0.25).astype(np.float32)
  assert select(probabilities, labels, min_confidence=0.5, top_k=2).tolist() == [0, 1, 2, 3]


def test_nothing_kept_is_an_error_and_a_class_without_images_a_warning(caplog):
  names = ('a', 'b', 'c')
  with pytest.raises(UserError, match=r'min_confidence=0\.5: no synthetic image is kept'):
    check_classes(LABELS, np.array([], np.int64), names, min_confidence=0.5)
  check_classes(LABELS, np.array([0, 4]), names, min_confidence=0.5)
  assert 'no image of c is kept' in caplog.text


def test_the_choice_of_a_round_is_counted_by_class():
  found = _choose_of_round('mark', PROBABILITIES, LABELS, Rule(min_confidence=0.65, top_k=0))
  assert (found.round_hash, found.kept) == ('mark', [0, 4])
  assert (found.asked, found.judged_right, found.kept_per_class) == ([3, 2, 1], [3, 1, 1], [1, 1, 0])
