"""What was due at the last step is done once; tests/train/test_diffusion.py has the stage that asks."""

import pytest

from fetal_jax.runtime.errors import DamagedFile
from fetal_jax.train import caught_up


def test_it_is_about_one_step(tmp_path):
  assert not caught_up.has(tmp_path, 40)
  caught_up.write(tmp_path, 40)
  assert caught_up.has(tmp_path, 40)
  assert not caught_up.has(tmp_path, 60)


def test_it_is_forgotten_where_training_goes_on(tmp_path):
  caught_up.forget(tmp_path)  # nothing is there
  caught_up.write(tmp_path, 40)
  caught_up.forget(tmp_path)
  assert not caught_up.has(tmp_path, 40)


def test_a_damaged_file_is_named_with_the_remedy(tmp_path):
  caught_up.write(tmp_path, 40)
  path = tmp_path / 'diffusion' / 'caught_up.json'
  path.write_text(path.read_text().replace('40', '41'))
  with pytest.raises(
    DamagedFile, match=r'caught_up\.json.*delete it: evaluation and previews are done again'
  ):
    caught_up.has(tmp_path, 40)
