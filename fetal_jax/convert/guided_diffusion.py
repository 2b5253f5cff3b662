"""Networks and weights of guided-diffusion (github.com/openai/guided-diffusion), in both directions.

A network is described by `config`: the keywords of guided-diffusion's own UNetModel, or of its
EncoderUNetModel, which is told from the other by having a 'pool'. Networks of improved-diffusion are among them: theirs is another choice of keywords.
"""

import dataclasses
import functools
import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fetal_jax.convert import adapt, names, rules
from fetal_jax.models.adm import count_heads
from fetal_jax.models.half_unet import POOLS, HalfUNet
from fetal_jax.models.unet import UNet
from fetal_jax.runtime.errors import UserError

FIRST, LABELS = 'input_blocks.0.0.weight', 'label_emb.weight'
# Of the first residual block: its projection of the time embedding, and its second norm.
EMBEDS, NORM = 'input_blocks.1.0.emb_layers.1.weight', 'input_blocks.1.0.out_layers.0.weight'

# Keywords that change nothing here: precision is the argument `dtype` of `build`.
IGNORED = {'use_fp16', 'use_new_attention_order'}
# Keywords of which the networks here support one value only.
ONLY = {'dims': 2, 'conv_resample': True, 'num_heads_upsample': -1}
KEYWORDS = {
  'model_channels': 'width',
  'channel_mult': 'channel_mult',
  'num_res_blocks': 'num_res_blocks',
  'attention_resolutions': 'attention_downsamples',
  'num_heads': 'num_heads',
  'num_head_channels': 'num_head_channels',
  'dropout': 'dropout',
  'use_scale_shift_norm': 'use_scale_shift_norm',
  'resblock_updown': 'resblock_updown',
  'use_checkpoint': 'remat',
}
# guided-diffusion's own defaults, where they differ from those of the networks here.
DEFAULTS = {
  'channel_mult': (1, 2, 4, 8),
  'num_heads': 1,
  'num_head_channels': -1,
  'use_scale_shift_norm': False,
  'resblock_updown': False,
}


def build(config: Mapping[str, Any], dtype: Any = jnp.float32) -> UNet | HalfUNet:
  """Builds the network of guided-diffusion's UNetModel(**config), or EncoderUNetModel(**config) if it has a 'pool'.

  Raises:
    UserError: a keyword is missing, unknown, or asks for what the networks here do not have.
  """
  config = {**DEFAULTS, **config}
  is_half = 'pool' in config
  own = {'image_size', 'in_channels', 'out_channels', 'pool' if is_half else 'num_classes'}
  for key, value in config.items():
    if key not in own | IGNORED | ONLY.keys() | KEYWORDS.keys():
      raise UserError(f'guided-diffusion config: unknown keyword {key!r}; check its spelling')
    if key in ONLY and value != ONLY[key]:
      raise UserError(f'guided-diffusion config: only {key}={ONLY[key]} is supported, not {value!r}')
  required = own - {'num_classes', 'pool'} | {'model_channels', 'num_res_blocks', 'attention_resolutions'}
  if missing := sorted(required - config.keys()):
    raise UserError(f'guided-diffusion config: {", ".join(missing)} missing; add it')

  kwargs = {ours: config[theirs] for theirs, ours in KEYWORDS.items() if theirs in config}
  for key in ('channel_mult', 'attention_downsamples'):
    kwargs[key] = tuple(kwargs[key])
  if kwargs['num_head_channels'] == -1:
    kwargs['num_head_channels'] = None
  kwargs['dtype'] = dtype
  if is_half:
    if config['pool'] not in POOLS:
      raise UserError(
        f'guided-diffusion config: only pool={" or ".join(POOLS)} is supported, not {config["pool"]!r}'
      )
    return HalfUNet(config['image_size'], config['out_channels'], pool=config['pool'], **kwargs)
  return UNet(config['out_channels'], num_classes=config.get('num_classes'), **kwargs)


