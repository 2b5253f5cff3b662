"""The rules of the verdict, each on a case whose right answer is known."""

import dataclasses

import pytest

from fetal_jax.evaluate import verdict
from fetal_jax.evaluate.verdict import Evidence, Lack, Verdict, Word

SOUND = Evidence(
  low=0.01,
  high=0.05,
  compared=True,
  steps=1.0,
  converged=True,
  beats_pixels=True,
  patients_known=True,
  seeds=3,
)


@pytest.mark.parametrize(
  ('low', 'high', 'word'),
  [
    (0.01, 0.05, Word.HELPED),
    (-0.05, -0.01, Word.HURT),
    (-0.01, 0.05, Word.NO_DIFFERENCE),
    (0.0, 0.05, Word.NO_DIFFERENCE),
    (-0.05, 0.0, Word.NO_DIFFERENCE),
  ],
)
def test_where_nothing_is_missing_the_interval_decides(low, high, word):
  assert verdict.decide(dataclasses.replace(SOUND, low=low, high=high)) == Verdict(word)


@pytest.mark.parametrize(
  ('change', 'lack'),
  [
    ({'steps': None, 'low': None, 'high': None}, Lack.CONTROL),
    ({'steps': 0.99}, Lack.FEWER_STEPS),
    ({'low': None}, Lack.INTERVAL),
    ({'converged': False}, Lack.CONVERGED),
    ({'converged': None}, Lack.CURVE),
    ({'beats_pixels': False}, Lack.PIXELS),
    ({'beats_pixels': None}, Lack.NO_PIXELS),
    ({'patients_known': False}, Lack.PATIENTS),
    ({'seeds': 2}, Lack.SEEDS),
    ({'compared': False, 'seeds': 0, 'steps': None}, Lack.COMPARISON),
  ],
)
@pytest.mark.parametrize('ends', [{}, {'low': -0.05, 'high': 0.01}])
def test_each_thing_that_is_missing_keeps_every_word_from_being_said(change, lack, ends):
  found = dataclasses.replace(SOUND, **(ends | change))
  assert verdict.decide(found) == Verdict(Word.CANNOT_SAY, (lack,))


def test_everything_that_is_missing_is_named():
  found = verdict.decide(dataclasses.replace(SOUND, converged=False, seeds=1))
  assert found.lacks == (Lack.CONVERGED, Lack.SEEDS)


@pytest.mark.parametrize(
  ('low', 'high', 'steps', 'found'),
  [
    (-0.05, -0.01, 1.2, Verdict(Word.CANNOT_SAY, (Lack.MORE_STEPS,))),
    (-0.05, -0.01, 1.1, Verdict(Word.HURT)),
    (0.01, 0.05, 1.2, Verdict(Word.HELPED)),
    (-0.01, 0.05, 1.2, Verdict(Word.NO_DIFFERENCE)),
  ],
)
def test_a_loss_against_a_longer_training_is_no_verdict(low, high, steps, found):
  assert verdict.decide(dataclasses.replace(SOUND, low=low, high=high, steps=steps)) == found


def test_all_models_lack_what_one_of_them_lacks():
  models = {'a': SOUND, 'b': dataclasses.replace(SOUND, beats_pixels=False, seeds=4)}
  together = verdict.of_all(models, -0.02, 0.04)
  assert (together.low, together.high, together.seeds) == (-0.02, 0.04, 3)
  assert verdict.decide(together).lacks == (Lack.PIXELS,)
  assert verdict.decide(verdict.of_all({}, None, None)).lacks == (Lack.COMPARISON,)
  assert verdict.decide(verdict.of_all({'a': SOUND}, 0.01, 0.05)) == Verdict(Word.HELPED)


@pytest.mark.parametrize(
  ('field', 'values', 'lack'),
  [
    ('converged', (True, None), Lack.CURVE),
    ('converged', (None, False), Lack.CONVERGED),
    ('beats_pixels', (None, True), Lack.NO_PIXELS),
    ('steps', (1.3, 0.8), Lack.FEWER_STEPS),
    ('steps', (1.0, None), Lack.CONTROL),
    ('patients_known', (True, False), Lack.PATIENTS),
    ('compared', (True, False), Lack.COMPARISON),
  ],
)
def test_the_worst_of_all_models_counts(field, values, lack):
  models = {f'{value}': dataclasses.replace(SOUND, **{field: value}) for value in values}
  assert lack in verdict.decide(verdict.of_all(models, 0.01, 0.05)).lacks


def test_the_longest_control_of_all_models_counts_in_a_loss():
  models = {'a': SOUND, 'b': dataclasses.replace(SOUND, steps=1.3)}
  assert verdict.decide(verdict.of_all(models, -0.05, -0.01)).lacks == (Lack.MORE_STEPS,)
