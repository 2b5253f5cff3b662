"""How long a user waits: for --help, for the import, for the first training step and the first images."""

import os
import subprocess
import sys
import tempfile
import time
from typing import Any

from benchmarks import ROOT, measure
from benchmarks.part import Context

# The smoke test's networks, from the start of the interpreter to a result on the host.
_TRAIN = """
import functools, jax, jax.numpy as jnp
from fetal_jax import config, networks
from fetal_jax.runtime import devices
from fetal_jax.train import diffusion_step
c = config.load_file('configs/smoke.py')
devices.enable_compilation_cache({cache!r})
nets, optimizers = networks.make_diffusion_networks(c, 6), diffusion_step.make_optimizers(c)
state = jax.jit(functools.partial(diffusion_step.init_state, nets=nets, optimizers=optimizers,
                                  image_shape=(16, 16, 1), ema_rates=(0.99,)))(jax.random.key(0))
update = diffusion_step.make_update(nets, optimizers, networks.make_training_process(c), key=jax.random.key(1),
                                    microbatches=1, random_flip=True, ema_rates=(0.99,), ema_warmup=True)
batch = dict(images=jnp.zeros((2, 16, 16, 16, 1), jnp.uint8), labels=jnp.zeros((2, 16), jnp.int32))
state, sums = jax.jit(update, donate_argnums=0)(state, batch)
float(sums['unet/loss'][0].sum())
"""
_SAMPLE = """
import jax, jax.numpy as jnp, numpy as np
from fetal_jax import config, networks
from fetal_jax.diffusion.sample import image_keys, make_sample
from fetal_jax.runtime import devices
c = config.load_file('configs/smoke.py')
devices.enable_compilation_cache({cache!r})
nets = networks.make_diffusion_networks(c, 6)
x, t = jnp.zeros((1, 16, 16, 1)), jnp.zeros((1,), jnp.int32)
key = jax.random.key(0)
params = jax.jit(lambda: dict(unet=nets['unet'].init(key, x, t, t)['params'],
                              guide=nets['guide'].init(key, x, t)['params']))()
sample = make_sample(nets['unet'], nets['guide'], networks.make_sampling_process(c, 'ancestral', 4),
                     image_shape=(16, 16, 1), guidance_scale=1.0)
np.asarray(jax.jit(sample)(params, image_keys(key, jnp.arange(16)), jnp.zeros(16, jnp.int32)))
"""


def process_seconds(*arguments: str) -> float:
  """Returns the wall seconds of a fresh interpreter with these arguments.

  Raises:
    RuntimeError: it failed; with its last line.
  """
  # The user's own cache, if one is set, would make every start a warm one.
  environment = {
    k: v for k, v in os.environ.items() if not k.startswith(('JAX_COMPILATION', 'JAX_PERSISTENT'))
  }
  clock = time.perf_counter()
  done = subprocess.run(
    [sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
  )
  took = time.perf_counter() - clock
  if done.returncode:
    raise RuntimeError(done.stderr.strip().splitlines()[-1])
  return took


def command(repeats: int, *arguments: str) -> dict[str, Any]:
  """Times a command: once to fill the disk's cache, and then so many times."""
  process_seconds(*arguments)
  seconds = measure.summary([process_seconds(*arguments) for _ in range(repeats)])
  return {'median_s': seconds['median'], 'seconds': seconds}


def first(program: str, repeats: int) -> dict[str, Any]:
  """Times a program with nothing compiled before, then with the cache that it left."""
  cold, warm = [], []
  for _ in range(repeats):
    with tempfile.TemporaryDirectory(prefix='benchmarks_cache_') as cache:
      cold.append(process_seconds('-c', program.format(cache=cache)))
      warm.append(process_seconds('-c', program.format(cache=cache)))
  return {
    'cold_s': measure.summary(cold)['median'],
    'warm_s': measure.summary(warm)['median'],
    'cold': measure.summary(cold),
    'warm': measure.summary(warm),
  }


def run(context: Context) -> None:
  repeats, programs = (1, 1) if context.size.small_classifiers else (5, 2)
  context.case('python -c pass', command, repeats, '-c', 'pass')
  context.case('--help', command, repeats, '-m', 'fetal_jax.main', '--help')
  context.case('import fetal_jax', command, repeats, '-c', 'import fetal_jax')
  context.case('first training steps', first, _TRAIN, programs)
  context.case('first images', first, _SAMPLE, programs)
