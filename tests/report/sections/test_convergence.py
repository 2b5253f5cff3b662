"""Curves of the trainings on real images alone, and whether they still rise."""

import msgspec
from helpers import fake_run

from fetal_jax.report import charts
from fetal_jax.report.page import Pictures, Table, Text
from fetal_jax.report.sections import convergence
from fetal_jax.train.results import EpochRow


def _curve(*scores):
  return [
    EpochRow(epoch=i + 1, step=i + 1, train_loss=1.0, train_accuracy=0.5, score=score)
    for i, score in enumerate(scores)
  ]


def _run(**known):
  flat, rising = _curve(*[0.5] * 8), _curve(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
  runs = [
    fake_run.classifier('real', model='resnet50', history=flat),
    fake_run.classifier('real', model='swin_t', history=rising),
    fake_run.classifier('real', model='vit_b_32', history=flat[:3]),
    fake_run.classifier('synth_r1', model='vit_b_32', history=rising),
  ]
  return fake_run.make(runs=runs, **known)


def test_every_model_has_a_row():
  run = _run()
  table = convergence.table(run, convergence.real_only(run))
  assert table.columns[2] == 'Validation accuracy, last quarter (%)'
  assert [[cell.text for cell in row] for row in table.rows] == [
    ['ResNet50', '8', '50.0', '+0.0 points', 'yes'],
    ['Swin-T', '8', '75.0', '+20.0 points', 'no, still rising'],
    ['ViT-B/32', '3', '–', '–', 'not known: too few epochs'],
  ]


def test_the_rule_is_said_and_on_which_images():
  run = _run()
  assert convergence.rule(run) == (
    'A training counts as converged if, over the last quarter of its epochs, the validation accuracy is on average at '
    'most 1 point higher than over the quarter before, the mean of its seeds. Fewer than 8 epochs do not tell.'
  )
  runs = [msgspec.structs.replace(one, protocol='paper') for one in run.runs]
  said = convergence.rule(msgspec.structs.replace(run, runs=runs))
  assert 'the test accuracy is on average' in said
  assert said.endswith('so that this is judged on the test images.')


def test_the_chart_has_the_mean_over_seeds():
  runs = [fake_run.classifier('real', model='resnet50', seed=s, history=_curve(s / 2, 1.0)) for s in (0, 1)]
  found = convergence.real_only(fake_run.make(runs=runs))
  figure = convergence.figure(found, 'validation accuracy (%)', charts.LIGHT)
  (line,) = figure.axes[0].get_lines()
  assert (line.get_xdata().tolist(), line.get_ydata().tolist()) == ([1, 2], [25, 100])


def test_the_section_has_rule_chart_and_table():
  blocks = convergence.section(_run()).blocks
  assert [type(block) for block in blocks] == [Text, Pictures, Table]
  assert (
    blocks[1]
    .pictures[0]
    .alt.endswith('Converged? ResNet50: yes; Swin-T: no, still rising; ViT-B/32: not known: too few epochs.')
  )


def test_without_runs_on_real_images_there_is_no_section():
  runs = [fake_run.classifier('synth_r1', history=_curve(0.5))]
  assert convergence.section(fake_run.make(runs=runs)) is None
  assert convergence.section(fake_run.make()) is None
