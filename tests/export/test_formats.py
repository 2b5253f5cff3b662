"""The layouts of an export; what they hold is tested in test_export.py."""

import pytest

from fetal_jax.export import formats


@pytest.mark.parametrize(
  ('n', 'name'),
  [
    (0, 'n<1K'),
    (999, 'n<1K'),
    (1000, '1K<n<10K'),
    (60_000, '10K<n<100K'),
    (100_000, '100K<n<1M'),
    (2_000_000, '1M<n<10M'),
  ],
)
def test_size_categories(n, name):
  assert formats.size_category(n) == name
