"""Tables and sentences against numbers worked out by hand; the paper's figures against the paper's totals."""

import csv
import io

import pytest
from helpers import fake_workdir

from fetal_jax.report import paper, summary, tables
from fetal_jax.report import run as run_lib


@pytest.fixture(scope='module')
def results(tmp_path_factory):
  return run_lib.read_results(fake_workdir.make(tmp_path_factory.mktemp('tables'), num_seeds=2))


def _run(model, regime, seed, accuracy, **more):
  scores = {
    'n': 100,
    'accuracy': accuracy,
    'balanced_accuracy': accuracy,
    'macro_f1': accuracy,
    'auroc': 0.9,
    'per_class': [{'name': 'brain', 'recall': accuracy}, {'name': 'heart', 'recall': None}],
  }
  return {
    'model': model,
    'regime': regime,
    'seed': seed,
    'protocol': 'honest',
    'test_accuracy': accuracy,
    'test_accuracy_last': accuracy,
    'selected_epoch': 3 + seed,
    'epochs': 9,
    'real_images': 50,
    'synthetic_images': 0,
    'scores': scores,
    **more,
  }


def _results(*runs, rounds=()):
  return {
    'name': 'x', 'config': {}, 'versions': {}, 'git_commit': None, 'stages': {}, 'data': None,
    'rounds': list(rounds), 'diffusion': None, 'runs': list(runs), 'missing': [],
    'comparisons': {'planned': None, 'models': {}, 'groups': {}}, 'evaluation': None, 'sweep': None,
  }  # fmt: skip


def test_the_papers_counts_add_up():
  train, test = (sum(pair[i] for pair in paper.TABLE_1.values()) for i in (0, 1))
  assert (train, test) == (9923, 2477)
  assert paper.TABLE_2_PER_CLASS * len(paper.TABLE_1) * paper.TABLE_2_ROUNDS == 60_000


def test_the_papers_accuracies():
  assert paper.MODELS['vit_b_32'].accuracy['real'] == 75.5
  assert paper.MODELS['swin_t'].accuracy['synth_r1_plus_real'] == 91.6
  assert paper.MODELS['resnet50'].accuracy['synth_r12_then_real'] == 93.2
  # Only tables 3 and 4 have a row for mixed images.
  mixed = [name for name, model in paper.MODELS.items() if 'synth_r1_plus_real' in model.accuracy]
  assert mixed == ['vit_b_32', 'swin_t']
  assert [model.table for model in paper.MODELS.values()] == [3, 4, 5, 6, 7, 7, 7]


def test_mean_and_sd():
  assert summary.mean_and_sd([0.9, None, 0.92]) == pytest.approx((0.91, 0.01 * 2**0.5))
  assert summary.mean_and_sd([0.9]) == (0.9, None)
  assert summary.mean_and_sd([None]) is None
  assert tables.percent((0.91, 0.0141)) == '91.0 ± 1.4'
  assert tables.percent(None) == '–'


def test_gain_of_the_best_synthetic_regime():
  results = _results(
    _run('resnet50', 'real', 0, 0.90),
    _run('resnet50', 'real', 1, 0.92),
    _run('resnet50', 'synth_r1', 0, 0.80),
    _run('resnet50', 'synth_r1_then_real', 0, 0.93),
    _run('resnet50', 'synth_r1_then_real', 1, 0.93),
  )
  (row,) = summary.gains(results)
  assert row['regime'] == 'synth_r1_then_real'
  assert row['gain'] == pytest.approx(0.02)
  text = ' '.join(summary.best_of_many(results))
  assert 'The best test accuracy is 93.0 % of 100 test images (mean of 2 seeds): ResNet50' in text
  assert 'better for 1 of 1 model: ResNet50 91.0 → 93.0 % (+2.0 points)' in text
  assert 'picked after the fact' in text


def test_a_loss_is_called_a_loss():
  results = _results(_run('swin_t', 'real', 0, 0.9), _run('swin_t', 'synth_r1', 0, 0.8))
  text = ' '.join(summary.best_of_many(results))
  assert 'better for 0 of 1 model' in text
  assert '(−10.0 points)' in text
  assert 'one seed' in text


