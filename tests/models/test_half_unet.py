"""The half U-Net: its size, and what it refuses."""

import jax
import jax.numpy as jnp
import pytest

from fetal_jax.models.half_unet import HalfUNet

TINY = {
  'width': 8,
  'channel_mult': (1, 2),
  'num_res_blocks': 1,
  'attention_downsamples': (2,),
  'num_head_channels': 8,
}


def test_full_size_has_the_references_parameters():
  net = HalfUNet(128, 1000)
  shapes = jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, 128, 128, 3)), jnp.zeros(1, jnp.int32))
  assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == 42_568_040


def test_other_image_size_is_refused():
  net, t = HalfUNet(8, 3, **TINY), jnp.zeros(1, jnp.int32)
  with pytest.raises(ValueError, match='built for images of 8x8, got 16x16'):
    jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, 16, 16, 1)), t)
  with pytest.raises(ValueError, match=r'7x7 .* factor 2'):
    jax.eval_shape(HalfUNet(7, 3, **TINY).init, jax.random.key(0), jnp.zeros((1, 7, 7, 1)), t)


def test_unknown_pool_is_refused():
  with pytest.raises(ValueError, match=r'mean.*adaptive'):
    jax.eval_shape(
      HalfUNet(8, 3, pool='mean', **TINY).init,
      jax.random.key(0),
      jnp.zeros((1, 8, 8, 1)),
      jnp.zeros(1, jnp.int32),
    )
