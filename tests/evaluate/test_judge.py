"""The judge: it has not seen what it judges, its probabilities are its own, and none of another split judges."""

import csv
import shutil

import jax
import jax.numpy as jnp
import msgspec
import numpy as np
import pytest

from configs import smoke
from fetal_jax import models
from fetal_jax.data import prepare, prepared
from fetal_jax.evaluate import judge
from fetal_jax.runtime import files
from fetal_jax.runtime.errors import UserError
from fetal_jax.train import classify, synthetic_sets
from fetal_jax.train import results as train_results
from fetal_jax.train.results import Normalisation


def random_images(n, *shape, seed=0):
  return np.random.default_rng(seed).integers(0, 256, (n, *shape), np.uint8)


@pytest.mark.parametrize('name', ['resnet50', 'densenet169', 'vit_b_32', 'swin_t', 'medmamba_t'])
def test_penultimate_is_what_the_head_sees(name):
  kwargs = dict(smoke.get_config().classify.model_args[name])
  net = models.create(name, num_classes=4, **kwargs, **({'image_size': 16} if name == 'vit_b_32' else {}))
  images = jnp.asarray(random_images(2, 16, 16, 1) / 255.0, jnp.float32)
  rng = np.random.default_rng(0)
  variables = jax.tree.map(
    lambda x: np.abs(0.3 * rng.standard_normal(x.shape)).astype(np.float32),
    jax.eval_shape(net.init, jax.random.key(0), images),
  )
  found, logits = jax.jit(
    lambda variables: (judge.penultimate(net, variables, images), net.apply(variables, images))
  )(variables)
  head = variables['params']['head']
  assert found.shape == (2, head['kernel'].shape[0])
  np.testing.assert_allclose(found @ head['kernel'] + head['bias'], logits, rtol=1e-4)


def _config():
  config = smoke.get_config()
  config.data.phantom_images = 120
  config.classify.update(models=('resnet50',), regimes=('real',))
  return config


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
  """A small classifier trained on real images, as the stages leave it."""
  folder = tmp_path_factory.mktemp('encoder')
  prepare.run(_config(), folder)
  with pytest.MonkeyPatch.context() as patch:
    assert _train(folder, patch)
  return folder


def _train(folder, patch):
  """Runs the classify stage as if its models had started from files, whose networks saw normalised images."""
  patch.setattr(classify, 'normalisation', lambda *_: Normalisation(mean=0.3, std=0.4))
  return classify.run(_config(), folder)


def test_the_judges_probabilities_are_those_of_its_training(workdir):
  found = judge.load(workdir, 'resnet50', batch_size=7)
  data = prepared.load(workdir)
  assert found.model == 'resnet50'
  assert found.split_hash == data.info.split_hash
  assert found.class_names == data.records.class_names

  test = data.split.test
  encoded = found.encoder(data.images[test])
  assert encoded.shape == (len(test), found.encoder.dim)
  folder = workdir / 'judge' / 'classify' / 'resnet50' / 'real' / 'seed_0'
  with open(folder / 'predictions.csv', newline='') as f:
    rows = list(csv.DictReader(f))
  assert [row['image'] for row in rows] == data.records.names[test].tolist()
  expected = [[float(v) for k, v in row.items() if k.startswith('p_')] for row in rows]
  np.testing.assert_allclose(found.probabilities(encoded), expected, atol=2e-5)
  right = np.argmax(expected, axis=1) == data.records.labels[test]
  assert found.accuracy(encoded, data.records.labels[test]) == pytest.approx(right.mean())

  with pytest.raises(UserError, match='16 x 16 x 3, it takes uint8 images 16 x 16 x 1'):
    found.encoder(random_images(2, 16, 16, 3))


