"""A training step of every classifier family on grey images, beside torchvision's, taking turns."""

from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import optax

from benchmarks import ROOT, measure
from benchmarks import networks as sharded
from benchmarks.part import Context
from benchmarks.peer import PeerError
from benchmarks.sizes import CLASSES
from fetal_jax import config as config_lib
from fetal_jax import networks
from fetal_jax.train import classify_step

FAMILIES = ('resnet50', 'densenet169', 'vit_b_32', 'swin_t', 'medmamba_t')


def make_config(side: int, *, small: bool) -> ml_collections.ConfigDict:
  """Returns the paper's protocol on images of this size; `small`: the smoke test's networks."""
  config = config_lib.load_file(str(ROOT / 'configs' / 'smoke.py')) if small else config_lib.default_config()
  config.data.image_size = side
  return config


def compare(context: Context, name: str, batch: int) -> dict[str, Any]:
  """Measures steps as the classify stage runs them, beside eager PyTorch."""
  size = context.size
  # The CPU's configs run one step a dispatch.
  steps = 1 if jax.default_backend() == 'cpu' else size.steps_per_call
  config = make_config(size.classifier_side, small=size.small_classifiers)
  classify = config.classify
  net, optimizer = networks.make_classifier(config, name, CLASSES), optax.adam(classify.learning_rate)
  shape = (config.data.image_size, config.data.image_size, 1)
  init = jax.jit(lambda key: classify_step.init_state(key, net, optimizer, shape))
  state = sharded.whole(init(jax.random.key(0)))
  update = classify_step.make_update(
    net,
    optimizer,
    mean=classify.mean,
    std=classify.std,
    rotation_degrees=classify.rotation_degrees,
    flips=classify.flips,
  )
  key = jax.random.key(1)
  images = jax.random.randint(key, (steps, batch, *shape), 0, 256).astype(jnp.uint8)
  labels = jnp.broadcast_to(jnp.arange(batch, dtype=jnp.int32) % CLASSES, (steps, batch))
  data = {'images': images, 'labels': labels, 'real': jnp.ones((steps, batch), bool)}
  data, key = sharded.spread(data, axis=1), sharded.whole(key)
  flops = measure.flops(update, state, data, key) / steps
  jitted = jax.jit(update, donate_argnums=0, out_shardings=sharded.everywhere())
  compiled = jitted.lower(state, data, key).compile()
  parameters = sum(leaf.size for leaf in jax.tree.leaves(state.variables['params']))

  def ours() -> float:
    def call() -> Any:
      nonlocal state
      state, sums = compiled(state, data, key)
      return state, sums

    return measure.seconds(call) / steps

  contestants: dict[str, Any] = {'fetal_jax': ours}
  peer, errors, theirs, title = context.peer(), {}, None, None
  if peer.available and not size.small_classifiers:
    try:
      theirs = peer.call(
        'build_classifier',
        name=name,
        classes=CLASSES,
        side=size.classifier_side,
        batch=batch,
        mean=classify.mean,
        std=classify.std,
        degrees=classify.rotation_degrees,
      )
      title = theirs['library']
      peer.call('time', name=name, calls=1)
      contestants[title] = lambda: peer.call('time', name=name, calls=max(steps, 1))['seconds']
    except PeerError as error:
      errors['peer'] = str(error)
  times = measure.interleaved(contestants, size.rounds)
  if theirs:
    peer.call('forget', name=name)
  return {
    'classifier': name,
    'batch': batch,
    'side': size.classifier_side,
    'dtype': str(jnp.dtype(net.dtype)),
    'steps_per_s': 1 / measure.summary(times['fetal_jax'])['median'],
    'images_per_s': batch / measure.summary(times['fetal_jax'])['median'],
    'gflop': flops / 1e9,
    'tflops': flops / measure.summary(times['fetal_jax'])['median'] / 1e12,
    'parameters': {'fetal_jax': parameters} | ({title: theirs['parameters']} if theirs else {}),
    'seconds': {t: measure.summary(values) for t, values in times.items()},
    'speed_against': {title: measure.ratio(times[title], times['fetal_jax'])} if title in times else None,
    'memory': measure.memory(compiled),
    'device_peak': measure.device_peak(),
    'errors': errors,
  }


def run(context: Context) -> None:
  for batch in context.size.classifier_batches:
    for name in FAMILIES:
      context.case(f'{name} batch {batch}', compare, context, name, batch)
