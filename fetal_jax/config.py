"""Settings: every value of every stage with its default, and the checks that come before any work.

A config file (`configs/*.py`) starts from `default_config()` and changes what its experiment changes. The
result is locked: a key that is not stated here is refused by name. Library functions take plain keyword
arguments; only a stage's `run(config, workdir)` sees a config.
"""

import ast
import difflib
import hashlib
import importlib.util
import json
import math
import pathlib
from typing import Any

import ml_collections

from fetal_jax.runtime.errors import UserError

__all__ = ['UserError', 'config_hash', 'default_config', 'from_dict', 'load_file', 'to_dict', 'validate']


def _d(**values: Any) -> ml_collections.ConfigDict:
  return ml_collections.ConfigDict(values)


def default_config() -> ml_collections.ConfigDict:
  """The paper's experiment at 128 px with the width-128 ADM; every key that exists, with its meaning."""
  config = _d(
    name='custom',  # shown in logs and in the report
    seed=0,  # the one seed of a run; every other random number is folded from it
    dtype='auto',  # matmuls and convolutions: auto (bfloat16 on accelerators, float32 on CPU) or a dtype
    compilation_cache='auto',  # auto (the user's cache folder), off, or a folder
    mesh=_d(data=-1, fsdp=1),  # devices along each axis; -1 takes what is left
    data=_d(
      source='fetal_planes_db',  # fetal_planes_db | fetal_phantom | image_folder
      path='',  # archive or folder of the source; '' downloads fetal_planes_db
      allow_missing=False,  # leave out images that the CSV names but the archive lacks
      patients_csv='',  # image_folder: CSV of image,patient
      image_size=128,  # pixels a side
      channels=1,  # 1 grey | 3 RGB
      resize='stretch',  # stretch (the paper) | pad | crop
      split='paper',  # paper | official | patient
      test_fraction=0.2,  # of the patient split
      phantom_images=1240,
      phantom_seed=0,
      num_workers=0,  # decoding threads; 0 = all cores
    ),
    diffusion=_d(
      train='both',  # both | unet | guide
      init_from=(),  # files of guided-diffusion's weights, of the UNet, the guide or both
      init_new_attention_order=False,  # the UNet's file was trained with --use_new_attention_order True
      timesteps=1000,
      schedule='linear',  # linear | cosine
      learn_sigma=True,
      class_cond=True,
      unet=_d(
        width=128,
        channel_mult=(1, 1, 2, 3, 4),
        num_res_blocks=2,
        attention_resolutions=(32, 16, 8),  # feature-map sides in pixels
        num_heads=4,
        num_head_channels=0,  # > 0 overrides num_heads
        norm_groups=32,  # fewer where width < 64: one channel a group erases brightness
        dropout=0.0,
      ),
      guide=_d(
        width=128,
        channel_mult=(1, 1, 2, 3, 4),
        num_res_blocks=2,
        attention_resolutions=(32, 16, 8),
        num_head_channels=64,
        pool='attention',  # attention | adaptive
        norm_groups=32,
        dropout=0.0,
      ),
      steps=100_000,  # optimiser steps
      batch_size=128,  # images a step, over all devices
      microbatches=1,  # gradient accumulation: a batch is processed in this many parts
      steps_per_call=10,  # optimiser steps a dispatch
      remat=False,  # recompute activations in the backward pass: less memory, about a third more time
      random_flip=True,  # horizontal, p = 0.5
      learning_rate=1e-4,
      weight_decay=0.0,
      guide_learning_rate=3e-4,
      guide_weight_decay=0.05,
      warmup_steps=1000,  # linear, both optimisers
      grad_clip=1.0,  # global norm, each network on its own
      ema_rates=(0.9999,),  # the first one is sampled from
      ema_warmup=True,  # decay = min(rate, (1 + step) / (10 + step))
      log_every=100,
      eval_every=2500,  # held-out accuracy of the guide by noise level
      preview_every=10_000,
      preview_per_class=8,
      preview_steps=50,  # DDIM
      checkpoint_every=2500,
      keep_checkpoints=2,
      skip_nonfinite=0,  # steps whose loss or gradient is not finite to leave out before it stops; 0 stops at once
    ),
    sample=_d(
      rounds=2,
      per_class=5000,
      method='ancestral',  # ancestral | ddim | dpmpp_2m
      steps=250,  # of the respaced process
      guidance_scale=0.5,  # 0 draws without the guide, at no cost
      guidance_interval=(),  # (low, high) original timesteps; () = all
      guidance_at='x_t',  # x_t (guided-diffusion) | mean
      eta=0.0,  # ddim only
      clip='static',  # static | dynamic | none
      batch_size=256,  # images a dispatch, over the devices of a process; 0 = as many as their memory takes
      shard_size=1000,  # images a file
    ),
    classify=_d(
      models=('vit_b_32', 'swin_t', 'resnet50', 'densenet169', 'medmamba_t'),
      regimes=(
        'real',
        'synth_r1',
        'synth_r1_then_real',
        'synth_r1_plus_real',
        'synth_r12',
        'synth_r12_then_real',
      ),
      curve=(),  # numbers of synthetic images, such as (10_000, 20_000): accuracy against them, from and before real
      curve_models=(),  # only these; () = all
      init_from=(),  # files of torchvision's or MedMamba's weights, at most one a model
      num_seeds=1,
      protocol='honest',  # honest (epoch chosen on validation patients) | paper (best test epoch)
      epochs=200,  # passes over the images of a regime
      pretrain_epochs=0,  # of the synthetic-only regimes; 0 = epochs
      batch_size=32,
      eval_batch_size=256,
      steps_per_call=10,
      learning_rate=1e-4,  # Adam, constant
      rotation_degrees=30.0,  # real images, uniform in ±
      flips=True,  # real images, both axes, p = 0.5 each
      mean=0.449,  # of the normalisation after [0, 1]: ImageNet's, averaged over its channels
      std=0.226,
      checkpoint_epochs=10,
      skip_nonfinite=0,  # as in diffusion
      model_args=_d(
        resnet50=_d(),
        densenet169=_d(),
        vit_b_32=_d(),
        swin_t=_d(),
        medmamba_t=_d(),
        medmamba_s=_d(),
        medmamba_b=_d(),
      ),
    ),
    filter=_d(  # of the regimes whose name has _kept
      min_confidence=0.5,  # of the judging classifier (evaluate.classifier) in the label that was asked for
      top_k=0,  # of those the most confident so many, a class and round; 0 = all
    ),
    evaluate=_d(
      classifier='auto',  # judges synthetic images: a model of classify in regime real; auto = the best of them
      encoder='classifier',  # distances are measured in: classifier | inception:FILE | dinov2:FILE
      max_images=10_000,  # of each set, for FID and its kin
    ),
    sweep=_d(  # --stage=sweep
      scales=(0.0, 0.25, 0.5, 1.0, 2.0, 4.0),  # under sample.method and sample.steps
      samplers=(  # method:steps, at sample.guidance_scale
        'ancestral:250',
        'ancestral:50',
        'ancestral:25',
        'ddim:50',
        'ddim:25',
        'dpmpp_2m:25',
        'dpmpp_2m:15',
        'dpmpp_2m:10',
      ),
      per_class=50,
    ),
    report=_d(show_real_images=True),
  )
  return config.lock()


