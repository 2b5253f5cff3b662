"""Intervals against hand-made cases, against scipy's bootstrap and against how often they cover the truth."""

import numpy as np
import pytest
from helpers.fake_predictions import NAMES, make, right_or_wrong, soft
from scipy import stats

from fetal_jax.evaluate.intervals import (
  Spread,
  bootstrap_interval,
  by_group,
  over_seeds,
  patient_weights,
  score,
)
from fetal_jax.evaluate.scores import METRICS, evaluate
from fetal_jax.runtime.errors import UserError


def test_scores_are_those_of_evaluate():
  predictions = soft()
  scores = evaluate(predictions.labels, predictions.probabilities, NAMES)
  for metric in METRICS:
    assert score(predictions, metric) == pytest.approx(getattr(scores, metric))


@pytest.mark.parametrize('metric', METRICS)
def test_a_weighted_score_is_the_score_of_images_repeated_as_often(metric):
  predictions = soft()
  # The third column lacks a class, and the last holds one class only.
  weights = np.random.default_rng(1).integers(0, 4, (120, 4)).astype(float)
  weights[predictions.labels == 2, 2] = 0
  weights[predictions.labels != 1, 3] = 0
  found = METRICS[metric](predictions.labels, predictions.probabilities, weights)
  for column, value in zip(weights.T, found, strict=True):
    repeated = predictions.take(np.repeat(np.arange(120), column.astype(int)))
    expected = getattr(evaluate(repeated.labels, repeated.probabilities, NAMES), metric)
    assert value == pytest.approx(np.nan if expected is None else expected, nan_ok=True)


def test_a_resample_draws_patients_with_all_their_images():
  patients = np.array(['b', 'a', 'b', 'c', 'a', 'b'])
  weights = np.concatenate(list(patient_weights(patients, 1003, seed=0)), axis=1)
  assert weights.shape == (6, 1003)
  np.testing.assert_array_equal(weights[[0, 0, 1]], weights[[2, 5, 4]])
  assert (weights[[0, 1, 3]].sum(axis=0) == 3).all()
  np.testing.assert_allclose(weights.mean(axis=1), 1, atol=0.1)


def test_two_patients_one_all_right_and_one_all_wrong():
  # A resample holds the right one twice, once or never (1/4, 1/2, 1/4), so accuracy is 1, 2/5 or 0.
  found = bootstrap_interval(right_or_wrong([1, 1, 0, 0, 0], ['a', 'a', 'b', 'b', 'b']))
  assert (found.value, found.low, found.high, found.why) == (pytest.approx(0.4), 0, 1, '')
  middle = bootstrap_interval(right_or_wrong([1, 1, 0, 0, 0], ['a', 'a', 'b', 'b', 'b']), level=0.4)
  assert (middle.low, middle.high) == (pytest.approx(0.4), pytest.approx(0.4))


def test_agrees_with_scipys_bootstrap_of_patients():
  """Accuracy is a ratio of two sums over patients, which scipy can resample as single observations."""
  predictions = soft(n=400, patients=60)
  right = predictions.probabilities.argmax(axis=1) == predictions.labels
  _, index = np.unique(predictions.patients, return_inverse=True)
  expected = stats.bootstrap(
    (np.bincount(index, right), np.bincount(index)),
    lambda good, all, axis: good.sum(axis) / all.sum(axis),
    paired=True,
    vectorized=True,
    n_resamples=20_000,
    batch=2000,
    method='percentile',
    rng=np.random.default_rng(0),
  ).confidence_interval
  found = bootstrap_interval(predictions, resamples=20_000)
  assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.003)
  wider = bootstrap_interval(predictions, level=0.99)
  assert wider.low < found.low
  assert wider.high > found.high


def test_covers_the_truth_where_a_bootstrap_of_images_does_not():
  """Images of a patient are right or wrong nearly together: their number says little, the patients' says all."""
  rng = np.random.default_rng(0)
  truth, trials, covered = 0.7, 200, {'patients': 0, 'images': 0}
  patients = np.repeat(np.arange(40), 8)
  for _ in range(trials):
    skill = rng.beta(0.7, 0.3, 40)  # mean 0.7
    right = rng.random(len(patients)) < skill[patients]
    for unit, of in (('patients', patients), ('images', np.arange(len(patients)))):
      found = bootstrap_interval(right_or_wrong(right, of), resamples=200)
      covered[unit] += found.low <= truth <= found.high
  assert 0.90 <= covered['patients'] / trials <= 0.985
  assert covered['images'] / trials < 0.75


@pytest.mark.parametrize('metric', METRICS)
def test_order_of_rows_does_not_matter_but_the_seed_does(metric):
  predictions = soft()
  shuffled = predictions.take(np.random.default_rng(5).permutation(120))
  a, b = (bootstrap_interval(p, metric, resamples=50) for p in (predictions, shuffled))
  assert a == b
  assert a.low < a.value < a.high
  other = bootstrap_interval(predictions, metric, resamples=50, seed=1)
  assert other != a


