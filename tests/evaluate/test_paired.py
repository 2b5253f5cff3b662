"""Differences of two classifiers on the same images, against cases worked out by hand and against scipy."""

import dataclasses
import math

import msgspec
import numpy as np
import pytest
from helpers.fake_predictions import right_or_wrong, soft
from scipy import stats

from fetal_jax.evaluate.intervals import Estimate, bootstrap_interval, score
from fetal_jax.evaluate.paired import (
  McNemar,
  RegimeComparison,
  compare_regimes,
  exchange_test,
  mcnemar,
  paired_difference,
)
from fetal_jax.evaluate.scores import METRICS
from fetal_jax.runtime.errors import UserError

PATIENTS = np.arange(300) // 5


def _pair(gain, seed=0):
  """Right answers of two classifiers that agree but for `gain` (shares won and lost)."""
  rng = np.random.default_rng(seed)
  a = rng.random(300) < 0.7
  u = rng.random(300)
  b = np.where(a, u >= gain[1], u < gain[0])
  return right_or_wrong(a, PATIENTS), right_or_wrong(b, PATIENTS)


def test_identical_predictions_differ_by_nothing():
  a = soft()
  for metric in METRICS:
    assert paired_difference(a, a, metric) == Estimate(0, 0, 0, '')
  assert mcnemar(a, a) == McNemar(0, 0, 1)
  assert exchange_test(a, a) == 1


def test_a_clear_difference_is_clear_and_has_its_sign():
  a, b = _pair((0.6, 0.02))
  found = paired_difference(a, b)
  assert found.value == pytest.approx(score(b) - score(a))
  assert 0 < found.low < found.value < found.high
  assert exchange_test(a, b) < 0.001
  assert mcnemar(a, b).p_value < 0.001
  turned = paired_difference(b, a)
  assert (turned.value, turned.low, turned.high) == pytest.approx((-found.value, -found.high, -found.low))


def test_a_balanced_exchange_is_no_difference():
  a, b = _pair((0.25, 0.11))
  found = paired_difference(a, b)
  assert found.low < 0 < found.high
  assert exchange_test(a, b) > 0.1


def test_pairing_is_surer_than_two_separate_intervals():
  a, b = _pair((0.1, 0.01))
  paired = paired_difference(a, b)
  alone = bootstrap_interval(a)
  assert paired.high - paired.low < (alone.high - alone.low) / 2


def test_order_of_rows_does_not_matter():
  a, b = soft(seed=0), soft(seed=1, skill=0.2)
  shuffled = b.take(np.random.default_rng(0).permutation(len(b)))
  assert paired_difference(a, b) == paired_difference(a, shuffled)
  assert mcnemar(a, b) == mcnemar(a, shuffled)
  assert exchange_test(a, b) == exchange_test(a, shuffled)


def test_one_patient_has_no_interval():
  a, b = right_or_wrong([1, 0, 0], ['a'] * 3), right_or_wrong([1, 1, 0], ['a'] * 3)
  found = paired_difference(a, b)
  assert (found.value, found.low, found.why) == (pytest.approx(1 / 3), None, 'one patient only')
  assert exchange_test(a, b) == 1


def test_mcnemar_by_hand():
  # Both right 3, only a 1, only b 7, both wrong 2: p = 2 (C(8,0) + C(8,1)) / 2^8.
  a = right_or_wrong([1] * 3 + [1] + [0] * 7 + [0] * 2, range(13))
  b = right_or_wrong([1] * 3 + [0] + [1] * 7 + [0] * 2, range(13))
  found = mcnemar(a, b)
  assert (found.only_baseline, found.only_regime) == (1, 7)
  assert found.p_value == pytest.approx(2 * (1 + 8) / 2**8)
  assert found.p_value == pytest.approx(stats.binomtest(7, 8).pvalue)
  assert (mcnemar(b, a).only_baseline, mcnemar(b, a).p_value) == (7, pytest.approx(found.p_value))


def test_exchange_test_by_hand():
  # Three patients gain 2, 1 and 1 images: of 8 sign patterns only +++ and --- are as extreme.
  patients = ['a', 'a', 'b', 'c', 'd']
  a, b = right_or_wrong([0, 0, 0, 0, 1], patients), right_or_wrong([1, 1, 1, 1, 1], patients)
  assert exchange_test(a, b) == pytest.approx(2 / 8)
  # With an image a patient it is McNemar's test, whose p-values are exact too.
  a, b = _pair((0.08, 0.01))
  a, b = (dataclasses.replace(p, patients=p.images) for p in (a, b))
  wins = mcnemar(a, b)
  assert exchange_test(a, b, resamples=2 ** (wins.only_baseline + wins.only_regime)) == pytest.approx(
    wins.p_value
  )


def test_exchange_test_counts_a_patients_images_and_needs_two_patients():
  # Patients gain 3, 1 and -1 images, in total 3: of the 8 sums ±3 ±1 ±1 six are as extreme.
  a = right_or_wrong([0, 0, 0, 0, 1], ['a', 'a', 'a', 'b', 'c'])
  b = right_or_wrong([1, 1, 1, 1, 0], ['a', 'a', 'a', 'b', 'c'])
  assert exchange_test(a, b) == pytest.approx(6 / 8)
  # Two patients gain an image each: of the 4 sums ±1 ±1 two are as extreme.
  assert exchange_test(
    right_or_wrong([0, 0], list('ab')), right_or_wrong([1, 1], list('ab'))
  ) == pytest.approx(2 / 4)


