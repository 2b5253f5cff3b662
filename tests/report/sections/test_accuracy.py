"""The accuracy of all models beside the paper's, against numbers worked out by hand."""

import pytest
from helpers import fake_workdir
from helpers.fake_run import classifier, make, scored

from fetal_jax.report import charts
from fetal_jax.report import run as run_lib
from fetal_jax.report.page import Beside, Heading, Table, Terms
from fetal_jax.report.sections import accuracy


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  return run_lib.read(fake_workdir.make(tmp_path_factory.mktemp('accuracy'), num_seeds=2))


def _runs(model, **accuracies):
  return [
    classifier(regime, model=model, seed=seed, scores=scored(value))
    for regime, values in accuracies.items()
    for seed, value in enumerate(values)
  ]


def test_the_gain_of_the_best_synthetic_regime():
  run = make(runs=_runs('resnet50', real=(0.90, 0.92), synth_r1=(0.80,), synth_r1_then_real=(0.93, 0.93)))
  assert accuracy.gains(run) == [('resnet50', pytest.approx(0.91), pytest.approx(0.93))]
  text = ' '.join(accuracy.best_of_many(run))
  assert 'The best test accuracy is 93.0 % of 100 test images (mean of 2 seeds): ResNet50' in text
  assert 'better for 1 of 1 model: ResNet50 91.0 → 93.0 % (+2.0 points)' in text
  assert 'picked after the fact' in text


def test_a_loss_is_called_a_loss():
  text = ' '.join(accuracy.best_of_many(make(runs=_runs('swin_t', real=(0.9,), synth_r1=(0.8,)))))
  assert 'better for 0 of 1 model' in text
  assert '(−10.0 points)' in text
  assert 'one seed' in text


def test_models_that_were_not_run_stand_with_the_papers_figures(run):
  table = accuracy.overview(run)
  assert [row[0].text for row in table.rows] == [
    'ViT-B/32', 'Swin-T', 'ResNet50', 'DenseNet169', 'MedMamba-T'
  ]  # fmt: skip
  swin = table.rows[1]
  assert swin[0].small == 'not run here'
  assert (swin[1].text, swin[1].small) == ('–', 'paper 89.9')
  assert sum(cell.best for cell in table.rows[0]) == 1


def test_means_and_the_best_of_the_row():
  run = make(runs=_runs('resnet50', real=(0.90, 0.92), synth_r1=(0.80,)))
  table = accuracy.overview(run)
  row = dict(zip(table.columns, next(r for r in table.rows if r[0].text == 'ResNet50'), strict=True))
  real, synthetic = row['Real images only'], row['Synthetic only, round 1']
  assert (real.text, real.small, real.best) == ('91.0 ± 1.4', 'paper 92.0', True)
  assert (synthetic.text, synthetic.best) == ('80.0', False)
  assert 'mean ± standard deviation over 2 seeds' in table.notes[0]


def test_how_the_epoch_was_chosen():
  assert accuracy.protocol(make(runs=[classifier('real', protocol='paper')])) == (
    'The epoch was chosen on the test set, as in the paper, which flatters every accuracy.'
  )
  both = accuracy.protocol(make(runs=[classifier('real'), classifier('real', protocol='paper')]))
  assert both.count('The epoch was chosen') == 2
  assert accuracy.protocol(make()) == ''


def test_the_chart_has_a_row_a_model(run):
  axes = accuracy.figure(run, charts.LIGHT).axes[0]
  assert [label.get_text() for label in axes.get_yticklabels()] == ['ViT-B/32', 'ResNet50']
  assert 'ResNet50: real ' in accuracy.picture(run).alt


def test_the_section_says_what_each_regime_is(run):
  beside, table, heading, terms = accuracy.section(run).blocks
  assert [type(b) for b in (beside, table, heading, terms)] == [Beside, Table, Heading, Terms]
  assert terms.rows[0] == (
    'Real images only',
    'paper: real images',
    'The real training images, rotated and flipped at random. What everything else is measured against.',
  )
  assert len(terms.rows) == 6
  assert accuracy.section(make()) is None
