"""One guided step: ours alone, ours inside the scan, and the same networks in PyTorch, taking turns."""

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import measure, networks
from benchmarks.part import Context
from benchmarks.peer import PeerError
from benchmarks.sampling import SCALE
from fetal_jax.diffusion import samplers
from fetal_jax.diffusion.guidance import classifier_guidance
from fetal_jax.diffusion.sample import cast_blocks, image_keys, make_sample
from fetal_jax.diffusion.schedule import Process
from fetal_jax.networks import make_sampling_process

# Most seconds for torch.compile of both networks and of the guide's gradient.
COMPILE_S = 150


def make_step(
  model: networks.Model, process: Process
) -> Callable[..., tuple[jax.Array, jax.Array, jax.Array]]:
  """`step(params, x, i, labels, noise) -> (x_{t-1}, UNet's output, guide's gradient)`: the scan's body, alone."""

  def step(params, x, i, labels, noise):
    index = jnp.broadcast_to(i, labels.shape)
    t = jnp.asarray(process.timesteps, jnp.int32)[index]
    guidance = classifier_guidance(lambda x, t: model.guide.apply({'params': params['guide']}, x, t), labels)
    gradient = guidance(x, t)
    output = model.unet.apply({'params': params['unet']}, x, t, labels)
    after = samplers.ancestral_step(process, output, x, index, noise, lambda x: SCALE * gradient)
    return after, output, gradient

  return step


