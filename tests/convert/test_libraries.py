"""Weights under the names of other libraries are those under torchvision's.

The other names are written here as the libraries' own conversion scripts have them (transformers:
convert_vit_timm_to_pytorch.py, convert_swin_timm_to_pytorch.py), from torchvision's to theirs: the other way round.
"""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fetal_jax import convert, models

SIZE = 16
REDUCED = {
  'resnet50': {'width': 4, 'depths': (2, 1)},
  'densenet169': {'growth': 4, 'blocks': (2, 1), 'init_features': 8},
  'vit_b_32': {'patch_size': 8, 'hidden_size': 16, 'depth': 2, 'heads': 2, 'mlp_dim': 32, 'image_size': SIZE},
  'swin_t': {'embed_dim': 8, 'depths': (1, 2, 1), 'heads': (1, 2, 2), 'window': 2, 'patch_size': 2},
}


def variables(name, seed=0, classes=6):
  net = models.create(name, num_classes=classes, **REDUCED[name])
  shapes = jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, SIZE, SIZE, 3)))
  rng = np.random.default_rng(seed)
  return jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape, np.float32), shapes)


def renamed(state, *renames):
  """Applies the renames that are whole words between dots."""
  found = {}
  for name, value in state.items():
    for old, new in renames:
      name = re.sub(old, new, name)
    found[name] = value
  assert len(found) == len(state)
  return found


def vit_timm(state):
  return renamed(
    state,
    (r'^class_token', 'cls_token'),
    (r'^encoder\.pos_embedding', 'pos_embed'),
    (r'^conv_proj', 'patch_embed.proj'),
    (r'^encoder\.layers\.encoder_layer_(\d+)', r'blocks.\1'),
    (r'\.ln_(\d)', r'.norm\1'),
    (r'self_attention\.in_proj_', 'attn.qkv.'),
    (r'self_attention\.out_proj', 'attn.proj'),
    (r'mlp\.0', 'mlp.fc1'),
    (r'mlp\.3', 'mlp.fc2'),
    (r'^encoder\.ln', 'norm'),
    (r'^heads\.head', 'head'),
  )


def swin_microsoft(state):
  def block(match):
    return f'layers.{int(match[1]) // 2}.blocks.{match[2]}.'

  def merge(match):
    return f'layers.{int(match[1]) // 2 - 1}.downsample.{match[2]}'

  found = renamed(
    state,
    (r'^features\.0\.0', 'patch_embed.proj'),
    (r'^features\.0\.2', 'patch_embed.norm'),
    (r'^features\.(\d)\.(norm|reduction)', merge),
    (r'^features\.(\d)\.(\d+)\.', block),
    (r'mlp\.0', 'mlp.fc1'),
    (r'mlp\.3', 'mlp.fc2'),
  )
  return {
    **found,
    'layers.1.blocks.1.attn_mask': np.zeros(3),
    'layers.0.blocks.0.attn.relative_position_index': 0,
  }


def swin_timm(state):
  return renamed(
    {k: v for k, v in swin_microsoft(state).items() if 'mask' not in k and 'index' not in k},
    (r'layers\.(\d)\.downsample', lambda match: f'layers.{int(match[1]) + 1}.downsample'),
    (r'^head', 'head.fc'),
  )


def apart(state, inner):
  """Transformers' names of a block, with queries, keys and values apart."""
  found = {}
  for name, value in state.items():
    if name.startswith('head'):
      name = name.replace('head', 'classifier')
    elif '.qkv.' in name:
      for part, third in zip(('query', 'key', 'value'), np.split(value, 3), strict=True):
        found[name.replace('attn.qkv', f'attention.{inner}.{part}')] = third
      continue
    for old, new in (
      ('attn.proj', 'attention.output.dense'),
      ('attn.', f'attention.{inner}.'),
      ('norm1', 'layernorm_before'),
      ('norm2', 'layernorm_after'),
      ('mlp.fc1', 'intermediate.dense'),
      ('mlp.fc2', 'output.dense'),
    ):
      name = name.replace(old, new)
    found[re.sub(r'^norm\.', 'layernorm.', name)] = value
  return found


def vit_transformers(state):
  found = renamed(
    apart(vit_timm(state), 'attention'),
    (r'^patch_embed\.proj', 'embeddings.patch_embeddings.projection'),
    (r'^cls_token', 'embeddings.cls_token'),
    (r'^pos_embed', 'embeddings.position_embeddings'),
    (r'^blocks', 'encoder.layer'),
    (r'^(?!classifier)', 'vit.'),
  )
  return {**found, 'vit.pooler.dense.weight': np.zeros((16, 16), np.float32)}


