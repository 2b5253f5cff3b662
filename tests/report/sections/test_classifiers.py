"""A classifier's table, matrices and curves, against numbers worked out by hand."""

import xml.etree.ElementTree as ET

import numpy as np
import pytest
from helpers import fake_workdir
from helpers.fake_run import classifier, data, make, pixels, planes, scored

from fetal_jax.evaluate import intervals
from fetal_jax.report import charts
from fetal_jax.report import run as run_lib
from fetal_jax.report.groups import groups
from fetal_jax.report.names import regime_title
from fetal_jax.report.page import Fold, Heading, Pictures, Table, Text
from fetal_jax.report.sections import classifiers
from fetal_jax.train import predictions
from fetal_jax.train.results import EpochRow


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
  return fake_workdir.make(tmp_path_factory.mktemp('classifiers'), num_seeds=2)


@pytest.fixture(scope='module')
def run(workdir):
  return run_lib.read(workdir)


def _table(run, model='resnet50'):
  return classifiers.table(run, model, groups(run.runs)[model])


def _one(regime, seed, accuracy, **more):
  known = {'real_images': 50, 'synthetic_images': 0, 'selected_epoch': 3 + seed, 'epochs': 9}
  known |= {'test_accuracy': accuracy, 'test_accuracy_last': accuracy, 'scores': scored(accuracy)}
  return classifier(regime, model='resnet50', seed=seed, **(known | more))


def test_the_table_by_hand():
  runs = [_one('real', 0, 0.90), _one('real', 1, 0.92)]
  runs += [_one('synth_r1', 0, 0.88, real_images=0, synthetic_images=3000)]
  table = _table(make(runs=runs, data=planes()))
  assert table.title == 'Table 5 · ResNet50'
  rows = {row[0].text: dict(zip(table.columns, row, strict=True)) for row in table.rows}
  real, synthetic = rows['Real images only'], rows['Synthetic only, round 1']
  assert (real['This run: accuracy'].text, real['This run: accuracy'].small) == ('91.0', '±\xa01.4')
  assert real['This run: accuracy'].best
  assert real['Paper: accuracy'].text == '92.0'
  assert real['Change from real'].text == '–'
  assert (real['Epoch chosen'].text, real['Epoch chosen'].small) == ('3–4', 'of 9')
  assert (real['Recall: brain'].text, real['Recall: heart'].text) == ('91.0', '–')
  assert synthetic['Change from real'].text == '−3.0'
  assert synthetic['Regime'].small == '3,000 synthetic'
  assert synthetic['Epoch chosen'].text == '3'
  # Regimes that the paper has and this run lacks are shown, and said to be lacking.
  assert rows['Pretrained on rounds 1 + 2 synthetic, fine-tuned on real']['Regime'].small == 'not run'


def test_accuracies_stand_with_their_intervals(workdir, run):
  table = _table(run)
  column = table.columns.index('This run: accuracy')
  for regime in fake_workdir.REGIMES:
    folder = workdir / 'classify' / 'resnet50' / regime
    seeds = [predictions.read_csv(folder / f'seed_{seed}' / 'predictions.csv') for seed in (0, 1)]
    found = intervals.bootstrap_interval(seeds)
    title = regime_title(regime, run.rounds)
    small = next(row for row in table.rows if row[0].text == title)[column].small
    assert small.startswith(f'[{100 * found.low:.1f},\xa0{100 * found.high:.1f}] ±\xa0')


def test_mixed_protocols_are_pointed_out():
  table = _table(make(runs=[_one('real', 0, 0.90), _one('real', 1, 0.9, protocol='paper')]))
  assert table.notes[0] == 'The runs of this table follow different protocols: do not compare them.'


def _small_print(reduced, about):
  names = ('abdomen', 'femur', 'heart')
  runs = [
    classifier('real', model=model, reduced=reduced, parameters=140_000, scores=scored(0.8, names=names))
    for model in ('vit_b_32', 'resnet50')
  ]
  run = make(runs=runs, data=about)
  rows = [row for model in ('vit_b_32', 'resnet50') for row in _table(run, model).rows]
  return [cell.small for row in rows for cell in row if 'paper' in cell.small]


def test_only_known_figures_of_the_paper_stand_by_class():
  assert _small_print(False, planes()) == ['paper 30.28', 'paper 44.93']
  assert _small_print(True, planes()) == _small_print(False, data(image_size=128)) == []


