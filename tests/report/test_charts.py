"""Charts draw in both themes, the same bytes for the same data."""

import pathlib
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from fetal_jax.report import charts


def _draw(values, theme):
  figure, axes = charts.new_axes(3, 2)
  axes.plot(values, label='a', color=theme.ink)
  charts.finish(axes, 'x', 'y', theme)
  return figure


@pytest.mark.parametrize('theme', list(charts.THEMES))
def test_a_chart_is_svg_on_the_pages_card(theme):
  colours = charts.THEMES[theme]
  svg = charts.svg(_draw, [1, 2], theme=colours)
  assert ET.fromstring(svg).tag == '{http://www.w3.org/2000/svg}svg'
  assert colours.surface in svg.decode().lower()
  assert svg == charts.svg(_draw, [1, 2], theme=colours)


def test_the_pages_cards_have_the_charts_background():
  style = (pathlib.Path(charts.__file__).parent / 'templates' / 'style.css').read_text()
  for theme in charts.THEMES.values():
    assert f'--card: {theme.surface};' in style


def test_a_picture_has_both_themes():
  picture = charts.chart('curve', 'A curve.', 'Rises', _draw, [1, 2])
  assert (picture.file, picture.alt, picture.caption) == ('curve.svg', 'A curve.', 'Rises')
  assert picture.data == {
    'light': charts.svg(_draw, [1, 2], theme=charts.LIGHT), 'dark': charts.svg(_draw, [1, 2], theme=charts.DARK)
  }  # fmt: skip


def test_thin_keeps_means_and_order():
  x, y = charts.thin(list(range(10_000)), [1.0] * 10_000)
  assert len(x) == charts.MOST_POINTS
  assert (np.diff(x) > 0).all()
  assert (y == 1).all()
