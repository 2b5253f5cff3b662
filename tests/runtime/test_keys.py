"""The stages' keys: other numbers would mean other images and weights."""

import jax
import numpy as np
import pytest

from fetal_jax.runtime.keys import stage_key


@pytest.mark.parametrize(('stage', 'number'), [('diffusion', 1), ('sample', 2), ('classify', 3)])
def test_a_stage_folds_its_number_into_the_runs_key(stage, number):
  expected = jax.random.fold_in(jax.random.key(7), number)
  np.testing.assert_array_equal(jax.random.key_data(stage_key(7, stage)), jax.random.key_data(expected))
