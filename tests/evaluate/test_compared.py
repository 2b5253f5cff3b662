"""Sets that are compared have the class shares of the test images, and none that the judge has learned from."""

import types

import numpy as np
import pytest

from fetal_jax.data import records as records_lib
from fetal_jax.data import splits
from fetal_jax.data.prepared import Prepared
from fetal_jax.data.sources.fetal_phantom import CLASS_NAMES
from fetal_jax.evaluate import compared
from fetal_jax.train import judge_parts


def data(class_names=('a', 'b'), source='image_folder', channels=1, colour=False):
  """Made-up images, three of the first class for each of the second."""
  rng = np.random.default_rng(0)
  labels = (np.arange(400) % 4 == 0).astype(np.int32)
  names, whose = [f'image_{k}' for k in range(400)], [f'p{k}' for k in rng.integers(0, 80, 400)]
  records = records_lib.make(names, labels, whose, class_names)
  images = np.repeat(rng.integers(0, 256, (400, 16, 16, 1), np.uint8), channels, -1)
  images[..., -1] += np.uint8(colour)
  info = types.SimpleNamespace(seed=0, source=source)
  return Prepared(images, records, splits.patient(records, seed=0), info)


def sets(there, **changes):
  rng = np.random.default_rng(1)
  images = rng.integers(0, 256, (200, *there.images.shape[1:]), np.uint8)
  judge = types.SimpleNamespace(parts=judge_parts.divide(there))
  asked = {'by_judge': True, 'max_images': 1000, 'seed': 0} | changes
  return compared.choose(there, images, np.repeat(np.arange(2), 100), judge, **asked), judge.parts, images


def test_all_sets_have_the_class_shares_of_the_test_images():
  (test, train, synthetic, noise, phantom), _, _ = sets(data())
  share = test.labels.mean()
  assert 0.2 < share < 0.3
  assert len(train.labels) == len(synthetic.labels) == len(noise.labels) > 90
  for one in (train, synthetic, noise):
    assert one.labels.mean() == pytest.approx(share, abs=0.02)
  assert phantom is None


def test_nothing_is_compared_that_the_judge_has_learned_from():
  there = data()
  (test, train, *_), parts, _ = sets(there)
  names = there.records.patients
  seen = set(names[np.concatenate([parts.fit, parts.choose])])
  assert not seen & (set(test.groups) | set(train.groups))
  assert len(test.labels) == len(parts.test)


def test_an_encoder_that_has_seen_none_of_the_data_takes_all_of_them():
  there = data()
  (test, train, *_), parts, _ = sets(there, by_judge=False)
  assert len(test.labels) == len(there.split.test)
  seen = set(there.records.patients[np.concatenate([parts.fit, parts.choose])])
  assert seen & set(train.groups)


def test_images_have_their_labels_and_each_synthetic_one_its_own_group():
  there = data()
  (test, _, synthetic, _, _), parts, images = sets(there, max_images=50)
  assert np.array_equal(test.images, there.images[parts.test])
  assert np.array_equal(test.groups, there.records.patients[parts.test])
  assert len(synthetic.labels) == len(set(synthetic.groups)) == 50
  by_class = {k: {image.tobytes() for image in images[100 * k : 100 * k + 100]} for k in (0, 1)}
  drawn = zip(synthetic.images, synthetic.labels, strict=True)
  assert all(image.tobytes() in by_class[int(k)] for image, k in drawn)


@pytest.mark.parametrize(
  ('changes', 'stands'),
  [
    ({}, True),
    ({'channels': 3}, True),
    ({'channels': 3, 'colour': True}, False),
    ({'source': 'fetal_phantom'}, False),
    ({'class_names': ('abdomen', 'brain')}, False),
  ],
)
def test_drawn_planes_stand_beside_grey_planes_of_the_six_classes(changes, stands):
  there = data(**({'class_names': CLASS_NAMES, 'source': 'fetal_planes_db'} | changes))
  assert compared._suit_phantoms(there) is stands


def test_drawn_planes_have_the_asked_shape_and_class_shares():
  wanted = np.array([0] * 5 + [4] * 15)
  found = compared.drawn_planes(12, (16, 16, 3), wanted)
  assert found.images.shape == (12, 16, 16, 3)
  assert set(found.labels.tolist()) == {0, 4}
  assert (found.labels == 4).sum() >= 6
  assert found.images.std() > 5
  assert (found.images == found.images[..., :1]).all()
