"""Calibration: the table, and reliability diagrams of all seeds together."""

import statistics
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from helpers import fake_run, fake_workdir

from fetal_jax.evaluate.scores import Bin
from fetal_jax.report import charts
from fetal_jax.report import run as run_lib
from fetal_jax.report.page import Heading, Pictures
from fetal_jax.report.sections import calibration


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  workdir = tmp_path_factory.mktemp('calibration')
  fake_workdir.make(workdir, models=('resnet50',), regimes=('real', 'synth_r1'), num_seeds=2)
  return run_lib.read(workdir)


def _bin(low, count, confidence=None, accuracy=None):
  return Bin(low=low, high=low + 0.5, count=count, confidence=confidence, accuracy=accuracy)


def test_the_table_is_that_of_the_runs(run):
  table = calibration.table(run)
  scores = [one.scores for one in run.runs if one.regime == 'real']
  row = next(row for row in table.rows if row[0].text == 'ResNet50' and 'Real images only' in row[0].small)
  assert row[2].text == f'{50 * sum(s.accuracy for s in scores):.1f}'
  assert row[3].text == f'{50 * sum(s.ece for s in scores):.1f}'
  assert row[3].small == f'±\xa0{100 * statistics.stdev(s.ece for s in scores):.1f}'
  assert row[4].text == f'{sum(s.brier for s in scores) / 2:.3f}'
  assert row[4].small.startswith('[')
  # ECE's sign is lost; confidence beside accuracy has it.
  assert float(row[1].text) > 80


def test_means_are_over_images():
  assert calibration.mean([_bin(0, 1, 0.4, 1.0), _bin(0.5, 0), _bin(0.5, 3, 0.8, 0.0)], 'confidence') == (
    pytest.approx(0.7)
  )


def test_seeds_are_pooled_by_image():
  one, two = [_bin(0, 1, 0.4, 1.0), _bin(0.5, 0)], [_bin(0, 3, 0.2, 0.0), _bin(0.5, 0)]
  pooled = calibration.pooled([one, two])
  assert pooled[0] == _bin(0, 4, pytest.approx(0.25), pytest.approx(0.25))
  assert pooled[1] == _bin(0.5, 0)


def test_the_chart_shows_accuracy_over_confidence():
  diagrams = {'real': [_bin(0, 2, 0.4, 0.5), _bin(0.5, 6, 0.9, 0.7)]}
  figure = calibration.figure(diagrams, {'real': 'Real images only'}, charts.LIGHT)
  _, line = figure.axes[0].get_lines()
  np.testing.assert_allclose(line.get_xydata(), [[40, 50], [90, 70]])


def test_both_regimes_are_drawn(run):
  picture = calibration.reliability(run, 'resnet50')
  assert set(picture.data) == {'light', 'dark'}
  ET.fromstring(picture.data['dark'])
  assert 'real: confidence' in picture.alt
  assert 'synth_r1: confidence' in picture.alt


def test_heading_table_and_diagrams_stand_together(run):
  heading, table, pictures = calibration.blocks(run)
  assert heading == Heading('Is a classifier right as often as it says?')
  assert table.id == 'calibration'
  assert isinstance(pictures, Pictures)
  assert [p.file for p in pictures.pictures] == ['reliability_resnet50.svg']
  assert calibration.blocks(fake_run.make()) == []
