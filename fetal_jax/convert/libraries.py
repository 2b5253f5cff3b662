"""The names of timm, Hugging Face transformers and Microsoft's Swin, carried to torchvision's where only names differ.

timm's ResNet and DenseNet have torchvision's own names. Where a library keeps queries, keys and values apart they are
joined, in that order. What is left out follows from the rest (index tables, masks), or is no part of a classifier.
"""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from fetal_jax.convert import names, rules, torchvision

_FOLLOWS = ('relative_position_index', 'num_batches_tracked', 'attn_mask')


class Naming(NamedTuple):
  """The names of one library for one network.

  Attributes:
    first: of the weight of the first layer.
    renames: from these names to torchvision's.
    has: an entry by which this naming is told from another with the same `first`; empty: any.
  """

  first: str
  renames: rules.Renames
  has: str = ''


def _swin_merge_after(match: re.Match[str]) -> str:
  """Returns the name of the merging after a stage; torchvision's own counts to the stage after it."""
  return f'features.{2 * int(match[1]) + 2}'


_MLP = ((r'mlp\.fc1', 'mlp.0'), (r'mlp\.fc2', 'mlp.3'))
_HUGGING_FACE_BLOCK = (
  (r'\.attention\.output\.dense', '.attn.proj'),
  (r'\.attention\.(?:attention|self)\.', '.attn.'),
  (r'\.intermediate\.dense', '.mlp.fc1'),
  (r'\.output\.dense', '.mlp.fc2'),
  (r'\.layernorm_before', '.norm1'),
  (r'\.layernorm_after', '.norm2'),
  (r'^layernorm\.', 'norm.'),
  (r'^classifier\.', 'head.'),
)
_TIMM_VIT = (
  (r'^patch_embed\.proj', 'conv_proj'),
  (r'^cls_token', 'class_token'),
  (r'^pos_embed$', 'encoder.pos_embedding'),
  (r'^blocks\.(\d+)', r'encoder.layers.encoder_layer_\1'),
  (r'\.norm([12])\.', r'.ln_\1.'),
  (r'\.attn\.qkv\.', '.self_attention.in_proj_'),
  (r'\.attn\.proj\.', '.self_attention.out_proj.'),
  *_MLP,
  (r'^norm\.', 'encoder.ln.'),
  (r'^head\.', 'heads.head.'),
)
_HUGGING_FACE_VIT = (
  (r'^embeddings\.patch_embeddings\.projection', 'patch_embed.proj'),
  (r'^embeddings\.cls_token', 'cls_token'),
  (r'^embeddings\.position_embeddings', 'pos_embed'),
  (r'^encoder\.layer\.', 'blocks.'),
  *_HUGGING_FACE_BLOCK,
  *_TIMM_VIT,
)
_SWIN = (
  (r'^patch_embed\.proj', 'features.0.0'),
  (r'^patch_embed\.norm', 'features.0.2'),
  (r'^layers\.(\d+)\.blocks\.(\d+)', torchvision.swin_block),
  *_MLP,
  (r'^head\.fc\.', 'head.'),
)
_SWIN_AFTER = ((r'^layers\.(\d+)\.downsample', _swin_merge_after), *_SWIN)
_SWIN_BEFORE = ((r'^layers\.(\d+)\.downsample', torchvision.swin_merge), *_SWIN)
_HUGGING_FACE_SWIN = (
  (r'^embeddings\.patch_embeddings\.projection', 'patch_embed.proj'),
  (r'^embeddings\.norm', 'patch_embed.norm'),
  (r'^encoder\.layers\.', 'layers.'),
  *_HUGGING_FACE_BLOCK,
  *_SWIN_AFTER,
)
_HUGGING_FACE_RESNET = (
  (r'^embedder\.embedder\.convolution', 'conv1'),
  (r'^embedder\.embedder\.normalization', 'bn1'),
  (r'^encoder\.stages\.(\d+)\.layers\.(\d+)', lambda match: f'layer{int(match[1]) + 1}.{match[2]}'),
  (r'\.layer\.(\d)\.convolution', lambda match: f'.conv{int(match[1]) + 1}'),
  (r'\.layer\.(\d)\.normalization', lambda match: f'.bn{int(match[1]) + 1}'),
  (r'\.shortcut\.convolution', '.downsample.0'),
  (r'\.shortcut\.normalization', '.downsample.1'),
  (r'^classifier\.1\.', 'fc.'),
)

_PROJECTION = 'embeddings.patch_embeddings.projection.weight'
NAMINGS: dict[str, Sequence[Naming]] = {
  'resnet50': (Naming('embedder.embedder.convolution.weight', _HUGGING_FACE_RESNET),),
  'vit_b_32': (Naming('patch_embed.proj.weight', _TIMM_VIT), Naming(_PROJECTION, _HUGGING_FACE_VIT)),
  'swin_t': (
    Naming('patch_embed.proj.weight', _SWIN_AFTER, has='layers.0.downsample.norm.weight'),
    Naming('patch_embed.proj.weight', _SWIN_BEFORE),
    Naming(_PROJECTION, _HUGGING_FACE_SWIN),
  ),
}

# Of networks that were trained for something else as well.
_UNUSED = re.compile(r'^pooler\.|mask_token$')

# A head that is kept beside the network, not in it.
_HEADS = re.compile(
  r'^(?:fc|linear|head|heads|heads\.head|head\.fc|classifier|classifier\.1)\.(weight|bias)$'
)


def todays_names(state_dict: Mapping[str, np.ndarray], namings: Sequence[Naming], head: str) -> names.Found:
  """Finds a network under the names of any library, and gives its entries the reference's.

  Args:
    state_dict: arrays by name.
    namings: those that the network is known by, the reference's own first.
    head: what the reference calls the last layer.
  """
  naming = next((n for n in namings if _is_of(state_dict, n)), namings[0])
  found = names.find({k: v for k, v in state_dict.items() if not k.endswith(_FOLLOWS)}, naming.first)
  entries: dict[str, np.ndarray] = {}
  parts: dict[str, dict[str, np.ndarray]] = {}
  outside = set()
  for name, value in found.entries.items():
    beside = name in found.outside
    renamed = _HEADS.sub(rf'{head}.\1', name) if beside else rules.rename(name, naming.renames)
    if part := re.search(r'\.attn\.(query|key|value)\.(?=weight$|bias$)', renamed):
      joined = rules.rename(renamed.replace(part[0], '.attn.qkv.'), naming.renames)
      parts.setdefault(joined, {})[part[1]] = value
      continue
    if (beside and renamed == name) or _UNUSED.search(renamed):
      outside.add(name)
    entries[renamed] = value
  for name, found_parts in parts.items():
    entries[name] = np.concatenate([found_parts[k] for k in ('query', 'key', 'value') if k in found_parts])
  return names.Found(entries, frozenset(outside), found.said)


def _is_of(state_dict: Mapping[str, np.ndarray], naming: Naming) -> bool:
  def has(entry: str) -> bool:
    return any(f'.{name}'.endswith(f'.{entry}') for name in state_dict)

  return has(naming.first) and (not naming.has or has(naming.has))
