"""Charts draw in both themes, the same bytes for the same data."""

import dataclasses
import pathlib
import re
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
  for theme, colours in charts.THEMES.items():
    assert _without_names(picture.data[theme]) == _without_names(charts.svg(_draw, [1, 2], theme=colours))


def _without_names(svg):
  """The drawing without the names of its parts, which matplotlib makes from their colours."""
  return re.sub(rb'(?<=[#"])[mpC]\w{10}\b', b'', svg)


@pytest.mark.parametrize('theme', [charts.LIGHT, charts.DARK])
def test_no_two_colours_of_a_theme_are_one(theme):
  colours = [getattr(theme, field.name) for field in dataclasses.fields(theme)]
  assert len(set(colours)) == len(colours)


def test_thin_keeps_means_and_order():
  x, y = charts.thin(list(range(10_000)), [1.0] * 10_000)
  assert len(x) == charts.MOST_POINTS
  assert (np.diff(x) > 0).all()
  assert (y == 1).all()
