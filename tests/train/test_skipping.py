"""Steps that are not finite: left out where that is asked for, counted, and no others are touched."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from fetal_jax.diffusion.schedule import make_process
from fetal_jax.runtime.errors import UserError
from fetal_jax.train import classify_step, diffusion_step, loop

CLASSES, SHAPE = 3, (4, 4, 1)
POISON = CLASSES  # a label that there is not: its cross-entropy and its embedding are not numbers


class Unet(nn.Module):
  """As little of a UNet, and below of a guide and a classifier, as the steps ask for."""

  @nn.compact
  def __call__(self, x, t, labels, train=False):
    return nn.Dense(2)(x) + nn.Embed(CLASSES, 2)(labels)[:, None, None]


class Guide(nn.Module):
  statistics: bool = False

  @nn.compact
  def __call__(self, x, t=None, train=False):
    x = x.mean((1, 2))
    if self.statistics:
      x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(x)
    return nn.Dense(CLASSES)(x)


NETS = {'unet': Unet(), 'guide': Guide()}
OPTIMIZERS = {name: diffusion_step.make_optimizer(1e-2, 0.01, 0, 1.0) for name in NETS}


@functools.cache
def diffusion(skip_nonfinite):
  """A fresh state of both networks and their jitted update."""
  init = functools.partial(
    diffusion_step.init_state, nets=NETS, optimizers=OPTIMIZERS, image_shape=SHAPE, ema_rates=(0.9,)
  )
  update = diffusion_step.make_update(
    NETS,
    OPTIMIZERS,
    make_process('linear', 1000),
    key=jax.random.key(1),
    microbatches=1,
    random_flip=True,
    ema_rates=(0.9,),
    ema_warmup=True,
    skip_nonfinite=skip_nonfinite,
  )
  return jax.jit(init)(jax.random.key(0)), jax.jit(update)


@functools.cache
def classifier(skip_nonfinite):
  net, optimizer = Guide(statistics=True), optax.adam(1e-2)
  init = functools.partial(classify_step.init_state, net=net, optimizer=optimizer, image_shape=SHAPE)
  update = classify_step.make_update(
    net, optimizer, mean=0.449, std=0.226, rotation_degrees=30.0, flips=True, skip_nonfinite=skip_nonfinite
  )
  return jax.jit(init)(jax.random.key(0)), jax.jit(functools.partial(update, key=jax.random.key(1)))


def batch(step, poisoned=()):
  rng = np.random.default_rng(step)
  labels = rng.integers(0, CLASSES, (1, 4)).astype(np.int32)
  if step in poisoned:
    labels[0, 1] = POISON
  images = rng.integers(0, 256, (1, 4, *SHAPE)).astype(np.uint8)
  return {'images': images, 'labels': labels, 'real': np.ones((1, 4), bool)}


def equal(a, b, rtol=0.0):
  jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=rtol, atol=0), a, b)


@pytest.mark.parametrize('make', [diffusion, classifier])
def test_a_poisoned_batch_leaves_no_trace_and_the_others_are_as_ever(make):
  """Parameters, averages, statistics and optimisers; steps that are fine are the same but for rounding."""
  state, update = make(True)
  for step in range(2):
    state, sums = update(state, batch(step))
    assert float(sums['skipped/loss'][0] + sums['skipped/gradient'][0]) == 0
  expected, plain = make(False)
  for step in range(2):
    expected, plain_sums = plain(expected, batch(step))
  equal(state, expected, rtol=1e-5)
  equal({name: sums[name] for name in plain_sums}, plain_sums, rtol=1e-5)

  after, sums = update(state, batch(2, poisoned=[2]))
  assert after.step == 3
  equal(after.replace(step=state.step), state)
  assert float(sums['skipped/loss'][0]) == 1
  assert float(sums['skipped/gradient'][0]) == 0
  # Nothing of it is in the means.
  assert all(np.all(np.asarray(pair) == 0) for name, pair in sums.items() if not name.startswith('skipped'))


def test_without_it_a_poisoned_batch_spoils_the_networks():
  state, update = diffusion(False)
  spoiled, _ = update(state, batch(0, poisoned=[0]))
  assert not any(np.isfinite(leaf).all() for leaf in jax.tree.leaves(spoiled.params['unet']['Embed_0']))


def train(poisoned, *, skip_nonfinite, on_log=lambda step, means: '', resumed=None, start=0):
  state, update = classifier(True)
  saved = []
  loop.train(
    state,
    update,
    (batch(step, poisoned) for step in itertools.count(start)),
    loop.Schedule(start, steps=12, steps_per_call=1, images_per_step=4, log_every=4, save_every=4),
    loop.Hooks(on_log, save=lambda step, state, account: saved.append((step, account))),
    title='test',
    skip_nonfinite=skip_nonfinite,
    resumed=resumed,
  )
  return saved


def test_steps_are_left_out_until_there_are_too_many():
  rows = []

  def on_log(step, means):
    rows.append((step, means['skipped_steps'], np.isfinite(list(means.values())).all()))
    return ''

  saved = train((1, 2, 6), skip_nonfinite=3, on_log=on_log)
  assert rows == [(4, 2.0, True), (8, 3.0, True), (12, 3.0, True)]
  assert [account['skipped_steps'] for _, account in saved] == [2, 3, 3]

  with pytest.raises(
    UserError, match=r'1 of the 4 steps up to 8 were not finite.*loss 1.*, 3 so far.*step 4 is kept'
  ):
    train((1, 2, 6), skip_nonfinite=2)
  # A resumed run knows of those before.
  with pytest.raises(UserError, match='3 so far, where skip_nonfinite=2 in all'):
    train((6,), skip_nonfinite=2, start=4, resumed=saved[0][1])


def test_a_run_of_nothing_else_stops_at_once():
  """However many may be left out."""
  with pytest.raises(UserError, match='4 of the 4 steps up to 8 were not finite'):
    train((4, 5, 6, 7), skip_nonfinite=100)


def test_a_gradient_alone_may_be_to_blame():
  from fetal_jax.train import skipping

  def one_step(state, batch):
    sums = {'loss': (jnp.ones(()), jnp.ones(())), 'grad_norm/x': (batch, jnp.ones(()))}
    return classify_step.ClassifierState(state.step + 1, {'params': batch}, ()), sums

  state = classify_step.ClassifierState(jnp.asarray(3), {'params': jnp.asarray(5.0)}, ())
  step = skipping.leaving_out(one_step)
  after, sums = step(state, jnp.asarray(jnp.inf))
  assert (after.step, after.variables['params']) == (4, 5.0)
  assert (sums['skipped/loss'][0], sums['skipped/gradient'][0]) == (0, 1)
  after, sums = step(state, jnp.asarray(2.0))
  assert (after.step, after.variables['params']) == (4, 2.0)
  assert (sums['skipped/loss'][0], sums['skipped/gradient'][0]) == (0, 0)
