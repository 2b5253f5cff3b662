"""The simultaneous training step: what it learns, accumulates, resumes, and does on several devices."""

import dataclasses
import functools
import json
import pickle
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers.processes import with_devices
from helpers.quick_keys import COUNTING

from fetal_jax import models
from fetal_jax.diffusion.schedule import make_process
from fetal_jax.train import diffusion_step, ema

SHAPE = (8, 8, 1)
SMALL = {
  'width': 8,
  'channel_mult': (1,),
  'num_res_blocks': 1,
  'attention_downsamples': (),  # there is attention in the middle
  'num_head_channels': 8,
}


@functools.cache
def nets():
  return {
    'unet': models.create('unet', out_channels=2, num_classes=3, **SMALL),
    'guide': models.create('half_unet', image_size=8, num_classes=3, **SMALL),
  }


def optimizers():
  return {name: diffusion_step.make_optimizer(1e-2, 0.01, 2, 1.0) for name in ('unet', 'guide')}


@functools.cache
def first_state():
  init = functools.partial(
    diffusion_step.init_state, nets=nets(), optimizers=optimizers(), image_shape=SHAPE, ema_rates=(0.9, 0.999)
  )
  return jax.jit(init)(jax.random.key(0, impl=COUNTING))


@functools.cache
def make_update(microbatches=1, names=('unet', 'guide')):
  update = diffusion_step.make_update(
    {name: nets()[name] for name in names},
    optimizers(),
    make_process('linear', 1000),
    key=jax.random.key(1),
    microbatches=microbatches,
    random_flip=True,
    ema_rates=(0.9, 0.999),
    ema_warmup=True,
  )
  return jax.jit(update)


def batch(steps: int, size: int = 8):
  rng = np.random.default_rng(0)
  labels = rng.integers(0, 3, (steps, size)).astype(np.int32)
  # A class is a grey level: easy to tell apart where there is little noise.
  images = (labels[..., None, None, None] * 100 + rng.integers(0, 20, (steps, size, *SHAPE))).astype(np.uint8)
  return {'images': jnp.asarray(images), 'labels': jnp.asarray(labels)}


def close(a, b, **kwargs):
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **kwargs), a, b)


@pytest.mark.slow
def test_scanned_steps_are_single_steps():
  both = batch(2)
  scanned, _ = make_update()(first_state(), both)
  single = first_state()
  for k in range(2):
    single, _ = make_update()(single, jax.tree.map(lambda a, k=k: a[k : k + 1], both))
  assert scanned.step == single.step == 2
  close(scanned.params, single.params, atol=2e-5)
  close(scanned.ema, single.ema, atol=2e-5)


@pytest.mark.parametrize('name', ['unet', 'guide'])
def test_accumulated_gradients_are_those_of_the_whole_batch(name):
  """Compares their lengths (norms) and directions (first moments of Adam, after clipping); no learning rate matters."""
  whole, sums = make_update()(first_state(), batch(1))
  parts, sums_of_parts = make_update(microbatches=4)(first_state(), batch(1))
  norm = float(sums[f'grad_norm/{name}'][0])
  assert norm > 0.1
  assert float(sums_of_parts[f'grad_norm/{name}'][0]) == pytest.approx(norm, rel=1e-4)
  moments, moments_of_parts = (optax.tree.get(state.opt_state[name], 'mu') for state in (whole, parts))
  close(moments, moments_of_parts, atol=1e-6)
  assert optax.tree.norm(moments) == pytest.approx(0.1 * min(norm, 1), rel=1e-4)
  close(sums[f'{name}/loss'], sums_of_parts[f'{name}/loss'], rtol=1e-4)


def test_every_network_gets_its_own_step_and_the_average_follows():
  state = make_update()(first_state(), batch(1))[0]  # the first step of the warm-up has rate 0
  after, sums = make_update()(state, batch(1))
  for name in ('unet', 'guide'):
    moved = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), after.params[name], state.params[name])
    assert max(jax.tree.leaves(moved)) > 1e-4, name
  for average, rate in zip(after.ema, (0.9, 0.999), strict=True):
    decay = ema.decay(jnp.asarray(1), rate, warmup=True)
    close(average, ema.update(state.params['unet'], after.params['unet'], decay), atol=1e-6)
  quarters = [float(sums[f'unet/loss_q{q}'][1]) for q in range(4)]
  assert sum(quarters) == 8


