"""Classifiers of raw pixels, on made-up images whose right answers are known."""

import json

import ml_collections
import msgspec
import numpy as np
import pytest
from helpers import fake_workdir

from fetal_jax.data import prepared
from fetal_jax.data import records as records_lib
from fetal_jax.evaluate import pixel_baselines
from fetal_jax.runtime import files
from fetal_jax.runtime.errors import DamagedFile

NAMES = ['majority class', 'nearest neighbour', 'logistic regression', 'random forest']


@pytest.fixture(scope='module', autouse=True)
def few_trees():
  """A forest of a few trees, which is as right on these images."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(pixel_baselines, '_TREES', 10)
    yield


def _config(protocol='honest'):
  return ml_collections.ConfigDict({'classify': {'protocol': protocol}})


def _records(labels, patients):
  names = [f'image_{i}' for i in range(len(labels))]
  return records_lib.make(names, np.asarray(labels, np.int32), patients, ('dark', 'bright'))


@pytest.fixture(scope='module')
def found():
  """Dark and bright images, 8 x 8: three quarters of the 40 training images are bright, half of the 20 test images are."""
  rng = np.random.default_rng(0)
  labels = np.array([0] * 10 + [1] * 30 + [0] * 10 + [1] * 10)
  images = np.clip(60 + 120 * labels[:, None, None] + rng.normal(0, 15, (60, 8, 8)), 0, 255).astype(np.uint8)
  images[59] = images[0]  # a bright test image that looks dark
  records = _records(labels, [f'{i // 2}' for i in range(60)])
  train, test = np.arange(40), np.arange(40, 60)
  return pixel_baselines.compute(images[..., None], records, train, test, resamples=200)


def test_accuracies_by_hand(found):
  assert [one.name for one in found] == NAMES
  assert [one.accuracy for one in found] == [0.5, 0.95, 0.95, 0.95]  # the majority is bright: 10 of 20
  assert [one.balanced_accuracy for one in found] == pytest.approx([0.5, 0.95, 0.95, 0.95])
  assert {one.side for one in found} == {8}


def test_balanced_accuracy_is_the_mean_recall_of_the_classes_that_are_there():
  """All four say 'bright' after training on bright images alone; the test set has three bright ones and one dark one."""
  records = _records([1, 1, 1, 1, 1, 0], list('abcdef'))
  images = np.full((6, 4, 4, 1), 200, np.uint8)
  found = pixel_baselines.compute(images, records, np.arange(2), np.arange(2, 6), resamples=20)
  assert [(one.accuracy, one.balanced_accuracy) for one in found] == 4 * [(0.75, 0.5)]
  only_bright = pixel_baselines.compute(images, records, np.arange(2), np.arange(2, 5), resamples=20)
  assert [(one.accuracy, one.balanced_accuracy) for one in only_bright] == 4 * [(1.0, 1.0)]


def test_intervals_are_over_patients(found):
  """Half of the images are right, and both images of a patient are of one class: ten patients, five of them right."""
  interval = found[0].intervals['accuracy']
  rng = np.random.default_rng(3)
  shares = rng.binomial(10, 0.5, 20_000) / 10
  assert (interval.low, interval.high) == pytest.approx(np.quantile(shares, [0.025, 0.975]), abs=0.101)
  assert interval.value == 0.5
  for one in found[1:]:
    assert one.intervals['accuracy'].low < 0.95 <= one.intervals['accuracy'].high
  assert set(found[0].intervals) == {'accuracy', 'balanced_accuracy'}


def test_large_images_are_averaged_over_areas(monkeypatch):
  monkeypatch.setattr(pixel_baselines, 'LARGEST_SIDE', 2)
  image = np.array([[0, 100, 10, 10], [100, 200, 10, 10], [1, 1, 0, 255], [1, 1, 255, 0]], np.uint8)
  halved = pixel_baselines.pixels(image[None, ..., None])
  np.testing.assert_allclose(halved, np.array([[100, 10, 1, 127.5]]) / 255, rtol=1e-6)
  thirds = np.array([[0, 30, 60], [0, 30, 60], [0, 30, 60]], np.uint8)  # a part is one and a half pixels
  np.testing.assert_allclose(
    pixel_baselines.pixels(thirds[None, ..., None]), np.array([[10, 50, 10, 50]]) / 255, rtol=1e-6
  )


def test_images_that_are_small_stay_as_they_are_in_all_channels():
  image = np.arange(2 * 2 * 3, dtype=np.uint8).reshape(1, 2, 2, 3)
  np.testing.assert_allclose(pixel_baselines.pixels(image), image.reshape(1, 12) / 255, rtol=1e-6)


# evaluate/baselines.json.


@pytest.fixture
def workdir(tmp_path):
  made = fake_workdir.make(tmp_path, models=(), rounds=0, num_images=60, image_size=8)
  pixel_baselines.path(made).unlink()
  return made


def test_they_are_trained_once(workdir):
  assert pixel_baselines.ensure(_config(), workdir)
  found = pixel_baselines.read(workdir)
  assert found.train_images == len(prepared.load(workdir).split.train)
  assert [one.name for one in found.baselines] == NAMES
  assert found.is_of(prepared.read_info(workdir))
  assert not pixel_baselines.ensure(_config(), workdir)


def test_the_papers_protocol_trains_on_validation_images_too(workdir):
  pixel_baselines.ensure(_config(), workdir)
  assert pixel_baselines.ensure(_config('paper'), workdir)
  split = prepared.load(workdir).split
  assert pixel_baselines.read(workdir).train_images == len(split.train) + len(split.validation)
  assert len(split.validation)


@pytest.mark.parametrize('changed', ['split_hash', 'images_sha256'])
def test_those_of_other_data_are_made_anew(workdir, changed):
  pixel_baselines.ensure(_config(), workdir)
  right = pixel_baselines.read(workdir)
  other = msgspec.structs.replace(right, baselines=right.baselines[:1], **{changed: '0'})
  pixel_baselines.write(workdir, other)
  assert not other.is_of(prepared.read_info(workdir))
  assert pixel_baselines.ensure(_config(), workdir)
  assert pixel_baselines.read(workdir) == right


def test_without_prepared_data_there_is_nothing_to_do(tmp_path):
  assert not pixel_baselines.ensure(_config(), tmp_path)
  assert not pixel_baselines.path(tmp_path).exists()


def test_a_changed_file_is_refused(workdir):
  pixel_baselines.ensure(_config(), workdir)
  content = json.loads(pixel_baselines.path(workdir).read_text())
  content['baselines'][0]['accuracy'] = 0.01
  files.write_text(pixel_baselines.path(workdir), json.dumps(content))
  with pytest.raises(DamagedFile, match=r'baselines\.json.*run --stage=report again'):
    pixel_baselines.ensure(_config(), workdir)
