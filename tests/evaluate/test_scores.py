"""Scores against values worked out by hand and against scikit-learn's own averages."""

import msgspec
import numpy as np
import pytest
from sklearn import metrics

from fetal_jax.evaluate.scores import Scores, brier, evaluate, expected_calibration_error, reliability

NAMES = ('abdomen', 'brain', 'femur')


def test_known_answer():
  # Three abdomens (two right), two brains (one right), one femur (right).
  labels = np.array([0, 0, 0, 1, 1, 2], np.int32)
  predicted = np.array([0, 0, 1, 1, 2, 2])
  scores = evaluate(labels, np.eye(3)[predicted], NAMES)
  assert scores.n == 6
  assert scores.accuracy == pytest.approx(4 / 6)
  assert scores.balanced_accuracy == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)
  assert scores.macro_f1 == pytest.approx((4 / 5 + 1 / 2 + 2 / 3) / 3)
  assert scores.confusion == [[2, 1, 0], [0, 1, 1], [0, 0, 1]]
  assert [c.support for c in scores.per_class] == [3, 2, 1]
  assert [c.precision for c in scores.per_class] == pytest.approx([1, 1 / 2, 1 / 2])
  # Hard answers: a class's AUROC is the mean of its sensitivity and specificity.
  assert scores.per_class[0].auroc == pytest.approx((2 / 3 + 1) / 2)


def test_agrees_with_sklearn_on_soft_scores():
  rng = np.random.default_rng(0)
  labels = rng.integers(0, 3, 200).astype(np.int32)
  probabilities = rng.dirichlet(np.ones(3), 200) + 0.3 * np.eye(3)[labels]
  probabilities /= probabilities.sum(axis=1, keepdims=True)
  scores = evaluate(labels, probabilities, NAMES)
  predicted = probabilities.argmax(axis=1)
  assert scores.auroc == pytest.approx(metrics.roc_auc_score(labels, probabilities, multi_class='ovr'))
  assert scores.balanced_accuracy == pytest.approx(metrics.balanced_accuracy_score(labels, predicted))
  assert scores.macro_f1 == pytest.approx(metrics.f1_score(labels, predicted, average='macro'))


def test_class_absent_from_the_labels_is_left_out_even_if_predicted():
  labels = np.array([0, 0, 1, 1])
  predicted = np.array([0, 2, 1, 1])
  scores = evaluate(labels, np.eye(3)[predicted], NAMES)
  assert scores.balanced_accuracy == pytest.approx(0.75)
  assert scores.macro_f1 == pytest.approx((2 / 3 + 1) / 2)
  femur = scores.per_class[2]
  assert femur.recall is None
  assert femur.auroc is None
  assert femur.precision == 0
  assert scores.confusion[0] == [1, 0, 1]


def test_class_never_predicted_has_f1_zero_and_no_precision():
  scores = evaluate(np.array([0, 1]), np.array([[0.9, 0.1], [0.6, 0.4]]), NAMES[:2])
  brain = scores.per_class[1]
  assert brain.precision is None
  assert brain.f1 == 0
  assert scores.macro_f1 == pytest.approx(1 / 3)
  assert scores.auroc == 1  # the order is perfect, only the threshold is not


def test_one_class_only_has_no_auroc_and_result_is_strict_json():
  scores = evaluate(np.array([1, 1]), np.array([[0.1, 0.9], [0.2, 0.8]]), NAMES[:2])
  assert scores.auroc is None
  assert scores.accuracy == 1
  assert msgspec.json.decode(msgspec.json.encode(scores), type=Scores) == scores


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


# Calibration


def _binary(confidence):
  return np.stack([confidence, 1 - np.asarray(confidence)], axis=1)


def test_a_known_reliability_diagram():
  # Two at 0.9 (one right), one at 0.8 (right), one at 0.6 (wrong): bins (0.86, 0.93], (0.8 - 1/15, 0.8], (0.53, 0.6].
  labels = np.array([0, 1, 0, 1])
  diagram = reliability(labels, _binary([0.9, 0.9, 0.8, 0.6]))
  assert len(diagram) == 15
  filled = {m: b for m, b in enumerate(diagram) if b.count}
  assert {m: (b.count, b.accuracy) for m, b in filled.items()} == {13: (2, 0.5), 11: (1, 1.0), 8: (1, 0.0)}
  assert [b.confidence for b in filled.values()] == pytest.approx([0.6, 0.8, 0.9])
  assert all(b.low < b.confidence <= b.high for b in filled.values())
  ece = expected_calibration_error(diagram)
  assert ece == pytest.approx((2 * abs(0.5 - 0.9) + abs(1 - 0.8) + abs(0 - 0.6)) / 4)
  assert diagram[0].accuracy is None
  assert diagram[0].confidence is None


def test_sure_and_right_is_perfect_and_sure_and_wrong_is_worst():
  sure = np.eye(3)[[0, 1, 2]]
  right, wrong = np.array([0, 1, 2]), np.array([1, 2, 0])
  for labels, ece, worst in ((right, 0, 0), (wrong, 1, 2)):
    diagram = reliability(labels, sure)
    assert diagram[-1].count == 3
    assert expected_calibration_error(diagram) == ece
    assert brier(labels, sure)[0] == worst


def test_every_image_is_in_one_bin_whatever_their_number():
  confidence = np.linspace(0.5, 1, 101)
  for bins in (1, 2, 10, 15):
    diagram = reliability(np.zeros(101, int), _binary(confidence), bins)
    assert sum(b.count for b in diagram) == 101
    assert [diagram[0].low, diagram[-1].high] == [0, 1]
  one = reliability(np.arange(101) % 2, _binary(confidence), 1)
  assert expected_calibration_error(one) == pytest.approx(abs(51 / 101 - 0.75), abs=1e-3)


def test_calibrated_answers_have_a_small_error_and_overconfident_ones_their_excess():
  rng = np.random.default_rng(0)
  confidence = rng.uniform(0.5, 0.9, 50_000)
  labels = (rng.random(50_000) > confidence).astype(int)

  def ece(stated):
    return expected_calibration_error(reliability(labels, _binary(stated)))

  assert ece(confidence) < 0.01
  assert ece(confidence + 0.1) == pytest.approx(0.1, abs=0.01)


def test_brier_score_agrees_with_sklearn():
  rng = np.random.default_rng(0)
  labels, probabilities = rng.integers(0, 2, 100), _binary(rng.random(100))
  # scikit-learn counts one of the two classes' equal errors.
  expected = 2 * metrics.brier_score_loss(labels, probabilities[:, 1])
  assert brier(labels, probabilities)[0] == pytest.approx(expected)


def test_scores_of_predictions_hold_them():
  labels, probabilities = np.array([0, 1, 0, 1]), _binary([0.9, 0.9, 0.8, 0.6])
  scores = evaluate(labels, probabilities, ('abdomen', 'brain'))
  assert scores.ece == pytest.approx(0.4)
  assert scores.brier == pytest.approx(2 * (0.1**2 + 0.9**2 + 0.2**2 + 0.6**2) / 4)
  assert [b.count for b in scores.reliability if b.count] == [1, 1, 2]
