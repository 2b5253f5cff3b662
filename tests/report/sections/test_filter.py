"""What the page says of the quality filter, against what the filter and its runs left."""

import msgspec
import pytest
from helpers import fake_run, fake_workdir

from fetal_jax.report import run as run_lib
from fetal_jax.report.page import Pictures, Table, Text
from fetal_jax.report.run import FilterResults
from fetal_jax.report.sections import filter as filtering
from fetal_jax.train.kept import Rule

KEPT = ('synth_r12_kept', 'synth_r12_kept_then_real')
REGIMES = ('real', 'synth_r12', 'synth_r12_then_real')


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
  return fake_workdir.make(
    tmp_path_factory.mktemp('filtering'), models=('resnet50',), regimes=REGIMES, kept=KEPT, num_seeds=2
  )


@pytest.fixture(scope='module')
def run(workdir):
  return run_lib.read(workdir)


def test_counts_by_class(run):
  table = filtering.by_class(run.filter.kept)
  assert [[cell.text for cell in row] for row in table.rows[:1] + table.rows[-1:]] == [
    ['abdomen', '16', '12', '12', '4', '75.0'],
    ['all', '96', '72', '72', '24', '75.0'],
  ]
  assert table.columns == ['Class', 'Asked for', 'Judge agrees', 'Kept', 'Dropped', 'Kept (%)']
  assert table.notes == ['Images of 2 rounds together.']


def test_the_rule_in_words(run):
  kept = run.filter.kept
  text = filtering.rule(kept)
  assert text.startswith(
    'The filter kept 72 of 96 synthetic images: those for which a judging classifier finds'
  )
  assert ', with a probability of at least 50 %. The judge: last hidden layer of resnet50' in text
  text = filtering.rule(msgspec.structs.replace(kept, rule=Rule(min_confidence=0.0, top_k=3)))
  assert 'at least 50' not in text
  assert 'the most probable one; of those at most 3 a class and round, the most probable ones. ' in text


def test_what_changed_is_what_was_compared(run):
  table = filtering.changes(run)
  assert [row[0].small.partition('; reduced')[0] for row in table.rows] == [
    'Synthetic only, 96', 'Pretrained on 96 synthetic, fine-tuned on real'
  ]  # fmt: skip
  row = dict(zip(table.columns, table.rows[1], strict=True))
  # The images of the run that it starts from are counted.
  assert (row['Synthetic images'].text, row['Synthetic images'].small) == ('96', '+ 190 real')
  assert (row['Of these kept'].text, row['Of these kept'].small) == ('72', '+ 190 real')
  compared = run.filter.models['resnet50']['synth_r12_kept_then_real'].regimes
  before, after = (compared[r] for r in ('synth_r12_then_real', 'synth_r12_kept_then_real'))
  accuracies = [regime.scores['accuracy'].value for regime in (before, after)]
  assert row['Accuracy without filter'].text == f'{100 * accuracies[0]:.1f}'
  assert row['Accuracy with filter'].text == f'{100 * accuracies[1]:.1f}'
  points = 100 * (accuracies[1] - accuracies[0])
  assert float(row['Difference'].text.replace('−', '-')) == pytest.approx(points, abs=0.051)
  assert len(after.mcnemar) == 2
  assert row["McNemar's test"].text == ', '.join(
    f'{t.only_baseline} : {t.only_regime}' for t in after.mcnemar
  )


def _said(planned, *regimes, **known):
  found = FilterResults(kept=None, planned=planned, models={})
  return filtering.did_it_help(fake_run.sound(*regimes, filter=found, **known))


@pytest.mark.parametrize(
  ('low', 'high', 'said'),
  [
    (0.01, 0.04, 'The filter helped: '),
    (-0.04, -0.01, 'The filter hurt: '),
    (-0.01, 0.03, 'No difference by the filter was shown: '),
    (None, None, 'Whether the filter helped cannot be said: the comparison has no interval. Measured: '),
  ],
)
@pytest.mark.parametrize(
  ('regime', 'what', 'against'),
  [
    ('synth_r12_kept_then_real', 'pretraining on the kept images of both rounds and fine-tuning on real ones', 'pretraining on'),
    ('synth_r1_kept_plus_real', 'mixing the kept images of round 1 with the real ones', 'mixing in'),
    ('synth_r1_kept', 'training on the kept images of round 1 alone', 'training on'),
  ],
)  # fmt: skip
def test_did_it_help(low, high, said, regime, what, against):
  why = 'one patient only' if low is None else ''
  before = regime.replace('_kept', '')
  text = _said(fake_run.difference(0.02, low, high, baseline=before, regime=regime, why=why), before, regime)
  assert text.startswith(
    f'{said}{what} changed the test accuracy by +2.0 points against {against} all of them ('
  )


def test_a_loss_with_fewer_steps_is_no_verdict():
  pair = ('synth_r12', 'synth_r12_kept')
  loss = fake_run.difference(-0.02, -0.03, -0.01, baseline=pair[0], regime=pair[1])
  found = fake_run.sound(*pair, filter=FilterResults(kept=None, planned=loss, models={}))
  runs = [msgspec.structs.replace(one, steps=60) if one.regime == pair[1] else one for one in found.runs]
  assert filtering.did_it_help(msgspec.structs.replace(found, runs=runs)).startswith(
    'Whether the filter helped cannot be said: the same without the filter took more optimiser steps, which may be the '
    'cause. Measured: '
  )


def test_pictures_are_those_of_the_filter(workdir):
  kept, dropped = filtering.pictures(workdir)
  assert kept.data['light'] == (workdir / 'synthetic' / 'kept.png').read_bytes()
  assert dropped.data['light'] == (workdir / 'synthetic' / 'dropped.png').read_bytes()
  assert 'the least sure of' in kept.alt


def test_the_section_has_its_blocks_in_order(workdir, run):
  blocks = filtering.section(run, workdir).blocks
  assert [type(block) for block in blocks] == [Text, Text, Table, Table, Pictures]
  assert [block.id for block in blocks[2:4]] == ['filter-changes', 'filter-classes']


def test_a_choice_that_nobody_trained_on(tmp_path):
  fake_workdir.make(tmp_path, models=(), kept=('synth_r12_kept',))
  run = run_lib.read(tmp_path)
  assert filtering.changes(run) is None
  said, _, table, _ = filtering.section(run, tmp_path).blocks
  assert said.text.startswith('Whether the filter helped cannot be said: no model has')
  assert table.id == 'filter-classes'


def test_runs_whose_choice_is_gone(workdir, run):
  other = msgspec.structs.replace(run, filter=msgspec.structs.replace(run.filter, kept=None))
  said, table = filtering.section(other, workdir).blocks
  assert isinstance(said, Text)
  assert table.id == 'filter-changes'


def test_without_the_unfiltered_regime_there_are_dashes(tmp_path):
  fake_workdir.make(tmp_path, models=('resnet50',), regimes=('real',), kept=('synth_r1_kept',), num_images=60)
  (row,) = filtering.changes(run_lib.read(tmp_path)).rows
  assert (row[1].text, row[1].small, row[2].text) == ('–', 'not run', '36')
  assert [cell.text for cell in row[3:]].count('–') == 3


def test_without_a_filter_there_is_no_section(tmp_path):
  assert filtering.section(fake_run.make(), tmp_path) is None
