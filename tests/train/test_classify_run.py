"""One training of a classifier: its epochs, its results, and what a resumed one does."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import msgspec
import numpy as np
import pytest
from flax import linen as nn

from fetal_jax.data import records
from fetal_jax.data.loader import Source
from fetal_jax.runtime import metrics, signals
from fetal_jax.runtime.checkpoint import Checkpointer
from fetal_jax.runtime.devices import make_mesh
from fetal_jax.runtime.errors import UserError
from fetal_jax.train import classify_run, classify_step, predictions, results
from fetal_jax.train.classify_run import RunPlan
from fetal_jax.train.results import EpochRow, Normalisation, RunName

SHAPE, N = (2, 2, 1), 24


class Linear(nn.Module):
  @nn.compact
  def __call__(self, x, train=False):
    return nn.Dense(2, name='head')(x.reshape(len(x), -1))


@functools.cache
def task():
  return classify_step.make_task(
    'linear', Linear(), SHAPE, make_mesh(), learning_rate=0.1, mean=0.5, std=0.25, rotation_degrees=0.0, flips=False
  )  # fmt: skip


def plan(workdir, regime='real', **changes):
  rng = np.random.default_rng(0)
  labels = rng.integers(0, 2, N).astype(np.int32)
  images = (rng.integers(0, 200, (N, *SHAPE)) + 40 * labels[:, None, None, None]).astype(np.uint8)
  about = records.make([f'i{k}' for k in range(N)], labels, [f'p{k}' for k in range(N)], ('a', 'b'))
  made = RunPlan(
    name=RunName('linear', regime, 0),
    workdir=workdir,
    train=[Source(images, labels, np.arange(16))],
    select=Source(images, labels, np.arange(16, 20)),
    test=Source(images, labels, np.arange(20, 24)),
    records=about,
    seed=3,
    protocol='honest',
    epochs=4,
    batch_size=4,
    steps_per_call=1,
    eval_batch_size=4,
    checkpoint_epochs=2,
    skip_nonfinite=0,
    weights=None,
    normalisation=Normalisation(mean=0.5, std=0.25),
    settings='s',
    split_hash='h',
    rounds={2: '0123'},
    config={},
  )
  return dataclasses.replace(made, **changes)


def selected(folder):
  with Checkpointer(folder / 'selected', keep=1) as checkpointer:
    step = checkpointer.latest_step()
    return step, *checkpointer.restore(step, task().like.variables)


def test_an_epoch_is_a_whole_number_of_dispatches(tmp_path):
  assert plan(tmp_path).epoch_steps == 4  # 16 images in batches of 4
  assert plan(tmp_path).steps == 16
  assert plan(tmp_path, steps_per_call=3).epoch_steps == 3  # 1.33 dispatches
  assert plan(tmp_path, steps_per_call=8).epoch_steps == 8  # half a dispatch is one


def test_regimes_share_their_keys_and_seeds_do_not(tmp_path):
  def data(keys):
    return [jax.random.key_data(key).tolist() for key in keys]

  first = data(plan(tmp_path).keys())
  assert first[0] != first[1]
  assert data(plan(tmp_path, 'synth_r1').keys()) == first
  assert data(plan(tmp_path, name=RunName('linear', 'real', 1)).keys()) != first
  by_hand = jax.random.split(
    jax.random.fold_in(jax.random.fold_in(jax.random.key(3), 3), 0)
  )  # seed 3, stage 3, run 0
  assert first == data(by_hand)


def test_a_training_leaves_its_results(tmp_path):
  classify_run.train(task(), plan(tmp_path))
  folder = tmp_path / 'classify' / 'linear' / 'real' / 'seed_0'
  found = results.read(folder)
  assert (found.model, found.regime, found.seed, found.settings) == ('linear', 'real', 0, 's')
  assert [row.epoch for row in found.history] == [1, 2, 3, 4]
  assert [row.step for row in found.history] == [4, 8, 12, 16]
  assert all(row.validation_accuracy == row.score and row.test_accuracy is None for row in found.history)
  best = max(found.history, key=lambda row: (row.score, -row.epoch))
  assert (found.selected_epoch, found.validation_accuracy) == (best.epoch, best.score)
  assert (found.real_images, found.synthetic_images, found.parameters) == (16, 0, 10)
  assert (found.split_hash, found.rounds) == ('h', {'2': '0123'})
  assert results.read_predictions(folder, found).is_of(plan(tmp_path).records.take(np.arange(20, 24)))

  step, variables, meta = selected(folder)
  assert (step, meta['split_hash'], meta['settings']) == (best.step, 'h', 's')
  assert meta['normalisation'] == {'mean': 0.5, 'std': 0.25}
  assert found.normalisation == Normalisation(mean=0.5, std=0.25)
  rows = predictions.read_csv(folder / 'predictions.csv')
  assert rows.images.tolist() == ['i20', 'i21', 'i22', 'i23']
  expected = classify_step.predict(task(), variables, plan(tmp_path).test, batch_size=4)
  np.testing.assert_allclose(rows.probabilities, expected, atol=1e-6)
  assert found.test_accuracy == (rows.probabilities.argmax(1) == rows.labels).mean()
  assert not (folder / 'checkpoints').exists()


def test_a_training_that_was_stopped_ends_like_one_that_was_not(tmp_path, monkeypatch):
  whole, other = plan(tmp_path / 'whole'), plan(tmp_path / 'stopped')
  classify_run.train(task(), whole)
  steps = []

  def update(state, batch, key):
    steps.append(int(state.step))
    return task().update(state, batch, key)

  monkeypatch.setattr(signals, 'requested', lambda: bool(steps) and steps[-1] == 9)
  counting = dataclasses.replace(task(), update=update)
  with pytest.raises(signals.Stopped):
    classify_run.train(counting, other)
  classify_run.train(counting, other)
  assert steps == list(range(16))  # none twice
  one, two = (msgspec.structs.replace(results.read(p.folder), seconds=0.0) for p in (whole, other))
  assert one == two
  assert (whole.folder / 'predictions.csv').read_bytes() == (other.folder / 'predictions.csv').read_bytes()
  jax.tree.map(np.testing.assert_array_equal, selected(whole.folder)[1], selected(other.folder)[1])


@pytest.mark.parametrize('at', [8, 16])
def test_a_stop_during_an_evaluation_changes_nothing(tmp_path, monkeypatch, at):
  """It comes within the evaluation of two batches, after step `at`; the checkpoint of that step comes first."""
  whole, other = (plan(tmp_path / name, eval_batch_size=2) for name in ('whole', 'stopped'))
  classify_run.train(task(), whole)
  asked = []

  def probabilities(variables, images):
    if seen[-1] == at:
      asked.append(at)
    return task().probabilities(variables, images)

  def update(state, batch, key):
    seen.append(int(state.step) + 1)
    return task().update(state, batch, key)

  seen = [0]
  monkeypatch.setattr(signals, 'requested', lambda: len(asked) > 0)
  with pytest.raises(signals.Stopped, match=f'real seed 0 is at step {at} of 16, with a checkpoint'):
    classify_run.train(dataclasses.replace(task(), update=update, probabilities=probabilities), other)
  assert asked == [at]  # the second batch was left
  monkeypatch.setattr(signals, 'requested', lambda: False)
  classify_run.train(task(), other)
  one, two = (msgspec.structs.replace(results.read(p.folder), seconds=0.0) for p in (whole, other))
  assert one == two
  rows = []
  for p in (whole, other):
    found = metrics.read_metrics(p.workdir / 'logs' / p.folder.relative_to(p.workdir) / 'metrics.jsonl')
    rows.append([{name: value for name, value in row.items() if name != 'img_per_s'} for row in found])
  assert rows[0] == rows[1]
  assert [row['step'] for row in rows[0]] == [4, 4, 8, 8, 12, 12, 16, 16]


def test_a_checkpoint_of_other_settings_is_refused(tmp_path, monkeypatch):
  asked = iter([False, False, True])
  monkeypatch.setattr(signals, 'requested', lambda: next(asked, False))
  with pytest.raises(signals.Stopped):
    classify_run.train(task(), plan(tmp_path))
  with pytest.raises(
    UserError, match='checkpoints: trained with other settings or data; use a new --workdir'
  ):
    classify_run.train(task(), plan(tmp_path, settings='other'))


def test_fine_tuning_starts_from_the_selected_weights(tmp_path):
  classify_run.train(task(), plan(tmp_path, 'synth_r1'))
  _, variables, _ = selected(tmp_path / 'classify' / 'linear' / 'synth_r1' / 'seed_0')
  then = plan(tmp_path, 'synth_r1_then_real')
  begun = classify_run._start(task(), then, then.keys()[0])
  jax.tree.map(np.testing.assert_array_equal, begun.state.variables, variables)
  jax.tree.map(np.testing.assert_array_equal, begun.best, variables)
  assert begun.state.step == 0


def test_without_its_pretraining_a_run_does_not_start(tmp_path):
  with pytest.raises(UserError, match=r'synth_r1/seed_0: no selected weights to start from; delete'):
    classify_run.train(task(), plan(tmp_path, 'synth_r1_then_real'))


@pytest.mark.parametrize('protocol', ['honest', 'paper'])
def test_the_first_of_the_best_epochs_is_selected(tmp_path, monkeypatch, protocol):
  scores, written = iter([0.5, 0.75, 0.75, 0.25]), []
  monkeypatch.setattr(classify_run, 'predict', lambda *args, **kwargs: None)
  monkeypatch.setattr(classify_run, 'accuracy', lambda *args: next(scores))

  class Writer:
    def write_scalars(self, step, scalars):
      written.append((step, dict(scalars)))

  class Checks:
    def check(self):
      pass

  state = task().init(jax.random.key(0))
  begun = classify_run.Begun(0, state, state.variables, [], 0.0, {})
  epochs = classify_run.EpochSelector(task(), plan(tmp_path, protocol=protocol), begun, Checks(), Writer())
  for epoch in range(1, 5):
    epochs.log(4 * epoch, {'loss': 1.0 / epoch, 'accuracy': 0.5, 'img_per_s': 1.0})
    of_epoch = dataclasses.replace(state, variables=jax.tree.map(lambda v: jnp.full_like(v, epoch), state.variables))  # noqa: B023 # fmt: skip
    epochs.select(4 * epoch, of_epoch)
  assert all((leaf == 2).all() for leaf in jax.tree.leaves(epochs.best))
  assert classify_run.best_epoch(epochs.history).epoch == 2
  name = 'validation_accuracy' if protocol == 'honest' else 'test_accuracy'
  second = EpochRow(epoch=2, step=8, train_loss=0.5, train_accuracy=0.5, score=0.75, **{name: 0.75})
  assert epochs.history[1] == second
  assert (8, {name: 0.75}) in written


def test_each_seed_has_an_order_of_its_own(tmp_path, monkeypatch):
  """The order's seed is that of the whole run in thousands, and the number of the training."""
  seeds = []

  def note(sources, *, seed, **_):
    seeds.append(seed)
    raise InterruptedError

  monkeypatch.setattr(classify_run, 'training_batches', note)
  for number in (0, 2):
    with pytest.raises(InterruptedError):
      classify_run.train(task(), plan(tmp_path, name=RunName('linear', 'real', number)))
  assert seeds == [3000, 3002]


def test_the_time_before_an_interruption_counts(tmp_path, monkeypatch):
  start = classify_run._start
  monkeypatch.setattr(
    classify_run, '_start', lambda *arguments: dataclasses.replace(start(*arguments), seconds=1000.0)
  )
  classify_run.train(task(), plan(tmp_path, epochs=1))
  assert 1000 < results.read(plan(tmp_path).folder).seconds < 2000
