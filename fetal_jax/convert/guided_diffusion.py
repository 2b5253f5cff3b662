"""Networks and weights of guided-diffusion (github.com/openai/guided-diffusion), in both directions.

A network is described by `config`: the keywords of guided-diffusion's own UNetModel, or of its
EncoderUNetModel, which is told from the other by having a 'pool'. `unet_config` and `half_unet_config` make
one from the command-line flags that its README publishes with each checkpoint.
"""

import dataclasses
import re
import shlex
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fetal_jax.convert import adapt, rules
from fetal_jax.models.adm import count_heads
from fetal_jax.models.half_unet import HalfUNet
from fetal_jax.models.unet import UNet
from fetal_jax.runtime.errors import UserError

CHANNEL_MULT = {
  512: (0.5, 1, 1, 2, 2, 4, 4),
  256: (1, 1, 2, 2, 4, 4),
  128: (1, 1, 2, 3, 4),
  64: (1, 2, 3, 4),
}

# Keywords that change nothing here, whatever they are: precision is the argument `dtype` of `build`.
IGNORED = {'use_fp16', 'use_new_attention_order'}
# Keywords that the networks here know in one form only.
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
  """The network of guided-diffusion's UNetModel(**config), or EncoderUNetModel(**config) if it has a 'pool'.

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
    return HalfUNet(config['image_size'], config['out_channels'], pool=config['pool'], **kwargs)
  return UNet(config['out_channels'], num_classes=config.get('num_classes'), **kwargs)


def from_torch(state_dict: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
  """Flax variables of `build(config)` from guided-diffusion's weights (arrays or CPU tensors by name).

  Raises:
    UserError: the weights are not those of such a network; the message names what differs.
  """
  shapes = _shapes(config)
  return rules.to_variables(make_rules(shapes, config), state_dict, shapes)


def to_torch(variables: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, np.ndarray]:
  """guided-diffusion's weights from Flax variables of `build(config)`: the inverse of `from_torch`."""
  return rules.to_torch(make_rules(_shapes(config), config), variables)


def describe(net: UNet | HalfUNet, image_shape: tuple[int, int, int], **kwargs: Any) -> dict[str, Any]:
  """The `config` by which guided-diffusion would build `net`: the inverse of `build`.

  Args:
    net: the network.
    image_shape: (H, W, C) of its images.
    **kwargs: keywords of guided-diffusion that the network does not show, such as `use_new_attention_order`.

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
  positions of an attention pool are interpolated. Label embeddings and logits of another class count stay as
  they are in `variables`. Everything else must fit.

  Args:
    state_dict: guided-diffusion's weights.
    config: of the network they are carried into, see `build` and `describe`.
    variables: of that network, freshly initialised.

  Returns:
    Variables as of `from_torch`, and what was done to the entries that did not fit as they were.

  Raises:
    UserError: the weights are not those of such a network; the message names what differs.
  """
  network = make_rules(variables, config)
  adapters: dict[str, adapt.Adapter] = {'input_blocks.0.0.weight': adapt.sum_inputs}
  if 'pool' in config:
    logits = LOGITS[config['pool']]
    adapters |= dict.fromkeys((f'{logits}.weight', f'{logits}.bias'), adapt.keep_fresh)
    adapters['out.2.positional_embedding'] = adapt.interpolate_pool
  else:
    adapters |= {'label_emb.weight': adapt.keep_fresh}
    adapters |= dict.fromkeys(('out.2.weight', 'out.2.bias'), adapt.average_outputs)
  state, changes = adapt.fit(state_dict, rules.torch_leaves(network, variables, adapters), adapters)
  return rules.to_variables(network, state, variables), changes


def _shapes(config: Mapping[str, Any]) -> dict[str, Any]:
  net, size = build(config), config['image_size']
  x = jax.ShapeDtypeStruct((1, size, size, config['in_channels']), jnp.float32)
  t = jax.ShapeDtypeStruct((1,), jnp.int32)
  labels = () if config.get('num_classes') is None else (t,)
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
HEADS = {
  'attention': (),
  'adaptive': ((r'^logits', 'out.3'),),
  'spatial': ((r'^hidden', 'out.0'), (r'^logits', 'out.2')),
  'spatial_v2': ((r'^hidden_norm', 'out.1'), (r'^hidden', 'out.0'), (r'^logits', 'out.3')),
}
LOGITS = {'attention': 'out.2.c_proj', 'adaptive': 'out.3', 'spatial': 'out.2', 'spatial_v2': 'out.3'}

# A 1x1 convolution of images is a dense layer: OI11 to IO.
CONV_AS_DENSE = rules.Transform(lambda w: w[:, :, 0, 0].T, lambda w: w.T[:, :, None, None])


def make_rules(shapes: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, rules.Rule]:
  """Where each variable of `build(config)` lives in guided-diffusion's state dict, and how it is laid out."""

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


