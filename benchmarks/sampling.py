"""Sampling as the sample stage does it: the reverse process in one scan, over batch sizes, methods and guidance."""

from typing import Any

import jax
import jax.numpy as jnp

from benchmarks import measure, networks
from benchmarks.part import Context
from fetal_jax.diffusion.sample import image_keys, make_sample
from fetal_jax.networks import make_sampling_process

METHODS = ('ancestral', 'ddim', 'dpmpp_2m')
SCALE = 0.5


def measure_method(context: Context, name: str, method: str, batch: int, scale: float) -> dict[str, Any]:
  """Times a short process; a step of a long one takes as long, for it is the same body of the same scan."""
  model, steps = networks.make_model(name), context.size.scanned_steps
  sample = make_sample(
    model.unet,
    model.guide,
    make_sampling_process(model.config, method, steps),
    image_shape=model.image_shape,
    method=method,
    guidance_scale=scale,
  )
  # As in `fetal_jax.sample.sampler`: parameters stay on the device, images come back as uint8.
  params = model.params if scale else {'unet': model.params['unet']}
  keys = image_keys(jax.random.key(0), jnp.arange(batch))
  args = (params, networks.spread(keys), networks.spread(networks.labels(batch)))
  compiled = jax.jit(sample).lower(*args).compile()
  times = measure.repeated(compiled, *args, repeats=min(context.size.rounds, 4))
  per_step = measure.summary([seconds / steps for seconds in times])
  flops = measure.flops(sample, *args) / steps
  return {
    'network': model.config.name,
    'method': method,
    'guided': bool(scale),
    'batch': batch,
    'steps_timed': steps,
    'ms_per_step': 1e3 * per_step['median'],
    'image_steps_per_s': batch / per_step['median'],
    'gflop_per_image_step': flops / batch / 1e9,
    'tflops': flops / per_step['median'] / 1e12,
    'dtype': str(jnp.dtype(model.unet.dtype)),
    'seconds_per_step': per_step,
    'memory': measure.memory(compiled),
    'device_peak': measure.device_peak(),
  }


def run(context: Context) -> None:
  size = context.size
  for name in size.networks:
    fastest, best = 0.0, size.method_batch or size.batch
    for batch in size.batches:
      case = f'{name} guided ancestral batch {batch}'
      result = context.case(case, measure_method, context, name, 'ancestral', batch, SCALE)
      if result and not size.method_batch and result.get('image_steps_per_s', 0.0) > fastest:
        fastest, best = result['image_steps_per_s'], batch
    for scale, kind in ((SCALE, 'guided'), (0.0, 'unguided')):
      for method in METHODS:
        if not (scale and method == 'ancestral'):  # that one is in the sweep
          case = f'{name} {kind} {method} batch {best}'
          context.case(case, measure_method, context, name, method, best, scale)
