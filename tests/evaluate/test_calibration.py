"""Reliability bins, ECE and Brier's score against sums worked out by hand and against scikit-learn."""

import json

import numpy as np
import pytest
from sklearn import metrics

from fetal_jax.evaluate import calibration
from fetal_jax.evaluate.scores import evaluate


def _binary(confidence):
  return np.stack([confidence, 1 - np.asarray(confidence)], axis=1)


def test_known_answer():
  # Two at 0.9 (one right), one at 0.8 (right), one at 0.6 (wrong): bins (0.86, 0.93], (0.8 - 1/15, 0.8], (0.53, 0.6].
  labels = np.array([0, 1, 0, 1])
  diagram = calibration.reliability(labels, _binary([0.9, 0.9, 0.8, 0.6]))
  assert len(diagram) == 15
  filled = {m: b for m, b in enumerate(diagram) if b.count}
  assert {m: (b.count, b.accuracy) for m, b in filled.items()} == {13: (2, 0.5), 11: (1, 1.0), 8: (1, 0.0)}
  assert [b.confidence for b in filled.values()] == pytest.approx([0.6, 0.8, 0.9])
  assert all(b.low < b.confidence <= b.high for b in filled.values())
  ece = calibration.expected_calibration_error(diagram)
  assert ece == pytest.approx((2 * abs(0.5 - 0.9) + abs(1 - 0.8) + abs(0 - 0.6)) / 4)
  assert diagram[0].accuracy is None
  assert diagram[0].confidence is None


def test_sure_and_right_is_perfect_and_sure_and_wrong_is_worst():
  sure = np.eye(3)[[0, 1, 2]]
  right, wrong = np.array([0, 1, 2]), np.array([1, 2, 0])
  for labels, ece, brier in ((right, 0, 0), (wrong, 1, 2)):
    diagram = calibration.reliability(labels, sure)
    assert diagram[-1].count == 3
    assert calibration.expected_calibration_error(diagram) == ece
    assert calibration.brier_score(labels, sure) == brier


def test_every_image_is_in_one_bin_whatever_their_number():
  confidence = np.linspace(0.5, 1, 101)
  for bins in (1, 2, 10, 15):
    diagram = calibration.reliability(np.zeros(101, int), _binary(confidence), bins)
    assert sum(b.count for b in diagram) == 101
    assert [diagram[0].low, diagram[-1].high] == [0, 1]
  one = calibration.reliability(np.arange(101) % 2, _binary(confidence), 1)
  assert calibration.expected_calibration_error(one) == pytest.approx(abs(51 / 101 - 0.75), abs=1e-3)


def test_calibrated_answers_have_a_small_error_and_overconfident_ones_their_excess():
  rng = np.random.default_rng(0)
  confidence = rng.uniform(0.5, 0.9, 50_000)
  labels = (rng.random(50_000) > confidence).astype(int)

  def ece(stated):
    return calibration.expected_calibration_error(calibration.reliability(labels, _binary(stated)))

  assert ece(confidence) < 0.01
  assert ece(confidence + 0.1) == pytest.approx(0.1, abs=0.01)


def test_brier_score_agrees_with_sklearn():
  rng = np.random.default_rng(0)
  labels, probabilities = rng.integers(0, 2, 100), _binary(rng.random(100))
  # scikit-learn counts one of the two classes' equal errors.
  expected = 2 * metrics.brier_score_loss(labels, probabilities[:, 1])
  assert calibration.brier_score(labels, probabilities) == pytest.approx(expected)


def test_scores_of_predictions_hold_them():
  labels, probabilities = np.array([0, 1, 0, 1]), _binary([0.9, 0.9, 0.8, 0.6])
  scores = evaluate(labels, probabilities, ('abdomen', 'brain'))
  assert scores['ece'] == pytest.approx(0.4)
  assert scores['brier'] == pytest.approx(2 * (0.1**2 + 0.9**2 + 0.2**2 + 0.6**2) / 4)
  assert [b['count'] for b in scores['reliability'] if b['count']] == [1, 1, 2]
  json.dumps(scores, allow_nan=False)