# Flags of guided-diffusion's scripts that describe the networks, with their defaults there.
UNET_FLAGS = {
  'image_size': 64,
  'num_channels': 128,
  'num_res_blocks': 2,
  'num_heads': 4,
  'num_heads_upsample': -1,
  'num_head_channels': -1,
  'attention_resolutions': '16,8',
  'channel_mult': '',
  'dropout': 0.0,
  'class_cond': False,
  'use_checkpoint': False,
  'use_scale_shift_norm': True,
  'resblock_updown': False,
  'use_new_attention_order': False,
  'learn_sigma': False,
}
HALF_UNET_FLAGS = {
  'image_size': 64,
  'classifier_width': 128,
  'classifier_depth': 2,
  'classifier_attention_resolutions': '32,16,8',
  'classifier_use_scale_shift_norm': True,
  'classifier_resblock_updown': True,
  'classifier_pool': 'attention',
}
# Flags that would change what the networks are told or predict.
REFUSED_FLAGS = {'rescale_timesteps', 'predict_xstart'}
# Flags about precision, training and sampling.
OTHER_FLAGS = {
  *('use_fp16', 'classifier_use_fp16', 'fp16_scale_growth', 'microbatch', 'batch_size', 'iterations'),
  *('diffusion_steps', 'noise_schedule', 'timestep_respacing', 'use_kl', 'rescale_learned_sigmas'),
  *('data_dir', 'val_data_dir', 'noised', 'schedule_sampler', 'lr', 'weight_decay', 'anneal_lr', 'ema_rate'),
  *('lr_anneal_steps', 'log_interval', 'eval_interval', 'save_interval', 'resume_checkpoint'),
  *('model_path', 'classifier_path', 'classifier_scale', 'clip_denoised', 'num_samples', 'use_ddim'),
}


def unet_config(flags: str, *, channels: int = 3, num_classes: int = 1000) -> dict[str, Any]:
  """The UNet that guided-diffusion's scripts build from these command-line flags (`--image_size 128 ...`).

  Flags about training and sampling, and the classifier's, are passed over. What the scripts hard-code are
  arguments here: `channels` of the images and, with `--class_cond True`, `num_classes`.

  Raises:
    UserError: a flag is unknown or malformed, or asks for what this project does not have.
  """
  f = _parse(flags, UNET_FLAGS)
  return {
    'image_size': f['image_size'],
    'in_channels': channels,
    'model_channels': f['num_channels'],
    'out_channels': channels * (2 if f['learn_sigma'] else 1),
    'num_res_blocks': f['num_res_blocks'],
    'attention_resolutions': _downsamples(f['image_size'], f['attention_resolutions']),
    'dropout': f['dropout'],
    'channel_mult': _channel_mult(f['image_size'], f['channel_mult']),
    'num_classes': num_classes if f['class_cond'] else None,
    'use_checkpoint': f['use_checkpoint'],
    'num_heads': f['num_heads'],
    'num_head_channels': f['num_head_channels'],
    'num_heads_upsample': f['num_heads_upsample'],
    'use_scale_shift_norm': f['use_scale_shift_norm'],
    'resblock_updown': f['resblock_updown'],
    'use_new_attention_order': f['use_new_attention_order'],
  }


def half_unet_config(flags: str, *, channels: int = 3, num_classes: int = 1000) -> dict[str, Any]:
  """The classifier that guided-diffusion's scripts build from these flags (`--classifier_width 128 ...`).

  As `unet_config`; the UNet's flags are passed over, except `--image_size`, which is both's.
  """
  f = _parse(flags, HALF_UNET_FLAGS)
  return {
    'image_size': f['image_size'],
    'in_channels': channels,
    'model_channels': f['classifier_width'],
    'out_channels': num_classes,
    'num_res_blocks': f['classifier_depth'],
    'attention_resolutions': _downsamples(f['image_size'], f['classifier_attention_resolutions']),
    'channel_mult': _channel_mult(f['image_size'], ''),
    'num_head_channels': 64,
    'use_scale_shift_norm': f['classifier_use_scale_shift_norm'],
    'resblock_updown': f['classifier_resblock_updown'],
    'pool': f['classifier_pool'],
  }


def _parse(flags: str, defaults: Mapping[str, Any]) -> dict[str, Any]:
  words = [part for word in shlex.split(flags) for part in word.split('=', 1)]
  values = dict(defaults)
  for name, value in zip(words[::2], words[1::2] + [None] * (len(words) % 2), strict=True):
    key = name.removeprefix('--')
    if not name.startswith('--') or value is None:
      raise UserError(f'guided-diffusion flags: expected "--name value" at {name!r}')
    if key in REFUSED_FLAGS and _boolean(name, value):
      raise UserError(
        f'guided-diffusion flags: {name} True is not supported; such a network was trained otherwise'
      )
    if key in values:
      kind = type(defaults[key])
      try:
        values[key] = _boolean(name, value) if kind is bool else kind(value)
      except ValueError as e:
        raise UserError(f'guided-diffusion flags: {name} takes {kind.__name__}, not {value!r}') from e
    elif key not in UNET_FLAGS | HALF_UNET_FLAGS and key not in OTHER_FLAGS | REFUSED_FLAGS:
      raise UserError(f'guided-diffusion flags: unknown flag {name}; check its spelling')
  return values


def _boolean(name: str, value: str) -> bool:
  if value.lower() in ('true', 't', 'yes', 'y', '1'):
    return True
  if value.lower() in ('false', 'f', 'no', 'n', '0'):
    return False
  raise UserError(f'guided-diffusion flags: {name} takes True or False, not {value!r}')


def _downsamples(image_size: int, resolutions: str) -> tuple[int, ...]:
  """The flag names feature-map sizes; the constructor wants how many times smaller than the image they are."""
  return tuple(image_size // int(resolution) for resolution in resolutions.split(','))


def _channel_mult(image_size: int, flag: str) -> tuple[int | float, ...]:
  if flag:
    return tuple(int(mult) for mult in flag.split(','))
  if image_size not in CHANNEL_MULT:
    sizes = ', '.join(map(str, CHANNEL_MULT))
    raise UserError(
      f'guided-diffusion flags: no --channel_mult known for --image_size {image_size} ({sizes} are)'
    )
  return CHANNEL_MULT[image_size]
