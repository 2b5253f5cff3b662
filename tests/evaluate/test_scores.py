"""Scores against values worked out by hand and against scikit-learn's own averages."""

import json

import numpy as np
import pytest
from sklearn import metrics

from fetal_jax.evaluate.scores import evaluate

NAMES = ('abdomen', 'brain', 'femur')


def test_known_answer():
  # Three abdomens (two right), two brains (one right), one femur (right).
  labels = np.array([0, 0, 0, 1, 1, 2], np.int32)
  predicted = np.array([0, 0, 1, 1, 2, 2])
  scores = evaluate(labels, np.eye(3)[predicted], NAMES)
  assert scores['n'] == 6
  assert scores['accuracy'] == pytest.approx(4 / 6)
  assert scores['balanced_accuracy'] == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)
  assert scores['macro_f1'] == pytest.approx((4 / 5 + 1 / 2 + 2 / 3) / 3)
  assert scores['confusion'] == [[2, 1, 0], [0, 1, 1], [0, 0, 1]]
  assert [c['support'] for c in scores['per_class']] == [3, 2, 1]
  assert [c['precision'] for c in scores['per_class']] == pytest.approx([1, 1 / 2, 1 / 2])
  # Hard answers: a class's AUROC is the mean of its sensitivity and specificity.
  assert scores['per_class'][0]['auroc'] == pytest.approx((2 / 3 + 1) / 2)


def test_agrees_with_sklearn_on_soft_scores():
  rng = np.random.default_rng(0)
  labels = rng.integers(0, 3, 200).astype(np.int32)
  probabilities = rng.dirichlet(np.ones(3), 200) + 0.3 * np.eye(3)[labels]
  probabilities /= probabilities.sum(axis=1, keepdims=True)
  scores = evaluate(labels, probabilities, NAMES)
  predicted = probabilities.argmax(axis=1)
  assert scores['auroc'] == pytest.approx(metrics.roc_auc_score(labels, probabilities, multi_class='ovr'))
  assert scores['balanced_accuracy'] == pytest.approx(metrics.balanced_accuracy_score(labels, predicted))
  assert scores['macro_f1'] == pytest.approx(metrics.f1_score(labels, predicted, average='macro'))


def test_class_absent_from_the_labels_is_left_out_even_if_predicted():
  labels = np.array([0, 0, 1, 1])
  predicted = np.array([0, 2, 1, 1])
  scores = evaluate(labels, np.eye(3)[predicted], NAMES)
  assert scores['balanced_accuracy'] == pytest.approx(0.75)
  assert scores['macro_f1'] == pytest.approx((2 / 3 + 1) / 2)
  femur = scores['per_class'][2]
  assert femur['recall'] is None
  assert femur['auroc'] is None
  assert femur['precision'] == 0
  assert scores['confusion'][0] == [1, 0, 1]


def test_class_never_predicted_has_f1_zero_and_no_precision():
  scores = evaluate(np.array([0, 1]), np.array([[0.9, 0.1], [0.6, 0.4]]), NAMES[:2])
  brain = scores['per_class'][1]
  assert brain['precision'] is None
  assert brain['f1'] == 0
  assert scores['macro_f1'] == pytest.approx(1 / 3)
  assert scores['auroc'] == 1  # the order is perfect, only the threshold is not


def test_one_class_only_has_no_auroc_and_result_is_strict_json():
  scores = evaluate(np.array([1, 1]), np.array([[0.1, 0.9], [0.2, 0.8]]), NAMES[:2])
  assert scores['auroc'] is None
  assert scores['accuracy'] == 1
  json.dumps(scores, allow_nan=False)


@pytest.mark.parametrize(
  ('labels', 'probabilities'),
  [
    (np.zeros(0, np.int32), np.zeros((0, 3))),
    (np.array([0, 3]), np.ones((2, 3))),
    (np.array([0, 1]), np.ones((2, 2))),
    (np.array([0, 1]), np.full((2, 3), np.nan)),
    (np.array([0, 1]), np.full((2, 3), 1.5)),
  ],
)
def test_nonsense_is_refused(labels, probabilities):
  with pytest.raises(ValueError, match=r'labels|probabilities'):
    evaluate(labels, probabilities, NAMES)
