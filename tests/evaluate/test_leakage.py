"""The guard of the evaluate stage: what was trained on another split is refused."""

import types

import numpy as np
import pytest

from fetal_jax.data.prepared import Prepared
from fetal_jax.data.records import Records
from fetal_jax.data.splits import Split
from fetal_jax.evaluate import leakage
from fetal_jax.runtime.errors import UserError

CLASSES = ('a', 'b')
JUDGE = types.SimpleNamespace(model='vit_b_32', split_hash='ours')


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


def _round(split_hash: str = 'ours', class_names: tuple[str, ...] = CLASSES) -> types.SimpleNamespace:
  mark = types.SimpleNamespace(split_hash=split_hash)
  manifest = types.SimpleNamespace(checkpoint=mark, class_names=class_names)
  return types.SimpleNamespace(number=1, manifest=manifest)


def test_what_saw_the_training_side_alone_passes():
  found = leakage.check(_data('aabbcc'), [_round()], JUDGE)
  assert (found.split_hash, found.shared_patients, found.test_patient_overlap) == ('ours', 0, 0.0)


def test_the_papers_split_says_how_many_patients_are_on_both_sides():
  found = leakage.check(_data('abccad', 'paper'), [_round()], JUDGE)
  assert (found.shared_patients, found.test_patient_overlap) == (1, 0.5)


@pytest.mark.parametrize('split', ['official', 'patient'])
def test_a_patient_on_both_sides_of_a_disjoint_split_is_refused(split):
  with pytest.raises(UserError, match='1 patients are on both sides'):
    leakage.check(_data('abccad', split), [_round()], JUDGE)


def test_a_generator_of_another_split_is_refused():
  with pytest.raises(UserError, match='the generator of round 1 was trained on split theirs'):
    leakage.check(_data('aabbcc'), [_round('theirs')], JUDGE)


def test_a_judge_of_another_split_is_refused():
  judge = types.SimpleNamespace(model='vit_b_32', split_hash='theirs')
  with pytest.raises(UserError, match='the judge vit_b_32 was trained on split theirs'):
    leakage.check(_data('aabbcc'), [_round()], judge)


def test_a_judge_that_has_seen_none_of_the_data_passes():
  judge = types.SimpleNamespace(model='inception', split_hash=None)
  assert leakage.check(_data('aabbcc'), [_round()], judge).split == 'patient'


def test_rounds_of_other_classes_are_refused():
  with pytest.raises(UserError, match='round 1: its classes are not those of the data'):
    leakage.check(_data('aabbcc'), [_round(class_names=('b', 'a'))], JUDGE)
