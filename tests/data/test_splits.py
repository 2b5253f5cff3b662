import numpy as np
import pytest

from fetal_jax.data import records as records_lib
from fetal_jax.data import splits
from fetal_jax.data.sources.fetal_planes_db import read_metadata
from fetal_jax.runtime.errors import UserError


@pytest.fixture(scope='module')
def published(real_data):
  return read_metadata(real_data / 'FETAL_PLANES_DB_data.csv')


def cohort(patients, classes=('a', 'b'), labels=None, official_train=None):
  n = len(patients)
  labels = np.arange(n) % len(classes) if labels is None else labels
  names = [f'image{i}' for i in range(n)]
  return records_lib.make(names, labels, [str(p) for p in patients], classes, official_train=official_train)


def counts(records, indices):
  return np.bincount(records.labels[indices], minlength=len(records.class_names)).tolist()


def assert_partition(records, split):
  indices = np.concatenate([split.train, split.validation, split.test])
  np.testing.assert_array_equal(np.sort(indices), np.arange(len(records)))
  for side in (split.train, split.validation, split.test):
    assert side.dtype == np.int64
    assert len(side)
    assert (np.diff(side) > 0).all()


@pytest.mark.parametrize('name', splits.SPLITS)
def test_splits_of_the_published_table(published, name):
  split = splits.SPLITS[name](published, seed=3)
  assert_partition(published, split)
  # Validation patients are their own: no honest choice of an epoch without it.
  assert not np.intersect1d(published.patients[split.validation], published.patients[split.train]).size
  of_train_side = np.divide(counts(published, split.validation), counts(published, split.train_side))
  np.testing.assert_allclose(of_train_side, 0.1, atol=0.005)
  again = splits.SPLITS[name](published, seed=3)
  assert splits.split_hash(published, again) == splits.split_hash(published, split)
  other = splits.SPLITS[name](published, seed=4)
  assert splits.split_hash(published, other) != splits.split_hash(published, split)


def test_paper_split_has_the_counts_and_the_leak_of_the_paper(published):
  split = splits.paper(published, seed=0)
  assert counts(published, split.train_side) == [569, 2474, 833, 1375, 1301, 3371]
  whole = splits.paper(published, seed=0, validation=False)
  assert counts(published, whole.train) == [569, 2474, 833, 1375, 1301, 3371]
  assert (len(whole.train), len(whole.validation), len(whole.test)) == (9923, 0, 2477)
  assert counts(published, split.test) == [142, 618, 207, 343, 325, 842]
  about = splits.describe(published, split)
  assert about.images['test']['femur'] == 207
  assert about.totals['test'] == 2477
  assert round(100 * about.test_patient_overlap, 1) == 94.9
  assert round(100 * about.test_patient_class_overlap, 1) == 78.6
  assert about.shared_patients == 963


def test_official_split_is_the_authors(published):
  split = splits.official(published, seed=0)
  assert (len(split.train_side), len(split.test)) == (7129, 5271)
  assert counts(published, split.train_side) == [353, 1620, 516, 1058, 981, 2601]
  about = splits.describe(published, split)
  assert about.shared_patients == 0
  assert about.test_patient_overlap == about.test_patient_class_overlap == 0
  assert about.patients['test'] == 896
  s10 = published.machines == 'Voluson S10'
  assert (s10[split.train_side].sum(), s10[split.test].sum()) == (11, 1071)


@pytest.mark.parametrize('seed', range(8))
def test_patient_split_is_disjoint_and_stratified(published, seed):
  split = splits.patient(published, seed=seed)
  assert splits.describe(published, split).shared_patients == 0
  shares = np.divide(counts(published, split.test), counts(published, slice(None)))
  np.testing.assert_allclose(shares, 0.2, atol=0.005)


def test_patient_split_takes_other_fractions_and_other_patients_by_seed(published):
  half = splits.patient(published, seed=0, test_fraction=0.5)
  assert abs(len(half.test) / len(published) - 0.5) < 0.005
  first, second = (published.patients[splits.patient(published, seed=seed).test] for seed in (0, 1))
  in_both = len(np.intersect1d(first, second)) / len(np.unique(first))
  assert in_both < 0.4  # 0.2 by chance


def test_every_class_is_on_both_sides_where_it_can_be():
  # Class c has two patients only, one of whom has nearly all its images; class d has a single patient.
  patients = [0] * 18 + [1] * 2 + [2] * 10 + list(range(10, 60))
  labels = [2] * 20 + [3] * 10 + [0, 1] * 25
  records = cohort(patients, ('a', 'b', 'c', 'd'), labels)
  for seed in range(5):
    split = splits.patient(records, seed=seed)
    assert counts(records, split.test)[2] > 0
    assert counts(records, split.train_side)[2] > 0
    assert counts(records, split.test)[3] == 0
    assert counts(records, split.train)[3] == 10


