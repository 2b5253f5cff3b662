"""The machine's peaks: the fastest matrix products and 3x3 convolutions that JAX reaches on it."""

from typing import Any

import jax
import jax.numpy as jnp

from benchmarks import measure
from benchmarks.part import Context


def matmul(side: int, dtype: str, repeats: int, calls: int) -> dict[str, Any]:
  """Square matrices, default precision."""
  a = jax.random.normal(jax.random.key(0), (side, side)).astype(dtype)
  times = measure.repeated(jax.jit(jnp.matmul), a, a, repeats=repeats, calls=calls)
  return _result(2 * side**3, times)


def convolution(batch: int, side: int, channels: int, dtype: str, repeats: int, calls: int) -> dict[str, Any]:
  """3x3, stride 1, NHWC, as many channels out as in."""
  x = jax.random.normal(jax.random.key(0), (batch, side, side, channels)).astype(dtype)
  kernel = jax.random.normal(jax.random.key(1), (3, 3, channels, channels)).astype(dtype)

  @jax.jit
  def convolve(x, kernel):
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC'))

  times = measure.repeated(convolve, x, kernel, repeats=repeats, calls=calls)
  return _result(measure.flops(convolve, x, kernel), times)


def _result(flops: float, times: list[float]) -> dict[str, Any]:
  return {'tflops': flops / min(times) / 1e12, 'seconds': measure.summary(times)}


def run(context: Context) -> None:
  size = context.size
  for dtype in size.dtypes:
    for side in size.matmul:
      context.case(f'matmul {dtype} {side}', matmul, side, dtype, size.rounds, size.calls)
    for batch, side, channels in size.convolutions:
      context.case(
        f'conv3x3 {dtype} {batch}x{side}x{side}x{channels}',
        *(convolution, batch, side, channels, dtype, size.rounds, size.calls),
      )
