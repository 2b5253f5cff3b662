"""Classifiers of raw pixels in tables and charts."""

import pytest
from helpers.fake_run import make, pixels

from fetal_jax.report import charts, pixel_rows

RUN = make(pixel_baselines=pixels(majority_class=0.28, random_forest=0.722))


def test_a_row_a_classifier_under_the_headings_that_are_asked():
  columns = ['Model', 'Seeds', 'Accuracy', 'Balanced']
  rows = pixel_rows.rows(RUN, columns, {'Accuracy': 'accuracy', 'Balanced': 'balanced_accuracy'})
  assert [[cell.text for cell in row] for row in rows] == [
    ['Majority class', '–', '28.0', '14.0'],
    ['Random forest', '–', '72.2', '36.1'],
  ]
  assert {row[0].small for row in rows} == {'raw pixels, no network, 32 px'}
  assert rows[1][2].small == '[68.2,\xa076.2]'
  assert rows[1][3].small == ''  # no interval is known


def test_they_are_explained_where_they_stand():
  assert 'no network' in pixel_rows.note(RUN)[0]
  assert pixel_rows.sentence(RUN) == [
    'Trained on raw pixels of the real images, no network: majority class 28.0 %, random forest 72.2 %.'
  ]


def test_lines_of_a_chart():
  _, axes = charts.new_axes(4, 3)
  lines = pixel_rows.lines(RUN, axes, charts.LIGHT)
  assert [line.get_label() for line in lines] == ['majority class (raw pixels)', 'random forest (raw pixels)']
  assert list(lines[1].get_xdata()) == pytest.approx([72.2, 72.2])
  (across,) = pixel_rows.lines(make(pixel_baselines=pixels(a=0.5)), axes, charts.LIGHT, across=True)
  assert list(across.get_ydata()) == [50, 50]


def test_without_any_nothing_is_said():
  nothing = make()
  assert (
    pixel_rows.rows(nothing, ['Model'], {}) == pixel_rows.note(nothing) == pixel_rows.sentence(nothing) == []
  )
  assert pixel_rows.lines(nothing, charts.new_axes(4, 3)[1], charts.LIGHT) == []
