"""The guard of the evaluate stage: what was trained on another split is refused."""

import types

import numpy as np
import pytest

from fetal_jax.data.prepare import Prepared
from fetal_jax.data.records import Records
from fetal_jax.data.splits import Split
from fetal_jax.evaluate import stage as evaluate_stage
from fetal_jax.runtime.errors import UserError

CLASSES = ('a', 'b')
JUDGE = types.SimpleNamespace(name='vit_b_32', split_hash='ours')


def _data(patients: str, split: str = 'patient') -> Prepared:
  """Six images, of the patients named by a letter each; two train, two validate, two test."""
  blank = np.array([''] * 6)
  labels = np.array([0, 1] * 3, np.int32)
  names = np.array([f'image{i}' for i in range(6)])
  records = Records(names, labels, np.array(list(patients)), CLASSES, blank, blank, blank, None)
  sides = Split(*np.arange(6).reshape(3, 2))
  return Prepared(np.zeros((6, 8, 8, 1), np.uint8), records, sides, {'split': split, 'split_hash': 'ours'})


def _manifest(split_hash: str = 'ours', class_names: tuple[str, ...] = CLASSES) -> dict:
  return {'round': 1, 'checkpoint': {'split_hash': split_hash}, 'class_names': list(class_names)}


def test_what_saw_the_training_side_alone_passes():
  found = evaluate_stage.check_leakage(_data('aabbcc'), [_manifest()], JUDGE)
  assert (found['split_hash'], found['shared_patients'], found['test_patient_overlap']) == ('ours', 0, 0.0)


def test_the_papers_split_says_how_many_patients_are_on_both_sides():
  found = evaluate_stage.check_leakage(_data('abccad', 'paper'), [_manifest()], JUDGE)
  assert (found['shared_patients'], found['test_patient_overlap']) == (1, 0.5)


@pytest.mark.parametrize('split', ['official', 'patient'])
def test_a_patient_on_both_sides_of_a_disjoint_split_is_refused(split):
  with pytest.raises(UserError, match='1 patients are on both sides'):
    evaluate_stage.check_leakage(_data('abccad', split), [_manifest()], JUDGE)


def test_a_generator_of_another_split_is_refused():
  with pytest.raises(UserError, match='the generator of round 1 was trained on split theirs'):
    evaluate_stage.check_leakage(_data('aabbcc'), [_manifest('theirs')], JUDGE)


def test_a_judge_of_another_split_is_refused():
  judge = types.SimpleNamespace(name='vit_b_32', split_hash='theirs')
  with pytest.raises(UserError, match='the judge vit_b_32 was trained on split theirs'):
    evaluate_stage.check_leakage(_data('aabbcc'), [_manifest()], judge)


def test_a_judge_that_has_seen_none_of_the_data_passes():
  judge = types.SimpleNamespace(name='inception', split_hash=None)
  assert evaluate_stage.check_leakage(_data('aabbcc'), [_manifest()], judge)['split'] == 'patient'


def test_rounds_of_other_classes_are_refused():
  with pytest.raises(UserError, match='round 1: its classes are not those of the data'):
    evaluate_stage.check_leakage(_data('aabbcc'), [_manifest(class_names=('b', 'a'))], JUDGE)


def test_agreement_counts_what_the_judge_sees_instead():
  labels, judged = np.array([0, 0, 0, 1]), np.array([0, 1, 0, 1])
  found = evaluate_stage.agreement(labels, judged, CLASSES)
  assert found['accuracy'] == 0.75
  assert found['per_class'] == {'a': pytest.approx(2 / 3), 'b': 1.0}
  assert found['confusion'] == [[2, 1], [0, 1]]


def test_held_out_patients_that_the_generator_never_saw_speak_where_there_are_enough(monkeypatch):
  data = _data('abccad', 'paper')  # test images 4 and 5, of a (seen in training) and of d
  images, unseen = evaluate_stage.unseen_side(data)
  assert (images.tolist(), unseen) == ([4, 5], False)
  monkeypatch.setattr(evaluate_stage, '_ENOUGH_UNSEEN', 1)
  images, unseen = evaluate_stage.unseen_side(data)
  assert (images.tolist(), unseen) == ([5], True)
