"""Charts draw in both themes, the same bytes for the same data; strips show the pixels they were given."""

import io
import pathlib
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from fetal_jax.report import charts


def _colours(svg: bytes) -> str:
  return svg.decode().lower()


@pytest.mark.parametrize('theme', list(charts.THEMES))
def test_confusion_draws_on_the_pages_card(theme):
  colours = charts.THEMES[theme]
  svg = charts.svg(charts.confusion, [[9, 1], [0, 0]], ['a', 'b'], theme=colours)
  ET.fromstring(svg)
  assert colours.surface in _colours(svg)
  assert svg == charts.svg(charts.confusion, [[9, 1], [0, 0]], ['a', 'b'], theme=colours)


def test_the_pages_cards_have_the_charts_background():
  style = (pathlib.Path(charts.__file__).parent / 'templates' / 'style.css').read_text()
  for theme in charts.THEMES.values():
    assert f'--card: {theme.surface};' in style


def test_diffusion_charts_draw_what_there_is():
  curves = {'unet/loss_q0': ([1, 2], [0.5, 0.4])}
  loss = ET.fromstring(charts.svg(charts.diffusion_loss, curves, 1000, theme=charts.LIGHT))
  curves = {'guide/accuracy_q3': ([1], [0.2])}
  accuracy = ET.fromstring(charts.svg(charts.guide_accuracy, curves, 1000, 6, theme=charts.DARK))
  assert loss.tag == accuracy.tag == '{http://www.w3.org/2000/svg}svg'


def test_quarters_are_named_by_their_timesteps():
  curves = {f'guide/heldout_accuracy_q{q}': ([1, 2], [0.5, 0.4]) for q in range(4)}
  figure = charts.guide_accuracy(curves, 400, 6, charts.LIGHT)
  labels = figure.axes[0].get_legend_handles_labels()[1]
  assert labels == ['t 0–99', 't 100–199', 't 200–299', 't 300–399', 'chance']
  lines = figure.axes[0].get_lines()
  assert lines[0].get_ydata().tolist() == [50, 40]


def test_classifier_curves_are_means_over_seeds():
  runs = [{'history': [{'epoch': e, 'validation_accuracy': a + e / 10} for e in (1, 2)]} for a in (0.2, 0.4)]
  figure = charts.classifier_curves({'real': runs}, [], 'validation_accuracy', charts.LIGHT)
  (line,) = figure.axes[0].get_lines()
  np.testing.assert_allclose(line.get_ydata(), [40, 50])


def test_thin_keeps_means_and_order():
  x, y = charts.thin(list(range(10_000)), [1.0] * 10_000)
  assert len(x) == charts.MOST_POINTS
  assert (np.diff(x) > 0).all()
  assert (y == 1).all()


@pytest.mark.parametrize('channels', [1, 3])
def test_strip_shows_the_pixels(channels):
  images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, channels), np.uint8)
  with Image.open(io.BytesIO(charts.strip(images))) as picture:
    assert picture.size == (3 * 32 + 2, 32)
    pixels = np.asarray(picture)
  np.testing.assert_array_equal(pixels[:, 33:65, :channels], images[1])
  assert (pixels[:, 32, -1] == 0).all()  # the gap is clear


def test_strip_scales_large_images_down():
  with Image.open(io.BytesIO(charts.strip(np.zeros((2, 512, 512, 1), np.uint8)))) as picture:
    assert picture.size[1] == 128
