"""A convolution whose gradients stay fast inside `lax.scan` on the CPU.

Inside a loop XLA:CPU leaves the gradients of a convolution in layouts for which it has no fast kernel (measured:
14 times slower for the input's gradient, over 100 times for the kernel's). Here both gradients are written as
convolutions in the forward layout, so that they take the fast path wherever they stand.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

_LAYOUT = ('NHWC', 'HWIO', 'NHWC')


@jax.custom_vjp
def _same(x: jax.Array, kernel: jax.Array) -> jax.Array:
  return lax.conv_general_dilated(x, kernel, (1, 1), 'SAME', dimension_numbers=_LAYOUT)


def _forward(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
  return _same(x, kernel), (x, kernel)


def _backward(saved: tuple[jax.Array, jax.Array], g: jax.Array) -> tuple[jax.Array, jax.Array]:
  x, kernel = saved
  # The barriers keep XLA from folding the transpositions into the convolutions' layouts again.
  flipped = lax.optimization_barrier(jnp.flip(kernel, (0, 1)).swapaxes(2, 3))
  pads = [(side // 2, side // 2) for side in kernel.shape[:2]]
  by_channel, g_kernel = lax.optimization_barrier((x.transpose(3, 1, 2, 0), g.transpose(1, 2, 0, 3)))
  kernel_gradient = lax.conv_general_dilated(by_channel, g_kernel, (1, 1), pads, dimension_numbers=_LAYOUT)
  return _same(g, flipped), kernel_gradient.transpose(1, 2, 0, 3)


_same.defvjp(_forward, _backward)


def conv_general_dilated(
  x: jax.Array, kernel: jax.Array, strides: Any, padding: Any, **kwargs: Any
) -> jax.Array:
  """Stands in for `lax.conv_general_dilated` in `nn.Conv(conv_general_dilated=...)`, NHWC.

  On the CPU, odd kernels with stride 1 that keep the size take the form above. All other convolutions take JAX's
  own, and so do all on accelerators, whose compilers recognise the gradients of convolutions.
  """
  same = [(side // 2, side // 2) for side in kernel.shape[:2]]
  plain = (
    tuple(strides) == (1, 1)
    and all(side % 2 for side in kernel.shape[:2])
    and list(padding) == same
    and kwargs.get('feature_group_count', 1) == 1
    and set(kwargs.get('lhs_dilation') or (1,)) | set(kwargs.get('rhs_dilation') or (1,)) == {1}
  )
  if plain and jax.default_backend() == 'cpu':
    return _same(x, kernel)
  return lax.conv_general_dilated(x, kernel, strides, padding, **kwargs)


def upsampled_conv_general_dilated(
  x: jax.Array, kernel: jax.Array, strides: Any, padding: Any, **kwargs: Any
) -> jax.Array:
  """Convolves x doubled by nearest neighbour with a 3x3 kernel, at 4/9 of the work: [B, H, W, C] to [B, 2 H, 2 W, C'].

  A 3x3 window on the doubled image sees 2x2 pixels, some twice: each of the four pixels that stand for one has its
  own 2x2 kernel of sums. For `nn.Conv(conv_general_dilated=...)` with padding 1. Not for training on the CPU, where
  the gradient of even kernels is slow in a loop.
  """
  del strides, padding, kwargs
  b, h, w, _ = x.shape

  def halves(kernel: jax.Array, axis: int) -> tuple[jax.Array, jax.Array]:
    """Returns the kernels of the first and the second of two pixels along `axis`."""
    first, middle, last = (lax.index_in_dim(kernel, i, axis) for i in range(3))
    return jnp.concatenate([first, middle + last], axis), jnp.concatenate([first + middle, last], axis)

  def pixel(kernel: jax.Array, row: int, column: int) -> jax.Array:
    # The second pixel's window starts one pixel further than the first's.
    pads = ((1 - row, row), (1 - column, column))
    return lax.conv_general_dilated(x, kernel, (1, 1), pads, dimension_numbers=_LAYOUT)

  rows = [
    jnp.stack([pixel(both, row, column) for column, both in enumerate(halves(kernels, 1))], 3)
    for row, kernels in enumerate(halves(kernel, 0))
  ]
  return jnp.stack(rows, 2).reshape(b, 2 * h, 2 * w, kernel.shape[3])