def from_torch(state_dict: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
  """Makes the Flax variables of `build(config)` from guided-diffusion's weights (arrays or CPU tensors by name).

  Raises:
    UserError: the weights are not those of such a network; the message names what differs.
  """
  shapes = _shapes(config)
  return rules.to_variables(make_rules(shapes, config), state_dict, shapes)


def to_torch(variables: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, np.ndarray]:
  """Makes guided-diffusion's weights from Flax variables of `build(config)`: the inverse of `from_torch`."""
  return rules.to_torch(make_rules(_shapes(config), config), variables)


def describe(net: UNet | HalfUNet, image_shape: tuple[int, int, int], **kwargs: Any) -> dict[str, Any]:
  """Returns the `config` by which guided-diffusion would build `net`: the inverse of `build`.

  Args:
    net: the network.
    image_shape: (H, W, C) of its images.
    **kwargs: keywords of guided-diffusion that do not follow from the network, such as `use_new_attention_order`.

  Raises:
    UserError: guided-diffusion has no such network.
  """
  if net.norm_groups != 32:
    raise UserError(
      f"guided-diffusion's networks have 32 groups in their norms, not {net.norm_groups}: set norm_groups=32"
    )
  config = {theirs: getattr(net, ours) for theirs, ours in KEYWORDS.items()}
  config |= {'image_size': image_shape[0], 'in_channels': image_shape[2], **kwargs}
  if isinstance(net, HalfUNet):
    return config | {'out_channels': net.num_classes, 'pool': net.pool}
  return config | {'out_channels': net.out_channels, 'num_classes': net.num_classes}


def fit(
  state_dict: Mapping[str, np.ndarray], config: Mapping[str, Any], variables: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, str]]:
  """Carries weights into a network whose channels, classes or image size may be others than the weights'.

  Three channels become one: the first layer is summed over its inputs, the last averaged over its outputs. The
  positions of an attention pool are interpolated. Label embeddings and logits of another class count, missing label
  embeddings, and a first or last layer of other channels stay as in `variables`; label embeddings that the network has no
  use for are left out. Everything else must fit.

  Args:
    state_dict: guided-diffusion's weights.
    config: of the network they are carried into, see `build` and `describe`.
    variables: of that network, freshly initialised.

  Returns:
    Variables as from `from_torch`, and what was done, in words, by prefix or entry.

  Raises:
    UserError: the weights are not those of such a network; the message names what differs.
  """
  network = make_rules(variables, config)
  adapters: dict[str, adapt.Adapter] = {FIRST: adapt.sum_inputs}
  if 'pool' in config:
    logits = LOGITS[config['pool']]
    adapters |= dict.fromkeys((f'{logits}.weight', f'{logits}.bias'), adapt.keep_fresh)
    adapters['out.2.positional_embedding'] = adapt.interpolate_pool
  else:
    adapters |= {LABELS: adapt.keep_fresh}
    adapters |= dict.fromkeys(('out.2.weight', 'out.2.bias'), adapt.average_outputs)
  wanted = rules.torch_leaves(network, variables, adapters)
  found = names.find(state_dict, FIRST)
  known = {rule.torch_name for rule in network.values()}
  may = lambda name: name in found.outside or name == LABELS  # noqa: E731
  entries, left_out = adapt.leave_out(found.entries, known, may)
  state, changes = adapt.fit(entries, wanted, adapters)
  state, fresh = adapt.fill(state, wanted, [LABELS])
  return rules.to_variables(network, state, variables), {**found.said, **left_out, **changes, **fresh}


def differing(state_dict: Mapping[str, np.ndarray], config: Mapping[str, Any]) -> dict[str, Any]:
  """Returns the keywords of `config` that the weights tell by themselves, where they are others there: their values."""
  state = names.find(state_dict, FIRST).entries
  told: dict[str, Any] = {'model_channels': len(state[FIRST])} if FIRST in state else {}
  told['resblock_updown'] = not any(re.match(r'input_blocks\.\d+\.0\.op\.', name) for name in state)
  if {EMBEDS, NORM} <= state.keys():
    told['use_scale_shift_norm'] = len(state[EMBEDS]) == 2 * len(state[NORM])
  return {key: value for key, value in told.items() if {**DEFAULTS, **config}[key] != value}


def _shapes(config: Mapping[str, Any]) -> dict[str, Any]:
  return _shapes_of(build(config), config['image_size'], config['in_channels'])


@functools.lru_cache
def _shapes_of(net: UNet | HalfUNet, size: int, channels: int) -> dict[str, Any]:
  # Kept, because reading a file asks for them again and again, and tracing a network takes a second.
  x = jax.ShapeDtypeStruct((1, size, size, channels), jnp.float32)
  t = jax.ShapeDtypeStruct((1,), jnp.int32)
  labels = () if isinstance(net, HalfUNet) or net.num_classes is None else (t,)
  return jax.eval_shape(net.init, jax.random.key(0), x, t, *labels)


