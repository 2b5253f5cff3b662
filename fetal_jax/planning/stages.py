"""Work, memory and disk of every stage of a run, from the shapes of its arrays alone."""

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax

from fetal_jax import networks
from fetal_jax.diffusion.sample import image_keys, make_sample
from fetal_jax.planning import program
from fetal_jax.planning.images import Images
from fetal_jax.planning.program import Cost
from fetal_jax.train import classify as classify_lib
from fetal_jax.train import classify_step, diffusion_step, judge_parts, overview, regimes

# Seconds that one core takes to read, store, read again and resize an image; or to draw it.
_PREPARE_SECONDS = {'fetal_planes_db': 0.015, 'image_folder': 0.015, 'fetal_phantom': 0.006}
_REPORT_SECONDS, _EVALUATE_SECONDS = 10.0, 15.0
_PNG_BYTES = 0.6  # a pixel and channel, of ultrasound at 128 px
_FEATURES = 2048  # length of an image's features in the search for copies; in pixels it is 32 x 32
_BATCH = 32  # images a dispatch, where the config leaves it to be found


@dataclasses.dataclass(frozen=True)
class Work:
  """A row of the plan.

  Attributes:
    stage: name of the stage.
    what: the work in words.
    runs: (program, how often it runs).
    products: FLOPs that are not in `runs`.
    core_seconds: seconds on the host, divided among all cores.
    host_seconds: seconds on the host, on one core.
    compiled: operations to compile.
  """

  stage: str
  what: str
  runs: tuple[tuple[Any, float], ...] = ()
  products: float = 0.0
  core_seconds: float = 0.0
  host_seconds: float = 0.0
  compiled: int = 0

  def cost(self, *, wide: bool = False) -> Cost:
    """Returns the cost on the devices; `wide` as in `program.cost`."""
    return sum((program.cost(run, wide=wide) * times for run, times in self.runs), Cost(self.products))


@dataclasses.dataclass(frozen=True)
class Memory:
  """Memory of a program that runs on one device.

  Attributes:
    what: the program in words.
    program: the program that needs it.
    state: bytes of weights, optimisers and averages: exact.
    batch: images a dispatch or training step.
    parts: microbatches of a training step, computed one after the other; 0 where nothing is trained.
  """

  what: str
  program: Any
  state: int
  batch: int
  parts: int

  def activations(self, *, fused: bool, wide: bool) -> int:
    """Estimates the bytes beside the state.

    The estimate was 0.8 to 1.3 times what compilers report on CPUs (seven programs, not fused), and 0.65 to 1.5
    times on a TPU v5e (three programs, fused). Guided sampling at 128 px took 0.25 to 0.4 times as much on an H200.
    """
    return program.live_bytes(self.program, donated=self.parts > 0, fused=fused, wide=wide)


@dataclasses.dataclass(frozen=True)
class Stages:
  """Work, memory and disk of a whole run.

  Attributes:
    works: rows in the order of the flow.
    memories: memory of training and sampling.
    parameters: number of parameters of each network.
    disk: bytes by folder of the workdir.
  """

  works: tuple[Work, ...]
  memories: tuple[Memory, ...]
  parameters: Mapping[str, int]
  disk: Mapping[str, int]


@dataclasses.dataclass(frozen=True)
class _Part:
  """Share of `Stages` of one stage, or of one model; `forward` is an evaluation program and its batch size."""

  works: tuple[Work, ...]
  memories: tuple[Memory, ...]
  parameters: Mapping[str, int]
  disk: int
  forward: tuple[Any, int] = (None, 1)


def make(config: ml_collections.ConfigDict, images: Images) -> Stages:
  """Traces the programs of all stages, with matmuls and convolutions in bfloat16."""
  config = ml_collections.ConfigDict(config)
  config.dtype = 'bfloat16'
  shape = (config.data.image_size, config.data.image_size, config.data.channels)
  synthetic = config.sample.rounds * config.sample.per_class * images.classes
  diffusion = _diffusion(config, images, shape, synthetic)
  classifiers = [_classifier(config, model, images, shape, synthetic) for model in config.classify.models]
  parts = [diffusion, *classifiers]
  works = [work for part in parts for work in part.works]
  prepare = Work(
    'prepare', f'{images.total:,} images', core_seconds=images.total * _PREPARE_SECONDS[config.data.source]
  )
  return Stages(
    works=(
      prepare,
      *(work for work in works if work.stage != 'filter'),
      *_later(config, images, classifiers, synthetic),
    ),
    memories=tuple(memory for part in parts for memory in part.memories),
    parameters={name: n for part in parts for name, n in part.parameters.items()},
    disk={
      'data': images.source_bytes + images.total * math.prod(shape),
      'diffusion': diffusion.disk,
      'synthetic': round(synthetic * math.prod(shape) * _PNG_BYTES),
      'classify': sum(part.disk for part in classifiers),
    },
  )


