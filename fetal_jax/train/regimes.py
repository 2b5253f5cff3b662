"""Training regimes: the six of the paper, and others by number of synthetic images or with the quality filter."""

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence

import ml_collections

from fetal_jax.runtime.errors import UserError


@dataclasses.dataclass(frozen=True)
class Regime:
  """The training images of a classifier, and the weights that it starts from.

  Attributes:
    title: its name in tables; `{r1}` and `{r12}` stand for the number of synthetic images.
    rounds: the rounds of synthetic images in its training set.
    real: whether the real training images are in it.
    start: the regime whose selected weights it starts from (shared, never trained twice), or None.
    count: how many synthetic images, the first ones of all rounds, equally many a class; None = all of `rounds`.
    kept: whether only the synthetic images that the quality filter kept are in it.
  """

  title: str
  rounds: tuple[int, ...] = ()
  real: bool = False
  start: str | None = None
  count: int | None = None
  kept: bool = False


REGIMES: dict[str, Regime] = {
  'real': Regime('Real images only', real=True),
  'synth_r1': Regime('Synthetic only, {r1}', rounds=(1,)),
  'synth_r1_then_real': Regime(
    'Pretrained on {r1} synthetic, fine-tuned on real', real=True, start='synth_r1'
  ),
  'synth_r1_plus_real': Regime('Real mixed with {r1} synthetic', rounds=(1,), real=True),
  'synth_r12': Regime('Synthetic only, {r12}', rounds=(1, 2)),
  'synth_r12_then_real': Regime(
    'Pretrained on {r12} synthetic, fine-tuned on real', real=True, start='synth_r12'
  ),
}


# The control of `synth_r12_then_real`: it goes on from `real` on real images alone, for as many optimiser steps as
# the pretraining on all synthetic images takes. It separates the worth of synthetic images from that of longer training.
CONTROL = 'real_then_real'
_CONTROLLED = 'synth_r12'

_COUNTED = re.compile(r'synth_([1-9]\d*)(_then_real|_plus_real)?')
_KEPT = re.compile(r'(synth_(?:r1|r12))_kept(_then_real|_plus_real)?')


def get(name: str) -> Regime:
  """Returns the regime of a name: one of `REGIMES`, `CONTROL`, or one that the name describes.

  `synth_10000` takes the first 10,000 synthetic images, equally many a class; `synth_r12_kept` takes those of both
  rounds that the quality filter kept. Each has `_then_real` (pretrained on them, fine-tuned on real images) and
  `_plus_real` (mixed with real images).

  Raises:
    KeyError: there is no regime of that name.
  """
  if name in REGIMES:
    return REGIMES[name]
  if name == CONTROL:
    return Regime('Real images only, as many steps', real=True, start='real')
  if match := _COUNTED.fullmatch(name):
    stem, use = f'synth_{match[1]}', match[2]
    count, images = int(match[1]), f'{int(match[1]):,} synthetic'
    made = Regime(f'Synthetic only, {int(match[1]):,}', count=count)
  elif match := _KEPT.fullmatch(name):
    stem, use = f'{match[1]}_kept', match[2]
    images = f'the kept of {{{match[1].removeprefix("synth_")}}} synthetic'
    made = Regime(f'Synthetic only, {images.removesuffix(" synthetic")}', REGIMES[match[1]].rounds, kept=True)
  else:
    raise KeyError(name)
  if use == '_then_real':
    return Regime(f'Pretrained on {images}, fine-tuned on real', real=True, start=stem)
  if use == '_plus_real':
    return dataclasses.replace(made, title=f'Real mixed with {images}', real=True)
  return made


def synthetic(name: str) -> Regime:
  """Returns the regime that the synthetic images belong to: the one that `name` starts from, or `name` itself."""
  regime = get(name)
  return get(regime.start) if regime.start else regime


def find(name: str) -> Regime | None:
  """Returns the regime of a name, None if there is none."""
  try:
    return get(name)
  except KeyError:
    return None


# MARK: Kinds of regimes
#
# The tables show the main regimes: the paper's, the control, and names that this project does not know. The others are
# points of the curve over numbers of images, or regimes on the images that the filter kept.

# How a regime uses its synthetic images.
USES = ('synthetic', 'then_real', 'plus_real')


def is_main(name: str) -> bool:
  """Returns whether the tables of all models show it."""
  return find(name) is None or not (is_kept(name) or count(name))


def is_kept(name: str) -> bool:
  """Returns whether its synthetic images are those that the filter kept."""
  return find(name) is not None and synthetic(name).kept


def without_filter(name: str) -> str:
  """Returns the regime that differs from the filtered regime `name` in nothing but the filter."""
  return name.replace('_kept', '')


def count(name: str) -> int | None:
  """Returns how many synthetic images its name asks for, None if it asks for rounds or for none."""
  return synthetic(name).count if find(name) else None