# What a setting decides: results that would mean something else with another value. The longest name that begins a
# setting's counts; settings that none begins decide nothing, and may change while a run goes on.
DECIDES = {
  'seed': ('data', 'diffusion', 'synthetic', 'classify'),
  'data': ('data',),
  'data.image_size': ('data', 'diffusion', 'synthetic', 'classify'),
  'data.channels': ('data', 'diffusion', 'synthetic', 'classify'),
  'data.resize': ('data', 'diffusion', 'synthetic', 'classify'),
  'data.num_workers': (),
  'diffusion': ('diffusion', 'synthetic'),
  'diffusion.steps': ('synthetic',),  # a model may be trained for longer until it is sampled from
  'diffusion.remat': (),
  'diffusion.log_every': (),
  'diffusion.eval_every': (),
  'diffusion.preview_every': (),
  'diffusion.preview_per_class': (),
  'diffusion.preview_steps': (),
  'diffusion.checkpoint_every': (),
  'diffusion.keep_checkpoints': (),
  'diffusion.skip_nonfinite': (),
  'sample': ('synthetic',),
  'sample.rounds': (),
  'sample.batch_size': (),
  'classify': ('classify',),
  'classify.models': (),
  'classify.regimes': (),
  'classify.curve': (),
  'classify.curve_models': (),
  'classify.num_seeds': (),
  'classify.init_from': (),  # of some models: the runs of these know their files
  'classify.eval_batch_size': (),
  'classify.checkpoint_epochs': (),
  'classify.skip_nonfinite': (),
  'classify.model_args': (),  # of each model its own, see `decisive`
  'filter': ('kept',),
}


