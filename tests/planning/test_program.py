"""Counts against counts by hand, and against XLA's."""

import jax
import jax.numpy as jnp
import pytest

from fetal_jax import models
from fetal_jax.planning import program

X, W = jnp.ones((64, 32)), jnp.ones((32, 32))
N = X.size * 4  # bytes


def chain(x, w):
  """Three products, each of which needs the one before."""
  return ((x @ w) @ w) @ w


def deep(x, w):
  for _ in range(3):
    x = jnp.tanh(x @ w)
  return x.sum()


def looped(x, w):
  return jax.lax.scan(lambda x, _: (x @ w, x.sum()), x, length=7)


def count(function, *args):
  return program.cost(program.trace(function, *args))


def test_products_bytes_and_operations():
  assert count(chain, X, W) == program.Cost(flops=3 * 2 * 64 * 32 * 32, bytes=3 * N, operations=3)


def test_a_loop_counts_as_often_as_it_runs_and_is_compiled_once():
  cost = count(looped, X, W)
  assert cost == program.Cost(flops=7 * 2 * 64 * 32 * 32, bytes=7 * (N + 4), operations=14)
  assert program.size(program.trace(looped, X, W)) == 2


def test_a_conditional_counts_its_dearest_branch():
  def branches(x, w):
    return jax.lax.cond(x[0, 0] > 0, lambda x: x @ w, lambda x: chain(x, w), x)

  assert count(branches, X, W).flops == count(chain, X, W).flops


def test_costs_add_up():
  one = program.Cost(1.0, 2.0, 3.0)
  assert one + one * 2 == one * 3


@pytest.mark.parametrize('function', [chain, jax.grad(deep), jax.value_and_grad(deep, argnums=(0, 1))])
def test_flops_are_those_of_xla(function):
  """XLA counts elementwise work as well, which is little here."""
  theirs = jax.jit(function).lower(X, W).cost_analysis()['flops']
  assert count(function, X, W).flops == pytest.approx(theirs, rel=0.05)


def test_flops_of_a_transformer_are_those_on_paper():
  """Per block and image: projections and MLP, 2 l (4 d^2 + 2 d m), and attention, 4 l^2 d."""
  d, m, depth, batch = 32, 64, 2, 3
  tokens = (16 // 4) ** 2 + 1
  net = models.create(
    'vit_b_32', num_classes=6, image_size=16, patch_size=4, hidden_size=d, depth=depth, heads=2, mlp_dim=m
  )
  images = jax.ShapeDtypeStruct((batch, 16, 16, 1), jnp.float32)
  variables = jax.eval_shape(net.init, jax.random.key(0), images)
  blocks = depth * (2 * tokens * (4 * d**2 + 2 * d * m) + 4 * tokens**2 * d)
  ends = 2 * (tokens - 1) * 4 * 4 * d + 2 * d * 6
  assert count(net.apply, variables, images).flops == pytest.approx(batch * (blocks + ends), rel=0.05)


def live(function, *args, **settings):
  return program.live_bytes(program.trace(function, *args), **settings)


def test_what_is_no_longer_needed_is_not_alive():
  assert live(chain, X, W) == 2 * N  # what a product reads, and what it makes


def test_results_in_the_place_of_arguments_take_no_room():
  assert live(lambda x, w: (x @ w, w.sum()), X, W, donated=True) == 0
  assert live(chain, X, W, donated=True) == 2 * N  # before the last product


def test_the_gradient_keeps_what_the_way_there_made():
  kept = live(jax.grad(deep, argnums=1), X, W)
  assert live(deep, X, W) == 2 * N
  assert 3 * N <= live(jax.grad(deep, argnums=1), X, W, fused=True) < kept


def test_recomputed_activations_are_not_alive():
  def blocks(x, w, block):
    for _ in range(8):
      x = block(x, w)
    return x.sum()

  def block(x, w):
    for _ in range(4):
      x = jnp.tanh(x @ w)
    return x

  all_kept = live(jax.grad(lambda x, w: blocks(x, w, block), argnums=1), X, W)
  remade = live(jax.grad(lambda x, w: blocks(x, w, jax.checkpoint(block)), argnums=1), X, W)
  assert remade < all_kept / 2


def test_a_loop_needs_what_its_body_needs():
  def body(x, _):
    return ((x @ W) @ W) @ W, None

  once = live(lambda x: body(x, None)[0], X)
  assert live(lambda x: jax.lax.scan(body, x, length=9)[0], X) == once + N  # the carry beside it


def test_bfloat16_is_counted_as_float32_on_request():
  def network(dtype):
    def apply(x, w):
      x = x.astype(dtype)
      for _ in range(3):
        x = jax.nn.silu(x @ w.astype(dtype))
      return x.astype(jnp.float32).sum()

    return program.trace(jax.value_and_grad(apply, argnums=1), X, W)

  narrow, wide = network('bfloat16'), network('float32')
  assert program.cost(narrow).bytes < 0.6 * program.cost(wide).bytes
  assert program.cost(narrow, wide=True).bytes == pytest.approx(program.cost(wide).bytes, rel=0.05)
  assert program.live_bytes(narrow, wide=True) == pytest.approx(program.live_bytes(wide), rel=0.05)


def test_bytes_of_a_tree():
  shapes = {'a': jax.ShapeDtypeStruct((3, 5), jnp.bfloat16), 'b': [jnp.zeros(7, jnp.uint8), jnp.zeros(())]}
  assert program.tree_bytes(shapes) == 3 * 5 * 2 + 7 + 4
