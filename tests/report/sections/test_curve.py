"""The sentence, the tables and the charts of accuracy by number of synthetic images."""

import numpy as np
import pytest
from helpers import fake_predictions, fake_run

from fetal_jax.evaluate import curve as curves
from fetal_jax.evaluate import paired
from fetal_jax.report import charts
from fetal_jax.report.page import Pictures, Table, Text
from fetal_jax.report.sections import curve

PATIENTS = np.repeat(np.arange(20), 2)


def _right(n):
  return fake_predictions.right_or_wrong(np.arange(40) < n, PATIENTS)


def _run(models, sizes=None, *, seeds=(0,), runs=()):
  predictions = {
    model: {regime: dict.fromkeys(seeds, _right(n)) for regime, n in right.items()}
    for model, right in models.items()
  }
  found = curves.curve(predictions, {1: 48, 2: 48} if sizes is None else sizes, [])
  return fake_run.make(curve=found, runs=list(runs))


def _trained(regime, steps, start=None):
  return fake_run.classifier(regime, steps=steps, initialised_from=start)


@pytest.mark.parametrize(
  ('right', 'said'),
  [
    (
      (4, 20, 32),
      'rises with their number: +70.0 points from 12 to 96 images (95 % interval over patients +',
    ),
    ((32, 20, 4), 'falls with their number: −70.0 points from 12 to 96 images'),
    ((20, 36, 20), 'was not shown to change with their number: +0.0 points from 12 to 96 images'),
  ],
)
def test_whether_more_images_help_is_the_last_against_the_first(right, said):
  run = _run({'resnet50': dict(zip(('synth_12', 'synth_r1', 'synth_r12'), right, strict=True))})
  text = curve.sentence(run.curve)
  assert text.startswith(f'With synthetic images alone, test accuracy {said}')
  assert text.endswith('; ResNet50).')


def test_what_none_gives_stands_beside():
  right = {'real': 30, 'synth_r1_then_real': 20, 'synth_r12_then_real': 32}
  text = curve.sentence(_run({'a': right, 'b': right}).curve)
  assert text.startswith(
    'With pretraining on synthetic images and fine-tuning on real ones, test accuracy rises'
  )
  assert '+30.0 points from 48 to 96 images' in text
  assert 'mean over 2 models), and +5.0 points from none (' in text


def test_one_patient_gives_no_interval_and_no_claim():
  one = fake_predictions.right_or_wrong([1, 0, 1], ['x', 'x', 'x'])
  predictions = {'a': {regime: {0: one} for regime in ('synth_12', 'synth_r1', 'synth_r12')}}
  found = curves.curve(predictions, {1: 48, 2: 48}, [])
  assert 'cannot be said to change with their number: +0.0 points' in curve.sentence(found)
  assert 'no interval: one patient only' in curve.sentence(found)
  charts.svg(curve.figure, _lines(found), {}, ['a'], theme=charts.DARK)


def test_models_without_two_numbers_in_common_have_no_sentence_together():
  run = _run(
    {
      'a': {'synth_12': 4, 'synth_24': 5, 'synth_36': 6},
      'b': {'synth_36': 4, 'synth_60': 5, 'synth_72': 6},
    },
    {},
  )
  assert 'share no two numbers' in curve.sentence(run.curve)
  table = curve.table(run, 'synthetic')
  assert [cell.text for cell in table.rows[0]] == ['a', '10.0', '12.5', '15.0', '–', '–', '+5.0']


def test_the_table_has_every_point_and_both_changes():
  right = {'real': 30, 'synth_12_then_real': 20, 'synth_r1_then_real': 26, 'synth_r12_then_real': 32}
  table = curve.table(_run({'resnet50': right}, seeds=(0, 1)), 'then_real')
  assert table.columns == [
    'Model', '0: real images only', '12', '48', '96', 'From the fewest to the most', 'From none to the most'
  ]  # fmt: skip
  (row,) = table.rows
  assert [cell.text for cell in row] == ['ResNet50', '75.0', '50.0', '65.0', '80.0', '+30.0', '+5.0']
  assert row[0].small == '2 seeds'
  expected = paired.paired_difference(_right(20), _right(32))
  low, high = (float(end) for end in row[-2].small.strip('[]').split(',\xa0'))
  assert (low, high) == pytest.approx((100 * expected.low, 100 * expected.high), abs=0.0501)
  assert row[-2].best


