"""Durations and sizes in words."""

import pytest

from fetal_jax.runtime import units


@pytest.mark.parametrize(
  ('seconds', 'said'),
  [
    (0, '0 s'),
    (0.2, '0.2 s'),
    (44.6, '45 s'),
    (59.7, '1 min 0 s'),
    (200, '3 min 20 s'),
    (725, '12 min 5 s'),
    (3600, '1 h 0 min'),
    (25_500, '7 h 5 min'),
    (172_799, '47 h 59 min'),
    (180_000, '2 days 2 h'),
    (1e9, '11,574 days 1 h'),
  ],
)
def test_duration(seconds, said):
  assert units.duration(seconds) == said


@pytest.mark.parametrize(
  ('count', 'said'),
  [
    (0, '0 KiB'),
    (12_300, '12 KiB'),
    (2**20, '1.0 MiB'),
    (210 * 2**20, '210 MiB'),
    (1.94 * 2**30, '1.9 GiB'),
    (9.96 * 2**30, '10 GiB'),
    (3000 * 2**30, '3000 GiB'),
  ],
)
def test_size(count, said):
  assert units.size(count) == said
