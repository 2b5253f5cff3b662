"""The sentence, the tables and the charts of accuracy by number of synthetic images."""

import msgspec
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


def _run(models, sizes=None, *, seeds=(0, 1, 2), runs=()):
  predictions = {
    model: {regime: dict.fromkeys(seeds, _right(n)) for regime, n in right.items()}
    for model, right in models.items()
  }
  found = curves.curve(predictions, {1: 48, 2: 48} if sizes is None else sizes, [])
  known = {'runs': list(runs)} if runs else {}
  regimes = {regime for right in models.values() for regime in right} - {'real'}
  return fake_run.sound(*sorted(regimes), models=tuple(models), seeds=seeds, curve=found, **known)


def _trained(regime, steps, start=None):
  return fake_run.classifier(regime, steps=steps, initialised_from=start)


@pytest.mark.parametrize(
  ('right', 'said'),
  [
    (
      (4, 20, 32),
      'test accuracy rises with their number: +70.0 points from 12 to 96 images (95 % interval over patients +',
    ),
    ((32, 20, 4), 'test accuracy falls with their number: −70.0 points from 12 to 96 images'),
    (
      (20, 36, 20),
      'test accuracy was not shown to change with their number: +0.0 points from 12 to 96 images',
    ),
  ],
)
def test_whether_more_images_help_is_the_last_against_the_first(right, said):
  run = _run({'resnet50': dict(zip(('synth_12', 'synth_r1', 'synth_r12'), right, strict=True))})
  text = curve.sentence(run)
  assert text.startswith(f'With synthetic images alone, {said}')
  assert text.endswith('; ResNet50).')


def test_what_none_gives_stands_beside():
  right = {'real': 30, 'synth_r1_then_real': 20, 'synth_r12_then_real': 32}
  text = curve.sentence(_run({'a': right, 'b': right}))
  assert text.startswith(
    'With pretraining on synthetic images and fine-tuning on real ones, test accuracy rises'
  )
  assert '+30.0 points from 48 to 96 images' in text
  assert 'mean over 2 models), and +5.0 points from none (' in text


def test_a_rise_with_more_steps_is_no_verdict():
  right = {'a': {'synth_12': 4, 'synth_r1': 20, 'synth_r12': 32}}
  found = _run(right)
  runs = [msgspec.structs.replace(one, steps=50) if one.regime == 'synth_12' else one for one in found.runs]
  text = curve.sentence(msgspec.structs.replace(found, runs=runs))
  assert 'with synthetic images alone, whether test accuracy changes' in text.lower()
  assert text.endswith(' Missing for a verdict: the fewest images took fewer optimiser steps.')


def test_one_patient_gives_no_interval_and_no_claim():
  one = fake_predictions.right_or_wrong([1, 0, 1], ['x', 'x', 'x'])
  predictions = {'a': {regime: {0: one} for regime in ('synth_12', 'synth_r1', 'synth_r12')}}
  found = curves.curve(predictions, {1: 48, 2: 48}, [])
  text = curve.sentence(fake_run.sound('synth_12', 'synth_r1', 'synth_r12', models=('a',), curve=found))
  assert 'whether test accuracy changes with their number cannot be said; measured: +0.0 points' in text
  assert 'no interval: one patient only' in text
  assert text.endswith(
    ' Missing for a verdict: the comparison has no interval; there are fewer than 3 seeds.'
  )
  charts.svg(curve.figure, fake_run.make(), _lines(found), {}, ['a'], theme=charts.DARK)


