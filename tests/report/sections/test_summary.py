"""The sentences that open the page, in every case that they can meet."""

import msgspec
import pytest
from helpers import fake_workdir
from helpers.fake_run import classifier, comparisons, data, difference, make, scored, sound

from fetal_jax.report import run as run_lib
from fetal_jax.report.page import Answers, Text, Tiles
from fetal_jax.report.sections import summary

REGIMES = ('synth_r12_then_real', 'real_then_real')


def _said(planned, control=None, **known):
  return summary.did_it_help(
    sound(*REGIMES, comparisons=comparisons(planned=planned, control=control), **known)
  )


def _against_control(value, low, high, **about):
  return difference(value, low, high, baseline='real_then_real', **about)


def test_it_helped():
  assert _said(difference(0.087, 0.073, 0.101), _against_control(0.021, 0.004, 0.038)) == (
    'Synthetic data helped: starting from synthetic images of both rounds and fine-tuning on real ones changed the test '
    'accuracy by +2.1 points against as many optimiser steps on real images alone (95 % interval over patients +0.4 to '
    '+3.8; mean over 2 models, better in 2 of them, 3 seeds each; 400 images of 90 patients); against real images alone, '
    'which take fewer steps, by +8.7 points (+7.3 to +10.1). The interval is about new patients like these. It is not about '
    'other models, or about training the generator again.'
  )


@pytest.mark.parametrize(
  ('value', 'low', 'high', 'said', 'ends'),
  [
    (-0.021, -0.038, -0.004, 'Synthetic data hurt: ', '−3.8 to −0.4'),
    (0.01, -0.004, 0.024, 'No difference by synthetic data was shown: ', '−0.4 to +2.4'),
    (0.01, 0.0, 0.024, 'No difference by synthetic data was shown: ', '+0.0 to +2.4'),
  ],
)
def test_it_hurt_or_made_no_difference_against_the_control(value, low, high, said, ends):
  text = _said(difference(0.05, 0.02, 0.08), _against_control(value, low, high))
  assert text.startswith(said)
  assert ends in text


def test_a_gain_against_real_images_alone_is_no_verdict():
  assert _said(difference(0.021, 0.004, 0.038)) == (
    'Whether synthetic data helped cannot be said: nothing took as many optimiser steps on real images alone. Measured: '
    'starting from synthetic images of both rounds and fine-tuning on real ones changed the test accuracy by +2.1 points '
    'against real images alone (95 % interval over patients +0.4 to +3.8; mean over 2 models, better in 2 of them, 3 seeds '
    'each; 400 images of 90 patients). The interval is about new patients like these. It is not about other models, or '
    'about training the generator again.'
  )


def test_without_an_interval_nothing_is_claimed():
  none = {'models': ('resnet50',), 'seeds': (0,), 'why': 'one patient only'}
  text = _said(difference(0.02, None, None, **none), _against_control(0.02, None, None, **none))
  assert text.startswith(
    'Whether synthetic data helped cannot be said: the comparison has no interval; there are fewer than 3 seeds. Measured: '
  )
  assert '(no interval: one patient only; ResNet50, one seed; ' in text
  assert 'The interval is about' not in text


def test_without_both_kinds_of_runs_nothing_is_claimed():
  assert 'cannot be said: no model has' in _said(None)


def test_the_interval_is_said_to_be_about_whom_it_is_about():
  pair = difference(0.05, 0.02, 0.08), _against_control(0.02, 0.01, 0.03)
  known = data(test_patient_overlap=0.949)
  assert 'and 95 % of the test images show one who is also in training: it says little of new ones.' in _said(
    *pair, data=known
  )
  assert 'about images like these: the patients are unknown.' in _said(*pair, data=data(patients_known=False))


def test_epochs_that_were_chosen_on_test_images_are_said():
  found = sound(
    *REGIMES, comparisons=comparisons(difference(0.05, 0.02, 0.08), _against_control(0.02, 0.01, 0.03))
  )
  runs = [msgspec.structs.replace(one, protocol='paper') for one in found.runs]
  assert 'Every epoch was chosen on the test images.' in summary.did_it_help(
    msgspec.structs.replace(found, runs=runs)
  )
  assert 'Every epoch' not in summary.did_it_help(found)


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
    (
      '+2.1 points',
      'with synthetic data, against real images alone, mean over models; 95 %: +0.4 to +3.8; verdict: cannot be said',
    ),
  ]
  both = comparisons(planned=planned, control=_against_control(0.011, 0.002, 0.02))
  assert summary.tiles(sound(*REGIMES, comparisons=both))[1] == (
    '+1.1 points',
    'with synthetic data, against as many optimiser steps on real images alone, mean over models; 95 %: +0.2 to +2.0; '
    'verdict: helped',
  )
  assert summary.tiles(make()) == []


def test_how_many_test_images_show_a_training_patient_or_that_nobody_knows(tmp_path):
  data = run_lib.read(fake_workdir.make(tmp_path, models=(), num_images=60, image_size=8)).data
  said = 'of test images show a patient who is also in training'
  known = msgspec.structs.replace(data, test_patient_overlap=0.583)
  assert summary.tiles(make(data=known)) == [('58 %', said)]
  unknown = msgspec.structs.replace(data, patients_known=False, test_patient_overlap=None)
  assert summary.tiles(make(data=unknown)) == [
    ('unknown', 'how many test images show a patient who is also in training')
  ]


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
