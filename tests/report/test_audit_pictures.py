"""Reliability diagrams, distance histograms, and the closest pairs: shown, or greyed out without fail."""

import io
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from helpers import fake_workdir
from PIL import Image

from fetal_jax.report import audit_figures, audit_pictures, charts, summary
from fetal_jax.report import run as run_lib


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
  return fake_workdir.make(
    tmp_path_factory.mktemp('audit_pictures'), models=('resnet50',), regimes=('real', 'synth_r1'), num_seeds=2,
    evaluated=True, swept=True,
  )  # fmt: skip


@pytest.fixture(scope='module')
def results(workdir):
  return run_lib.read_results(workdir)


def _bin(low, count, confidence=None, accuracy=None):
  return {'low': low, 'high': low + 0.5, 'count': count, 'confidence': confidence, 'accuracy': accuracy}


def test_seeds_are_pooled_by_image():
  one, two = [_bin(0, 1, 0.4, 1.0), _bin(0.5, 0)], [_bin(0, 3, 0.2, 0.0), _bin(0.5, 0)]
  pooled = audit_figures.pooled([one, two])
  assert pooled[0] == _bin(0, 4, pytest.approx(0.25), pytest.approx(0.25))
  assert pooled[1] == _bin(0.5, 0)


def test_reliability_shows_accuracy_over_confidence():
  figure = audit_figures.reliability(
    {'real': [_bin(0, 2, 0.4, 0.5), _bin(0.5, 6, 0.9, 0.7)]}, [], charts.LIGHT
  )
  _, line = figure.axes[0].get_lines()
  np.testing.assert_allclose(line.get_xydata(), [[40, 50], [90, 70]])


def test_reliability_of_both_regimes_draws(results):
  by = summary.groups(results['runs'])['resnet50']
  picture = audit_pictures.reliability('resnet50', by, results)
  assert set(picture.data) == {'light', 'dark'}
  ET.fromstring(picture.data['dark'])
  assert 'real: confidence' in picture.alt
  assert 'synth_r1: confidence' in picture.alt


def test_histograms_are_shares_with_the_threshold():
  histogram = {'edges': [0.0, 1.0, 2.0], 'synthetic': [1, 3], 'heldout': [0, 8]}
  axes = audit_figures.ratios(histogram, 0.7, charts.LIGHT).axes[0]
  steps = [patch.get_data().values.tolist() for patch in axes.patches]
  assert steps == [[0, 100], [0, 100], [25, 75]]
  assert axes.get_lines()[0].get_xdata() == [0.7, 0.7]


def test_a_histogram_for_each_space(results):
  pictures = audit_pictures.ratios(results)
  assert [p.file for p in pictures] == ['copies_pixel.svg', 'copies_feature.svg']
  assert all('the median is' in p.alt for p in pictures)


def test_pairs_are_shown_as_they_were_drawn(workdir, results):
  for name, picture in zip(('pixel', 'feature'), audit_pictures.pairs(results, workdir, True), strict=True):
    assert picture.data['light'] == (workdir / 'evaluate' / f'pairs_{name}.png').read_bytes()
    assert 'The 5 synthetic images' in picture.alt


def test_real_images_of_an_older_picture_are_greyed_out(workdir, results):
  with Image.open(workdir / 'evaluate' / 'pairs_pixel.png') as drawn:
    before = np.array(drawn)
  picture = audit_pictures.pairs(results, workdir, False)[0]
  with Image.open(io.BytesIO(picture.data['light'])) as hidden:
    after = np.array(hidden)
  assert 'not shown' in picture.alt
  side, gap = 96, 2
  left = before.shape[1] - 2 * (side + gap)
  for row in range(5):
    top = gap + row * (side + gap)
    for start in (left, left + side + gap):
      assert (after[top : top + side, start : start + side] == 128).all()
      assert np.ptp(before[top : top + side, start : start + side]) > 100
  np.testing.assert_array_equal(after[:, :left], before[:, :left])  # synthetic images and labels stay


def test_a_picture_of_another_layout_is_left_out_rather_than_shown(tmp_path):
  fake_workdir.make(tmp_path, models=(), evaluated=True)
  results = run_lib.read_results(tmp_path)
  Image.new('L', (300, 301)).save(tmp_path / 'evaluate' / 'pairs_pixel.png')
  assert [p.file for p in audit_pictures.pairs(results, tmp_path, False)] == ['closest_pairs_feature.png']
  assert len(audit_pictures.pairs(results, tmp_path, True)) == 2


def test_sweep_grids(workdir, results):
  assert [p.file for p in audit_pictures.sweep_grids(results, workdir)] == [
    'sweep_scales.png',
    'sweep_samplers.png',
  ]
  assert audit_pictures.sweep_grids(results | {'sweep': None}, workdir) == []
