"""The curve over numbers of synthetic images, of predictions whose answers are known."""

from helpers.fake_predictions import runs

from fetal_jax.evaluate.curve import curve

# Images of each round.
SIZES = {1: 48, 2: 48}


def test_points_are_in_order_and_rounds_are_among_them():
  predictions = {'a': runs(real=30, synth_r1=20, synth_r12=24, synth_12=10, synth_48=20, synth_100=25)}
  found = curve(predictions, SIZES, problems := [])
  assert problems == []
  points = found['synthetic'].models['a'].points
  # As many images as a round has are that round; real images alone are no synthetic ones.
  assert [(p.images, p.regime) for p in points] == [
    (12, 'synth_12'), (48, 'synth_r1'), (96, 'synth_r12'), (100, 'synth_100'),
  ]  # fmt: skip
  assert [p.value for p in points] == [10 / 40, 20 / 40, 24 / 40, 25 / 40]
  assert [(p.seeds, p.sd, p.why) for p in points] == [(1, None, '')] * 4
  # 20 patients with two images each, of which a quarter is right: the sd of the mean is below √(1/4 · 3/4 / 20) = 0.097.
  assert 0.05 < points[0].value - points[0].low < 2 * 0.097
  assert 0.05 < points[0].high - points[0].value < 2 * 0.097
  assert list(found) == ['synthetic']


def test_no_synthetic_images_are_a_point_before_real_ones():
  predictions = {'a': runs(real=30, synth_r1_then_real=32, synth_r12_then_real=36)}
  found = curve(predictions, SIZES, [])['then_real'].models['a']
  assert [(p.images, p.regime) for p in found.points] == [
    (0, 'real'), (48, 'synth_r1_then_real'), (96, 'synth_r12_then_real'),
  ]  # fmt: skip
  more, some = found.changes.more, found.changes.some
  assert (more.start, more.end, round(more.value, 9)) == (48, 96, 0.1)
  assert (some.start, some.end, round(some.value, 9)) == (0, 96, 0.15)
  assert 0 <= more.low < more.value < more.high  # nothing was lost, four images were won


def test_two_points_are_no_curve():
  assert curve({'a': runs(synth_r1=20, synth_r12=24)}, SIZES, problems := []) is None
  assert problems == []
  assert curve({'a': runs(real=30, synth_12_then_real=31)}, SIZES, problems) is None
  assert 'no model has predictions for 3 numbers' in problems[0]


def test_models_are_compared_on_the_numbers_that_all_of_them_have():
  one = runs(synth_12=10, synth_24=12, synth_r1=16, synth_r12=30)
  two = runs(synth_24=20, synth_r1=22, synth_r12=28)
  found = curve({'a': one, 'b': two}, SIZES, [])['synthetic']
  overall = found.overall.more
  assert (overall.start, overall.end) == (24, 96)
  assert {model: round(value, 9) for model, value in overall.models.items()} == {'a': 18 / 40, 'b': 8 / 40}
  assert round(overall.value, 9) == 13 / 40
  assert found.models['a'].changes.more.start == 12
  assert found.overall.some is None


def test_a_curve_over_other_test_images_is_none():
  predictions = {
    'a': runs(synth_12=10, synth_24=12, synth_r1=16),
    'b': runs(synth_12=1, synth_24=2, synth_r1=3),
  }
  predictions['b']['synth_24'][0] = predictions['b']['synth_24'][0].take(range(39))
  found = curve(predictions, SIZES, problems := [])
  assert list(found['synthetic'].models) == ['a']
  assert problems[0].startswith('Accuracy of b by number of synthetic images: synth_')
  assert 'not tested on the same images' in problems[0]


def test_the_mean_over_models_needs_the_same_test_images():
  one, two = (runs(synth_12=10, synth_24=12, synth_r1=16) for _ in range(2))
  for regime, by_seed in two.items():
    two[regime] = {seed: run.take(range(39)) for seed, run in by_seed.items()}
  found = curve({'a': one, 'b': two}, SIZES, problems := [])['synthetic']
  assert (found.overall.more, found.overall.some) == (None, None)
  assert found.models['b'].changes.more is not None
  assert problems[0].startswith('Whether more synthetic images help: ')