def decisive(config: ml_collections.ConfigDict, name: str) -> dict[str, Any]:
  """The settings, by dotted key, that decide what `name` holds.

  Args:
    config: a whole one.
    name: `data`, `diffusion`, `synthetic`, `classify`, `kept`, or `classify/<model>` for what this model alone is asked.
  """
  pairs = flatten(to_dict(config))
  if name.startswith('classify/'):
    prefix = f'classify.model_args.{name.removeprefix("classify/")}.'
    return {key: value for key, value in pairs if key.startswith(prefix)}
  return {key: value for key, value in pairs if name in DECIDES.get(_longest_name(key), ())}


def _longest_name(key: str) -> str:
  """The longest name in `DECIDES` that begins a dotted key."""
  while key and key not in DECIDES:
    key = key.rpartition('.')[0]
  return key


def to_dict(config: ml_collections.ConfigDict) -> dict[str, Any]:
  """The config as nested plain dicts that JSON can hold (tuples become lists there)."""
  return config.to_dict()


def from_dict(values: dict[str, Any]) -> ml_collections.ConfigDict:
  """The inverse of `to_dict`, also after a trip through JSON; keys added since take their defaults."""
  config = default_config()
  config.unlock()
  config.update(_tuples(values))
  return config.lock()


def _tuples(value: Any) -> Any:
  if isinstance(value, dict):
    return {k: _tuples(v) for k, v in value.items()}
  if isinstance(value, list):
    return tuple(_tuples(v) for v in value)
  return value


def config_hash(*parts: Any) -> str:
  """A short hash of settings (config sections or plain values), independent of key order.

  Settings of `_UNHASHED` are left out: they change no result, and were added when there were hashes already.
  """
  plain = [_hashed(p.to_dict() if isinstance(p, ml_collections.ConfigDict) else p) for p in parts]
  return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]


_UNHASHED = ('skip_nonfinite',)


def _hashed(value: Any) -> Any:
  if isinstance(value, dict):
    return {k: _hashed(v) for k, v in value.items() if k not in _UNHASHED}
  return value


def load_file(path_and_argument: str) -> ml_collections.ConfigDict:
  """Reads `configs/file.py` or `configs/file.py:argument` (calls its `get_config(argument)`).

  Raises:
    UserError: no such file, no `get_config`, or the file sets a key that does not exist or a wrong type.
  """
  path, _, argument = path_and_argument.partition(':')
  if not pathlib.Path(path).is_file():
    raise UserError(f'--config={path_and_argument}: no such file; see configs/ for the ones that come along')
  spec = importlib.util.spec_from_file_location('fetal_jax_user_config', path)
  assert spec is not None
  assert spec.loader is not None
  module = importlib.util.module_from_spec(spec)
  try:
    spec.loader.exec_module(module)
    config = module.get_config(argument) if argument else module.get_config()
  except UserError:
    raise
  except Exception as error:
    raise UserError(f'--config={path_and_argument}: {" ".join(str(error).split())}') from error
  return config.lock()


def override(config: ml_collections.ConfigDict, key: str, text: str) -> None:
  """Sets `key` (dotted) from a command line's text, keeping the type that the default has.

  Raises:
    UserError: no such key, or the text is not of its type.
  """
  *parents, leaf = key.split('.')
  node = config
  for parent in parents:
    node = node[parent] if isinstance(node, ml_collections.ConfigDict) and parent in node else None
  if not isinstance(node, ml_collections.ConfigDict) or leaf not in node:
    raise UserError(f'--config.{key}: no such key{_did_you_mean(config, key)}')
  old = node[leaf]
  if isinstance(old, ml_collections.ConfigDict):
    raise UserError(f'--config.{key}: this is a section; set one of {", ".join(sorted(old))}')
  node[leaf] = _parse(key, text, old)


