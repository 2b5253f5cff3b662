"""Errors that a user can mend are told from faults of the project."""

import pytest

from fetal_jax.runtime.errors import DamagedFile, UserError


def test_a_damaged_file_is_for_the_user_and_a_wrong_value():
  for kind in (UserError, ValueError):
    with pytest.raises(kind, match=r'split\.json: damaged'):
      raise DamagedFile('split.json: damaged')
  assert not issubclass(UserError, ValueError)
