"""Names and order of models and regimes on the page."""

from collections.abc import Sequence

from fetal_jax.data.rounds import Manifest
from fetal_jax.report import paper
from fetal_jax.train import regimes as regimes_lib
from fetal_jax.train.regimes import REGIMES


def model_title(model: str) -> str:
  """Returns the title of a model (a key of `models.CLASSIFIERS`), the paper's where it has one."""
  return paper.MODELS[model].title if model in paper.MODELS else model


def regime_title(regime: str, rounds: Sequence[Manifest]) -> str:
  """Returns the title of a regime, with the number of images that this run's rounds have."""
  found = regimes_lib.find(regime)
  if found is None:
    return regime
  sizes = {r.round: sum(r.counts.values()) for r in rounds}
  r1 = f'{sizes[1]:,}' if 1 in sizes else 'round 1'
  r12 = f'{sizes[1] + sizes[2]:,}' if 1 in sizes and 2 in sizes else 'rounds 1 + 2'
  return found.title.format(r1=r1, r12=r12)


def order(model: str, regime: str) -> tuple[int, str, int, int, str]:
  """Returns the place of a model and a regime in the paper's order.

  Others come last, by name, and regimes by their number of images.
  """
  models, regimes = list(paper.MODELS), list(REGIMES)
  return (
    models.index(model) if model in models else len(models),
    model,
    regimes.index(regime) if regime in regimes else len(regimes),
    regimes_lib.count(regime) or 0,
    regime,
  )


def lower_first(text: str) -> str:
  """Returns a title as it stands within a sentence."""
  return text[0].lower() + text[1:]