def _parse(key: str, text: str, old: Any) -> Any:
  wanted = {
    bool: 'true or false',
    int: 'a whole number',
    float: 'a number',
    tuple: "a list like (1, 2) or 'a','b'",
  }
  if isinstance(old, str):
    return text
  value: Any
  try:
    value = {'true': True, 'false': False}.get(text.lower())
    value = ast.literal_eval(text) if value is None else value
  except (ValueError, SyntaxError):
    # resnet50,swin_t: names without quotes read well on a command line.
    value = tuple(text.split(',')) if isinstance(old, tuple) else text
  if isinstance(old, tuple):
    value = tuple(value) if isinstance(value, tuple | list) else (value,)
  if isinstance(old, float) and isinstance(value, int) and not isinstance(value, bool):
    value = float(value)
  if type(value) is not type(old):
    raise UserError(f'--config.{key}={text}: must be {wanted.get(type(old), type(old).__name__)}')
  return value


def _did_you_mean(config: ml_collections.ConfigDict, key: str) -> str:
  keys = [k for k, _ in flatten(to_dict(config))]
  close = difflib.get_close_matches(key, keys, n=1) or [k for k in keys if k.endswith('.' + key)][:1]
  return f'; did you mean --config.{close[0]}?' if close else '; --print_config shows the ones there are'


def flatten(values: dict[str, Any], prefix: str = '') -> list[tuple[str, Any]]:
  """Nested dicts as (dotted key, value) pairs; an empty section has none."""
  pairs = []
  for key, value in values.items():
    if isinstance(value, dict):
      pairs += flatten(value, f'{prefix}{key}.')
    else:
      pairs.append((prefix + key, value))
  return pairs


def validate(config: ml_collections.ConfigDict) -> None:
  """Refuses what cannot run, before anything is read or compiled.

  Raises:
    UserError: names the key, its value, and what it may be.
  """
  _one_of(config, 'dtype', ('auto', 'float32', 'bfloat16'))
  _one_of(config, 'data.source', ('fetal_planes_db', 'fetal_phantom', 'image_folder'))
  _one_of(config, 'data.split', ('paper', 'official', 'patient'))
  _one_of(config, 'data.resize', ('stretch', 'pad', 'crop'))
  _one_of(config, 'data.channels', (1, 3))
  _one_of(config, 'diffusion.train', ('both', 'unet', 'guide'))
  _one_of(config, 'diffusion.schedule', ('linear', 'cosine'))
  _one_of(config, 'diffusion.guide.pool', ('attention', 'adaptive'))
  _one_of(config, 'sample.method', ('ancestral', 'ddim', 'dpmpp_2m'))
  _one_of(config, 'sample.guidance_at', ('x_t', 'mean'))
  _one_of(config, 'sample.clip', ('static', 'dynamic', 'none'))
  _one_of(config, 'classify.protocol', ('honest', 'paper'))
  for key in [
    'data.image_size',
    'data.phantom_images',
    'diffusion.timesteps',
    'diffusion.steps',
    'diffusion.batch_size',
    'diffusion.microbatches',
    'diffusion.steps_per_call',
    'diffusion.log_every',
    'diffusion.eval_every',
    'diffusion.preview_every',
    'diffusion.preview_per_class',
    'diffusion.preview_steps',
    'diffusion.checkpoint_every',
    'diffusion.keep_checkpoints',
    'diffusion.unet.width',
    'diffusion.unet.num_res_blocks',
    'diffusion.guide.width',
    'diffusion.guide.num_res_blocks',
    'sample.rounds',
    'sample.per_class',
    'sweep.per_class',
    'evaluate.max_images',
    'sample.steps',
    'sample.shard_size',
    'classify.num_seeds',
    'classify.epochs',
    'classify.batch_size',
    'classify.eval_batch_size',
    'classify.steps_per_call',
    'classify.checkpoint_epochs',
  ]:
    if _get(config, key) < 1:
      raise UserError(f'config.{key}={_get(config, key)}: must be at least 1')
  for key in ('diffusion.skip_nonfinite', 'classify.skip_nonfinite'):
    if _get(config, key) < 0:
      raise UserError(f'config.{key}={_get(config, key)}: must be 0 or more')
  for key in ('diffusion.learning_rate', 'diffusion.guide_learning_rate', 'classify.learning_rate'):
    if not (math.isfinite(_get(config, key)) and _get(config, key) > 0):
      raise UserError(f'config.{key}={_get(config, key)}: must be a number above 0')
  for key in ('diffusion.init_from', 'classify.init_from'):
    for path in _get(config, key):
      if not pathlib.Path(path).is_file():
        raise UserError(f'config.{key}={path}: no such file; give a .pt, .pth or .safetensors file')
  if not 0 <= config.filter.min_confidence < 1:
    raise UserError(f'config.filter.min_confidence={config.filter.min_confidence}: must be in [0, 1)')
  if config.filter.top_k < 0:
    raise UserError(f'config.filter.top_k={config.filter.top_k}: must be at least 1, or 0 for all')
  _check_diffusion(config)
  _check_sample(config)