def test_paper_rule_on_few_images():
  records = cohort(range(12), ('a',), labels=[0] * 12)
  assert splits.paper(records, seed=0).test.tolist() == [5, 10]


@pytest.mark.parametrize('name', ['paper', 'official', 'patient'])
def test_without_validation_all_but_the_test_images_train(name):
  records = uneven()
  split = splits.SPLITS[name](records, seed=1, validation=False)
  same = splits.SPLITS[name](records, seed=1)
  assert split.test.tolist() == same.test.tolist()
  assert len(split.validation) == 0
  assert split.train.tolist() == sorted({*range(71)} - {*split.test.tolist()})
  found = splits.describe(records, split)
  assert found.totals == {'train': 71 - len(split.test), 'validation': 0, 'test': len(split.test)}
  assert found.patients['validation'] == 0
  assert found.test_patient_overlap == splits.describe(records, same).test_patient_overlap
  assert splits.split_hash(records, split) != splits.split_hash(records, same)


def uneven():
  """71 images of 24 patients, who have 1 to 5 images each, of up to three classes."""
  of_patient = [(p, k) for p in range(24) for k in range(1 + p * 7 % 5)]
  patients, labels = [p for p, _ in of_patient], [(p * p + k) % 7 % 3 for p, k in of_patient]
  return cohort(patients, ('a', 'b', 'c'), labels, official_train=[p % 3 > 0 for p in patients])


# Who is on which side is part of a result: it may not change with the code.
@pytest.mark.parametrize(
  ('name', 'seed', 'test', 'validation'),
  [
    ('paper', 0, [12, 16, 17, 29, 31, 33, 44, 45, 49, 58, 62, 65], [9, 10, 15, 18, 69, 70]),
    ('paper', 1, [12, 16, 17, 29, 31, 33, 44, 45, 49, 58, 62, 65], [30, 34, 35, 36, 37, 38]),
    (
      'official',
      1,
      [0, 9, 10, 16, 17, 18, *range(26, 30), *range(34, 39), 45, 54, 55, 61, 62, 63],
      [*range(49, 54), 60],
    ),
    ('patient', 0, [*range(11, 15), *range(19, 24), 30, *range(34, 39)], [4, 5, 6, 7, 8]),
    ('patient', 1, [0, 1, 2, 3, 9, 10, *range(19, 24), 30, 45, 69, 70], [39, 40, 54, 55, 60]),
  ],
)
def test_a_split_of_a_seed_stays_what_it_is(name, seed, test, validation):
  split = splits.SPLITS[name](uneven(), seed=seed)
  assert split.test.tolist() == test
  assert split.validation.tolist() == validation


def test_a_hash_of_a_split_stays_what_it_is():
  records = uneven()
  found = [splits.split_hash(records, splits.patient(records, seed=s, test_fraction=0.35)) for s in range(8)]
  assert [mark[:8] for mark in found] == [
    '95334f48',
    'a0cfb928',
    '676c0cc8',
    '182a12dc',
    '8d3d503d',
    '69a3d13d',
    '3b003659',
    '08ccc58e',
  ]


def test_hash_is_of_names_and_sides_not_of_order():
  records = cohort(range(20))
  split = splits.patient(records, seed=0)
  order = np.random.default_rng(0).permutation(20)
  position = np.argsort(order)
  moved = splits.Split(*(np.sort(position[getattr(split, side)]) for side in splits.SIDES))
  assert splits.split_hash(records.take(order), moved) == splits.split_hash(records, split)
  swapped = splits.Split(split.validation, split.train, split.test)
  assert splits.split_hash(records, swapped) != splits.split_hash(records, split)


@pytest.mark.parametrize(
  ('name', 'records', 'message'),
  [
    ('patient', cohort([1] * 30), 'no test images: 30 images of 1 patients'),
    ('patient', cohort([1] * 15 + [2] * 15), 'no validation patients: 15 images of 1 patients'),
    ('paper', cohort(range(8)), 'no test images: 8 images of 8 patients'),
    ('official', cohort(range(8)), 'no train/test column: set --config.data.split=patient'),
    ('official', cohort(range(8), official_train=[True] * 8), 'no test images'),
    ('official', cohort(range(8), official_train=[False] * 8), 'no training images'),
    (
      'official',
      cohort([5] * 8, official_train=[True, False] * 4),
      r'1 patients are on both sides .*\(5 is one',
    ),
  ],
)
def test_what_cannot_be_split_is_said(name, records, message):
  with pytest.raises(UserError, match=message):
    splits.SPLITS[name](records, seed=0)


@pytest.mark.parametrize('fraction', [0.0, 1.0, 1.5, -0.1, float('nan')])
def test_a_fraction_that_leaves_a_side_empty_is_refused(fraction):
  with pytest.raises(UserError, match='set it between 0 and 1'):
    splits.patient(uneven(), seed=0, test_fraction=fraction)
