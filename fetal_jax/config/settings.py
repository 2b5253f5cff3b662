"""The table of settings: one row each with default, meaning, allowed values, and what the setting decides.

Everything else is derived from it: the default config, the checks, and what may change while a workdir has results.
"""

import dataclasses
import math
import pathlib
from collections.abc import Callable, Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Allowed:
  """The values that a setting may have.

  Attributes:
    words: what an error says of another value.
    holds: returns whether a value is one of them.
    each: the setting is a tuple, and the values are those of its items.
  """

  words: str
  holds: Callable[[Any], bool]
  each: bool = False


@dataclasses.dataclass(frozen=True)
class Setting:
  """One row of the table.

  Attributes:
    name: dotted, such as `diffusion.unet.width`.
    default: its value in `default_config()`; the type is kept.
    meaning: with unit and special values; empty where the name says it all.
    allowed: the values it may have; None if any of its type.
    decides: the results that would mean something else with another value: `data`, `diffusion`, `synthetic`,
      `classify`, `kept`. A setting that decides nothing may change between two starts of a run.
    only: the setting counts only where another one has one of these values: `{other setting: values}`.
    path: it names a file or folder, or several; a kind and a colon may stand before.
  """

  name: str
  default: Any
  meaning: str = ''
  allowed: Allowed | None = None
  decides: tuple[str, ...] = ()
  only: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
  path: bool = False


def one_of(*choices: Any) -> Allowed:
  """Allows a few values."""
  return Allowed(f'must be one of {", ".join(map(str, choices))}', lambda value: value in choices)


def at_least(least: int, words: str) -> Allowed:
  """Allows finite numbers from `least` on."""
  return Allowed(f'must be {words}', lambda value: least <= value < math.inf)


def _is_sampler(text: Any) -> bool:
  """Returns whether a text is method:steps."""
  method, _, steps = str(text).partition(':')
  return method in METHODS and steps.isdecimal() and int(steps) >= 1


METHODS = ('ancestral', 'ddim', 'dpmpp_2m')

_COUNT = at_least(1, 'at least 1')
_NOT_NEGATIVE = at_least(0, '0 or more')
_POSITIVE = Allowed('must be a number above 0', lambda value: 0 < value < math.inf)
_FRACTION = Allowed('must be between 0 and 1', lambda value: 0 < value < 1)
_SEED = Allowed('must be a whole number from 0 to 2^63 - 1', lambda value: 0 <= value < 2**63)
_SHARE = Allowed('must be in [0, 1)', lambda value: 0 <= value < 1)
_SIDES = Allowed(
  'must be whole numbers of pixels', lambda value: type(value) is int and value >= 1, each=True
)
_MULTIPLES = Allowed(
  'give one or more numbers above 0', lambda many: bool(many) and all(0 < one < math.inf for one in many)
)
_RATES = Allowed(
  'give one or more rates in [0, 1)', lambda rates: bool(rates) and all(0 <= rate < 1 for rate in rates)
)
_INTERVAL = Allowed(
  'give (low, high) timesteps, or () for all',
  lambda value: not value or (len(value) == 2 and value[0] < value[1]),
)
_PATH = Allowed(
  'begins with ~, which only a command line and a config file may; give the whole path',
  lambda path: not path.startswith('~'),
)
_FILES = Allowed(
  'no such file; give a .pt, .pth or .safetensors file', lambda path: pathlib.Path(path).is_file(), each=True
)
_SAMPLERS = Allowed('must be method:steps, such as ddim:50', _is_sampler, each=True)

_DATA = ('data',)
_ALL = ('data', 'diffusion', 'synthetic', 'classify')
_DIFFUSION = ('diffusion', 'synthetic')
_SYNTHETIC = ('synthetic',)
_CLASSIFY = ('classify',)

_NETWORKS = ('resnet50', 'densenet169', 'vit_b_32', 'swin_t', 'medmamba_t', 'medmamba_s', 'medmamba_b')

