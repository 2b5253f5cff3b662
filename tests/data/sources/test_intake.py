"""What a source says of what it holds."""

import pytest

from fetal_jax.data.sources.intake import Intake


@pytest.mark.parametrize(
  ('intake', 'said'),
  [
    (
      Intake(
        rows=12_400, files=12_403, images=12_400, left_out={'images without a row': 2, 'hidden files': 1}
      ),
      '12,400 rows and 12,403 files read, 12,400 images taken; left out: 2 images without a row, 1 hidden files',
    ),
    (Intake(files=30, images=30, left_out={}), '30 files read, 30 images taken; left out: nothing'),
  ],
)
def test_in_words(intake, said):
  assert str(intake) == said
