"""Weights of frozen encoders: what fits, what is refused."""

import pathlib

import numpy as np
import pytest
from golden.golden_param import golden_param

from fetal_jax.convert import encoders
from fetal_jax.runtime.errors import UserError

GOLDEN = pathlib.Path(__file__).resolve().parent.parent / 'golden'


def test_positions_are_resized_as_in_the_reference():
  positions = 100 * golden_param('pos_embed', (1, 1 + 37**2, 128))
  found = encoders.resize_positions(positions, 16)
  assert found.shape == (1, 257, 128)
  expected = np.load(GOLDEN / 'dinov2.npz')['positions']
  np.testing.assert_allclose(found[:, ::16, ::16], expected, atol=1e-5)
  np.testing.assert_array_equal(found[:, 0], positions[:, 0])
  assert encoders.resize_positions(positions, 37) is positions


def dinov2(width=64, image_size=28):
  """The state dict of a network with one block."""
  shapes = {
    'cls_token': (1, 1, width),
    'mask_token': (1, width),
    'pos_embed': (1, 1 + (image_size // 14) ** 2, width),
    'patch_embed.proj.weight': (width, 3, 14, 14),
    'patch_embed.proj.bias': (width,),
    **{f'{norm}.{leaf}': (width,) for norm in ('norm', 'blocks.0.norm1', 'blocks.0.norm2') for leaf in ('weight', 'bias')},
    'blocks.0.attn.qkv.weight': (3 * width, width),
    'blocks.0.attn.qkv.bias': (3 * width,),
    'blocks.0.attn.proj.weight': (width, width),
    'blocks.0.attn.proj.bias': (width,),
    'blocks.0.ls1.gamma': (width,),
    'blocks.0.ls2.gamma': (width,),
    'blocks.0.mlp.fc1.weight': (4 * width, width),
    'blocks.0.mlp.fc1.bias': (4 * width,),
    'blocks.0.mlp.fc2.weight': (width, 4 * width),
    'blocks.0.mlp.fc2.bias': (width,),
  }  # fmt: skip
  return {name: golden_param(name, shape) for name, shape in shapes.items()}


def test_dinov2_takes_its_size_from_the_weights():
  network, variables = encoders.dinov2(dinov2(width=128), 28)
  assert (network.width, network.depth) == (128, 1)
  assert variables['params']['blocks_0']['attn']['qkv']['kernel'].shape == (128, 384)


@pytest.mark.parametrize(
  ('change', 'said'),
  [
    ({'register_tokens': np.zeros((1, 4, 64))}, r'register_tokens \[1, 4, 64\] belongs to no variable'),
    ({'blocks.0.ls1.gamma': np.zeros(3)}, r'blocks.0.ls1.gamma has shape \[3\]'),
    ({'cls_token': np.zeros(64)}, 'cls_token is missing'),
    ({'cls_token': np.zeros((1, 1, 40))}, '1 blocks of 40 channels'),
  ],
)
def test_other_vision_transformers_are_refused(change, said):
  with pytest.raises(UserError, match=said):
    encoders.dinov2({**dinov2(), **change}, 28)


def test_inception_of_torchvision_is_refused():
  with pytest.raises(UserError, match=r"torchvision's weights.*pt_inception"):
    encoders.inception({'fc.bias': np.zeros(1000)})
  with pytest.raises(UserError, match=r'Conv2d_1a_3x3.*is missing'):
    encoders.inception({'fc.bias': np.zeros(1008)})
