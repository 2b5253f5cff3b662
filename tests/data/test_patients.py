"""A patient whom nobody knows is nobody else, and empty in files."""

import numpy as np
import pytest

from fetal_jax.data import patients


def test_an_unknown_patient_is_like_no_other():
  # The image `Ann` is of somebody unknown, who is not the patient Ann.
  found = patients.named(['Ann', '', ''], ['x', 'Ann', 'y'])
  assert found[0] == 'Ann'
  assert len(set(found)) == 3
  assert patients.known(np.array(found)).tolist() == [True, False, False]


def test_files_have_nothing_where_nobody_knows():
  assert patients.written(np.array(patients.named(['Ann', ''], ['x', 'y']))) == ['Ann', '']


def test_patients_are_counted_where_all_are_known():
  assert patients.count(np.array(['Ann', 'Bea', 'Ann'])) == 2
  assert patients.count(np.array(patients.named(['Ann', ''], ['x', 'y']))) is None


def test_every_image_has_a_patient():
  with pytest.raises(ValueError, match='different lengths: 1, 2'):
    patients.named(['Ann'], ['x', 'y'])
