"""Names of torchvision's ResNet, DenseNet, ViT and Swin, and older names in its published files.

Each network has RENAMES, from Flax names (see `rules.derive`) to PyTorch's, and FORMER_NAMES, from those of
older files to today's.
"""

import re

RESNET = (
  (r'^stem_bn', 'bn1'),
  (r'^stem', 'conv1'),
  (r'^layer(\d+)_(\d+)', r'layer\1.\2'),
  (r'downsample_conv', 'downsample.0'),
  (r'downsample_bn', 'downsample.1'),
  (r'^head', 'fc'),
)

DENSENET = (
  (r'^stem_norm', 'features.norm0'),
  (r'^stem', 'features.conv0'),
  (r'^block(\d+)_layer(\d+)', r'features.denseblock\1.denselayer\2'),
  (r'^transition(\d+)_', r'features.transition\1.'),
  (r'^final_norm', 'features.norm5'),
  (r'^head', 'classifier'),
)

VIT = (
  (r'^stem', 'conv_proj'),
  (r'^pos_embedding', 'encoder.pos_embedding'),
  (r'^ln\.', 'encoder.ln.'),
  (r'^layer_(\d+)', r'encoder.layers.encoder_layer_\1'),
  (r'in_proj\.(weight|bias)', r'self_attention.in_proj_\1'),
  (r'out_proj', 'self_attention.out_proj'),
  (r'mlp_in', 'mlp.0'),
  (r'mlp_out', 'mlp.3'),
  (r'^head', 'heads.head'),
)


def swin_block(match: re.Match[str]) -> str:
  """Returns the name of a block, of a match of its stage's number and its own."""
  return f'features.{2 * int(match[1]) + 1}.{match[2]}'


def swin_merge(match: re.Match[str]) -> str:
  """Returns the name of the merging before a stage, of a match of the stage's number."""
  return f'features.{2 * int(match[1])}'


SWIN = (
  (r'^stem_norm', 'features.0.2'),
  (r'^stem', 'features.0.0'),
  (r'^stage(\d+)_(\d+)', swin_block),
  (r'^merge(\d+)', swin_merge),
  (r'mlp_in', 'mlp.0'),
  (r'mlp_out', 'mlp.3'),
)

RENAMES = {'resnet50': RESNET, 'densenet169': DENSENET, 'vit_b_32': VIT, 'swin_t': SWIN}

FORMER_NAMES = {
  'densenet169': ((r'(denselayer\d+\.(?:norm|conv))\.(\d)', r'\1\2'),),
  'vit_b_32': ((r'mlp\.linear_1', 'mlp.0'), (r'mlp\.linear_2', 'mlp.3')),
}
