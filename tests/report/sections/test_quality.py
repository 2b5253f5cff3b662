"""The first screen's words on image quality, from figures whose right words are known; and its row of images."""

import msgspec
import pytest
from helpers import fake_run, fake_workdir

from fetal_jax.evaluate.results import Agreement, JudgeRecall, TwoSample, TwoSampleScore
from fetal_jax.report import run as run_lib
from fetal_jax.report.page import Picture, Strips, Text
from fetal_jax.report.sections import quality


def told(accuracy, low, high, control=(0.51, 0.45, 0.57)):
  def score(accuracy, low, high):
    return TwoSampleScore(images=100, accuracy=accuracy, low=low, high=high)

  return TwoSample(
    space='pixels',
    classifier='random forest on the pixels',
    synthetic=score(accuracy, low, high),
    control=score(*control),
  )


FEW = TwoSample(
  space='pixels',
  classifier='random forest on the pixels',
  synthetic=TwoSampleScore(images=9, why='few'),
  control=TwoSampleScore(images=9, why='few'),
)


def judged(kid, *, phantom=1.08, tests=(), found=0.9, known=0.8):
  """Returns a run with an evaluation of these figures; KID is 0.02 for real training images, 131 for noise."""
  evaluation = fake_run.evaluation()
  near = evaluation.fidelity

  def of(value):
    if value is None:
      return None
    return msgspec.structs.replace(near.noise, overall=msgspec.structs.replace(near.noise.overall, kid=value))

  fidelity = msgspec.structs.replace(
    near, synthetic=of(kid), real_train=of(0.02), noise=of(131.0), phantom=of(phantom)
  )
  per_class = {'brain': found, 'femur': 0.9}
  right = [round(20 * share) for share in per_class.values()]
  agreement = Agreement(
    accuracy=0.53, per_class=per_class, confusion=[[right[0], 20 - right[0]], [20 - right[1], right[1]]]
  )
  recall = JudgeRecall(
    images=60, accuracy=0.62, per_class={'brain': known, 'femur': 0.9}, counts={'brain': 30, 'femur': 30}
  )
  return fake_run.make(
    evaluation=msgspec.structs.replace(
      evaluation, fidelity=fidelity, agreement=agreement, judge_recall=recall, two_sample=list(tests)
    )
  )


def test_images_between_drawn_planes_and_real_ones():
  assert quality.how_good(judged(0.53, tests=[told(0.76, 0.71, 0.81)], found=0.4)) == (
    'Better than drawn planes, but not like real images: KID is 0.53 (real training images 0.02, drawn planes 1.08, noise '
    '131; less is nearer to real test images). They can be told from real images: a random forest on the pixels tells '
    'them from real test images in 76 % (95 %: 71 to 81 %) of cases, real training images from them in 51 % (95 %: 45 to '
    '57 %); 50 % is chance. A judge that is right for 62 % of real test images sees what was asked for in 53 % of the '
    'synthetic ones. The images fail in brain: the judge finds fewer than half of them.'
  )


@pytest.mark.parametrize(
  ('run', 'begins'),
  [
    (judged(1.2, tests=[told(0.5, 0.45, 0.55)]), 'No better than drawn planes: KID is 1.2 '),
    (judged(200.0, phantom=None, tests=[told(0.9, 0.8, 1.0)]), 'No better than noise: '),
    (judged(0.5, phantom=None, tests=[told(0.9, 0.8, 1.0)]), 'Better than noise, but not like real images: '),
    (judged(0.02, tests=[told(0.9, 0.8, 1.0)]), 'Close to real images, but told from them: '),
    (judged(0.02, tests=[told(0.5, 0.45, 0.55)]), 'No difference from real images was found: '),
    (judged(0.02, tests=[FEW]), 'How good the images are cannot be said: '),
  ],
)
def test_the_verdict_begins_the_sentence(run, begins):
  assert quality.how_good(run).startswith(begins)


def test_drawn_planes_are_not_named_where_there_are_none():
  assert 'drawn planes' not in quality.how_good(judged(0.5, phantom=None, tests=[told(0.9, 0.8, 1.0)]))


def test_what_was_not_told_apart_is_not_called_the_same():
  said = quality.how_good(judged(0.02, tests=[told(0.5, 0.45, 0.55)]))
  assert 'They were not told from real images: a random forest' in said
  assert said.endswith('No class fails.')


def test_classes_that_the_judge_does_not_know_are_named_not_judged():
  said = quality.how_good(judged(0.5, tests=[told(0.9, 0.8, 1.0)], found=0.1, known=0.2))
  assert 'fail' not in said
  assert 'Cannot be judged: brain, of which the judge knows fewer than half of the real images, or' in said


def test_too_few_images_are_said():
  assert 'cannot be said: there are too few images.' in quality.how_good(judged(0.5, tests=[FEW]))


def test_images_that_nobody_has_judged():
  assert quality.how_good(fake_run.make()) == 'How good the images are cannot be said: there are none yet.'
  assert quality.to_json(fake_run.make()) is None


def test_the_verdict_in_results_json():
  assert quality.to_json(judged(0.53, tests=[told(0.76, 0.71, 0.81)], found=0.4)) == {
    'word': 'better than drawn planes, but not like real images',
    'told_apart': 'told apart',
    'fail': ['brain'],
    'not_judged': [],
  }


@pytest.fixture(scope='module')
def drawn(tmp_path_factory):
  workdir = tmp_path_factory.mktemp('quality')
  return fake_workdir.make(
    workdir, class_names=('head', 'heart'), models=(), rounds=1, num_images=60, dataset=True
  )


@pytest.mark.parametrize('show', [True, False])
def test_synthetic_images_stand_beside_real_ones_where_these_may_be_shown(drawn, show):
  strips, text = quality.row(run_lib.read(drawn), drawn, show_real_images=show)
  assert isinstance(strips, Strips)
  assert isinstance(text, Text)
  for (_, (real, synthetic)), name in zip(strips.rows, ('0_head', '1_heart'), strict=True):
    assert isinstance(synthetic, Picture)
    assert synthetic.file == f'first_synthetic_{name}.png'
    assert real.file == f'first_real_{name}.png' if show else real == 'Real images are not shown here'


def test_without_synthetic_images_there_is_no_row(tmp_path):
  assert quality.row(fake_run.make(), tmp_path, show_real_images=True) == []