def compare(context: Context, name: str, batch: int) -> dict[str, Any]:
  """Measures all contestants on one batch; those that cannot run say why in 'errors'."""
  size = context.size
  model = networks.make_model(name)
  process = make_sampling_process(model.config, 'ancestral', 250)
  short = make_sampling_process(model.config, 'ancestral', size.scanned_steps)
  labels = networks.spread(networks.labels(batch))
  keys = networks.spread(image_keys(jax.random.key(0), jnp.arange(batch)))
  step = make_step(model, process)

  def draw(keys: jax.Array, i: jax.Array) -> jax.Array:
    return jax.vmap(lambda key: jax.random.normal(jax.random.fold_in(key, i), model.image_shape))(keys)

  def alone(params, x, i, labels, keys):
    return step(params, x, i, labels, draw(keys, i))

  # As before the scan: weights of blocks are cast once.
  params = jax.jit(lambda p: cast_blocks(p, model.unet.dtype))(model.params)
  x = networks.spread(draw(keys, jnp.asarray(len(process))))
  i = networks.whole(jnp.asarray(len(process) // 2, jnp.int32))
  args = (params, x, i, labels, keys)
  flops = measure.flops(alone, *args)
  alone_compiled = jax.jit(alone).lower(*args).compile()
  sample = make_sample(model.unet, model.guide, short, image_shape=model.image_shape, guidance_scale=SCALE)
  scan = jax.jit(sample).lower(model.params, keys, labels).compile()
  contestants = {
    'alone': lambda: measure.seconds(alone_compiled, *args, calls=size.calls),
    'scanned': lambda: measure.seconds(scan, model.params, keys, labels) / size.scanned_steps,
  }
  parameters: dict[str, Any] = {'fetal_jax': model.parameters}
  difference: dict[str, dict[str, float]] = {}
  errors: dict[str, str] = {}
  peer = context.peer()
  if peer.available:
    results = dict(zip(('x', 'output', 'gradient'), map(np.asarray, alone_compiled(*args)), strict=True))
    arrays = networks.torch_weights(model) | networks.torch_tables(process)
    arrays |= {'x': x, 'noise': draw(keys, i), 'i': i, 'labels': np.asarray(labels, np.int64)}
    for title, settings in peers(compiled=size.compile_peers).items():
      if settings['compiled'] and time.monotonic() > context.deadline - COMPILE_S:
        errors[title] = 'skipped, the time of this part is up'
        continue
      try:
        parameters[title], largest = build_peer(context, model, title, settings, arrays, results)
      except (PeerError, AssertionError) as error:
        errors[title] = str(error)
        print(f'  {title}: {error}', flush=True)
        continue
      if largest:
        difference[title] = largest
      contestants[title] = lambda title=title: peer.call('time', name=title, calls=size.calls)['seconds']

  times = measure.interleaved(contestants, size.rounds)
  theirs = [title for title in contestants if title not in ('alone', 'scanned')]
  for title in theirs:
    peer.call('forget', name=title)
  medians = {title: measure.summary(values)['median'] for title, values in times.items()}
  return {
    'network': name,
    'batch': batch,
    'dtype': str(jnp.dtype(model.unet.dtype)),
    'gflop': flops / 1e9,
    'ms': 1e3 * medians['alone'],
    'seconds': {title: measure.summary(values) for title, values in times.items()},
    'tflops': {title: flops / median / 1e12 for title, median in medians.items()},
    'scan_over_alone': measure.ratio(times['scanned'], times['alone']),
    'speed_against': {title: measure.ratio(times[title], times['alone']) for title in theirs} or None,
    'largest_difference': difference,
    'parameters': parameters,
    'memory': measure.memory(alone_compiled),
    'memory_scanned': measure.memory(scan),
    'errors': errors,
  }


def build_peer(
  context: Context,
  model: networks.Model,
  title: str,
  settings: dict[str, Any],
  arrays: dict[str, Any],
  results: dict[str, np.ndarray],
) -> tuple[dict[str, int], dict[str, float] | None]:
  """Builds a step in PyTorch; returns its numbers of parameters, and how far its results are from ours.

  Raises:
    PeerError: PyTorch cannot run it.
    AssertionError: the same weights give other results.
  """
  peer, largest = context.peer(), None
  answer = peer.call(
    'build_step', arrays, name=title, scale=SCALE, **settings, **networks.torch_configs(model)
  )
  if settings['library'] == 'adm':
    largest = check_same(results, peer.call('check', name=title)['arrays'], model.unet.dtype)
  peer.call('time', name=title, calls=1)
  return dict(zip(('unet', 'guide'), answer['parameters'], strict=True)), largest


def peers(*, compiled: bool) -> dict[str, dict[str, Any]]:
  """Returns PyTorch's settings to measure, the quick ones to build first; channels last on a GPU, where it is faster."""
  on_gpu = jax.default_backend() != 'cpu'
  settings = {
    'torch eager': {'library': 'adm', 'compiled': False, 'channels_last': on_gpu},
    'torch eager, channels last': {'library': 'adm', 'compiled': False, 'channels_last': True},
    'diffusers eager': {'library': 'diffusers', 'compiled': False, 'channels_last': on_gpu},
    'torch compile': {'library': 'adm', 'compiled': True, 'channels_last': on_gpu},
    'diffusers compile': {'library': 'diffusers', 'compiled': True, 'channels_last': on_gpu},
  }
  if on_gpu:
    del settings['torch eager, channels last']
  return {title: s for title, s in settings.items() if compiled or not s['compiled']}


def check_same(mine: dict[str, np.ndarray], theirs: dict[str, np.ndarray], dtype: Any) -> dict[str, float]:
  """Largest difference of each array relative to its largest value; in bfloat16, of its norm relative to the norm.

  Raises:
    AssertionError: PyTorch computes something else.
  """
  half = jnp.dtype(dtype) == jnp.bfloat16
  found = {}
  for name, array in mine.items():
    difference = theirs[name] - array
    if half:
      found[name] = float(np.linalg.norm(difference) / np.linalg.norm(array))
    else:
      found[name] = float(np.abs(difference).max() / np.abs(array).max())
    limit = 0.15 if half else 1e-3
    if not found[name] < limit:
      raise AssertionError(f'PyTorch computes another {name}: off by {found[name]:.1e}, more than {limit}')
  return found


def run(context: Context) -> None:
  for name in context.size.networks:
    context.case(f'{name} batch {context.size.batch}', compare, context, name, context.size.batch)
