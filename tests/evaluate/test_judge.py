"""The judge: its probabilities are those of the run, and no classifier of another split judges."""

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
from fetal_jax.runtime.errors import UserError
from fetal_jax.train import classify
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
  config = _config()
  prepare.run(config, folder)
  with pytest.MonkeyPatch.context() as patch:  # as if it had started from a file
    patch.setattr(classify, 'normalisation', lambda *_: Normalisation(mean=0.3, std=0.4))
    classify.run(config, folder)
  return folder


def test_the_judges_probabilities_are_the_runs_predictions(workdir):
  found = judge.load(workdir, 'resnet50', batch_size=7)
  data = prepared.load(workdir)
  assert (found.model, found.seed) == ('resnet50', 0)
  assert found.split_hash == data.info.split_hash
  assert found.class_names == data.records.class_names
  assert 'real training images alone (seed 0, epoch chosen on validation images' in found.description

  test = data.split.test
  encoded = found.encoder(data.images[test])
  assert encoded.shape == (len(test), found.encoder.dim)
  with open(workdir / 'classify' / 'resnet50' / 'real' / 'seed_0' / 'predictions.csv', newline='') as f:
    expected = [[float(v) for k, v in row.items() if k.startswith('p_')] for row in csv.DictReader(f)]
  np.testing.assert_allclose(found.probabilities(encoded), expected, atol=2e-5)
  right = np.argmax(expected, axis=1) == data.records.labels[test]
  assert found.accuracy(encoded, data.records.labels[test]) == pytest.approx(right.mean())

  with pytest.raises(UserError, match='16 x 16 x 3, it takes uint8 images 16 x 16 x 1'):
    found.encoder(random_images(2, 16, 16, 3))


def test_auto_takes_the_classifier_with_the_best_validation_score(workdir, tmp_path):
  assert judge.load(workdir).model == 'resnet50'
  shutil.copytree(workdir, tmp_path, dirs_exist_ok=True)
  folder = tmp_path / 'classify' / 'better' / 'real' / 'seed_0'
  metrics = train_results.read(workdir / 'classify' / 'resnet50' / 'real' / 'seed_0')
  history = [msgspec.structs.replace(metrics.history[0], score=1.5)]
  train_results.write(folder, msgspec.structs.replace(metrics, model='better', history=history))
  with pytest.raises(UserError, match=r'classify/better/real/seed_0/selected: no classifier to encode with'):
    judge.load(tmp_path)


def test_a_run_without_real_classifiers_has_no_judge(workdir, tmp_path):
  assert judge.exists(workdir)
  assert not judge.exists(tmp_path)
  assert judge.exists(tmp_path, 'resnet50')  # it was asked for, and must be named if it is missing
  with pytest.raises(UserError, match=r'no classifier trained on real images .* run --stage=classify first'):
    judge.load(tmp_path)


def test_the_judges_own_encoder_or_one_from_a_file(workdir):
  found = judge.load(workdir)
  assert judge.load_encoder('classifier', found) is found.encoder
  for wrong in ('inception', 'dinov2:', 'vgg:file'):
    with pytest.raises(
      UserError, match=f'config.evaluate.encoder={wrong}: must be classifier, inception:FILE'
    ):
      judge.load_encoder(wrong, found)


def test_a_classifier_that_was_not_trained_is_named_with_those_that_were(workdir, tmp_path):
  with pytest.raises(UserError, match=r'classify/swin_t/real/seed_0.*regime real, or take one of resnet50'):
    judge.load(workdir, 'swin_t')
  with pytest.raises(UserError, match=r'seed_1/selected: no classifier to encode with.*regime real$'):
    judge.load(workdir, 'resnet50', seed=1)
  with pytest.raises(UserError, match='prepare'):
    judge.load(tmp_path, 'resnet50')
  shutil.copytree(workdir / 'data', tmp_path / 'data')
  (tmp_path / 'classify' / 'resnet50' / 'real' / 'seed_0' / 'selected').mkdir(parents=True)
  with pytest.raises(UserError, match='no whole checkpoint'):
    judge.load(tmp_path, 'resnet50')


def test_a_classifier_of_another_split_is_refused(workdir, tmp_path):
  shutil.copytree(workdir / 'classify', tmp_path / 'classify')
  config = _config()
  config.seed = 1
  prepare.run(config, tmp_path)
  with pytest.raises(UserError, match='trained on another split'):
    judge.load(tmp_path, 'resnet50')