def use(name: str) -> str | None:
  """Returns one of `USES`; None for real images alone and for unknown names."""
  regime = find(name)
  if regime is None or not (synthetic(name).rounds or count(name)):
    return None
  return 'synthetic' if not regime.real else 'then_real' if regime.start else 'plus_real'


def images(name: str, sizes: Mapping[int, int]) -> int | None:
  """Returns how many synthetic images a classifier sees in regime `name`.

  Args:
    name: of a regime.
    sizes: number of images of each round.

  Returns:
    Their number; None if it is unknown: because the name or a round is, or because a filter has chosen the images.
  """
  if find(name) is None or is_kept(name):
    return None
  regime = synthetic(name)
  if regime.count:
    return regime.count
  return sum(sizes[r] for r in regime.rounds) if all(r in sizes for r in regime.rounds) else None


# MARK: How long a run trains


def epoch_steps(images: int, batch_size: int, steps_per_call: int) -> int:
  """Returns the optimiser steps of a pass over so many images: the nearest number of whole dispatches, at least one."""
  return max(1, round(images / (batch_size * steps_per_call))) * steps_per_call


def control_epoch_steps(
  rounds: int,
  round_images: int,
  *,
  epochs: int,
  pretrain_epochs: int,
  batch_size: int,
  steps_per_call: int,
) -> int:
  """Returns the optimiser steps of an epoch of `CONTROL`.

  All its epochs together take as many steps as the pretraining that it controls, rounded up to whole dispatches. There
  are as many of them as of other trainings on real images, so that the best epoch is chosen among equally many.

  Args:
    rounds: of the run; the pretraining is on the first two, or on the only one.
    round_images: synthetic images of each round.
    epochs, pretrain_epochs, batch_size, steps_per_call: as in `config.classify`.
  """
  used = min(rounds, len(REGIMES[_CONTROLLED].rounds))
  steps = (pretrain_epochs or epochs) * epoch_steps(used * round_images, batch_size, steps_per_call)
  return -(-steps // (epochs * steps_per_call)) * steps_per_call


# MARK: Which regimes a run trains


def with_starts(names: Iterable[str]) -> list[str]:
  """Adds the regimes that others start from; returns all, each after the one it starts from."""
  wanted = dict.fromkeys(names)
  wanted |= dict.fromkeys(start for name in wanted if (start := get(name).start))
  known = list(REGIMES)
  return sorted(
    wanted, key=lambda name: (get(name).start is not None, known.index(name) if name in known else len(known))
  )


def of_model(
  model: str, names: Iterable[str], curve: Iterable[int] = (), curve_models: Sequence[str] = ()
) -> list[str]:
  """Returns the regimes that `model` is trained in, each after the one it starts from.

  Args:
    model: a classifier.
    names: the regimes of all models.
    curve: numbers of synthetic images; each adds a regime on them alone and one fine-tuned on real images.
    curve_models: the models that get those of `curve`; empty = all.
  """
  counted = [f'synth_{number}{use}' for number in curve for use in ('', '_then_real')]
  return with_starts([*names, *(counted if not curve_models or model in curve_models else ())])


def rounds_needed(names: Iterable[str], rounds: int) -> int:
  """Returns how many of the `rounds` synthetic rounds of a run these regimes use."""
  used = [synthetic(name) for name in names]
  return max((rounds if regime.count else max(regime.rounds, default=0) for regime in used), default=0)


def check(config: ml_collections.ConfigDict) -> None:
  """Refuses settings of `config.classify` that cannot run.

  Raises:
    UserError: names the key, its value, and what it may be.
  """
  classify = config.classify
  known = tuple(classify.model_args)
  for model in classify.models:
    if model not in known:
      raise UserError(f'config.classify.models: no classifier named {model!r}; there are: {", ".join(known)}')
  for regime in classify.regimes:
    try:
      get(regime)
    except KeyError:
      raise UserError(
        f'config.classify.regimes: no regime named {regime!r}; there are: {", ".join(REGIMES)}, {CONTROL}, synth_<number> and '
        'synth_r1_kept, synth_r12_kept, the last three also with _then_real or _plus_real'
      ) from None
  for count in classify.curve:
    if not isinstance(count, int) or count < 1:
      raise UserError(f'config.classify.curve: {count!r} must be a number of synthetic images, at least 1')
  for model in classify.curve_models:
    if model not in classify.models:
      raise UserError(f'config.classify.curve_models: {model!r} is not one of config.classify.models')
  if (needed := rounds_needed(classify.regimes, config.sample.rounds)) > config.sample.rounds:
    raise UserError(f'config.sample.rounds={config.sample.rounds}: config.classify.regimes needs {needed}')
  size, args = config.data.image_size, classify.model_args.vit_b_32
  if 'vit_b_32' in classify.models and size % args.get('patch_size', 32):
    raise UserError(
      f'config.data.image_size={size}: ViT needs a multiple of its patch size {args.get("patch_size", 32)}; set '
      'config.classify.model_args.vit_b_32.patch_size'
    )