def test_the_papers_accuracies_stand_last_where_networks_are_reduced():
  runs = [_one('real', 0, 0.90, reduced=True, parameters=15_264)]
  table = _table(make(runs=runs, data=planes(32)))
  assert table.title == 'Table 5 · ResNet50 (reduced, 0.0153 M parameters, 32 px)'
  assert table.columns[-1] == 'Paper: full size, 128 px, its own split'
  assert 'Paper: accuracy' not in table.columns
  assert [row[-1].text for row in table.rows] == ['92.0']  # what was not run is not shown


def test_other_data_have_neither_numbers_of_tables_nor_columns_of_the_paper():
  run = make(runs=[_one('real', 0, 0.90)], data=data(image_size=128))
  table = _table(run)
  assert table.title == 'ResNet50'
  assert not any('Paper' in column for column in table.columns)
  assert 'in the paper' not in classifiers.section(run).blocks[0].text


def test_raw_pixels_stand_in_the_table_of_every_classifier():
  found = pixels(nearest_neighbour=0.561, random_forest=0.722)
  table = _table(make(runs=[_one('real', 0, 0.90)], pixel_baselines=found))
  forest = dict(zip(table.columns, table.rows[-1], strict=True))
  assert forest['Regime'].text == 'Random forest'
  assert forest['This run: accuracy'].text == '72.2'
  assert forest['Balanced accuracy'].text == '36.1'
  assert (forest['Macro F1'].text, forest['Epoch chosen'].text) == ('–', '–')


def test_training_accuracy_is_of_the_chosen_epoch_or_the_best_as_the_protocol_asks():
  history = [
    EpochRow(epoch=epoch, step=epoch, train_loss=1.0, train_accuracy=accuracy, score=0.5)
    for epoch, accuracy in enumerate((0.6, 0.95, 0.9), start=1)
  ]
  for protocol, shown, said in (
    ('honest', '60.0', 'of the chosen epoch'),
    ('paper', '95.0', 'the best of all'),
  ):
    one = _one('real', 0, 0.5, protocol=protocol, history=history, train_accuracy=0.6)
    table = _table(make(runs=[one]))
    assert dict(zip(table.columns, table.rows[0], strict=True))['Training accuracy'].text == shown
    assert said in table.notes[0]


def test_a_model_that_the_paper_lacks_has_no_number():
  runs = [classifier('real', model='my_net', scores=scored(0.9))]
  table = _table(make(runs=runs), 'my_net')
  assert table.title == 'my_net'
  assert len(table.rows) == 1


@pytest.mark.parametrize('theme', list(charts.THEMES))
def test_matrices_draw_on_the_pages_card(theme):
  colours = charts.THEMES[theme]
  svg = charts.svg(classifiers.confusion, [[9, 1], [0, 0]], ['a', 'b'], theme=colours)
  ET.fromstring(svg)
  assert colours.surface in svg.decode().lower()


def test_matrices_are_sums_over_seeds():
  run = make(runs=[_one('real', 0, 0.90), _one('real', 1, 0.80)])
  (picture,) = classifiers.confusions(run, 'resnet50', groups(run.runs)['resnet50'])
  assert picture.file == 'confusion_resnet50_real.svg'
  assert picture.caption == 'Real images only, counts over 2 seeds'
  assert picture.alt.endswith('Right by class: brain 85 %, heart 0 %.')


def test_curves_are_means_over_seeds():
  def history(accuracy):
    return [
      EpochRow(
        epoch=e, step=e, train_loss=1.0, train_accuracy=0.5, validation_accuracy=accuracy + e / 10, score=0.5
      )
      for e in (1, 2)
    ]

  runs = [classifier('real', seed=s, history=history(a)) for s, a in enumerate((0.2, 0.4))]
  figure = classifiers.curve_figure({'real': runs}, [], 'validation_accuracy', charts.LIGHT)
  (line,) = figure.axes[0].get_lines()
  np.testing.assert_allclose(line.get_ydata(), [40, 50])
  drawn = classifiers.curves(make(runs=runs), 'a', {'real': runs})
  assert [p.file for p in drawn] == ['curves_a_train_loss.svg', 'curves_a_validation_accuracy.svg']


def test_every_classifier_has_its_blocks(run):
  text, *blocks = classifiers.section(run).blocks
  assert isinstance(text, Text)
  assert [type(block) for block in blocks] == 2 * [Table, Heading, Pictures, Fold]
  assert classifiers.section(make()) is None
