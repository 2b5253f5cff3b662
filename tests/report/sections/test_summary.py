"""The sentences that open the page, in every case that they can meet."""

import pytest
from helpers.fake_run import classifier, comparisons, difference, make, scored

from fetal_jax.report.page import Answers, Text, Tiles
from fetal_jax.report.sections import summary


def _said(planned=None, control=None):
  return summary.did_it_help(make(comparisons=comparisons(planned=planned, control=control)))


def test_it_helped():
  assert _said(difference(0.021, 0.004, 0.038)) == (
    'Synthetic data helped: starting from synthetic images of both rounds and fine-tuning on real ones changed the test '
    'accuracy by +2.1 points against real images alone (95 % interval over patients +0.4 to +3.8; mean over 2 models, '
    'better in 2 of them, 3 seeds each; 400 images of 90 patients).'
  )


@pytest.mark.parametrize(
  ('value', 'low', 'high', 'said', 'ends'),
  [
    (-0.021, -0.038, -0.004, 'Synthetic data hurt: ', '−3.8 to −0.4'),
    (0.01, -0.004, 0.024, 'No difference by synthetic data could be shown: ', '−0.4 to +2.4'),
    (0.01, 0.0, 0.024, 'No difference by synthetic data could be shown: ', '+0.0 to +2.4'),
  ],
)
def test_it_hurt_or_made_no_difference(value, low, high, said, ends):
  text = _said(difference(value, low, high))
  assert text.startswith(said)
  assert ends in text


def test_without_an_interval_nothing_is_claimed():
  planned = difference(0.02, None, None, models=('resnet50',), seeds=(0,), why='one patient only')
  text = _said(planned)
  assert text.startswith('Whether synthetic data helped cannot be said: ')
  assert '(no interval: one patient only; ResNet50, one seed; ' in text


def test_without_both_kinds_of_runs_nothing_is_claimed():
  assert 'cannot be said: no model has' in _said()


@pytest.mark.parametrize(
  ('low', 'said', 'ends'),
  [
    (0.002, 'Synthetic data helped: ', '+0.2 to +3.0'),
    (-0.002, 'That synthetic data helped more than longer training does could not', '−0.2 to +3.0'),
  ],
)
def test_the_control_has_a_say_in_the_verdict(low, said, ends):
  text = _said(difference(0.05, 0.02, 0.08), difference(0.01, low, 0.03, baseline='real_then_real'))
  assert text.startswith(said)
  assert f'and by +1.0 points ({ends}) against training twice on real images.' in text


def test_what_was_done_counts_classifiers_and_regimes():
  assert summary.what_was_done(make()) == 'Nothing has been done in this folder yet.'
  runs = [classifier('real'), classifier('real', seed=1)]
  assert summary.what_was_done(make(runs=runs)) == '1 classifier was trained.'
  runs += [classifier('synth_r1', model='b')]
  assert summary.what_was_done(make(runs=runs)) == (
    '2 classifiers were trained in 2 regimes, with and without the synthetic images.'
  )


def test_the_main_figures():
  runs = [classifier('real', model='resnet50', scores=scored(a), seed=s) for s, a in enumerate((0.90, 0.92))]
  planned = difference(0.021, 0.004, 0.038)
  assert summary.tiles(make(runs=runs, comparisons=comparisons(planned=planned))) == [
    ('91.0 %', 'best test accuracy (ResNet50)'),
    ('+2.1 points', 'from synthetic data, mean over models; 95 %: +0.4 to +3.8'),
  ]
  assert summary.tiles(make()) == []


def test_the_section_asks_four_questions_and_warns():
  answers, warning = summary.section(make()).blocks
  assert isinstance(answers, Answers)
  assert [question for question, _ in answers.rows] == [
    'What was done', 'Did synthetic data help?', 'How good are the images?', 'Was anything copied?'
  ]  # fmt: skip
  assert warning == Text(
    'Neither the images nor the classifiers may inform care.', verdict='Not for medical use.', callout=True
  )
  assert summary.section(make(), [Text('a row of images')]).blocks[1] == Text('a row of images')
  with_figures = summary.section(make(runs=[classifier('real', test_accuracy=0.9)])).blocks
  assert isinstance(with_figures[1], Tiles)