def test_model_table_by_hand():
  runs = [_run('resnet50', 'real', 0, 0.90), _run('resnet50', 'real', 1, 0.92)]
  runs += [_run('resnet50', 'synth_r1', 0, 0.88, real_images=0, synthetic_images=3000)]
  rounds = [{'round': 1, 'counts': {'brain': 1500, 'heart': 1500}}]
  (table,) = tables.by_model(_results(*runs, rounds=rounds))
  assert table.title == 'Table 5 · ResNet50'
  rows = {row[0].text: dict(zip(table.columns, row, strict=True)) for row in table.rows}
  real, synthetic = rows['Real images only'], rows['Synthetic only, 3,000']
  assert (real['This run: accuracy'].text, real['This run: accuracy'].small) == ('91.0', '±\xa01.4')
  assert real['This run: accuracy'].best
  assert real['Paper: accuracy'].text == '92.0'
  assert real['Epoch chosen'].text == '3–4'
  assert real['Recall: heart'].text == '–'
  assert synthetic['Change from real'].text == '−3.0'
  assert synthetic['Regime'].small == '3,000 synthetic'
  assert synthetic['Epoch chosen'].text == '3'
  # Regimes that the paper has and this run lacks are shown, and said to be lacking.
  assert rows['Pretrained on rounds 1 + 2 synthetic, fine-tuned on real']['Regime'].small == 'not run'


def test_stale_metrics_are_pointed_out():
  (table,) = tables.by_model(_results(_run('resnet50', 'real', 0, 0.90, test_accuracy=0.95)))
  assert 'real, seed 0: metrics.json says 95.00 %, but its predictions give 90.00 %' in table.notes[-1]


def test_only_known_figures_of_the_paper_stand_by_class(results):
  small = [c.small for t in tables.by_model(results) for row in t.rows for c in row if 'paper' in c.small]
  assert small == ['paper 30.28', 'paper 44.93']


def test_counts_beside_the_papers(results):
  table = tables.split_counts(results)
  assert [cell.text for cell in table.rows[0]][-2:] == ['569', '142']
  assert [cell.text for cell in table.rows[-1]][-2:] == ['9,923', '2,477']
  ours = sum(int(row[table.columns.index('This run: test')].text) for row in table.rows[:-1])
  assert ours == results['data']['totals']['test']
  synthetic = tables.synthetic_counts(results)
  assert [cell.text for cell in synthetic.rows[1]] == ['brain', '8', '8', '5,000', '5,000']


def test_overview_shows_models_that_were_not_run(results):
  table = tables.overview(results)
  assert [row[0].text for row in table.rows] == [
    'ViT-B/32',
    'Swin-T',
    'ResNet50',
    'DenseNet169',
    'MedMamba-T',
  ]
  swin = table.rows[1]
  assert swin[0].small == 'not run here'
  assert (swin[1].text, swin[1].small) == ('–', 'paper 89.9')
  assert sum(cell.best for cell in table.rows[0]) == 1


def test_csv_has_a_row_a_run(results):
  rows = list(csv.DictReader(io.StringIO(tables.runs_csv(results))))
  assert len(rows) == 2 * 6 * 2
  first = rows[0]
  assert (first['model'], first['regime'], first['seed']) == ('vit_b_32', 'real', '0')
  assert float(first['paper_accuracy']) == 0.755
  assert float(first['scored_accuracy']) == pytest.approx(results['runs'][0]['scores']['accuracy'])
  assert 0 <= float(first['recall_abdomen']) <= 1


def test_markdown_cannot_be_broken_by_a_name():
  table = tables.Table('t', 'T', ['Class', 'n'], [[tables.Cell('a|[b]<i>'), tables.Cell('1', best=True)]])
  assert tables.markdown(table).splitlines()[-1] == r'| a\|\[b\]&lt;i> | **1** |'


@pytest.mark.parametrize(
  ('seconds', 'text'),
  [
    (0.2, '0.2 s'),
    (59, '59 s'),
    (59.7, '1 min 0 s'),
    (200, '3 min 20 s'),
    (25_500, '7 h 5 min'),
    (None, '–'),
  ],
)
def test_duration(seconds, text):
  assert tables.duration(seconds) == text
