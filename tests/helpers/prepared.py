"""Prepared data of a few images, for tests of what is asked of patients and splits."""

import dataclasses
import types

import numpy as np

from fetal_jax.data import patients as patients_lib
from fetal_jax.data.prepared import Prepared
from fetal_jax.data.records import Records
from fetal_jax.data.splits import Split

CLASSES = ('a', 'b')


def six_images(patients: str, split: str = 'patient') -> Prepared:
  """Six images, of the patients named by a letter each; two train, two validate, two test."""
  blank = np.array([''] * 6)
  labels = np.array([0, 1] * 3, np.int32)
  names = np.array([f'image{i}' for i in range(6)])
  records = Records(names, labels, np.array(list(patients)), CLASSES, blank, blank, blank, None)
  sides = Split(*np.arange(6).reshape(3, 2))
  return Prepared(
    np.zeros((6, 8, 8, 1), np.uint8), records, sides, types.SimpleNamespace(split=split, split_hash='ours')
  )


def unknown(data: Prepared, *names: str) -> Prepared:
  """The same, with the patients of the images of these names unknown."""
  records = data.records
  given = [
    '' if name in names else patient for name, patient in zip(records.names, records.patients, strict=True)
  ]
  patients = np.array(patients_lib.named(given, records.names))
  return dataclasses.replace(data, records=dataclasses.replace(records, patients=patients))