def test_the_papers_values_stand_where_the_counts_are_the_papers():
  right = {'real': 30, 'synth_10000_then_real': 31, 'synth_r1_then_real': 32, 'synth_r12_then_real': 34}
  as_paper = _run({'vit_b_32': right}, {1: 30_000, 2: 30_000})
  small = [cell.small for cell in curve.table(as_paper, 'then_real').rows[0]]
  assert [text.split('paper\xa0')[1:] for text in small[1:5]] == [['75.5'], [], ['89.6'], ['90.8']]
  points = as_paper.curve['then_real'].models['vit_b_32'].points
  assert curve.papers('vit_b_32', points) == {0: 75.5, 30_000: 89.6, 60_000: 90.8}
  assert 'Hollow: the paper.' in curve.picture(as_paper, 'then_real').caption
  otherwise = _run({'vit_b_32': right}, {1: 15_000, 2: 30_000})
  assert not any('paper' in cell.small for cell in curve.table(otherwise, 'then_real').rows[0])
  assert 'paper' not in curve.picture(otherwise, 'then_real').caption


def _lines(found, use='synthetic'):
  return {model: about.points for model, about in found[use].models.items()}


def test_the_chart_shows_means_and_intervals_by_doublings():
  right = {'real': 30, 'synth_12_then_real': 20, 'synth_r1_then_real': 26, 'synth_r12_then_real': 32}
  lines = _lines(_run({'resnet50': right}).curve, 'then_real')
  axes = curve.figure(lines, {}, ['resnet50'], charts.LIGHT).axes[0]
  (line,) = axes.get_lines()
  np.testing.assert_allclose(line.get_xydata(), [[0, 75], [1, 50], [3, 65], [4, 80]])
  assert [label.get_text() for label in axes.get_xticklabels()] == ['0', '12', '48', '96']
  ends = [segment[:, 1].tolist() for bars in axes.collections for segment in bars.get_segments()]
  np.testing.assert_allclose(ends, [[100 * p.low, 100 * p.high] for p in lines['resnet50']])


def test_labels_that_would_overlap_are_left_out():
  right = {f'synth_{n}': 4 for n in (10, 400, 410, 420)}
  axes = curve.figure(_lines(_run({'a': right}).curve), {}, ['a'], charts.LIGHT).axes[0]
  assert [label.get_text() for label in axes.get_xticklabels()] == ['10', '', '', '420']


def test_both_themes_say_what_they_show():
  found = _run({'resnet50': {'synth_12': 4, 'synth_r1': 20, 'synth_r12': 32}}).curve
  picture = curve.picture(fake_run.make(curve=found), 'synthetic')
  assert picture.file == 'curve_synthetic.svg'
  assert set(picture.data) == {'light', 'dark'}
  assert 'ResNet50: 10.0 % at 12, 50.0 % at 48, 80.0 % at 96' in picture.alt


def test_longer_training_is_said():
  right = {'a': {'synth_12': 4, 'synth_r1': 20, 'synth_r12': 32}}
  runs = [_trained('synth_12', 10), _trained('synth_r1', 20), _trained('synth_r12', 60)]
  assert 'up to 6.0 times the optimiser steps' in curve.longer_training(_run(right, runs=runs))
  same = [_trained(regime, 10) for regime in right['a']]
  assert curve.longer_training(_run(right, runs=same)) == ''


def test_the_steps_of_a_start_count():
  right = {'a': {'synth_12_then_real': 4, 'synth_r1_then_real': 20, 'synth_r12_then_real': 32}}
  runs = [_trained(f'{r}_then_real', 10, r) for r in ('synth_12', 'synth_r1', 'synth_r12')]
  runs += [_trained('synth_12', 10), _trained('synth_r12', 50)]
  assert 'up to 3.0 times' in curve.longer_training(_run(right, runs=runs))


def test_sentence_chart_and_table_stand_together():
  right = {'synth_12': 4, 'synth_r1': 20, 'synth_r12': 32}
  runs = [_trained('synth_12', 10), _trained('synth_r1', 20), _trained('synth_r12', 60)]
  blocks = curve.section(_run({'a': right}, runs=runs)).blocks
  assert [type(block) for block in blocks] == [Text, Text, Pictures, Table]
  assert [block.callout for block in blocks[:2]] == [False, True]


def test_without_a_curve_there_is_no_section():
  assert curve.section(fake_run.make()) is None