@pytest.mark.parametrize('name', ['unet', 'guide'])
def test_either_network_trains_alone(name):
  both = first_state()
  alone = dataclasses.replace(
    both,
    params={name: both.params[name]},
    opt_state={name: both.opt_state[name]},
    ema=both.ema if name == 'unet' else (),
  )
  after, sums = jax.eval_shape(make_update(names=(name,)), alone, batch(1))
  assert set(after.params) == {name}
  assert all(key.split('/')[0] in (name, 'grad_norm') for key in sums)
  assert len(after.ema) == (2 if name == 'unet' else 0)


def test_losses_fall_and_the_guide_learns_where_there_is_little_noise():
  state, update = first_state(), make_update()
  history = []
  data = batch(2)
  for step in range(120):
    state, sums = update(state, jax.tree.map(lambda a, k=step % 2: a[k : k + 1], data))
    history.append(jax.device_get(sums))

  def mean(name, part):
    return sum(np.sum(s[name][0]) for s in part) / sum(np.sum(s[name][1]) for s in part)

  assert mean('unet/mse', history[-20:]) < 0.5 * mean('unet/mse', history[:6])
  assert mean('guide/accuracy_q0', history[-20:]) > 0.6  # a third by chance
  assert mean('guide/accuracy_q0', history[-20:]) > mean('guide/accuracy_q3', history[-20:])


def test_held_out_accuracy_masks_the_padding():
  process = make_process('linear', 1000)
  accuracy = diffusion_step.make_held_out_accuracy(nets()['guide'], process, jax.random.key(3))
  data = {k: v[0] for k, v in batch(1).items()} | {'mask': jnp.arange(8) < 5}
  sums = accuracy(first_state().params['guide'], data, 0)
  assert float(sums['guide/heldout_accuracy'][1]) == 4 * 5
  again = accuracy(first_state().params['guide'], data, 0)
  close(sums, again, atol=0)


def test_the_optimizer_clips_by_the_global_norm_and_warms_up():
  tx = diffusion_step.make_optimizer(0.1, 0.0, 10, 1.0)
  params = {'w': jnp.zeros(2)}
  state, rates = tx.init(params), []
  for _ in range(13):
    updates, state = tx.update({'w': jnp.array([30.0, 40.0])}, state, params)
    rates.append(-float(updates['w'][0]))  # Adam's step for a gradient that stays the same is the rate
  np.testing.assert_allclose(rates, [*np.arange(0, 0.1, 0.01), 0.1, 0.1, 0.1], atol=1e-6)
  mu = optax.tree.get(state, 'mu')
  np.testing.assert_allclose(mu['w'], (1 - 0.9**13) * np.array([0.6, 0.8]), rtol=1e-5)  # clipped to norm 1


def test_the_optimizer_without_clipping_takes_gradients_as_they_are():
  tx = diffusion_step.make_optimizer(0.1, 0.0, 0, 0.0)
  params = {'w': jnp.zeros(2)}
  _, state = tx.update({'w': jnp.array([30.0, 40.0])}, tx.init(params), params)
  np.testing.assert_allclose(optax.tree.get(state, 'mu')['w'], [3.0, 4.0], rtol=1e-6)  # 0.1 of the gradient


def test_the_optimizer_decays_weights_by_its_rate():
  tx = diffusion_step.make_optimizer(0.1, 0.05, 0, 1.0)
  params = {'w': jnp.array([2.0, -4.0])}
  updates, _ = tx.update({'w': jnp.zeros(2)}, tx.init(params), params)
  np.testing.assert_allclose(updates['w'], [-0.01, 0.02], rtol=1e-6)


def test_sums_are_by_quarter_of_t():
  t = jnp.array([0, 249, 250, 500, 999])
  sums, counts = diffusion_step._by_quartile(jnp.array([1.0, 2.0, 4.0, 8.0, 16.0]), t, 1000)
  assert sums.tolist() == [3, 4, 8, 16]
  assert counts.tolist() == [2, 1, 1, 1]


