"""Images are of their class and of the side that they say; strips show the pixels they were given."""

import io

import numpy as np
import pytest
from helpers import fake_run, fake_workdir
from PIL import Image

from fetal_jax.data import prepared as prepared_lib
from fetal_jax.report import run as run_lib
from fetal_jax.report.page import Picture, Pictures, Strips
from fetal_jax.report.sections import images


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
  return fake_workdir.make(tmp_path_factory.mktemp('images'), models=())


@pytest.fixture(scope='module')
def drawn(tmp_path_factory):
  """Two classes, with rounds that are real data sets."""
  workdir = tmp_path_factory.mktemp('drawn')
  return fake_workdir.make(
    workdir, class_names=('head', 'heart'), models=(), rounds=2, num_images=60, dataset=True
  )


def test_real_examples_are_training_images_of_their_class(workdir):
  prepared = prepared_lib.load(workdir)
  examples = images.real_examples(workdir, 4)
  assert list(examples) == list(fake_workdir.CLASSES)
  for k, shown in enumerate(examples.values()):
    members = prepared.split.train[prepared.records.labels[prepared.split.train] == k]
    assert shown.shape == (4, 16, 16, 1)
    assert all((prepared.images[members] == image).all(axis=(1, 2, 3)).any() for image in shown)


def test_synthetic_examples_have_their_class(drawn):
  examples = images.synthetic_examples(drawn / 'synthetic' / 'round_2', 3)
  assert {name: np.unique(shown).tolist() for name, shown in examples.items()} == {'head': [2], 'heart': [12]}
  assert examples['head'].shape == (3, 16, 16, 1)


def test_an_empty_workdir_has_no_examples(tmp_path):
  assert images.real_examples(tmp_path, 3) == {}
  assert images.synthetic_examples(tmp_path, 3) == {}
  assert images.section(fake_run.make(), tmp_path, show_real_images=True) is None


def test_strips_of_both_kinds_stand_in_a_row(drawn):
  _, strips, sheets = images.section(run_lib.read(drawn), drawn, show_real_images=True).blocks
  assert isinstance(strips, Strips)
  assert strips.columns == ['Real, training side', 'Synthetic, round 1']
  assert [[cell.file for cell in cells] for _, cells in strips.rows] == [
    ['real_0_head.png', 'synthetic_0_head.png'], ['real_1_heart.png', 'synthetic_1_heart.png']
  ]  # fmt: skip
  # The rounds have strips, so their previews are not shown.
  assert [picture.file for picture in sheets.pictures] == ['training_samples.png']


def test_real_images_are_hidden_where_they_may_not_be_shown(drawn):
  _, strips, _ = images.section(run_lib.read(drawn), drawn, show_real_images=False).blocks
  for _, (real, synthetic) in strips.rows:
    assert real == 'Real images are not shown here'
    assert isinstance(synthetic, Picture)


def test_without_synthetic_strips_the_previews_are_shown(workdir):
  run = run_lib.read(workdir)
  _, strips, sheets = images.section(run, workdir, show_real_images=False).blocks
  assert {cell for _, cells in strips.rows for cell in cells} == {
    'Real images are not shown here', 'No synthetic images yet'
  }  # fmt: skip
  assert isinstance(sheets, Pictures)
  assert [picture.file for picture in sheets.pictures] == [
    'training_samples.png', 'round_1.png', 'round_2.png'
  ]  # fmt: skip
  assert 'after 2,000 training steps' in sheets.pictures[0].caption
  assert 'drawn as the data set is' in sheets.pictures[0].caption


@pytest.mark.parametrize('channels', [1, 3])
def test_strip_shows_the_pixels(channels):
  given = np.random.default_rng(0).integers(0, 256, (3, 32, 32, channels), np.uint8)
  with Image.open(io.BytesIO(images.strip(given))) as picture:
    assert picture.size == (3 * 32 + 2, 32)
    pixels = np.asarray(picture)
  np.testing.assert_array_equal(pixels[:, 33:65, :channels], given[1])
  assert (pixels[:, 32, -1] == 0).all()  # the gap is clear


def test_strip_scales_large_images_down():
  with Image.open(io.BytesIO(images.strip(np.zeros((2, 512, 512, 1), np.uint8)))) as picture:
    assert picture.size[1] == 128
