"""The joint training step of UNet and guide, as the diffusion stage runs it, beside the same in eager PyTorch."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks import measure, networks
from benchmarks.part import Context
from benchmarks.peer import PeerError
from fetal_jax.diffusion.sample import to_float
from fetal_jax.networks import make_training_process
from fetal_jax.train import diffusion_step
from fetal_jax.train.state import DiffusionState


class Ours:
  """Returns a compiled update of so many scanned steps, and its state."""

  def __init__(self, model: networks.Model, batch: int, steps: int) -> None:
    c = model.config.diffusion
    self.steps = steps
    nets = {'unet': model.unet, 'guide': model.guide}
    optimizers = diffusion_step.make_optimizers(model.config)
    params = jax.tree.map(jnp.copy, model.params)
    self.state = networks.whole(
      DiffusionState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        opt_state={name: optimizers[name].init(params[name]) for name in params},
        ema=tuple(jax.tree.map(jnp.copy, params['unet']) for _ in c.ema_rates),
      )
    )
    images = jax.random.randint(jax.random.key(1), (steps, batch, *model.image_shape), 0, 256)
    labels = jnp.broadcast_to(networks.labels(batch), (steps, batch))
    self.batch = networks.spread({'images': images.astype(jnp.uint8), 'labels': labels}, axis=1)
    update = diffusion_step.make_update(
      nets,
      optimizers,
      make_training_process(model.config),
      key=jax.random.key(2),
      microbatches=1,
      random_flip=c.random_flip,
      ema_rates=tuple(c.ema_rates),
      ema_warmup=c.ema_warmup,
    )
    self.flops = measure.flops(update, self.state, self.batch) / steps
    jitted = jax.jit(update, donate_argnums=0, out_shardings=networks.everywhere())
    self.compiled = jitted.lower(self.state, self.batch).compile()

  def __call__(self) -> float:
    """Returns seconds an optimiser step."""

    def call() -> Any:
      self.state, sums = self.compiled(self.state, self.batch)
      return self.state, sums

    return measure.seconds(call) / self.steps


def compare(context: Context, name: str, batch: int) -> dict[str, Any]:
  """Measures steps scanned in one dispatch, one step a dispatch, and PyTorch's, interleaved."""
  size = context.size
  model = networks.make_model(name)
  c = model.config.diffusion
  peer, errors, difference = context.peer(), {}, {}
  if peer.available:
    settings = {
      'unet_lr': c.learning_rate,
      'guide_lr': c.guide_learning_rate,
      'unet_weight_decay': c.weight_decay,
      'guide_weight_decay': c.guide_weight_decay,
      'warmup_steps': c.warmup_steps,
      'grad_clip': c.grad_clip,
      'ema_rate': c.ema_rates[0],
    }
    try:
      arrays, mine = check_arrays(model, batch)
      weights = networks.torch_weights(model) | networks.torch_tables(make_training_process(model.config))
      theirs = peer.call(
        'build_training', weights | arrays, name='train', settings=settings, **networks.torch_configs(model)
      )
      difference = check_same(mine, theirs, model.unet.dtype)
    except (PeerError, AssertionError) as error:
      difference = {}
      errors['torch eager'] = str(error)
      print(f'  torch eager: {error}', flush=True)

  scanned, alone = Ours(model, batch, size.steps_per_call), Ours(model, batch, 1)
  contestants: dict[str, Any] = {'scanned': scanned, 'alone': alone}
  if difference:
    contestants['torch eager'] = lambda: peer.call('time', name='train', calls=size.steps_per_call)['seconds']
  times = measure.interleaved(contestants, size.rounds)
  if difference:
    peer.call('forget', name='train')
  result = {
    'network': name,
    'batch': batch,
    'dtype': str(jnp.dtype(model.unet.dtype)),
    'steps_per_call': size.steps_per_call,
    'gflop': scanned.flops / 1e9,
    'seconds': {title: measure.summary(values) for title, values in times.items()},
    'tflops': {t: scanned.flops / measure.summary(values)['median'] / 1e12 for t, values in times.items()},
    'scan_over_alone': measure.ratio(times['scanned'], times['alone']),
    'speed_against': None,
    'speed_against_alone': None,
    'relative_difference': difference,
    'memory': measure.memory(scanned.compiled),
    'device_peak': measure.device_peak(),
    'errors': errors,
  }
  if difference:
    result['speed_against'] = {'torch eager': measure.ratio(times['torch eager'], times['scanned'])}
    result['speed_against_alone'] = {'torch eager': measure.ratio(times['torch eager'], times['alone'])}
  return result


def check_arrays(
  model: networks.Model, batch: int
) -> tuple[dict[str, np.ndarray], dict[str, dict[str, float]]]:
  """Inputs for both sides, and our losses and gradient norms for them."""
  process = make_training_process(model.config)
  key = jax.random.key(3)
  images = jax.random.randint(key, (batch, *model.image_shape), 0, 256).astype(jnp.uint8)
  labels = networks.labels(batch)
  # Without t = 0, where the likelihood of an untrained network is the logarithm of rounding errors.
  t = jnp.arange(1, batch + 1, dtype=jnp.int32) * len(process) // batch - 1
  noise = jax.random.normal(key, images.shape)
  losses = diffusion_step.loss_fns({'unet': model.unet, 'guide': model.guide}, process)
  mine: dict[str, dict[str, float]] = {'losses': {}, 'norms': {}}
  for name, loss in losses.items():

    @jax.jit
    def evaluate(params, loss=loss):
      value_and_grad = jax.value_and_grad(loss, has_aux=True)
      (value, _), grads = value_and_grad(params, to_float(images), labels, t, noise, key)
      return value, optax.tree.norm(grads)

    value, norm = evaluate(model.params[name])
    mine['losses'][name], mine['norms'][name] = float(value), float(norm)
  arrays = {'images': images, 'x': to_float(images), 'labels': labels, 't': t, 'noise': noise}
  arrays = {k: np.asarray(v) for k, v in arrays.items()}
  return {k: v.astype(np.int64) if v.dtype == np.int32 else v for k, v in arrays.items()}, mine


def check_same(mine: dict[str, Any], theirs: dict[str, Any], dtype: Any) -> dict[str, float]:
  """Relative difference of the losses and of their gradients' norms.

  Raises:
    AssertionError: PyTorch computes something else.
  """
  limit = 0.1 if jnp.dtype(dtype) == jnp.bfloat16 else 2e-3
  found = {}
  for kind in ('losses', 'norms'):
    for name, value in mine[kind].items():
      found[f'{name} {kind}'] = off = abs(theirs[kind][name] - value) / abs(value)
      if not off < limit:
        raise AssertionError(
          f'PyTorch computes another {name} {kind}: {theirs[kind][name]:.6g}, not {value:.6g}'
        )
  return found


def run(context: Context) -> None:
  batch = context.size.training_batch
  for name in context.size.networks:
    context.case(f'{name} batch {batch}', compare, context, name, batch)
