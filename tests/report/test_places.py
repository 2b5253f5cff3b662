"""No local path is published."""

import pytest

from fetal_jax.report.places import without_places


@pytest.mark.parametrize(
  ('value', 'kept'),
  [
    ('/home/somebody/a/b.zip', 'b.zip'),
    ('~/data/b.zip', 'b.zip'),
    (r'C:\Users\me\b.zip', 'b.zip'),
    ('read /mnt/x/b.pth: damaged', 'read b.pth: damaged'),
    ('inception:/mnt/x/b.pth', 'inception:b.pth'),
    ('synthetic/round_1', 'synthetic/round_1'),
    ('https://zenodo.org/records/3904280', 'https://zenodo.org/records/3904280'),
    ('<b>a</b> 1 / 2', '<b>a</b> 1 / 2'),
  ],
)
def test_places_are_left_out(value, kept):
  assert without_places({'x': [value]}) == {'x': [kept]}


def test_settings_that_are_paths_keep_their_last_part():
  config = {
    'data': {'path': '../shared/my data/planes.zip'},
    'init_from': ('weights/a.pt',),
    'compilation_cache': 'auto',
  }
  assert without_places(config) == {
    'data': {'path': 'planes.zip'}, 'init_from': ['a.pt'], 'compilation_cache': 'auto'
  }  # fmt: skip