RENAMES = (
  (r'^time_embed\.dense_0', 'time_embed.0'),
  (r'^time_embed\.dense_1', 'time_embed.2'),
  (r'^label_embed', 'label_emb'),
  (r'^norm_out', 'out.0'),
  (r'^conv_out', 'out.2'),
  (r'^pool\.qkv', 'out.2.qkv_proj'),
  (r'^pool\.proj', 'out.2.c_proj'),
  (r'^pool\.', 'out.2.'),
  (r'^in_0', 'input_blocks.0.0'),
  (r'^in_(\d+)_down\.(weight|bias)', r'input_blocks.\1.0.op.\2'),
  (r'^in_(\d+)_(res|down)', r'input_blocks.\1.0'),
  (r'^in_(\d+)_attention', r'input_blocks.\1.1'),
  (r'^middle_(\d)_(res|attention)', r'middle_block.\1'),
  (r'^out_(\d+)_res', r'output_blocks.\1.0'),
  (r'^out_(\d+)_attention', r'output_blocks.\1.1'),
  (r'\.norm_in', '.in_layers.0'),
  (r'\.conv_in', '.in_layers.2'),
  (r'\.embed', '.emb_layers.1'),
  (r'\.norm_out', '.out_layers.0'),
  (r'\.conv_out', '.out_layers.3'),
  (r'\.skip', '.skip_connection'),
  (r'\.proj', '.proj_out'),
)
HEADS = {'attention': (), 'adaptive': ((r'^logits', 'out.3'),)}
LOGITS = {'attention': 'out.2.c_proj', 'adaptive': 'out.3'}

# A 1x1 convolution of images is a dense layer: OI11 to IO.
CONV_AS_DENSE = rules.Transform(lambda w: w[:, :, 0, 0].T, lambda w: w.T[:, :, None, None])


def make_rules(shapes: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, rules.Rule]:
  """Returns where each variable of `build(config)` lives in guided-diffusion's state dict, and how it is laid out."""

  def up(match: re.Match[str]) -> str:
    position = 2 if f'out_{match[1]}_attention' in shapes['params'] else 1
    inner = f'conv.{match[2]}' if match[2] in ('weight', 'bias') else match[2]
    return f'output_blocks.{match[1]}.{position}.{inner}'

  heads = HEADS[config['pool']] if 'pool' in config else ()
  derived = rules.derive(shapes, ((r'^out_(\d+)_up\.(\w+)', up), *RENAMES, *heads))
  return {path: _lay_out(path, rule, shapes, config) for path, rule in derived.items()}


def _lay_out(path: str, rule: rules.Rule, shapes: Mapping[str, Any], config: Mapping[str, Any]) -> rules.Rule:
  """Corrects the layout of what guided-diffusion writes as a 1x1 convolution, and of its queries, keys, values."""
  _, *modules, leaf = path.split('/')
  transform = rule.transform
  if leaf == 'kernel' and modules[-1] in ('qkv', 'proj'):
    transform = rules.CONV1D_AS_DENSE
  if leaf == 'kernel' and (
    modules[-1] == 'skip' or (config.get('pool') == 'adaptive' and modules == ['logits'])
  ):
    transform = CONV_AS_DENSE
  if leaf == 'positional_embedding':
    transform = rules.DENSE
  # The attention pool has the new order whatever the flag says.
  if modules[-1] == 'qkv' and modules[0] != 'pool' and not config.get('use_new_attention_order', False):
    channels = shapes['params'][modules[0]]['proj']['bias'].shape[0]
    net = build(config)
    transform = _legacy(transform, count_heads(channels, net.num_heads, net.num_head_channels))
  return dataclasses.replace(rule, transform=transform)


def _legacy(transform: rules.Transform, heads: int) -> rules.Transform:
  """Reorders outputs from [head][q|k|v] to [q|k|v][head] before `transform`, and back after its inverse."""

  def regroup(w: np.ndarray, outer: int, inner: int) -> np.ndarray:
    return w.reshape(outer, inner, -1, *w.shape[1:]).swapaxes(0, 1).reshape(w.shape)

  return rules.Transform(
    lambda w: transform.from_torch(regroup(w, heads, 3)),
    lambda w: regroup(transform.to_torch(w), 3, heads),
  )