def _diffusion(
  config: ml_collections.ConfigDict, images: Images, shape: tuple[int, int, int], synthetic: int
) -> _Part:
  """Plans the diffusion stage, with its previews and held-out images, and the sample stage."""
  diffusion = config.diffusion
  nets = networks.make_diffusion_networks(config, images.classes)
  begin, step, state = _trace_training(config, nets, shape)
  state_bytes = program.tree_bytes(state)
  programs, runs = [begin, step], [(step, float(diffusion.steps))]
  works: list[Work] = []
  memories = [Memory('diffusion', step, state_bytes, diffusion.batch_size, diffusion.microbatches)]
  if 'unet' in nets:
    drawn, memory = _sample(config, nets, state.params, shape, synthetic)
    works.append(drawn)
    memories.append(memory)
    # Previews are drawn as the data set is.
    previews = -(-diffusion.steps // diffusion.preview_every) * images.classes * diffusion.preview_per_class
    share = previews / synthetic
    runs += [(run, times * share) for run, times in drawn.runs]
    programs.append(memory.program)
  if 'guide' in nets:
    guide, batch = nets['guide'], diffusion.batch_size
    x, t = _array((batch, *shape)), _array((batch,), 'int32')
    held_out = program.trace(lambda p, x, t: guide.apply({'params': p}, x, t), state.params['guide'], x, t)
    evaluations = -(-diffusion.steps // diffusion.eval_every) * diffusion_step.QUARTILES * images.validation
    runs.append((held_out, evaluations / batch))
    programs.append(held_out)
  train = Work(
    'diffusion',
    f'{diffusion.steps:,} steps of {diffusion.batch_size} images',
    tuple(runs),
    compiled=sum(map(program.size, programs)),
  )
  # One more checkpoint is being written.
  kept = min(diffusion.keep_checkpoints, -(-diffusion.steps // diffusion.checkpoint_every)) + 1
  return _Part(
    (train, *works),
    tuple(memories),
    {name: overview.count_parameters(params) for name, params in state.params.items()},
    kept * state_bytes,
  )


def _trace_training(
  config: ml_collections.ConfigDict, nets: Mapping[str, Any], shape: tuple[int, int, int]
) -> tuple[Any, Any, Any]:
  """Returns the programs that initialise and update the diffusion networks, and the shapes of their state."""
  diffusion = config.diffusion
  optimizers, key = diffusion_step.make_optimizers(config), _key()
  ema_rates = tuple(diffusion.ema_rates)
  init = functools.partial(
    diffusion_step.init_state, nets=nets, optimizers=optimizers, image_shape=shape, ema_rates=ema_rates
  )
  begin, state = program.trace_with_shapes(init, key)

  def update(state: Any, batch: Any, key: jax.Array) -> Any:
    return diffusion_step.make_update(
      nets,
      optimizers,
      networks.make_training_process(config),
      key=key,
      microbatches=diffusion.microbatches,
      random_flip=diffusion.random_flip,
      ema_rates=ema_rates,
      ema_warmup=diffusion.ema_warmup,
    )(state, batch)

  batch = {
    'images': _array((1, diffusion.batch_size, *shape), 'uint8'),
    'labels': _array((1, diffusion.batch_size), 'int32'),
  }
  return begin, program.trace(update, state, batch, key), state


def _sample(
  config: ml_collections.ConfigDict,
  nets: Mapping[str, Any],
  params: Mapping[str, Any],
  shape: tuple[int, int, int],
  synthetic: int,
) -> tuple[Work, Memory]:
  """Plans the sample stage."""
  sample = config.sample
  scale = sample.guidance_scale if 'guide' in nets else 0.0
  process = networks.make_sampling_process(config, sample.method, sample.steps)
  batch = sample.batch_size or _BATCH
  indices = _array((batch,), 'int32')

  def traced(scale: float) -> tuple[Any, dict[str, Any]]:
    weights = {name: params[name] for name in (('unet', 'guide') if scale else ('unet',))}
    draw_images = make_sample(
      nets['unet'],
      nets.get('guide'),
      process,
      image_shape=shape,
      method=sample.method,
      guidance_scale=scale,
      guidance_at=sample.guidance_at,
      eta=sample.eta,
      clip=None if sample.clip == 'none' else sample.clip,
    )

    def draw(params: Any, key: jax.Array, indices: jax.Array, labels: jax.Array) -> jax.Array:
      return draw_images(params, image_keys(key, indices), labels)

    return program.trace(draw, weights, _key(), indices, indices), weights

  drawn, weights = traced(scale)
  runs = [(drawn, synthetic / batch)]
  if scale and sample.guidance_interval:
    low, high = sample.guidance_interval
    share = float(np.mean((process.timesteps >= low) & (process.timesteps <= high)))
    runs = [(drawn, share * synthetic / batch), (traced(0.0)[0], (1 - share) * synthetic / batch)]
  what = f'{synthetic:,} images, {sample.method} {sample.steps}, {f"guidance {scale:g}" if scale else "no guidance"}'
  return (
    Work('sample', what, tuple(runs), compiled=program.size(drawn)),
    Memory('sample', drawn, program.tree_bytes(weights), batch, 0),
  )


def _classifier(
  config: ml_collections.ConfigDict,
  model: str,
  images: Images,
  shape: tuple[int, int, int],
  synthetic: int,
) -> _Part:
  """Plans all runs of one model: those of the classify stage, and those on filtered images."""
  classify = config.classify
  net: Any = networks.make_classifier(config, model, images.classes)
  optimizer, key = optax.adam(classify.learning_rate), _key()
  init = functools.partial(classify_step.init_state, net=net, optimizer=optimizer, image_shape=shape)
  begin, state = program.trace_with_shapes(init, key)
  update = classify_step.make_update(
    net,
    optimizer,
    mean=0.0,
    std=1.0,
    rotation_degrees=classify.rotation_degrees,
    flips=classify.flips,
  )
  batch = {
    'images': _array((1, classify.batch_size, *shape), 'uint8'),
    'labels': _array((1, classify.batch_size), 'int32'),
    'real': _array((1, classify.batch_size), 'bool'),
  }
  step = program.trace(update, state, batch, key)
  seen = program.trace(
    lambda v, x: net.apply(v, x, train=False), state.variables, _array((classify.eval_batch_size, *shape))
  )
  selection = images.validation if classify.protocol == 'honest' else images.test
  names, works = regimes.of_model(model, classify.regimes, classify.curve, classify.curve_models), []
  for stage, kept in (('classify', False), ('filter', True)):
    mine = [name for name in names if regimes.synthetic(name).kept == kept]
    if not mine:
      continue
    lengths = [_length(config, name, images, synthetic) for name in mine]
    steps, epochs = (classify.num_seeds * sum(values) for values in zip(*lengths, strict=True))
    judged = epochs * selection + 2 * classify.num_seeds * len(mine) * images.test
    judges = stage == 'classify' and model == judge_parts.model_of(config)
    if judges:  # as many steps as on all real images; the few that choose its epoch are left out
      steps += _length(config, 'real', images, synthetic)[0]
    works.append(
      Work(
        stage,
        f'{model}, {_many(len(mine), "regime")}{", judge" * judges}, {_many(classify.num_seeds, "seed")}: {steps:,} steps of {classify.batch_size}',
        ((step, float(steps)), (seen, judged / classify.eval_batch_size)),
        compiled=sum(map(program.size, (begin, step, seen))),
      )
    )
  return _Part(
    tuple(works),
    (Memory(model, step, program.tree_bytes(state), classify.batch_size, 1),),
    {model: overview.count_parameters(state.variables['params'])},
    len(names) * classify.num_seeds * program.tree_bytes(state.variables),
    (seen, classify.eval_batch_size),
  )


def _length(config: ml_collections.ConfigDict, name: str, images: Images, synthetic: int) -> tuple[int, int]:
  """Returns (steps, epochs) of a run in regime `name`, as if the filter kept everything."""
  classify, regime = config.classify, regimes.get(name)
  side = images.train if classify.protocol == 'honest' else images.train + images.validation
  drawn = regime.count or len(regime.rounds) * synthetic // config.sample.rounds
  if name == regimes.CONTROL:
    return classify.epochs * classify_lib.control_epoch_steps(config, images.classes), classify.epochs
  epochs = classify.epochs if regime.real else classify.pretrain_epochs or classify.epochs
  seen = side * regime.real + drawn
  return epochs * regimes.epoch_steps(seen, classify.batch_size, classify.steps_per_call), epochs


def _later(
  config: ml_collections.ConfigDict, images: Images, classifiers: list[_Part], synthetic: int
) -> list[Work]:
  """Plans the stages after the classifiers; a judge that is none of them costs as much as the most expensive one."""
  report = Work('report', 'figures and pages', host_seconds=_REPORT_SECONDS)
  if not classifiers:
    return [report]
  mine = [part for part in classifiers if judge_parts.model_of(config) in part.parameters] or classifiers
  judge, batch = max(
    (part.forward for part in mine), key=lambda forward: program.cost(forward[0]).flops / forward[1]
  )
  filtered = [work for part in classifiers for work in part.works if work.stage == 'filter']
  judged = [Work('filter', f'{synthetic:,} images judged', ((judge, synthetic / batch),))] if filtered else []
  taken = min(images.train, synthetic, config.evaluate.max_images)
  encoded = 2 * synthetic + images.train + images.test + 3 * taken
  return [
    *judged,
    *filtered,
    Work(
      'evaluate',
      f'{synthetic:,} images judged and compared with real ones',
      ((judge, encoded / batch),),
      products=2.0 * synthetic * images.train * (_FEATURES + 32 * 32),
      host_seconds=_EVALUATE_SECONDS,
    ),
    report,
  ]


def _array(shape: tuple[int, ...], dtype: str = 'float32') -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct(shape, jnp.dtype(dtype))


def _key() -> Any:
  return jax.eval_shape(lambda: jax.random.key(0))


def _many(count: int, what: str) -> str:
  return f'{count} {what}{"s" if count != 1 else ""}'
