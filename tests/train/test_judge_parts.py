"""The judge's images: what it learns from, what chooses its epoch, and what it is asked about share nothing."""

import types

import numpy as np
import pytest

from fetal_jax import config as config_lib
from fetal_jax.data import records as records_lib
from fetal_jax.data import splits
from fetal_jax.data.prepared import Prepared
from fetal_jax.train import judge_parts


def data(split='patient', images=400, patients=60, seed=0):
  """Made-up data of two classes; patients have some images each."""
  rng = np.random.default_rng(1)
  names = [f'image_{k}' for k in range(images)]
  whose = [f'p{k}' for k in rng.integers(0, patients, images)]
  records = records_lib.make(names, rng.integers(0, 2, images).astype(np.int32), whose, ('a', 'b'))
  sides = splits.SPLITS[split](records, seed=seed)
  return Prepared(np.zeros((images, 4, 4, 1), np.uint8), records, sides, types.SimpleNamespace(seed=seed))


@pytest.mark.parametrize('split', ['patient', 'paper'])
def test_no_image_and_no_patient_is_in_two_parts(split):
  there = data(split)
  parts = judge_parts.divide(there)
  whose = [set(there.records.patients[part]) for part in parts]
  fit, choose, rest, test = whose
  assert not fit & choose
  assert not fit & rest
  assert not choose & rest
  assert not (fit | choose) & test
  assert np.array_equal(np.sort(np.concatenate(parts[:3])), there.split.train)
  assert np.isin(parts.test, there.split.test).all()
  assert len(parts.test) == (len(there.split.test) if split == 'patient' else pytest.approx(40, abs=15))
  for part in parts:
    assert np.array_equal(np.unique(part), part)


def test_half_of_the_training_images_are_learned_from():
  parts = judge_parts.divide(data())
  total = sum(map(len, parts[:3]))
  assert [len(part) / total for part in parts[:3]] == [pytest.approx(x, abs=0.03) for x in (0.5, 0.1, 0.4)]


def test_validation_images_are_in_no_part():
  there = data()
  assert len(there.split.validation) > 0
  assert not np.isin(np.concatenate(judge_parts.divide(there)), there.split.validation).any()


def test_the_same_data_give_the_same_parts_and_another_seed_others():
  first, again, other = (judge_parts.divide(data(seed=seed)) for seed in (0, 0, 1))
  assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
  assert not np.array_equal(first.fit, other.fit)


def test_a_training_side_of_one_or_two_patients_has_no_judge():
  there = data()
  patients = there.records.patients.copy()
  for few in (1, 2):
    patients[there.split.train] = [f'x{k % few}' for k in range(len(there.split.train))]
    records = records_lib.make(there.records.names, there.records.labels, patients, ('a', 'b'))
    assert judge_parts.divide(Prepared(there.images, records, there.split, there.info)) is None


def test_where_all_test_patients_are_known_all_test_images_are_asked_about():
  there = data()
  patients = there.records.patients.copy()
  patients[there.split.test] = patients[judge_parts.divide(there).fit[0]]
  records = records_lib.make(there.records.names, there.records.labels, patients, ('a', 'b'))
  parts = judge_parts.divide(Prepared(there.images, records, there.split, there.info))
  assert np.array_equal(parts.test, there.split.test)


@pytest.mark.parametrize(
  ('asked', 'models', 'expected'),
  [
    ('auto', ('vit_b_32', 'resnet50'), 'resnet50'),
    ('auto', ('vit_b_32', 'swin_t'), 'vit_b_32'),
    ('auto', (), None),
    ('swin_t', ('resnet50',), 'swin_t'),
  ],
)
def test_the_network_is_named_by_the_config_not_by_accuracies(asked, models, expected):
  config = config_lib.default_config()
  config.evaluate.classifier = asked
  config.classify.models = models
  assert judge_parts.model_of(config) == expected
