"""One training step of the UNet and its guide: losses, optimisers, and the update of both."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import optax
from jaxtyping import Array, Float, Int

from fetal_jax.diffusion import gaussian
from fetal_jax.diffusion.sample import to_float
from fetal_jax.diffusion.schedule import Process
from fetal_jax.train import ema, skipping
from fetal_jax.train.state import DiffusionState

QUARTILES = 4
Networks = Mapping[str, Any]  # linen modules 'unet' and 'guide', those that are trained
# (params, x_0, labels, t, noise, dropout key) -> (mean loss, sums: name -> (sums, counts) by quarter of t)
Loss = Callable[..., tuple[jax.Array, dict[str, tuple[jax.Array, jax.Array]]]]


def make_optimizer(
  learning_rate: float, weight_decay: float, warmup_steps: int, grad_clip: float
) -> optax.GradientTransformation:
  """Returns AdamW with a linear warm-up of its rate, on gradients clipped by their global norm; 0 leaves either out."""
  schedule = optax.linear_schedule(0.0, learning_rate, warmup_steps) if warmup_steps else learning_rate
  clip = optax.clip_by_global_norm(grad_clip) if grad_clip else optax.identity()
  return optax.chain(clip, optax.adamw(schedule, weight_decay=weight_decay))


def make_optimizers(config: ml_collections.ConfigDict) -> dict[str, optax.GradientTransformation]:
  """Returns the optimiser of each network, with the rates of the config."""
  diffusion = config.diffusion
  rates = {
    'unet': (diffusion.learning_rate, diffusion.weight_decay),
    'guide': (diffusion.guide_learning_rate, diffusion.guide_weight_decay),
  }
  return {
    name: make_optimizer(*rate, diffusion.warmup_steps, diffusion.grad_clip) for name, rate in rates.items()
  }


def init_state(
  key: jax.Array,
  nets: Networks,
  optimizers: Mapping[str, optax.GradientTransformation],
  *,
  image_shape: tuple[int, int, int],
  ema_rates: tuple[float, ...],
) -> DiffusionState:
  """Makes fresh parameters, optimisers and averages; pure, for `jax.jit` or `jax.eval_shape`."""
  x, t = jnp.zeros((1, *image_shape)), jnp.zeros((1,), jnp.int32)
  inputs = {'unet': (x, t, t), 'guide': (x, t)}
  params = {
    name: net.init(jax.random.fold_in(key, number), *inputs[name])['params']
    for number, (name, net) in enumerate(sorted(nets.items()))
  }
  return DiffusionState(
    step=jnp.zeros((), jnp.int32),
    params=params,
    opt_state={name: optimizers[name].init(params[name]) for name in params},
    ema=tuple(params['unet'] for _ in ema_rates) if 'unet' in params else (),
  )


def loss_fns(nets: Networks, process: Process) -> dict[str, Loss]:
  """Returns the training loss of each network.

  `unet`: the hybrid loss of Improved DDPM (Nichol & Dhariwal 2021, eq. 16), noise MSE plus the variational
  bound of the learned variance. `guide`: cross-entropy on x_t (Dhariwal & Nichol 2021, section 4).
  """

  def unet_loss(params, x_0, labels, t, noise, key):
    net = nets['unet']
    x_t = gaussian.q_sample(process, x_0, t, noise)
    output = net.apply({'params': params}, x_t, t, labels, train=True, rngs={'dropout': key})
    losses = gaussian.training_losses(process, output, x_0, x_t, t, noise)
    sums = {f'unet/{name}': _by_quartile(value, t, len(process.betas)) for name, value in losses.items()}
    return losses['loss'].mean(), sums

  def guide_loss(params, x_0, labels, t, noise, key):
    x_t = gaussian.q_sample(process, x_0, t, noise)
    logits = nets['guide'].apply({'params': params}, x_t, t, train=True, rngs={'dropout': key})
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    correct = (logits.argmax(-1) == labels).astype(jnp.float32)
    sums = {'guide/loss': losses, 'guide/accuracy': correct}
    return losses.mean(), {k: _by_quartile(v, t, len(process.betas)) for k, v in sums.items()}

  return {'unet': unet_loss, 'guide': guide_loss}


def _by_quartile(values: jax.Array, t: jax.Array, timesteps: int) -> tuple[jax.Array, jax.Array]:
  """Returns (sums [4], counts [4]) of per-example values over the quarters of t."""
  quartile = t * QUARTILES // timesteps
  one_hot = jax.nn.one_hot(quartile, QUARTILES, dtype=jnp.float32)
  return values @ one_hot, one_hot.sum(0)


# MARK: The step


def make_update(
  nets: Networks,
  optimizers: Mapping[str, optax.GradientTransformation],
  process: Process,
  *,
  key: jax.Array,
  microbatches: int,
  random_flip: bool,
  ema_rates: tuple[float, ...],
  ema_warmup: bool,
  skip_nonfinite: bool = False,
) -> Callable[[DiffusionState, Any], tuple[DiffusionState, Any]]:
  """Builds `update(state, batch) -> (state, sums)`: K optimiser steps of every network.

  The batch holds `images` uint8 [K, B, H, W, C] and `labels` int32 [K, B]. Each network draws its own t and
  noise. All randomness is folded from `key` and the step, so a resumed run draws the same. With `microbatches`
  the gradient is accumulated over so many parts of a batch. With `skip_nonfinite` a step that is not finite in one
  network is left out in both.
  """
  losses, timesteps = loss_fns(nets, process), len(process.betas)

  def one_step(state: DiffusionState, batch: Any) -> tuple[DiffusionState, Any]:
    key_step = jax.random.fold_in(key, state.step)
    x_0, labels = to_float(batch['images']), batch['labels']
    if random_flip:
      flip = jax.random.bernoulli(jax.random.fold_in(key_step, 0), 0.5, labels.shape)
      x_0 = jnp.where(flip[:, None, None, None], x_0[:, :, ::-1], x_0)
    params: dict[str, Any] = {}
    opt_state: dict[str, Any] = {}
    all_sums: dict[str, Any] = {}
    for number, name in enumerate(sorted(nets), start=1):
      key_net = jax.random.fold_in(key_step, number)
      grads, sums = gradients(
        losses[name], state.params[name], x_0, labels, key_net, timesteps=timesteps, microbatches=microbatches
      )
      updates, opt_state[name] = optimizers[name].update(grads, state.opt_state[name], state.params[name])
      params[name] = optax.apply_updates(state.params[name], updates)
      all_sums |= _named(sums) | {f'grad_norm/{name}': (optax.tree.norm(grads), jnp.ones(()))}
    averages = tuple(
      ema.update(average, params['unet'], ema.decay(state.step, rate, warmup=ema_warmup))
      for average, rate in zip(state.ema, ema_rates if 'unet' in nets else (), strict=True)
    )
    return DiffusionState(step=state.step + 1, params=params, opt_state=opt_state, ema=averages), all_sums

  step = skipping.leaving_out(one_step) if skip_nonfinite else one_step

  def update(state: DiffusionState, batch: Any) -> tuple[DiffusionState, Any]:
    if batch['labels'].shape[0] == 1:  # on the CPU a loop of one costs more than none
      return step(state, jax.tree.map(lambda a: a[0], batch))
    return jax.lax.scan(step, state, batch)

  return update


def gradients(
  loss: Loss,
  params: Any,
  x_0: Float[Array, 'b h w c'],
  labels: Int[Array, 'b'],
  key: jax.Array,
  *,
  timesteps: int,
  microbatches: int,
) -> tuple[Any, Any]:
  """Computes the gradient of a network's mean loss over a batch, and the loss's sums.

  With `microbatches` above 1 it goes through so many parts of the batch, one after the other, in the memory of one.
  t and noise are drawn for the whole batch before, so the gradient is the same but for rounding and dropout.
  """
  key_t, key_noise, key_dropout = jax.random.split(key, 3)
  t = jax.random.randint(key_t, labels.shape, 0, timesteps)
  noise = jax.random.normal(key_noise, x_0.shape)
  value_and_grad = jax.value_and_grad(loss, has_aux=True)
  if microbatches == 1:
    (_, sums), grads = value_and_grad(params, x_0, labels, t, noise, key_dropout)
    return grads, sums
  parts = jax.tree.map(lambda a: _interleaved(a, microbatches), (x_0, labels, t, noise))

  def accumulate(total, part):
    index, (x_0, labels, t, noise) = part
    (_, sums), grads = value_and_grad(params, x_0, labels, t, noise, jax.random.fold_in(key_dropout, index))
    return jax.tree.map(jnp.add, total, grads), sums

  zeros = jax.tree.map(jnp.zeros_like, params)
  total, sums = jax.lax.scan(accumulate, zeros, (jnp.arange(microbatches), parts))
  return jax.tree.map(lambda g: g / microbatches, total), jax.tree.map(lambda s: s.sum(0), sums)


def _interleaved(a: jax.Array, parts: int) -> jax.Array:
  """Returns `a` [B, ...] as [parts, B / parts, ...]; example i goes to part i % parts.

  A batch lies on the devices in runs of neighbours, so each device has its share of every part. Parts of neighbours
  would each lie on some of the devices, and XLA would then compute every part whole on every device.
  """
  return a.reshape(-1, parts, *a.shape[1:]).swapaxes(0, 1)


def _named(sums: Mapping[str, tuple[jax.Array, jax.Array]]) -> dict[str, tuple[jax.Array, jax.Array]]:
  """Adds the quarters of t under their own names; `_q0` is the least noisy one."""
  named = dict(sums)
  for name, (total, count) in sums.items():
    named |= {f'{name}_q{q}': (total[q], count[q]) for q in range(QUARTILES)}
  return named


def make_held_out_accuracy(guide: Any, process: Process, key: jax.Array) -> Callable[..., Any]:
  """Builds `accuracy(params, batch, number) -> sums` of the guide on held-out images, each at four noise levels.

  Levels and noise depend on `key` and the number of the batch alone. So they are the same whenever the guide is judged.
  """

  @jax.jit
  def accuracy(params: Any, batch: Any, number: jax.Array) -> Any:
    x_0, labels, mask = to_float(batch['images']), batch['labels'], batch['mask'].astype(jnp.float32)
    width = len(process.betas) // QUARTILES
    sums: dict[str, Any] = {}
    for quartile in range(QUARTILES):
      key_t, key_noise = jax.random.split(jax.random.fold_in(jax.random.fold_in(key, number), quartile))
      t = quartile * width + jax.random.randint(key_t, labels.shape, 0, width)
      x_t = gaussian.q_sample(process, x_0, t, jax.random.normal(key_noise, x_0.shape))
      correct = (guide.apply({'params': params}, x_t, t).argmax(-1) == labels) * mask
      sums[f'guide/heldout_accuracy_q{quartile}'] = (correct.sum(), mask.sum())
    sums['guide/heldout_accuracy'] = tuple(map(sum, zip(*sums.values(), strict=True)))
    return sums

  return accuracy