def swin_transformers(state):
  return renamed(
    apart({k: v for k, v in swin_microsoft(state).items() if 'mask' not in k}, 'self'),
    (r'^patch_embed\.proj', 'embeddings.patch_embeddings.projection'),
    (r'^patch_embed\.norm', 'embeddings.norm'),
    (r'^layers', 'encoder.layers'),
    (r'^(?!classifier)', 'swin.'),
  )


def resnet_transformers(state):
  def index(pattern):
    return lambda match: pattern.format(int(match[1]) - 1, match[2] if match.lastindex > 1 else '')

  return renamed(
    state,
    (r'^conv1', 'resnet.embedder.embedder.convolution'),
    (r'^bn1', 'resnet.embedder.embedder.normalization'),
    (r'^layer(\d)\.(\d)', index('resnet.encoder.stages.{}.layers.{}')),
    (r'\.conv(\d)', index('.layer.{}.convolution{}')),
    (r'\.bn(\d)', index('.layer.{}.normalization{}')),
    (r'downsample\.0', 'shortcut.convolution'),
    (r'downsample\.1', 'shortcut.normalization'),
    (r'^fc', 'classifier.1'),
  )


LIBRARIES = {
  'timm resnet50': ('resnet50', dict),
  'timm densenet169': ('densenet169', dict),
  'timm vit': ('vit_b_32', vit_timm),
  'timm swin': ('swin_t', swin_timm),
  'microsoft swin': ('swin_t', swin_microsoft),
  'transformers vit': ('vit_b_32', vit_transformers),
  'transformers swin': ('swin_t', swin_transformers),
  'transformers resnet': ('resnet50', resnet_transformers),
}


@pytest.mark.parametrize('library', LIBRARIES)
@pytest.mark.parametrize('prefix', ['', 'model.backbone.'])
def test_the_same_weights_are_read(library, prefix):
  name, write = LIBRARIES[library]
  expected = variables(name)
  state = {prefix + key: value for key, value in write(convert.to_torch(name, expected)).items()}
  loaded, changes = convert.fit(name, state, variables(name, seed=1))
  jax.tree.map(np.testing.assert_array_equal, loaded, expected)
  assert not any('not loaded' in said for said in changes.values())


@pytest.mark.parametrize('library', ['timm resnet50', 'timm swin', 'transformers vit'])
def test_another_head_is_fresh_and_all_else_is_read(library):
  """A file of another class count, and one without a head."""
  name, write = LIBRARIES[library]
  theirs, fresh = variables(name, classes=9), variables(name, seed=1)
  state = write(convert.to_torch(name, theirs))
  heads = [key for key in state if re.match(r'fc|head|classifier', key)]
  for present, said in ((True, '9 classes there, 6 here'), (False, 'the file has none')):
    given = {key: value for key, value in state.items() if present or key not in heads}
    loaded, changes = convert.fit(name, given, fresh)
    assert sum(f'not loaded, but fresh: {said}' == change for change in changes.values()) == 2
    expected = {**theirs, 'params': {**theirs['params'], 'head': fresh['params']['head']}}
    jax.tree.map(np.testing.assert_array_equal, loaded, expected)


def test_a_head_beside_its_backbone_is_read_and_a_loss_is_left_out():
  expected = variables('resnet50')
  state = convert.to_torch('resnet50', expected)
  state = {('' if key.startswith('fc') else 'backbone.') + key: value for key, value in state.items()}
  state = renamed(state, (r'^fc', 'head')) | {'loss.weight': np.ones(6, np.float32)}
  loaded, changes = convert.fit('resnet50', state, variables('resnet50', seed=1))
  jax.tree.map(np.testing.assert_array_equal, loaded, expected)
  assert changes == {'backbone.': 'taken off', 'loss.weight': 'left out: no part of this network'}


def test_first_layers_of_other_channels_are_fresh():
  theirs, fresh = variables('resnet50'), variables('resnet50', seed=1)
  state = convert.to_torch('resnet50', theirs)
  state['conv1.weight'] = state['conv1.weight'][:, :2]
  loaded, changes = convert.fit('resnet50', state, fresh)
  assert changes == {'conv1.weight': 'not loaded, but fresh: 2 input channels there, 3 here'}
  expected = {**theirs, 'params': {**theirs['params'], 'stem': fresh['params']['stem']}}
  jax.tree.map(np.testing.assert_array_equal, loaded, expected)