def test_models_without_two_numbers_in_common_have_no_sentence_together():
  run = _run(
    {
      'a': {'synth_12': 4, 'synth_24': 5, 'synth_36': 6},
      'b': {'synth_36': 4, 'synth_60': 5, 'synth_72': 6},
    },
    {},
  )
  assert 'share no two numbers' in curve.sentence(run)
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
  as_paper = msgspec.structs.replace(
    _run({'vit_b_32': right}, {1: 30_000, 2: 30_000}), data=fake_run.planes()
  )
  small = [cell.small for cell in curve.table(as_paper, 'then_real').rows[0]]
  assert [text.split('paper\xa0')[1:] for text in small[1:5]] == [['75.5'], [], ['89.6'], ['90.8']]
  points = as_paper.curve['then_real'].models['vit_b_32'].points
  assert curve.papers(as_paper, 'vit_b_32', points) == {0: 75.5, 30_000: 89.6, 60_000: 90.8}
  assert 'Hollow: the paper.' in curve.picture(as_paper, 'then_real').caption
  other_numbers = msgspec.structs.replace(
    _run({'vit_b_32': right}, {1: 15_000, 2: 30_000}), data=fake_run.planes()
  )
  other_size = msgspec.structs.replace(as_paper, data=fake_run.planes(64))
  other_data = msgspec.structs.replace(as_paper, data=fake_run.data(image_size=128))
  for otherwise in (other_numbers, other_size, other_data):
    assert not any('paper' in cell.small for cell in curve.table(otherwise, 'then_real').rows[0])
    assert 'paper' not in curve.picture(otherwise, 'then_real').caption


def test_raw_pixels_stand_beneath_the_table_and_across_the_chart():
  found = _run({'a': {'synth_12': 4, 'synth_r1': 20, 'synth_r12': 32}})
  pixels = fake_run.pixels(nearest_neighbour=0.561, random_forest=0.722)
  run = msgspec.structs.replace(found, pixel_baselines=pixels)
  assert curve.table(run, 'synthetic').notes[1] == (
    'Trained on raw pixels of the real images, no network: nearest neighbour 56.1 %, random forest 72.2 %.'
  )
  axes = curve.figure(run, _lines(run.curve), {}, ['a'], charts.LIGHT).axes[0]
  across = {line.get_label(): list(line.get_ydata()) for line in axes.get_lines()[1:]}
  assert across == {
    'nearest neighbour (raw pixels)': pytest.approx([56.1, 56.1]),
    'random forest (raw pixels)': pytest.approx([72.2, 72.2]),
  }
  assert 'classifiers of raw pixels' in curve.picture(run, 'synthetic').caption
  without = msgspec.structs.replace(found, pixel_baselines=None)
  assert len(curve.table(without, 'synthetic').notes) == 1


def _lines(found, use='synthetic'):
  return {model: about.points for model, about in found[use].models.items()}


def test_the_chart_shows_means_and_intervals_by_doublings():
  right = {'real': 30, 'synth_12_then_real': 20, 'synth_r1_then_real': 26, 'synth_r12_then_real': 32}
  run = msgspec.structs.replace(_run({'resnet50': right}), pixel_baselines=None)
  lines = _lines(run.curve, 'then_real')
  axes = curve.figure(run, lines, {}, ['resnet50'], charts.LIGHT).axes[0]
  (line,) = axes.get_lines()
  np.testing.assert_allclose(line.get_xydata(), [[0, 75], [1, 50], [3, 65], [4, 80]])
  assert [label.get_text() for label in axes.get_xticklabels()] == ['0', '12', '48', '96']
  ends = [segment[:, 1].tolist() for bars in axes.collections for segment in bars.get_segments()]
  np.testing.assert_allclose(ends, [[100 * p.low, 100 * p.high] for p in lines['resnet50']])


def test_labels_that_would_overlap_are_left_out():
  right = {f'synth_{n}': 4 for n in (10, 400, 410, 420)}
  run = _run({'a': right})
  axes = curve.figure(run, _lines(run.curve), {}, ['a'], charts.LIGHT).axes[0]
  assert [label.get_text() for label in axes.get_xticklabels()] == ['10', '', '', '420']


def test_both_themes_say_what_they_show():
  found = _run({'resnet50': {'synth_12': 4, 'synth_r1': 20, 'synth_r12': 32}})
  picture = curve.picture(found, 'synthetic')
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
