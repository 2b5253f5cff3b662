"""The six training regimes of the paper, as data."""

import dataclasses
from collections.abc import Iterable

import ml_collections

from fetal_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Regime:
  """What a classifier is trained on, and what it starts from.

  Attributes:
    title: what tables call it; `{r1}` and `{r12}` stand for the number of synthetic images.
    rounds: the rounds of synthetic images in its training set.
    real: whether the real training images are in it.
    start: the regime whose selected weights it starts from (shared, never trained twice), or None.
  """

  title: str
  rounds: tuple[int, ...] = ()
  real: bool = False
  start: str | None = None


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


def with_starts(names: Iterable[str]) -> list[str]:
  """The regimes to train, in an order in which each comes after the one it starts from."""
  wanted = set(names)
  wanted |= {start for name in wanted if (start := REGIMES[name].start)}
  ordered: list[str] = []
  for name in sorted(wanted, key=lambda name: (REGIMES[name].start is not None, list(REGIMES).index(name))):
    ordered.append(name)
  return ordered


def rounds_needed(names: Iterable[str]) -> int:
  """The number of synthetic rounds that these regimes use."""
  return max((r for name in with_starts(names) for r in REGIMES[name].rounds), default=0)


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
    if regime not in REGIMES:
      raise UserError(f'config.classify.regimes: no regime named {regime!r}; there are: {", ".join(REGIMES)}')
  if rounds_needed(classify.regimes) > config.sample.rounds:
    raise UserError(
      f'config.sample.rounds={config.sample.rounds}: config.classify.regimes needs {rounds_needed(classify.regimes)}'
    )
  size, args = config.data.image_size, classify.model_args.vit_b_32
  if 'vit_b_32' in classify.models and size % args.get('patch_size', 32):
    raise UserError(
      f'config.data.image_size={size}: ViT needs a multiple of its patch size {args.get("patch_size", 32)}; set '
      'config.classify.model_args.vit_b_32.patch_size'
    )