# fmt: off
SETTINGS = (
  Setting('name', 'custom', 'shown in logs and in the report'),
  Setting('seed', 0, 'the one seed of a run; every other random number is folded from it', _SEED, _ALL),
  Setting('dtype', 'auto', 'of matmuls and convolutions; auto: bfloat16 on accelerators, float32 on the CPU',
          one_of('auto', 'float32', 'bfloat16')),
  Setting('compilation_cache', 'auto', 'auto (in the user\'s cache folder), off, or a folder', path=True),
  Setting('mesh.data', -1, 'devices along the batch; -1 takes what fsdp leaves'),
  Setting('mesh.fsdp', 1, 'devices that share one copy of the parameters'),

  Setting('data.source', 'fetal_planes_db', 'where real images come from',
          one_of('fetal_planes_db', 'fetal_phantom', 'image_folder'), _DATA),
  Setting('data.path', '', "archive or folder of the source; '' downloads fetal_planes_db", _PATH, _DATA,
          {'data.source': ('fetal_planes_db', 'image_folder')}, path=True),
  Setting('data.allow_missing', False, 'leave out images that the CSV names but the archive lacks', None, _DATA,
          {'data.source': ('fetal_planes_db',)}),
  Setting('data.patients_csv', '', 'CSV of image,patient', _PATH, _DATA, {'data.source': ('image_folder',)}, path=True),
  Setting('data.image_size', 128, 'pixels a side', _COUNT, _ALL),
  Setting('data.channels', 1, '1 grey, 3 RGB', one_of(1, 3), _ALL),
  Setting('data.resize', 'stretch', 'to a square; the paper stretches', one_of('stretch', 'pad', 'crop'), _ALL),
  Setting('data.split', 'paper', 'who is in train and test, see data/splits.py', one_of('paper', 'official', 'patient'),
          _DATA),
  Setting('data.test_fraction', 0.2, 'share of the patients', _FRACTION, _DATA, {'data.split': ('patient',)}),
  Setting('data.phantom_images', 1240, '', _COUNT, _DATA, {'data.source': ('fetal_phantom',)}),
  Setting('data.phantom_seed', 0, '', _SEED, _DATA, {'data.source': ('fetal_phantom',)}),
  Setting('data.num_workers', 0, 'decoding threads; 0 = all cores', at_least(0, 'at least 1, or 0 for all cores')),

  Setting('diffusion.train', 'both', 'which of the two networks', one_of('both', 'unet', 'guide'), _DIFFUSION),
  Setting('diffusion.init_from', (),
          "files of weights of guided-diffusion or improved-diffusion, of the UNet, the guide or both", _FILES,
          _DIFFUSION, path=True),
  Setting('diffusion.init_new_attention_order', False,
          "the UNet's file was trained with --use_new_attention_order True", None, _DIFFUSION),
  Setting('diffusion.timesteps', 1000, '', _COUNT, _DIFFUSION),
  Setting('diffusion.schedule', 'linear', 'of the noise', one_of('linear', 'cosine'), _DIFFUSION),
  Setting('diffusion.learn_sigma', True, '', None, _DIFFUSION),
  Setting('diffusion.class_cond', True, '', None, _DIFFUSION),
  Setting('diffusion.unet.width', 128, '', _COUNT, _DIFFUSION),
  Setting('diffusion.unet.channel_mult', (1, 1, 2, 3, 4), 'multiples of the width, level by level', _MULTIPLES,
          _DIFFUSION),
  Setting('diffusion.unet.num_res_blocks', 2, 'a level', _COUNT, _DIFFUSION),
  Setting('diffusion.unet.attention_resolutions', (32, 16, 8), 'feature-map sides in pixels', _SIDES, _DIFFUSION),
  Setting('diffusion.unet.num_heads', 4, '', _COUNT, _DIFFUSION),
  Setting('diffusion.unet.num_head_channels', 0, '> 0 overrides num_heads', _NOT_NEGATIVE, _DIFFUSION),
  Setting('diffusion.unet.norm_groups', 32, 'fewer where width < 64: one channel a group erases brightness', _COUNT,
          _DIFFUSION),
  Setting('diffusion.unet.dropout', 0.0, '', _SHARE, _DIFFUSION),
  Setting('diffusion.unet.resblock_updown', True, 'resample in residual blocks; False as in improved-diffusion', None,
          _DIFFUSION),
  Setting('diffusion.unet.use_scale_shift_norm', True, 'False: the time embedding is added', None, _DIFFUSION),
  Setting('diffusion.guide.width', 128, '', _COUNT, _DIFFUSION),
  Setting('diffusion.guide.channel_mult', (1, 1, 2, 3, 4), 'multiples of the width, level by level', _MULTIPLES,
          _DIFFUSION),
  Setting('diffusion.guide.num_res_blocks', 2, 'a level', _COUNT, _DIFFUSION),
  Setting('diffusion.guide.attention_resolutions', (32, 16, 8), 'feature-map sides in pixels', _SIDES, _DIFFUSION),
  Setting('diffusion.guide.num_head_channels', 64, '0 = one head', _NOT_NEGATIVE, _DIFFUSION),
  Setting('diffusion.guide.pool', 'attention', 'of the last feature map', one_of('attention', 'adaptive'), _DIFFUSION),
  Setting('diffusion.guide.norm_groups', 32, 'as of the UNet', _COUNT, _DIFFUSION),
  Setting('diffusion.guide.dropout', 0.0, '', _SHARE, _DIFFUSION),
  Setting('diffusion.guide.resblock_updown', True, 'as of the UNet', None, _DIFFUSION),
  Setting('diffusion.guide.use_scale_shift_norm', True, 'as of the UNet', None, _DIFFUSION),
  Setting('diffusion.steps', 100_000, 'optimiser steps; a model may be trained for longer until it is sampled from',
          _COUNT, _SYNTHETIC),
  Setting('diffusion.batch_size', 128, 'images a step, over all devices', _COUNT, _DIFFUSION),
  Setting('diffusion.microbatches', 1, 'gradient accumulation: a batch is processed in this many parts', _COUNT,
          _DIFFUSION),
  Setting('diffusion.steps_per_call', 10, 'optimiser steps a dispatch', _COUNT, _DIFFUSION),
  Setting('diffusion.remat', False,
          'recompute activations in the backward pass: less memory, about a third more time'),
  Setting('diffusion.random_flip', True, 'horizontal, p = 0.5', None, _DIFFUSION),
  Setting('diffusion.learning_rate', 1e-4, 'of the UNet (AdamW)', _POSITIVE, _DIFFUSION),
  Setting('diffusion.weight_decay', 0.0, '', _NOT_NEGATIVE, _DIFFUSION),
  Setting('diffusion.guide_learning_rate', 3e-4, '', _POSITIVE, _DIFFUSION),
  Setting('diffusion.guide_weight_decay', 0.05, '', _NOT_NEGATIVE, _DIFFUSION),
  Setting('diffusion.warmup_steps', 1000, 'linear, both optimisers', _NOT_NEGATIVE, _DIFFUSION),
  Setting('diffusion.grad_clip', 1.0, 'global norm, each network on its own', _POSITIVE, _DIFFUSION),
  Setting('diffusion.ema_rates', (0.9999,), 'the first one is sampled from', _RATES, _DIFFUSION),
  Setting('diffusion.ema_warmup', True, 'decay = min(rate, (1 + step) / (10 + step))', None, _DIFFUSION),
  Setting('diffusion.log_every', 100, 'steps', _COUNT),
  Setting('diffusion.eval_every', 2500, 'steps: held-out accuracy of the guide by noise level', _COUNT),
  Setting('diffusion.preview_every', 10_000, 'steps: images drawn as sample.method and its settings say', _COUNT),
  Setting('diffusion.preview_per_class', 8, 'images', _COUNT),
  Setting('diffusion.checkpoint_every', 2500, 'steps', _COUNT),
  Setting('diffusion.keep_checkpoints', 2, 'the newest ones', _COUNT),
  Setting('diffusion.skip_nonfinite', 0,
          'steps whose loss or gradient is not finite to leave out before training stops; 0 stops at once',
          _NOT_NEGATIVE),

  Setting('sample.rounds', 2, 'of synthetic images', _COUNT),
  Setting('sample.per_class', 5000, 'images a round', _COUNT, _SYNTHETIC),
  Setting('sample.method', 'ancestral', 'see diffusion/samplers.py', one_of(*METHODS), _SYNTHETIC),
  Setting('sample.steps', 250, 'of the respaced process', _COUNT, _SYNTHETIC),
  Setting('sample.guidance_scale', 0.5, '0 draws without the guide, at no cost', _NOT_NEGATIVE, _SYNTHETIC),
  Setting('sample.guidance_interval', (), '(low, high) original timesteps; () = all', _INTERVAL, _SYNTHETIC),
  Setting('sample.guidance_at', 'x_t', 'where the gradient is taken; guided-diffusion: x_t', one_of('x_t', 'mean'),
          _SYNTHETIC),
  Setting('sample.eta', 0.0, 'of ddim', _NOT_NEGATIVE, _SYNTHETIC),
  Setting('sample.clip', 'static', 'of the predicted x_0', one_of('static', 'dynamic', 'none'), _SYNTHETIC),
  Setting('sample.batch_size', 256,
          'images a dispatch, over the devices of a process; 0 = as many as their memory takes',
          at_least(0, 'at least 1, or 0 to find it')),
  Setting('sample.shard_size', 1000, 'images a file', _COUNT, _SYNTHETIC),

  Setting('classify.models', ('vit_b_32', 'swin_t', 'resnet50', 'densenet169', 'medmamba_t'), 'names in model_args'),
  Setting('classify.regimes',
          ('real', 'synth_r1', 'synth_r1_then_real', 'synth_r1_plus_real', 'synth_r12', 'synth_r12_then_real'),
          'what a classifier is trained on, see train/regimes.py'),
  Setting('classify.curve', (),
          'numbers of synthetic images, such as (10_000, 20_000): accuracy against them, from and before real'),
  Setting('classify.curve_models', (), 'only these; () = all'),
  Setting('classify.init_from', (),
          'files of weights of torchvision, timm, transformers or MedMamba, at most one a model', _FILES,
          path=True),
  Setting('classify.num_seeds', 1, '', _COUNT),
  Setting('classify.protocol', 'honest', 'honest (epoch chosen on validation patients), paper (best test epoch)',
          one_of('honest', 'paper'), _CLASSIFY),
  Setting('classify.epochs', 200, 'passes over the images of a regime', _COUNT, _CLASSIFY),
  Setting('classify.pretrain_epochs', 0, 'of the synthetic-only regimes; 0 = epochs', _NOT_NEGATIVE, _CLASSIFY),
  Setting('classify.batch_size', 32, 'images a step', _COUNT, _CLASSIFY),
  Setting('classify.eval_batch_size', 256, '', _COUNT),
  Setting('classify.steps_per_call', 10, 'optimiser steps a dispatch', _COUNT, _CLASSIFY),
  Setting('classify.learning_rate', 1e-4, 'of Adam, constant', _POSITIVE, _CLASSIFY),
  Setting('classify.rotation_degrees', 30.0, 'real images, uniform in ±', _NOT_NEGATIVE, _CLASSIFY),
  Setting('classify.flips', True, 'real images, both axes, p = 0.5 each', None, _CLASSIFY),
  Setting('classify.mean', 0.449, "of the normalisation after [0, 1]: ImageNet's, averaged over its channels", None,
          _CLASSIFY),
  Setting('classify.std', 0.226, '', _POSITIVE, _CLASSIFY),
  Setting('classify.checkpoint_epochs', 10, '', _COUNT),
  Setting('classify.skip_nonfinite', 0, 'as of diffusion', _NOT_NEGATIVE),
  *(Setting(f'classify.model_args.{name}', {}, 'of the network, see models/; decides the runs of this one alone')
    for name in _NETWORKS),

  Setting('filter.min_confidence', 0.5,
          'of the judge (evaluate.classifier) in the label that was asked for, in regimes with _kept',
          _SHARE, ('kept',)),
  Setting('filter.top_k', 0, 'of those the most confident so many, a class and round; 0 = all',
          at_least(0, 'at least 1, or 0 for all'), ('kept',)),

  Setting('evaluate.classifier', 'auto',
          'network of the judge, see train/judge_parts.py; auto = resnet50 if it is in classify.models, else the first',
          one_of('auto', *_NETWORKS)),
  Setting('evaluate.encoder', 'classifier', 'distances are measured in: classifier, inception:FILE or dinov2:FILE',
          path=True),
  Setting('evaluate.max_images', 10_000, 'of each set, for the scores of fidelity', _COUNT),

  Setting('sweep.scales', (0.0, 0.25, 0.5, 1.0, 2.0, 4.0), 'under sample.method and sample.steps'),
  Setting('sweep.samplers',
          ('ancestral:250', 'ancestral:50', 'ancestral:25', 'ddim:50', 'ddim:25', 'dpmpp_2m:25', 'dpmpp_2m:15',
           'dpmpp_2m:10'),
          'method:steps, at sample.guidance_scale', _SAMPLERS),
  Setting('sweep.per_class', 50, 'images', _COUNT),

  Setting('report.show_real_images', True),
)
# fmt: on

TABLE = {setting.name: setting for setting in SETTINGS}


def decides(name: str) -> tuple[str, ...]:
  """Returns the results that a setting decides; none for a section."""
  return TABLE[name].decides if name in TABLE else ()


def of_source(source: str) -> tuple[str, ...]:
  """Returns the keys of `data` that decide what is in a source."""
  return tuple(
    setting.name.removeprefix('data.')
    for setting in SETTINGS
    if source in setting.only.get('data.source', ())
  )
