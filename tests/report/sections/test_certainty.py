"""Intervals and tests on the page are what the comparison of the predictions gives."""

import pytest
from helpers import fake_run, fake_workdir

from fetal_jax.evaluate import paired
from fetal_jax.report import run as run_lib
from fetal_jax.report.page import Fold, Text
from fetal_jax.report.sections import certainty
from fetal_jax.train import predictions as predictions_lib

REGIMES = ('real', 'synth_r1', 'synth_r12_then_real')


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
  return fake_workdir.make(tmp_path_factory.mktemp('certainty'), regimes=REGIMES, num_seeds=2)


@pytest.fixture(scope='module')
def run(workdir):
  return run_lib.read(workdir)


@pytest.fixture(scope='module')
def predictions(workdir):
  def read(model, regime, seed):
    folder = workdir / 'classify' / model / regime / f'seed_{seed}'
    return predictions_lib.read_csv(folder / 'predictions.csv')

  return {m: {r: [read(m, r, s) for s in (0, 1)] for r in REGIMES} for m in ('vit_b_32', 'resnet50')}


def _number(text):
  return float(text.replace('−', '-'))


def test_differences_are_those_of_the_comparison(run, predictions):
  table = certainty.differences(run)
  assert [row[0].text for row in table.rows] == ['ViT-B/32', 'ResNet50']
  for row, model in zip(table.rows, ('vit_b_32', 'resnet50'), strict=True):
    found = paired.compare_regimes(predictions[model]).regimes
    for cell, regime in zip(row[1:], REGIMES[1:], strict=True):
      change = found[regime].difference['accuracy']
      ends, _, p = cell.small.partition(' · p\xa0')
      low, high = (_number(end) for end in ends.strip('[]').split(',\xa0'))
      assert _number(cell.text) == pytest.approx(100 * change.value, abs=0.0501)
      assert (low, high) == pytest.approx((100 * change.low, 100 * change.high), abs=0.0501)
      assert (
        found[regime].p_value < 0.001
        if p == '<\xa00.001'
        else float(p) == pytest.approx(found[regime].p_value, abs=0.0051)
      )
      assert cell.best == (change.low > 0 or change.high < 0)
  assert paired.NOTES[2] in table.notes


def test_mcnemar_counts(run, predictions):
  table = certainty.mcnemar(run)
  pairs = zip(predictions['resnet50']['real'], predictions['resnet50']['synth_r1'], strict=True)
  counts = []
  for before, after in pairs:
    right = [p.probabilities.argmax(axis=1) == p.labels for p in (before, after)]
    counts.append(f'{(right[0] & ~right[1]).sum()} : {(right[1] & ~right[0]).sum()}')
  assert table.rows[1][1].text == ', '.join(counts)


def test_subgroups_are_of_all_images(run):
  table = next(t for t in certainty.subgroups(run) if t.id == 'groups-resnet50')
  for kind in ('US machine', 'Operator', 'Brain plane'):
    images = [int(row[1].text) for row in table.rows if row[0].text.startswith(f'{kind}: ')]
    assert sum(images) == run.data.totals['test']
  assert any(row[0].text == 'US machine: unknown' for row in table.rows)
  assert len(table.columns) == 5


def test_every_score_has_its_interval(run):
  table = certainty.scores(run)
  networks, pixels = table.rows[: 2 * len(REGIMES)], table.rows[2 * len(REGIMES) :]
  assert all(cell.small.startswith('[') and '±' in cell.small for row in networks for cell in row[1:])
  assert [row[0].text for row in pixels] == [
    'Majority class', 'Nearest neighbour', 'Logistic regression', 'Random forest'
  ]  # fmt: skip
  assert [cell.text for cell in pixels[-1][1:]] == ['72.0', '55.0', '–', '–', '–']


