"""Which comparison a regime belongs to: the main regimes, the curve over numbers of images, or the filter.

The main regimes are the paper's, and those whose name is unknown to this project.
"""

from collections.abc import Mapping

from fetal_jax.train import regimes
from fetal_jax.train.regimes import Regime

# How a regime uses its synthetic images.
USES = ('synthetic', 'then_real', 'plus_real')


def find(name: str) -> Regime | None:
  """Returns the regime of a name, None if there is none."""
  try:
    return regimes.get(name)
  except KeyError:
    return None


def is_main(name: str) -> bool:
  """Returns whether a regime is a main regime, which the tables of all models show."""
  return find(name) is None or not (is_kept(name) or count(name))


def is_kept(name: str) -> bool:
  """Returns whether a regime's synthetic images are those that the filter kept."""
  return find(name) is not None and regimes.synthetic(name).kept


def without_filter(name: str) -> str:
  """Returns the regime that differs from the filtered regime `name` in nothing but the filter."""
  return name.replace('_kept', '')


def count(name: str) -> int | None:
  """Returns how many synthetic images the name asks for, None if it asks for rounds or for none."""
  return regimes.synthetic(name).count if find(name) else None


def use(name: str) -> str | None:
  """Returns how a regime uses its synthetic images, one of `USES`; None for real images alone and for unknown names."""
  regime = find(name)
  if regime is None or not (regimes.synthetic(name).rounds or count(name)):
    return None
  return 'synthetic' if not regime.real else 'then_real' if regime.start else 'plus_real'


def images(name: str, sizes: Mapping[int, int]) -> int | None:
  """Counts the synthetic images that regime `name` is trained on.

  Args:
    name: of a regime.
    sizes: images of each round.

  Returns:
    Their number; None if it cannot be told: the name or a round is unknown, or a filter has chosen them.
  """
  if find(name) is None or is_kept(name):
    return None
  regime = regimes.synthetic(name)
  if regime.count:
    return regime.count
  return sum(sizes[r] for r in regime.rounds) if all(r in sizes for r in regime.rounds) else None
