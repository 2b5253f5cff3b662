"""Pictures are found wherever they stand."""

import base64

from fetal_jax.report import page
from fetal_jax.report.page import Beside, Fold, Picture, Pictures, Strips, Text


def _picture(name):
  return Picture(name, 'alt', 'caption', {'light': b'bytes'})


def test_pictures_of_nested_blocks_are_found_in_order():
  a, b, c, d = (_picture(f'{name}.png') for name in 'abcd')
  blocks = [
    Text('x'),
    Pictures([a]),
    Beside([Text('y'), Fold('z', [Pictures([b])])]),
    Strips(['one', 'two'], [('row', [c, 'none']), ('row', ['none', d])]),
  ]
  assert list(page.pictures(blocks)) == [a, b, c, d]


def test_a_picture_within_the_page():
  assert _picture('a.png').uri('light') == f'data:image/png;base64,{base64.b64encode(b"bytes").decode()}'
  assert _picture('a.svg').uri('light').startswith('data:image/svg+xml;base64,')