def test_details_are_behind_their_titles(run):
  blocks = certainty.section(run).blocks
  assert [block.title for block in blocks if isinstance(block, Fold)] == [
    'All scores with their intervals', "McNemar's test", 'By US machine, operator and brain plane'
  ]  # fmt: skip
  assert [block.id for block in blocks[:1]] == ['verdicts']
  assert 'differences' in [getattr(block, 'id', '') for block in blocks]


def test_verdicts_by_model_and_what_they_rest_on():
  found = fake_run.comparisons(
    planned=fake_run.difference(0.05, 0.02, 0.08),
    control=fake_run.difference(0.021, 0.004, 0.038, baseline='real_then_real'),
  )
  run = fake_run.sound('synth_r12_then_real', 'real_then_real', comparisons=found)
  table = certainty.verdict_table(run)
  assert [[cell.text for cell in row] for row in table.rows] == [
    ['ResNet50', 'helped', '+2.1', '1.00', '90.0 ± 0.0', 'converged', '3'],
    ['ViT-B/32', 'helped', '+2.1', '1.00', '90.0 ± 0.0', 'converged', '3'],
    ['All, mean', 'helped', '+2.1', '–', '–', '–', '–'],
  ]
  assert table.rows[0][4].small == 'raw pixels: 70.0 (random forest)'
  assert table.rows[0][1].small == ''


def test_a_verdict_that_lacks_something_says_what():
  found = fake_run.comparisons(
    planned=fake_run.difference(0.05, 0.02, 0.08, models=('resnet50',), seeds=(0,))
  )
  run = fake_run.sound('synth_r12_then_real', models=('resnet50',), comparisons=found, pixel_baselines=None)
  (row,) = certainty.verdict_table(run).rows
  assert (row[1].text, row[1].small) == ('cannot be said', 'lacks: control, raw pixels, seeds')
  assert (row[2].text, row[2].small, row[3].text) == ('–', 'no control', '–')
  assert row[4].small == 'raw pixels: not known'


def test_without_a_comparison_there_is_no_table_of_verdicts():
  assert certainty.verdict_table(fake_run.make()) is None


def test_without_real_images_only_scores_are_left(tmp_path):
  fake_workdir.make(tmp_path, models=('resnet50',), regimes=('synth_r1',))
  run = run_lib.read(tmp_path)
  assert certainty.differences(run) is None
  assert certainty.mcnemar(run) is None
  assert [row[0].text for row in certainty.scores(run).rows].count('ResNet50') == 1
  first = certainty.section(run).blocks[0]
  assert isinstance(first, Text)
  assert first.text.endswith('there is nothing to compare.')


def test_without_predictions_there_is_no_section():
  assert certainty.section(fake_run.make()) is None


def test_longer_training_is_said():
  def one(regime, steps, start=None, real=9):
    return fake_run.classifier(regime, steps=steps, real_images=real, initialised_from=start)

  runs = [
    one('real', 100),
    one('synth_r1_then_real', 100, 'synth_r1'),
    one('synth_r1', 50, real=0),
  ]
  said = certainty.longer_training(fake_run.make(runs=runs))
  assert 'up to 1.5 times the optimiser steps' in said
  assert 'The regime real_then_real would tell.' in said
  same = [one('real', 100), one('synth_r1_plus_real', 100)]
  assert certainty.longer_training(fake_run.make(runs=same)) == ''


def test_the_control_tells_longer_training_from_synthetic_data():
  runs = [
    fake_run.classifier(regime, steps=steps, real_images=9, initialised_from=start)
    for regime, steps, start in (
      ('real', 100, None),
      ('real_then_real', 100, 'real'),
      ('synth_r12_then_real', 200, None),
    )
  ]
  control = fake_run.difference(0.012, -0.004, 0.03, baseline='real_then_real')
  said = certainty.longer_training(
    fake_run.make(runs=runs, comparisons=fake_run.comparisons(control=control))
  )
  assert 'is +1.2 points (95 % interval −0.4 to +3.0), the mean over 2 models.' in said
  assert 'would tell' not in said
