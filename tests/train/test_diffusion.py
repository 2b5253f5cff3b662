"""Checkpoints of the diffusion stage resume with the same data and settings alone; test_end_to_end.py runs the stage."""

import itertools
import logging
import pathlib
import shutil
import types

import numpy as np
import pytest
from flax import linen as nn
from helpers import tiny

from fetal_jax import config as config_lib
from fetal_jax import networks
from fetal_jax.data import prepare, prepared
from fetal_jax.runtime import metrics, signals
from fetal_jax.runtime.errors import UserError
from fetal_jax.train import diffusion, diffusion_actions

FOLDER = pathlib.Path('checkpoints')


def data(names=('a', 'b'), split_hash='h'):
  return types.SimpleNamespace(
    records=types.SimpleNamespace(class_names=names), info=types.SimpleNamespace(split_hash=split_hash)
  )


META = {'class_names': ['a', 'b'], 'split_hash': 'h'}


def test_the_same_data_resumes():
  diffusion._check_same_data(META, data(), FOLDER)


@pytest.mark.parametrize(
  ('other', 'message'),
  [
    (data(names=('a', 'b', 'c')), r'trained on 2 classes \(a, b\), the prepared data has 3 \(a, b, c\)'),
    (data(names=('b', 'a')), r'trained on 2 classes \(a, b\), the prepared data has 2 \(b, a\)'),
    (data(split_hash='other'), 'trained on another split of the data; use a new --workdir'),
  ],
)
def test_other_data_is_refused(other, message):
  with pytest.raises(UserError, match=message):
    diffusion._check_same_data(META, other, FOLDER)


@pytest.mark.parametrize(
  ('key', 'value'), [('diffusion.learning_rate', '0.5'), ('diffusion.unet.width', '32'), ('seed', '1')]
)
def test_settings_that_decide_the_weights_may_not_change(key, value):
  config = config_lib.load_file('configs/smoke.py')
  before = config_lib.to_dict(config)
  config_lib.override(config, key, value)
  with pytest.raises(UserError, match=rf'trained with other settings \({key}: was .*, is {value}\)'):
    diffusion._check_same(config, before, FOLDER)


@pytest.mark.parametrize(
  ('key', 'value'), [('diffusion.steps', '400'), ('diffusion.log_every', '1'), ('classify.epochs', '7')]
)
def test_others_may(key, value):
  config = config_lib.load_file('configs/smoke.py')
  before = config_lib.to_dict(config)
  config_lib.override(config, key, value)
  diffusion._check_same(config, before, FOLDER)


def test_a_log_is_written_whole_and_shown_in_a_few_words():
  calls = []
  checkpointer = types.SimpleNamespace(check=lambda: calls.append('check'))
  writer = types.SimpleNamespace(write_scalars=lambda step, means: calls.append((step, means)))
  log = diffusion._Log(checkpointer, writer)
  means = {'guide/accuracy': 0.5, 'unet/loss': 0.123456, 'unet/mse': 0.1, 'img_per_s': 1234.5678}
  assert log(10, means) == 'loss 0.1235, guide accuracy 0.5, img/s 1235'
  assert log.status == 'loss 0.1235, guide accuracy 0.5, img/s 1235'
  assert calls == ['check', (10, means)]


class Guide(nn.Module):
  """A guide that compiles in no time."""

  @nn.compact
  def __call__(self, x, t, train=False):
    return nn.Dense(6)(x.reshape(len(x), -1))


def test_where_nothing_is_held_out_the_guide_is_measured_on_no_image(tmp_path, monkeypatch, caplog):
  """Not on test images either."""
  settings = ('train=guide', 'steps=2', 'steps_per_call=1', 'log_every=1', 'eval_every=1', 'batch_size=2')
  config = tiny.make_config(
    '--config.data.phantom_images=60',
    '--config.classify.protocol=paper',
    *(f'--config.diffusion.{s}' for s in settings),
  )
  monkeypatch.setattr(networks, 'make_diffusion_networks', lambda *_: {'guide': Guide()})
  prepare.run(config, tmp_path)
  seen = []
  training_batches = diffusion.loader.training_batches

  def batches(sources, **kwargs):
    seen.extend(np.concatenate([source.indices for source in sources]).tolist())
    return training_batches(sources, **kwargs)

  monkeypatch.setattr(diffusion.loader, 'training_batches', batches)
  with caplog.at_level(logging.INFO):
    assert diffusion.run(config, tmp_path)
  split = prepared.load(tmp_path).split
  assert sorted(seen) == sorted({*range(60)} - {*split.test.tolist()})
  found = metrics.read_metrics(tmp_path / 'logs' / 'diffusion' / 'metrics.jsonl')
  assert {key for row in found for key in row if 'held' in key} == set()
  assert all('guide/accuracy' in row for row in found)
  assert (
    'no image is held out (classify.protocol=paper): the accuracy of the guide is that in training'
    in caplog.text
  )


