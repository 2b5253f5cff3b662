"""Which runs the classify stage plans, on which images, and what makes it train again."""

import types

import jax.numpy as jnp
import msgspec
import numpy as np
import pytest
from helpers import damage, fake_predictions
from train.test_classify_run import Linear
from train.test_results import METRICS

from fetal_jax import config as config_lib
from fetal_jax import networks
from fetal_jax.data import records
from fetal_jax.data.loader import Source
from fetal_jax.data.splits import Split
from fetal_jax.runtime.devices import make_mesh
from fetal_jax.runtime.errors import UserError
from fetal_jax.runtime.fingerprint import Fingerprint
from fetal_jax.train import classify, initial, results
from fetal_jax.train import predictions as predictions_lib
from fetal_jax.train.results import Normalisation, RunName
from fetal_jax.train.synthetic_sets import SyntheticSets


def make_config(**values):
  config = config_lib.load_file('configs/smoke.py')
  with config.unlocked():
    config.classify.update(values)
  return config


def data():
  labels = np.zeros(10, np.int32)
  about = records.make([f'i{k}' for k in range(10)], labels, ['p'] * 10, ('a',))
  split = Split(train=np.array([0, 1, 5]), validation=np.array([3, 4]), test=np.array([7, 8]))
  images = np.zeros((10, 1, 1, 1), np.uint8)
  return types.SimpleNamespace(
    images=images, records=about, split=split, info=types.SimpleNamespace(split_hash='h')
  )


SYNTHETIC = SyntheticSets(
  {1: Source(np.zeros((6, 1, 1, 1), np.uint8), np.zeros(6, np.int32), np.arange(6), real=False)}, {1: 'a'}
)


def plan(config, regime, tmp_path, weights=None):
  return classify._plan(config, tmp_path, RunName('resnet50', regime, 0), data(), SYNTHETIC, weights)


def test_every_model_is_trained_in_every_regime_and_seed():
  config = make_config(
    models=('resnet50', 'swin_t'), num_seeds=2, regimes=('synth_r1_then_real', 'synth_r1_kept')
  )
  assert classify._runs(config.classify, kept=False) == [
    (model, regime, seed)
    for model in ('resnet50', 'swin_t')
    for seed in (0, 1)
    for regime in ('synth_r1', 'synth_r1_then_real')
  ]
  assert classify._runs(config.classify, kept=True) == [
    (model, 'synth_r1_kept', seed) for model in ('resnet50', 'swin_t') for seed in (0, 1)
  ]


def without_validation():
  made = data()
  made.split = Split(np.array([0, 1, 3, 4, 5]), np.array([], np.int64), np.array([7, 8]))
  return made


@pytest.mark.parametrize(
  ('protocol', 'prepared', 'train', 'select'),
  [('honest', data, [0, 1, 5], [3, 4]), ('paper', without_validation, [0, 1, 3, 4, 5], [7, 8])],
)
def test_the_protocol_decides_who_trains_and_who_selects(protocol, prepared, train, select):
  sides = classify._sides(prepared(), protocol)
  assert {side: source.indices.tolist() for side, source in sides.items()} == {
    'train': train,
    'select': select,
    'test': [7, 8],
  }
  assert all(source.real for source in sides.values())


def test_without_validation_patients_the_honest_protocol_is_refused():
  with pytest.raises(UserError, match='protocol=honest: the data were prepared without validation patients'):
    classify._sides(without_validation(), 'honest')


def test_pixels_are_normalised_for_a_model_that_starts_from_a_file_and_for_no_other(tmp_path):
  config, file = make_config(mean=0.449, std=0.226), initial.Weights(tmp_path / 'file.pth', {}, 'f' * 64)
  for regime in ('real', 'synth_r1_then_real'):
    assert plan(config, regime, tmp_path).normalisation == Normalisation(mean=0.0, std=1.0)
    assert plan(config, regime, tmp_path, file).normalisation == Normalisation(mean=0.449, std=0.226)


def test_the_task_sees_what_it_is_told(monkeypatch):
  monkeypatch.setattr(networks, 'make_classifier', lambda *_: Linear())
  seen = Normalisation(mean=0.5, std=0.25)
  task = classify._task(make_config(), 'linear', 2, (1, 1, 1), seen, make_mesh())
  variables = {'params': {'head': {'kernel': jnp.array([[1.0, 0.0]]), 'bias': jnp.zeros(2)}}}
  found = task.probabilities(variables, np.full((1, 1, 1, 1), 255, np.uint8))
  np.testing.assert_allclose(found[0, 0], 1 / (1 + np.exp(-2.0)), rtol=1e-6)  # white is (1 - 0.5) / 0.25 = 2


@pytest.mark.parametrize(
  ('regime', 'images', 'epochs'),
  [
    ('real', [(True, 3)], 9),
    ('synth_r1', [(False, 6)], 4),
    ('synth_r1_then_real', [(True, 3)], 9),
    ('synth_r1_plus_real', [(True, 3), (False, 6)], 9),
  ],
)
def test_a_plan_holds_the_regimes_images_and_epochs(regime, images, epochs, tmp_path):
  made = plan(make_config(epochs=9, pretrain_epochs=4, protocol='honest'), regime, tmp_path)
  assert [(source.real, len(source.indices)) for source in made.train] == images
  assert made.epochs == epochs
  assert made.rounds == ({} if regime == 'real' else {1: 'a'})
  assert made.folder == tmp_path / 'classify' / 'resnet50' / regime / 'seed_0'
  same = plan(make_config(epochs=9, pretrain_epochs=0, protocol='honest'), regime, tmp_path)
  assert same.epochs == 9


def test_the_settings_know_everything_that_decides_a_result(tmp_path):
  def settings(regime='real', weights=None, seed=0, **values):
    config = make_config(**values)
    config.seed = seed
    return plan(config, regime, tmp_path, weights).settings

  first, file = settings(), initial.Weights(tmp_path / 'file.pth', {}, 'f' * 64)
  assert settings() == first
  assert settings(eval_batch_size=4) == first  # decides nothing
  assert settings(num_seeds=5) == first
  changed = [
    settings(seed=1),
    settings(learning_rate=0.5),
    settings(batch_size=8),
    settings(protocol='paper'),
    settings(weights=file),
    settings(weights=file, mean=0.5),
    settings(weights=file, std=0.5),
    settings('synth_r1'),
  ]
  assert len({first, *changed}) == 9
  assert settings(mean=0.5, std=0.5) == first  # of a model that starts from no file they decide nothing
  assert settings('synth_r1').endswith('-a')


def test_a_run_whose_predictions_are_damaged_is_not_done(tmp_path):
  made = plan(make_config(), 'real', tmp_path)
  predictions_lib.write_csv(
    made.folder / 'predictions.csv', fake_predictions.right_or_wrong([True, False], ['1', '2'])
  )
  seal = Fingerprint.of(made.folder / 'predictions.csv')
  found = msgspec.structs.replace(
    METRICS, **made.name._asdict(), settings=made.settings, test_accuracy=0.5, predictions=seal
  )
  results.write(made.folder, found)
  assert classify._is_done(made)
  damage.flip(made.folder / 'predictions.csv')
  with pytest.raises(
    UserError, match=r'predictions\.csv: is not .*; delete its folder and run --stage=class'
  ):
    classify._is_done(made)
