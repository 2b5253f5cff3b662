"""One classifier, built and jitted once and trained many times: its update, its predictions."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jax.sharding import Mesh

from fetal_jax.data import loader
from fetal_jax.data.augment import augment
from fetal_jax.runtime import devices
from fetal_jax.train import loop, overview, skipping
from fetal_jax.train.state import ClassifierState


def normalise(images: jax.Array, mean: float, std: float) -> jax.Array:
  """Maps [0, 1] to what a classifier sees; see `results.Normalisation`."""
  return (images - mean) / std


def init_state(
  key: jax.Array, net: nn.Module, optimizer: optax.GradientTransformation, image_shape: tuple[int, int, int]
) -> ClassifierState:
  """Makes fresh weights and optimiser; pure, for `jax.jit` or `jax.eval_shape`."""
  variables = net.init(key, jnp.zeros((1, *image_shape)))
  return ClassifierState(
    step=jnp.zeros((), jnp.int32), variables=dict(variables), opt_state=optimizer.init(variables['params'])
  )


def make_update(
  net: Any,
  optimizer: optax.GradientTransformation,
  *,
  mean: float,
  std: float,
  rotation_degrees: float,
  flips: bool,
  skip_nonfinite: bool = False,
) -> Callable[[ClassifierState, Any, jax.Array], tuple[ClassifierState, Any]]:
  """Builds `update(state, batch, key) -> (state, sums)`: K optimiser steps with cross-entropy.

  The batch holds `images` uint8 [K, B, H, W, C], `labels` int32 [K, B] and `real` bool [K, B]; real images
  are augmented, synthetic ones are not. With `skip_nonfinite` a step that is not finite is left out.
  """

  def one_step(key: jax.Array, state: ClassifierState, batch: Any) -> tuple[ClassifierState, Any]:
    key_augment, key_dropout = jax.random.split(jax.random.fold_in(key, state.step))
    images = augment(
      key_augment,
      batch['images'].astype(jnp.float32) / 255.0,
      batch['real'],
      rotation_degrees=rotation_degrees,
      flips=flips,
    )
    statistics = {k: v for k, v in state.variables.items() if k != 'params'}

    def loss_fn(params: Any) -> tuple[jax.Array, Any]:
      logits, changed = net.apply(
        {'params': params, **statistics},
        normalise(images, mean, std),
        train=True,
        mutable=['batch_stats'],
        rngs={'dropout': key_dropout},
      )
      loss = optax.softmax_cross_entropy_with_integer_labels(logits, batch['labels']).mean()
      return loss, (logits, changed)

    (loss, (logits, changed)), grads = jax.value_and_grad(loss_fn, has_aux=True)(state.variables['params'])
    updates, opt_state = optimizer.update(grads, state.opt_state, state.variables['params'])
    params = optax.apply_updates(state.variables['params'], updates)
    one = jnp.ones(())
    sums = {
      'loss': (loss, one),
      'accuracy': ((logits.argmax(-1) == batch['labels']).mean(), one),
      'grad_norm': (optax.tree.norm(grads), one),
    }
    variables = {**state.variables, **changed, 'params': params}
    return ClassifierState(step=state.step + 1, variables=variables, opt_state=opt_state), sums

  def update(state: ClassifierState, batch: Any, key: jax.Array) -> tuple[ClassifierState, Any]:
    step: Callable[..., Any] = functools.partial(one_step, key)
    if skip_nonfinite:
      step = skipping.leaving_out(step)
    if batch['labels'].shape[0] == 1:  # on the CPU a loop of one costs more than none
      return step(state, jax.tree.map(lambda a: a[0], batch))
    return jax.lax.scan(step, state, batch)

  return update


@dataclasses.dataclass(frozen=True)
class Task:
  """One model, built and compiled once, trained many times.

  Attributes:
    name: key of `models.CLASSIFIERS`.
    init: key -> fresh state on the mesh.
    update: (state, batch, key) -> (state, sums), jitted, donating the state.
    probabilities: (variables, images uint8) -> float32 [B, K], jitted.
    like: shapes and shardings of the state, for restoring.
  """

  name: str
  mesh: Mesh
  init: Callable[[jax.Array], ClassifierState]
  update: Callable[[ClassifierState, Any, jax.Array], tuple[ClassifierState, Any]]
  probabilities: Callable[[Any, Any], jax.Array]
  like: ClassifierState


def make_task(
  name: str,
  net: Any,
  image_shape: tuple[int, int, int],
  mesh: Mesh,
  *,
  learning_rate: float,
  mean: float,
  std: float,
  rotation_degrees: float,
  flips: bool,
  skip_nonfinite: bool = False,
) -> Task:
  """Builds the jitted functions of a classifier.

  Args:
    name: of the model.
    net: its linen module.
    image_shape: (H, W, C).
    mesh: the devices.
    learning_rate: of Adam.
    mean, std: see `normalise`.
    rotation_degrees, flips: see `augment`.
    skip_nonfinite: whether a step that is not finite is left out.
  """
  optimizer = optax.adam(learning_rate)
  init = functools.partial(init_state, net=net, optimizer=optimizer, image_shape=image_shape)
  shapes = jax.eval_shape(init, jax.random.key(0))
  sharding = devices.state_sharding(mesh, shapes)
  replicated = devices.replicated(mesh)
  update = make_update(
    net,
    optimizer,
    mean=mean,
    std=std,
    rotation_degrees=rotation_degrees,
    flips=flips,
    skip_nonfinite=skip_nonfinite,
  )

  def probabilities(variables: Any, images: jax.Array) -> jax.Array:
    logits = net.apply(variables, normalise(images.astype(jnp.float32) / 255.0, mean, std), train=False)
    return jax.nn.softmax(logits.astype(jnp.float32))

  overview.log_parameters({name: shapes.variables['params']})
  return Task(
    name=name,
    mesh=mesh,
    init=jax.jit(init, out_shardings=sharding),
    update=jax.jit(
      update,
      donate_argnums=0,
      in_shardings=(sharding, devices.batch_sharding(mesh, axis=1), replicated),
      out_shardings=(sharding, replicated),
    ),
    probabilities=jax.jit(probabilities, out_shardings=replicated),
    like=devices.placed(shapes, sharding),
  )


def predict(task: Task, variables: Any, source: loader.Source, *, batch_size: int) -> np.ndarray:
  """Computes the class probabilities float32 [n, K] of all images of a source, in order; gives way to a stop."""
  batch_size = -(-min(batch_size, len(source.indices)) // task.mesh.size) * task.mesh.size
  results = []
  for batch in loader.evaluation_batches(source, batch_size=batch_size):
    loop.give_way()
    probabilities = task.probabilities(variables, devices.put_batch(task.mesh, batch['images']))
    results.append(np.asarray(probabilities)[batch['mask']])
  return np.concatenate(results)


def accuracy(probabilities: np.ndarray, source: loader.Source) -> float:
  """Computes the share of a source's images whose most probable class is the label."""
  return float(np.mean(probabilities.argmax(-1) == source.labels[source.indices]))