def test_a_stop_during_an_evaluation_changes_nothing(tmp_path, monkeypatch):
  """At step 2, and at the last one, which is then not done before; the rows are those of a run that was never stopped."""
  settings = ('train=guide', 'steps=4', 'steps_per_call=1', 'log_every=1', 'eval_every=2', 'batch_size=2')
  config = tiny.make_config('--config.data.phantom_images=60', *(f'--config.diffusion.{s}' for s in settings))
  monkeypatch.setattr(networks, 'make_diffusion_networks', lambda *_: {'guide': Guide()})
  asked, rows = [], []
  evaluation_batches = diffusion_actions.evaluation_batches

  def batches(*args, **kwargs):
    """The first batch, then a signal, if one is to come in this evaluation."""
    for number, batch in enumerate(evaluation_batches(*args, **kwargs)):
      if number == 1 and next(interrupts):
        asked.append(1)
      yield batch

  monkeypatch.setattr(diffusion_actions, 'evaluation_batches', batches)
  monkeypatch.setattr(signals, 'requested', lambda: len(asked) > 0)
  prepare.run(config, tmp_path / 'prepared')
  for name, stops in (('whole', ()), ('stopped', (2, 4))):
    shutil.copytree(tmp_path / 'prepared', tmp_path / name)
    interrupts = itertools.chain([True, False, True] if stops else [], itertools.repeat(False))
    for at in stops:
      with pytest.raises(signals.Stopped, match=f'diffusion is at step {at} of 4, with a checkpoint'):
        diffusion.run(config, tmp_path / name)
      asked.clear()
    assert diffusion.run(config, tmp_path / name)
    assert not diffusion.run(config, tmp_path / name)
    found = metrics.read_metrics(tmp_path / name / 'logs' / 'diffusion' / 'metrics.jsonl')
    rows.append([{name: value for name, value in row.items() if name != 'img_per_s'} for row in found])
  assert rows[0] == rows[1]
  assert [row['step'] for row in rows[0]] == [1, 2, 2, 3, 4, 4]


def test_previews_are_drawn_as_the_data_set_will_be(tmp_path, monkeypatch):
  asked, previews = [], []

  def make_sample(unet, guide, process, **settings):
    asked.append({'steps': len(process.timesteps), **settings})

  monkeypatch.setattr(diffusion, 'make_sample', make_sample)
  monkeypatch.setattr(diffusion_actions, 'preview', lambda *args, **about: previews.append(about))
  config = tiny.make_config(
    *('--config.sample.method=ancestral', '--config.sample.steps=7', '--config.sample.guidance_scale=1.5'),
    *(
      '--config.sample.guidance_at=mean',
      '--config.sample.clip=none',
      '--config.sample.guidance_interval=(100,900)',
    ),
  )
  there = types.SimpleNamespace(
    images=np.zeros((1, 8, 8, 1), np.uint8),
    split=types.SimpleNamespace(validation=()),
    records=types.SimpleNamespace(class_names=('a', 'b')),
  )
  for nets in ({'unet': 'unet', 'guide': 'guide'}, {'unet': 'unet'}):
    training = types.SimpleNamespace(nets=nets, mesh=None, key_preview=None)
    diffusion._actions(config, training, there, None, tmp_path)
  alike = {
    'steps': 7, 'image_shape': (8, 8, 1), 'method': 'ancestral', 'guidance_interval': (100, 900),
    'guidance_at': 'mean', 'eta': 0.0, 'clip': None,
  }  # fmt: skip
  assert asked == [{**alike, 'guidance_scale': 1.5}, {**alike, 'guidance_scale': 0.0}]
  assert [about['guided'] for about in previews] == [True, False]