def test_several_seeds_are_averaged_over_the_same_patients():
  runs = [soft(seed=s) for s in range(3)]
  found = bootstrap_interval(runs)
  assert found.value == pytest.approx(np.mean([score(run) for run in runs]))
  # Opposite errors cancel in every resample, which only the same draws for both can do.
  right = np.arange(40) % 3 > 0
  patients = np.arange(40) // 4
  both = bootstrap_interval([right_or_wrong(right, patients), right_or_wrong(~right, patients)])
  assert both.value == pytest.approx(0.5)
  assert both.low is None
  assert 'same score' in both.why


def test_no_interval_where_none_can_be_known():
  one = bootstrap_interval(right_or_wrong([1, 0, 1, 1], ['a'] * 4))
  assert (one.value, one.low, one.high, one.why) == (0.75, None, None, 'one patient only')
  perfect = bootstrap_interval(right_or_wrong([1, 1, 1], ['a', 'b', 'c']))
  assert (perfect.value, perfect.low, perfect.high) == (1, None, None)
  assert 'same score' in perfect.why
  undefined = bootstrap_interval(right_or_wrong([1, 0, 1], ['a', 'b', 'c']), 'auroc')
  assert (undefined.value, undefined.low, undefined.why) == (None, None, 'undefined for these images')


def test_resamples_without_a_defined_score_are_left_out():
  # Patient b alone has brains: a quarter of the resamples hold nobody else, another quarter only a.
  predictions = make([0, 0, 1], [[0.9, 0.1], [0.6, 0.4], [0.7, 0.3]], ['a', 'a', 'b'])
  found = bootstrap_interval(predictions, 'auroc')
  assert found.value == pytest.approx(0.5)
  assert found.why == 'every resample has the same score'


def test_by_group():
  machines = ['E6', 'E6', 'Aloka', '', 'E6', 'Aloka']
  right = [1, 0, 1, 1, 1, 1]
  predictions = right_or_wrong(right, ['a', 'b', 'a', 'c', 'c', 'd'], machines=machines)
  rows = by_group(predictions, 'machine')
  assert [(r.name, r.n, r.patients) for r in rows] == [('Aloka', 2, 2), ('E6', 3, 3), ('', 1, 1)]
  assert [r.accuracy for r in rows] == pytest.approx([1, 2 / 3, 1])
  expected = bootstrap_interval(right_or_wrong([1, 0, 1], ['a', 'b', 'c']))
  assert (rows[1].low, rows[1].high) == (expected.low, expected.high)
  assert [r.why for r in rows] == ['every resample has the same score', '', 'one patient only']
  assert [r.name for r in by_group(predictions, 'operator')] == ['']
  opposite = right_or_wrong(np.logical_not(right), predictions.patients, machines=machines)
  assert [r.accuracy for r in by_group([predictions, opposite], 'machine')] == pytest.approx([0.5] * 3)
  with pytest.raises(ValueError, match='machine, operator, brain_plane'):
    by_group(predictions, 'label')


def test_over_seeds():
  runs = [right_or_wrong(right, list('abcd')) for right in ([1, 1, 1, 0], [1, 1, 0, 0], [1, 1, 1, 1])]
  found = over_seeds(runs)
  assert found.values == pytest.approx([0.75, 0.5, 1])
  assert found.mean == pytest.approx(0.75)
  assert found.sd == pytest.approx(0.25)
  assert over_seeds(runs[:1]).sd is None
  assert over_seeds(runs, 'auroc') == Spread([None] * 3, None, None)


def test_runs_on_other_images_are_refused():
  a = soft()
  with pytest.raises(UserError, match=r"run 0 and run 1.*1 only in the former, 0 only.*'image_0119'"):
    bootstrap_interval([a, a.take(np.arange(119))])
  with pytest.raises(UserError, match=r"run 0: image 'image_0003' is listed twice"):
    bootstrap_interval(a.take(np.array([3, 1, 3])))
  with pytest.raises(UserError, match='no predictions'):
    bootstrap_interval([])


@pytest.mark.parametrize(
  ('metric', 'more', 'message'),
  [
    ('f1', {}, 'accuracy, balanced_accuracy'),
    ('accuracy', {'resamples': 0}, 'resamples=0'),
    ('accuracy', {'level': 95}, 'level=95'),
  ],
)
def test_nonsense_is_refused(metric, more, message):
  with pytest.raises(ValueError, match=message):
    bootstrap_interval(soft(), metric, **more)


def test_images_of_unknown_patients_are_drawn_one_by_one():
  right = [1, 1, 0, 0, 0, 1]
  found = bootstrap_interval(right_or_wrong(right, [''] * 6))
  alone = bootstrap_interval(right_or_wrong(right, ['a', 'b', 'c', 'd', 'e', 'f']))
  assert (found.value, found.low, found.high) == (0.5, alone.low, alone.high)
  assert bootstrap_interval(right_or_wrong([1], [''])).why == 'one image only'
  (row,) = by_group(right_or_wrong(right, [''] * 6), 'machine')
  assert (row.n, row.patients) == (6, None)