def test_it_was_trained_on_other_images_than_those_it_is_asked_about(workdir):
  found, data = judge.load(workdir, 'resnet50'), prepared.load(workdir)
  fit, choose, rest, test = found.parts
  whose = data.records.patients
  assert not np.isin(whose[test], whose[np.concatenate([fit, choose])]).any()
  assert not np.isin(whose[rest], whose[np.concatenate([fit, choose])]).any()
  (plan,) = classify._judge_plans(
    _config(), workdir, 'resnet50', data, synthetic_sets.SyntheticSets({}, {}), None
  )
  assert plan.protocol == 'honest'
  assert np.array_equal(plan.train[0].indices, fit)
  assert np.array_equal(plan.select.indices, choose)
  assert np.array_equal(plan.test.indices, test)
  metrics = train_results.read(workdir / 'judge' / 'classify' / 'resnet50' / 'real' / 'seed_0')
  assert (metrics.real_images, metrics.synthetic_images) == (len(fit), 0)
  # As many steps as the training on all real images, rounded up to whole epochs.
  whole = train_results.read(workdir / 'classify' / 'resnet50' / 'real' / 'seed_0')
  assert whole.steps <= metrics.steps <= whole.steps + metrics.steps / metrics.epochs
  assert f'on {len(fit)} of the {len(data.split.train)} real training images' in found.description
  assert f'(epoch chosen on {len(choose)} others' in found.description


def test_what_the_judge_learns_does_not_depend_on_the_images_it_is_asked_about(
  workdir, tmp_path, monkeypatch
):
  """Test and validation images are replaced by noise: its weights stay the same."""
  prepare.run(_config(), tmp_path)
  images, info = np.load(tmp_path / 'data' / 'images.npy'), prepared.read_info(tmp_path)
  for side in (info.validation, info.test, judge.load(workdir, 'resnet50').parts.rest):
    images[side] = random_images(len(side), 16, 16, 1)
  np.save(tmp_path / 'data' / 'images.npy', images)
  sha256 = files.sha256(tmp_path / 'data' / 'images.npy')
  prepared.write_info(tmp_path, msgspec.structs.replace(info, images_sha256=sha256))
  _train(tmp_path, monkeypatch)
  first, second = (judge.load(folder, 'resnet50') for folder in (workdir, tmp_path))
  jax.tree.map(np.testing.assert_array_equal, first.encoder.variables, second.encoder.variables)


def test_a_run_whose_classify_stage_has_not_run_has_no_judge(workdir, tmp_path):
  assert judge.exists(workdir, 'resnet50')
  assert not judge.exists(workdir, 'swin_t')
  assert not judge.exists(workdir, None)
  assert not judge.exists(tmp_path, 'resnet50')
  shutil.copytree(workdir / 'data', tmp_path / 'data')
  with pytest.raises(
    UserError, match=r'resnet50/real/seed_0/selected: no judge; run --stage=classify, which'
  ):
    judge.load(tmp_path, 'resnet50')
  with pytest.raises(UserError, match=r'config.classify.models: no classifier that could judge'):
    judge.load(tmp_path, None)


def test_a_second_start_of_the_stage_has_nothing_to_do(workdir, monkeypatch):
  assert not _train(workdir, monkeypatch)


def test_the_judges_own_encoder_or_one_from_a_file(workdir):
  found = judge.load(workdir, 'resnet50')
  assert judge.load_encoder('classifier', found) is found.encoder
  for wrong in ('inception', 'dinov2:', 'vgg:file'):
    with pytest.raises(
      UserError, match=f'config.evaluate.encoder={wrong}: must be classifier, inception:FILE'
    ):
      judge.load_encoder(wrong, found)


def test_a_judge_without_weights_is_named(workdir, tmp_path):
  with pytest.raises(UserError, match='prepare'):
    judge.load(tmp_path, 'resnet50')
  shutil.copytree(workdir / 'data', tmp_path / 'data')
  (tmp_path / 'judge' / 'classify' / 'resnet50' / 'real' / 'seed_0' / 'selected').mkdir(parents=True)
  with pytest.raises(UserError, match='no whole checkpoint'):
    judge.load(tmp_path, 'resnet50')


def test_a_classifier_of_another_split_is_refused(workdir, tmp_path):
  shutil.copytree(workdir / 'judge', tmp_path / 'judge')
  config = _config()
  config.seed = 1
  prepare.run(config, tmp_path)
  with pytest.raises(UserError, match='trained on another split'):
    judge.load(tmp_path, 'resnet50')
