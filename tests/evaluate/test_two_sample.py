"""The two-sample test: chance where both sets are draws of one distribution, near certainty where they are not."""

import numpy as np
import pytest

from fetal_jax.evaluate import two_sample
from fetal_jax.evaluate.two_sample import Sample


def sample(n, *, shift=0.0, seed=0, per_group=1, prefix='a', classes=2):
  rng = np.random.default_rng(seed)
  labels = np.arange(n) % classes
  values = rng.normal(size=(n, 8)).astype(np.float32)
  values[:, 0] += shift
  groups = np.array([f'{prefix}{i // (per_group * classes)}' for i in range(n)])
  return Sample(values, labels, groups)


@pytest.mark.parametrize('space', ['features', 'pixels'])
def test_two_draws_of_one_distribution_cannot_be_told_apart(space):
  found = two_sample.tell_apart(sample(200, seed=1), sample(200, seed=2, prefix='b'), space)
  assert found.images == 200
  assert found.low < 0.5 < found.high
  assert 0.40 < found.accuracy < 0.60
  # A bootstrap says ± 1.96 sqrt(0.25 / 400) = ± 0.049, and √2 of that is ± 0.069.
  assert found.high - found.low == pytest.approx(0.139, abs=0.02)


@pytest.mark.slow
def test_an_interval_holds_chance_about_as_often_as_it_says(monkeypatch):
  monkeypatch.setattr(two_sample.intervals, 'RESAMPLES', 300)
  draws = [
    two_sample.tell_apart(
      sample(200, seed=2 * k), sample(200, seed=2 * k + 1, prefix='b'), 'features', seed=k
    )
    for k in range(100)
  ]
  missed = sum(not found.low <= 0.5 <= found.high for found in draws)
  assert missed <= 11  # 5 are expected; 12 or more by chance in 4 of 1,000 such tests


@pytest.mark.parametrize('space', ['features', 'pixels'])
def test_a_shifted_distribution_is_told_apart(space):
  found = two_sample.tell_apart(sample(200, seed=1), sample(200, seed=2, shift=8.0, prefix='b'), space)
  assert found.accuracy > 0.98
  assert 0.9 < found.low <= found.accuracy <= found.high <= 1.0


def test_a_perfect_score_still_has_an_interval():
  found = two_sample.tell_apart(sample(100, seed=1), sample(100, seed=2, shift=50.0, prefix='b'), 'features')
  assert found.accuracy == 1.0
  # 50 groups a set, all right: the exact lower end is 0.025 ** (1 / 50).
  assert (found.low, found.high) == (pytest.approx(0.9289, abs=1e-4), 1.0)


def test_shares_of_classes_do_not_tell_sets_apart():
  a, b = sample(300, seed=1), sample(300, seed=2, prefix='b')
  a.values[:, 1] += 9 * a.labels
  b.values[:, 1] += 9 * b.labels
  a = a.take(np.flatnonzero((a.labels == 0) | (np.arange(300) < 80)))  # 150 of class 0, 40 of class 1
  found = two_sample.tell_apart(a, b, 'features')
  assert found.images == 190
  assert found.low < 0.5 < found.high


def test_patients_are_kept_together():
  """Every patient has a mark of its own: who has seen other images of the patient knows the side."""
  rng = np.random.default_rng(0)

  def marked(prefix, seed):
    one = sample(200, seed=seed, per_group=5, prefix=prefix)
    marks = {group: rng.normal(size=8) * 20 for group in np.unique(one.groups)}
    return one._replace(values=one.values + np.array([marks[group] for group in one.groups], np.float32))

  a, b = marked('a', 1), marked('b', 2)
  together = two_sample.tell_apart(a, b, 'pixels')
  assert together.accuracy < 0.75
  apart = [one._replace(groups=np.array([f'{k}-{i}' for i in range(200)])) for k, one in enumerate((a, b))]
  assert two_sample.tell_apart(*apart, 'pixels').accuracy > 0.95
  # 20 patients a set: the interval is wider than that of 200 images.
  assert together.high - together.low > 0.15


def test_at_most_so_many_images_with_the_same_shares(monkeypatch):
  monkeypatch.setattr(two_sample, 'MOST', 40)
  a, b = two_sample.thinned(sample(300, classes=3), sample(90, classes=3, prefix='b'))
  assert [np.bincount(one.labels).tolist() for one in (a, b)] == [[13, 13, 13]] * 2


@pytest.mark.parametrize(
  ('images', 'per_group', 'there'), [(20, 1, '20 of 10'), (40, 10, '40 of 2')], ids=['images', 'patients']
)
def test_too_few_images_or_patients_are_said(images, per_group, there):
  found = two_sample.tell_apart(
    sample(images, per_group=per_group), sample(200, prefix='b', per_group=per_group), 'features'
  )
  assert (found.accuracy, found.low, found.high) == (None, None, None)
  assert found.why == f'needs 30 images of 5 patients in each set, with the same classes; there are {there}'


def test_pixels_are_averaged_over_blocks():
  images = np.zeros((1, 130, 130, 1), np.uint8)
  images[0, :3, :3] = 255  # a factor of 3 gives 43 pixels a side
  found = two_sample.pixels(images)
  assert found.shape == (1, 43 * 43)
  assert found[0, :2].tolist() == [1.0, 0.0]
  assert two_sample.pixels(np.full((2, 16, 16, 3), 51, np.uint8)).tolist() == [[pytest.approx(0.2)] * 768] * 2
