"""The guard of the evaluate stage: what was trained on another split is refused."""

import types

import pytest
from helpers.prepared import CLASSES, six_images, unknown

from fetal_jax.evaluate import leakage
from fetal_jax.runtime.errors import UserError

JUDGE = types.SimpleNamespace(model='vit_b_32', split_hash='ours')


def _round(split_hash: str = 'ours', class_names: tuple[str, ...] = CLASSES) -> types.SimpleNamespace:
  mark = types.SimpleNamespace(split_hash=split_hash)
  manifest = types.SimpleNamespace(checkpoint=mark, class_names=class_names)
  return types.SimpleNamespace(number=1, manifest=manifest)


def test_what_saw_the_training_side_alone_passes():
  found = leakage.check(six_images('aabbcc'), [_round()], JUDGE)
  assert (found.split_hash, found.shared_patients, found.test_patient_overlap) == ('ours', 0, 0.0)


def test_the_papers_split_says_how_many_patients_are_on_both_sides():
  found = leakage.check(six_images('abccad', 'paper'), [_round()], JUDGE)
  assert (found.shared_patients, found.test_patient_overlap) == (1, 0.5)


@pytest.mark.parametrize('split', ['official', 'patient'])
def test_a_patient_on_both_sides_of_a_disjoint_split_is_refused(split):
  with pytest.raises(UserError, match='1 patients are on both sides'):
    leakage.check(six_images('abccad', split), [_round()], JUDGE)


def test_a_generator_of_another_split_is_refused():
  with pytest.raises(UserError, match='the generator of round 1 was trained on split theirs'):
    leakage.check(six_images('aabbcc'), [_round('theirs')], JUDGE)


def test_a_judge_of_another_split_is_refused():
  judge = types.SimpleNamespace(model='vit_b_32', split_hash='theirs')
  with pytest.raises(UserError, match='the judge vit_b_32 was trained on split theirs'):
    leakage.check(six_images('aabbcc'), [_round()], judge)


def test_a_judge_that_has_seen_none_of_the_data_passes():
  judge = types.SimpleNamespace(model='inception', split_hash=None)
  assert leakage.check(six_images('aabbcc'), [_round()], judge).split == 'patient'


def test_rounds_of_other_classes_are_refused():
  with pytest.raises(UserError, match='round 1: its classes are not those of the data'):
    leakage.check(six_images('aabbcc'), [_round(class_names=('b', 'a'))], JUDGE)


def test_of_unknown_patients_nothing_is_claimed():
  found = leakage.check(unknown(six_images('aabbcc'), 'image5'), [_round()], JUDGE)
  assert found.shared_patients is found.test_patient_overlap is None


def test_a_known_patient_on_both_sides_is_refused_though_others_are_unknown():
  with pytest.raises(UserError, match='1 patients are on both sides'):
    leakage.check(unknown(six_images('abccad'), 'image5'), [_round()], JUDGE)
