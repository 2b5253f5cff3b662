"""What the page says of the quality filter, against what the filter and its runs left."""

import copy

import pytest
from helpers import fake_workdir, tiny

from fetal_jax.data.rounds import manifest
from fetal_jax.report import filtering
from fetal_jax.report import run as run_lib

KEPT = ('synth_r12_kept', 'synth_r12_kept_then_real')
REGIMES = ('real', 'synth_r12', 'synth_r12_then_real')


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
  return fake_workdir.make(
    tmp_path_factory.mktemp('filtering'), models=('resnet50',), regimes=REGIMES, kept=KEPT, num_seeds=2
  )


@pytest.fixture(scope='module')
def results(workdir):
  return run_lib.read_results(workdir)


def test_counts_by_class(results):
  table = filtering.by_class(results)
  assert [[cell.text for cell in row] for row in table.rows[:1] + table.rows[-1:]] == [
    ['abdomen', '16', '12', '12', '4', '75.0'],
    ['all', '96', '72', '72', '24', '75.0'],
  ]
  assert table.columns == ['Class', 'Asked for', 'Judge agrees', 'Kept', 'Dropped', 'Kept (%)']


def test_the_rule_in_words(results):
  text = filtering.rule(results)
  assert text.startswith(
    'The filter kept 72 of 96 synthetic images: those for which a judging classifier finds'
  )
  assert ', with a probability of at least 50 %. The judge: last hidden layer of resnet50' in text
  other = copy.deepcopy(results)
  other['filter']['kept']['rule'] = {'min_confidence': 0.0, 'top_k': 3}
  text = filtering.rule(other)
  assert 'at least 50' not in text
  assert 'the most probable one; of those at most 3 a class and round, the most probable ones. ' in text


def test_what_changed_is_what_was_compared(results):
  table = filtering.changes(results)
  assert len(table.rows) == 2
  row = dict(zip(table.columns, table.rows[1], strict=True))
  assert row['Model and regime'].small == 'Pretrained on 96 synthetic, fine-tuned on real'
  # The images of the run that it starts from are counted.
  assert (row['Synthetic images'].text, row['Synthetic images'].small) == ('96', '+ 190 real')
  assert (row['Of these kept'].text, row['Of these kept'].small) == ('72', '+ 190 real')
  compared = results['filter']['models']['resnet50']['synth_r12_kept_then_real']['regimes']
  before, after = (compared[r] for r in ('synth_r12_then_real', 'synth_r12_kept_then_real'))
  assert row['Accuracy without filter'].text == f'{100 * before["scores"]["accuracy"]["value"]:.1f}'
  assert row['Accuracy with filter'].text == f'{100 * after["scores"]["accuracy"]["value"]:.1f}'
  points = 100 * (after['scores']['accuracy']['value'] - before['scores']['accuracy']['value'])
  assert float(row['Difference'].text.replace('−', '-')) == pytest.approx(points, abs=0.051)
  tests = after['mcnemar']
  assert len(tests) == 2
  assert row["McNemar's test"].text == ', '.join(f'{t["only_baseline"]} : {t["only_regime"]}' for t in tests)
  assert [row[0].small for row in table.rows] == [
    'Synthetic only, 96', 'Pretrained on 96 synthetic, fine-tuned on real'
  ]  # fmt: skip


@pytest.mark.parametrize(
  ('low', 'high', 'said'),
  [
    (0.01, 0.04, 'The filter helped: '),
    (-0.04, -0.01, 'The filter hurt: '),
    (-0.01, 0.03, 'No difference by the filter could be shown: '),
    (None, None, 'Whether the filter helped cannot be said: '),
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
  planned = {
    'regime': regime, 'models': {'resnet50': 0.02}, 'seeds': [0], 'images': 40, 'patients': 20, 'value': 0.02, 'low': low,
    'high': high, 'why': 'one patient only' if low is None else '',
  }  # fmt: skip
  text = filtering.did_it_help({'filter': {'planned': planned}})
  assert text.startswith(
    f'{said}{what} changed the test accuracy by +2.0 points against {against} all of them ('
  )


def test_pictures_are_those_of_the_filter(workdir, results):
  kept, dropped = filtering.pictures(results, workdir)
  assert kept.data['light'] == (workdir / 'synthetic' / 'kept.png').read_bytes()
  assert dropped.data['light'] == (workdir / 'synthetic' / 'dropped.png').read_bytes()
  assert 'the least sure of' in kept.alt


def test_stale_metrics_of_filtered_runs_are_pointed_out(results):
  other = copy.deepcopy(results)
  run = next(r for r in other['runs'] if r['regime'] == 'synth_r12_kept')
  run['test_accuracy'] += 0.1
  assert any('synth_r12_kept, seed 0: metrics.json says' in note for note in filtering.changes(other).notes)


def test_a_choice_among_other_images_is_not_shown(tmp_path):
  fake_workdir.make(tmp_path, models=(), kept=('synth_r12_kept',))
  assert run_lib.read_results(tmp_path)['filter']['kept']['rounds']['1']['asked'] == [8] * 6
  manifest.write(tmp_path / 'synthetic' / 'round_2', tiny.manifest(2, per_class=3))
  results = run_lib.read_results(tmp_path)
  assert results['filter'] is None
  assert any('kept.json is about other synthetic rounds' in sentence for sentence in results['missing'])


def test_a_choice_that_nobody_trained_on(tmp_path):
  fake_workdir.make(tmp_path, models=(), kept=('synth_r12_kept',))
  results = run_lib.read_results(tmp_path)
  assert filtering.changes(results) is None
  assert filtering.by_class(results).rows
  assert filtering.did_it_help(results).startswith('Whether the filter helped cannot be said: no model has')


def test_runs_whose_choice_is_gone(workdir, results):
  other = results | {'filter': results['filter'] | {'kept': None}}
  section = filtering.section(other, workdir)
  assert (section['rule'], section['by_class'], section['pictures']) == ('', None, [])
  assert section['changes'].rows


def test_without_the_unfiltered_regime_there_are_dashes(tmp_path):
  fake_workdir.make(tmp_path, models=('resnet50',), regimes=('real',), kept=('synth_r1_kept',), num_images=60)
  results = run_lib.read_results(tmp_path)
  (row,) = filtering.changes(results).rows
  assert (row[1].text, row[1].small, row[2].text) == ('–', 'not run', '36')
  assert [cell.text for cell in row[3:]].count('–') == 3


def test_without_a_filter_there_is_no_section(tmp_path):
  assert filtering.section({'filter': None}, tmp_path) is None