_ON_DEVICES = """
import json, pickle, sys
sys.path.append('tests')
import jax
from fetal_jax.runtime import devices
from tests.train import test_diffusion_step as t

with open(sys.argv[1], 'rb') as f:
  first = pickle.load(f)
mesh = devices.make_mesh(-1, int(sys.argv[2]))
sharding = devices.state_sharding(mesh, first)
state = jax.device_put(first, sharding)
update = jax.jit(t.make_update().__wrapped__, in_shardings=(sharding, devices.batch_sharding(mesh, 1)),
                 out_shardings=(sharding, devices.replicated(mesh)))
losses = []
for _ in range(3):
  state, sums = update(state, devices.put_batch(mesh, jax.device_get(t.batch(1)), axis=1))
  losses.append([float(s.sum()) for name in ('unet/loss', 'guide/loss') for s in sums[name][:1]])
spread = sum(
  len(a.sharding.device_set) > 1 and not a.is_fully_replicated for a in jax.tree.leaves(state.params)
)
print(json.dumps({'devices': jax.device_count(), 'losses': losses, 'spread': spread}))
"""


def on_eight_devices(folder, fsdp):
  """Takes three steps in a process with eight devices; returns its results."""
  file = folder / 'first.pickle'
  file.write_bytes(pickle.dumps(jax.device_get(first_state())))
  command = [sys.executable, '-c', _ON_DEVICES, file, str(fsdp)]
  done = subprocess.run(command, env=with_devices(8), capture_output=True, text=True, check=False)
  assert done.returncode == 0, done.stderr
  return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize('fsdp', [1, 4])
def test_eight_devices_take_the_same_steps_as_one(fsdp, tmp_path):
  """Data parallel: over all devices (1), and over two groups of 4 over which parameters are spread."""
  result = on_eight_devices(tmp_path, fsdp)
  assert result['devices'] == 8
  assert (result['spread'] > 0) == (fsdp > 1)
  state, losses = first_state(), []
  for _ in range(3):
    state, sums = make_update()(state, batch(1))
    losses.append([float(sums[name][0].sum()) for name in ('unet/loss', 'guide/loss')])
  np.testing.assert_allclose(result['losses'], losses, rtol=2e-4)


_COST_ON_DEVICES = """
import json, sys
sys.path[:0] = ['.', 'tests']
import jax, jax.numpy as jnp
from tests.train import test_diffusion_step as t
from fetal_jax.runtime import devices
from fetal_jax.train import diffusion_step

mesh = devices.make_mesh(-1, 1)
split, whole = devices.batch_sharding(mesh, 0), devices.replicated(mesh)
loss = diffusion_step.loss_fns(t.nets(), t.make_process('linear', 1000))['guide']
shapes = (jax.ShapeDtypeStruct((64, *t.SHAPE), jnp.float32), jax.ShapeDtypeStruct((64,), jnp.int32))
for parts in (1, 4):
  def gradients(params, x_0, labels, parts=parts):
    return diffusion_step.gradients(
      loss, params, x_0, labels, jax.random.key(0), timesteps=1000, microbatches=parts
    )[0]
  compiled = jax.jit(gradients, in_shardings=(whole, split, split), out_shardings=whole).lower(
    t.first_state().params['guide'], *shapes).compile()
  print(json.dumps({'flops': compiled.cost_analysis()['flops'],
                    'temporary': compiled.memory_analysis().temp_size_in_bytes}))
"""


def test_each_device_computes_its_share_of_every_part():
  """Four devices, 64 images: 16 a device in one part, 4 in each of four; XLA counts the body of a loop once."""
  command = [sys.executable, '-c', _COST_ON_DEVICES]
  done = subprocess.run(command, env=with_devices(4), capture_output=True, text=True, check=False)
  assert done.returncode == 0, done.stderr
  whole, part = map(json.loads, done.stdout.splitlines()[-2:])
  assert part['flops'] == pytest.approx(whole['flops'] / 4, rel=0.2)
  assert part['temporary'] < whole['temporary'] / 2