def test_exchange_test_keeps_its_level_where_mcnemar_does_not():
  """Two equally good classifiers, each right or wrong for all 6 images of a patient together."""
  rng = np.random.default_rng(0)
  patients = np.repeat(np.arange(30), 6)
  alarms = {'exchange': 0, 'mcnemar': 0}
  for _ in range(200):
    a, b = (right_or_wrong((rng.random(30) < 0.6)[patients], patients) for _ in range(2))
    alarms['exchange'] += exchange_test(a, b, resamples=199) < 0.05
    alarms['mcnemar'] += mcnemar(a, b).p_value < 0.05
  assert alarms['exchange'] / 200 < 0.1
  assert alarms['mcnemar'] / 200 > 0.2


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (
      lambda b: b.take(np.arange(1, 120)),
      r"1 only in the former, 0 only in the latter, such as 'image_0000'",
    ),
    (lambda b: dataclasses.replace(b, labels=(b.labels + 1) % 3), r"different labels for image 'image_0000'"),
    (lambda b: dataclasses.replace(b, patients=b.images), r"different patients for image 'image_0000'"),
    (
      lambda b: dataclasses.replace(b, class_names=('a', 'b', 'c')),
      r'different classes \(abdomen, brain, femur; a',
    ),
  ],
)
def test_what_differs_between_the_test_sets_is_named(change, message):
  a, b = soft(seed=0), change(soft(seed=1))
  for compare in (paired_difference, mcnemar, exchange_test):
    with pytest.raises(UserError, match='real and mixed: .*' + message) as error:
      compare(a, b, names=('real', 'mixed'))
    assert '\n' not in str(error.value)


def test_compare_regimes():
  runs = {
    'real': [soft(seed=s, skill=0.3) for s in range(2)],
    'synth_r1_then_real': [soft(seed=s, skill=0.9) for s in range(2, 5)],
    'synth_r1': [soft(seed=6, skill=0.1)],
    'synth_r12': [],
  }
  found = compare_regimes(runs, resamples=200)
  assert msgspec.json.decode(msgspec.json.encode(found), type=RegimeComparison) == found
  assert (found.baseline, found.images, found.patients) == ('real', 120, 20)
  assert list(found.regimes) == ['real', 'synth_r1_then_real', 'synth_r1']
  assert any('McNemar' in note and 'ignores' in note for note in found.notes)

  real, better, one = found.regimes.values()
  assert [r.seeds for r in (real, better, one)] == [2, 3, 1]
  assert real.difference is real.p_value is real.mcnemar is None
  for regime, entry in found.regimes.items():
    for metric in METRICS:
      expected = bootstrap_interval(runs[regime], metric, resamples=200)
      cell = entry.scores[metric]
      assert (cell.value, cell.low, cell.high) == (expected.value, expected.low, expected.high)
      assert cell.by_seed == [score(run, metric) for run in runs[regime]]
  assert better.scores['accuracy'].sd == pytest.approx(np.std(better.scores['accuracy'].by_seed, ddof=1))
  assert one.scores['accuracy'].sd is None

  for metric in METRICS:
    expected = paired_difference(runs['real'], runs['synth_r1_then_real'], metric, resamples=200)
    assert better.difference[metric] == expected
  assert better.difference['accuracy'].low > 0
  assert better.p_value < 0.05
  assert len(better.mcnemar) == 2  # as many pairs as there are
  assert len(one.mcnemar) == 1
  first = mcnemar(runs['real'][0], runs['synth_r1_then_real'][0])
  assert better.mcnemar[0] == first


def test_without_the_baseline_there_are_no_differences():
  found = compare_regimes({'synth_r1': [soft()]}, metrics=['accuracy'], resamples=20)
  assert found.baseline is None
  assert found.regimes['synth_r1'].difference is None
  assert list(found.regimes['synth_r1'].scores) == ['accuracy']
  assert math.isfinite(found.regimes['synth_r1'].scores['accuracy'].low)


def test_regimes_on_other_images_are_named():
  with pytest.raises(UserError, match=r'real \(run 0\) and synth_r1: not tested on the same images'):
    compare_regimes({'real': [soft(), soft()], 'synth_r1': [soft(n=100)]})
  with pytest.raises(UserError, match='no predictions'):
    compare_regimes({'real': []})


def test_of_unknown_patients_notes_speak_of_images():
  known, unknown = (
    compare_regimes({'real': [right_or_wrong([1, 0, 1, 0], patients)]})
    for patients in (list('abcd'), [''] * 4)
  )
  assert known.patients == 4
  assert 'bootstrap over patients' in known.notes[0]
  assert unknown.patients is None
  assert 'bootstrap over images, because the patients are unknown' in unknown.notes[0]
  assert 'too narrow if several show one patient' in unknown.notes[0]
  assert 'image by image' in unknown.notes[1]