def _check_diffusion(config: ml_collections.ConfigDict) -> None:
  diffusion, size = config.diffusion, config.data.image_size
  for name in ('unet', 'guide'):
    factor = 2 ** (len(diffusion[name].channel_mult) - 1)
    if size % factor:
      raise UserError(
        f'config.data.image_size={size}: must be divisible by {factor}, because '
        f'config.diffusion.{name}.channel_mult={tuple(diffusion[name].channel_mult)} halves it '
        f'{len(diffusion[name].channel_mult) - 1} times'
      )
    for side in diffusion[name].attention_resolutions:
      if side < 1 or size % side:
        raise UserError(
          f'config.diffusion.{name}.attention_resolutions: {side} px is not a feature-map side of a {size} px image'
        )
  if diffusion.batch_size % diffusion.microbatches:
    raise UserError(
      f'config.diffusion.microbatches={diffusion.microbatches}: must divide '
      f'config.diffusion.batch_size={diffusion.batch_size}'
    )
  if diffusion.steps % diffusion.steps_per_call:
    raise UserError(
      f'config.diffusion.steps={diffusion.steps}: must be a multiple of '
      f'config.diffusion.steps_per_call={diffusion.steps_per_call}'
    )
  if not diffusion.ema_rates or not all(0 <= rate < 1 for rate in diffusion.ema_rates):
    raise UserError(f'config.diffusion.ema_rates={diffusion.ema_rates}: give one or more rates in [0, 1)')
  if diffusion.preview_steps > diffusion.timesteps:
    raise UserError(
      f'config.diffusion.preview_steps={diffusion.preview_steps}: at most {diffusion.timesteps}'
    )


def _check_sample(config: ml_collections.ConfigDict) -> None:
  sample = config.sample
  if sample.steps > config.diffusion.timesteps:
    raise UserError(
      f'config.sample.steps={sample.steps}: at most config.diffusion.timesteps={config.diffusion.timesteps}'
    )
  if sample.batch_size < 0:
    raise UserError(f'config.sample.batch_size={sample.batch_size}: must be at least 1, or 0 to find it')
  if sample.guidance_scale < 0:
    raise UserError(f'config.sample.guidance_scale={sample.guidance_scale}: must be 0 or more')
  interval = tuple(sample.guidance_interval)
  if interval and not (len(interval) == 2 and interval[0] < interval[1]):
    raise UserError(f'config.sample.guidance_interval={interval}: give (low, high) timesteps, or () for all')
  if sample.guidance_scale and config.diffusion.train == 'unet':
    raise UserError('config.diffusion.train=unet trains no guide: set config.sample.guidance_scale=0')


def _get(config: ml_collections.ConfigDict, key: str) -> Any:
  for part in key.split('.'):
    config = config[part]
  return config


def _one_of(config: ml_collections.ConfigDict, key: str, choices: tuple[Any, ...]) -> None:
  if _get(config, key) not in choices:
    raise UserError(f'config.{key}={_get(config, key)!r}: must be one of {", ".join(map(str, choices))}')
