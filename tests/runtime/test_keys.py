"""The stages' keys: other numbers would mean other images and weights."""

import jax
import numpy as np
import pytest

from fetal_jax.runtime.errors import UserError
from fetal_jax.runtime.keys import run_key, stage_key


@pytest.mark.parametrize(('stage', 'number'), [('diffusion', 1), ('sample', 2), ('classify', 3)])
def test_a_stage_folds_its_number_into_the_runs_key(stage, number):
  expected = jax.random.fold_in(jax.random.key(7), number)
  np.testing.assert_array_equal(jax.random.key_data(stage_key(7, stage)), jax.random.key_data(expected))


@pytest.mark.parametrize('seed', [0, 7, 2**31 + 3, 2**32 - 1])
def test_a_seed_of_32_bits_is_that_of_jax(seed):
  expected = jax.random.key_data(jax.random.key(seed))
  np.testing.assert_array_equal(jax.random.key_data(run_key(seed)), expected)


@pytest.mark.parametrize(
  ('seed', 'data'), [(2**32 + 7, [1, 7]), (2**62, [2**30, 0]), (2**63 - 1, [2**31 - 1, 2**32 - 1])]
)
def test_a_seed_means_all_its_bits(seed, data):
  assert jax.random.key_data(run_key(seed)).tolist() == data
  assert jax.random.key_data(run_key(np.int64(seed))).tolist() == data


@pytest.mark.parametrize('seed', [-1, 2**63, 1.5, '7', None])
def test_what_is_no_seed_is_refused(seed):
  with pytest.raises(UserError, match=r'must be a whole number from 0 to 2\^63 - 1'):
    stage_key(seed, 'sample')
