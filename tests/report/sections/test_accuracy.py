"""The accuracy of all models beside that of raw pixels and the paper's, against numbers worked out by hand."""

import pytest
from helpers import fake_workdir
from helpers.fake_run import classifier, data, make, pixels, planes, scored

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


def test_models_that_were_not_run_stand_with_the_papers_figures():
  runs = _runs('vit_b_32', real=(0.7,), synth_r1=(0.8,)) + _runs('resnet50', real=(0.9,))
  table = accuracy.overview(make(runs=runs, data=planes()))
  assert [row[0].text for row in table.rows] == [
    'ViT-B/32', 'Swin-T', 'ResNet50', 'DenseNet169', 'MedMamba-T'
  ]  # fmt: skip
  swin = table.rows[1]
  assert swin[0].small == 'not run here'
  assert (swin[1].text, swin[1].small) == ('–', 'paper 89.9')
  assert sum(cell.best for cell in table.rows[0]) == 1


def test_the_papers_figures_stand_apart_from_those_of_reduced_networks():
  small = classifier('real', model='swin_t', reduced=True, parameters=140_000, scores=scored(0.6))
  table = accuracy.overview(make(runs=[*_runs('resnet50', real=(0.9,)), small], data=planes()))
  assert table.columns[-1] == 'Paper: full size, 128 px, its own split'
  swin, resnet = table.rows
  assert (swin[0].text, swin[0].small) == ('Swin-T', 'reduced, 0.14 M parameters, 128 px')
  assert (swin[1].text, swin[1].small) == ('60.0', '')
  assert (swin[-1].text, swin[-1].small) == ('89.9', 'real images; best of its regimes 93.1')
  assert (resnet[1].small, resnet[-1].text) == ('paper 92.0', '–')


def test_other_data_have_no_figures_of_the_paper():
  run = make(runs=_runs('resnet50', real=(0.9,)), data=data(image_size=128))
  table = accuracy.overview(run)
  assert [row[0].text for row in table.rows] == ['ResNet50']
  shown = [*table.columns, *(cell.small for cell in table.rows[0]), accuracy.picture(run).caption]
  shown += [small for _, small, _ in accuracy.section(run).blocks[-1].rows]
  assert not any('paper' in text.lower() for text in shown)


def test_raw_pixels_have_a_row_each_and_a_line_in_the_chart():
  found = pixels(nearest_neighbour=0.561, random_forest=0.722)
  run = make(runs=_runs('resnet50', real=(0.6,), synth_r1=(0.5,)), pixel_baselines=found)
  table = accuracy.overview(run)
  nearest, forest = table.rows[1:]
  assert [cell.text for cell in nearest[:3]] == ['Nearest neighbour', '56.1', '–']
  assert (forest[0].small, forest[1].small) == ('raw pixels, no network, 32 px', '[68.2,\xa076.2]')
  assert {len(row) for row in table.rows} == {len(table.columns)}
  assert 'no network' in table.notes[-1]
  axes = accuracy.figure(run, charts.LIGHT).axes[0]
  down = {line.get_label(): list(line.get_xdata()) for line in axes.get_lines()}
  assert down['random forest (raw pixels)'] == pytest.approx([72.2, 72.2])
  legend = [text.get_text() for text in axes.figure.legends[0].get_texts()]
  assert legend[-2:] == ['nearest neighbour (raw pixels)', 'random forest (raw pixels)']
  assert 'random forest on raw pixels: 72.2 %' in accuracy.picture(run).alt
  assert 'random forest 72.2 %' in ' '.join(accuracy.best_of_many(run))


def test_means_and_the_best_of_the_row():
  run = make(runs=_runs('resnet50', real=(0.90, 0.92), synth_r1=(0.80,)), data=planes())
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
    '',
    'The real training images, rotated and flipped at random. What everything else is measured against.',
  )
  assert len(terms.rows) == 6
  assert accuracy.section(make()) is None


def test_the_papers_words_for_a_regime_stand_on_the_page_of_its_data():
  run = make(runs=_runs('resnet50', real=(0.9,)), data=planes(64))
  assert accuracy.section(run).blocks[-1].rows[0][1] == 'paper: real images'
