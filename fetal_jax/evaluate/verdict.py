"""The rules by which a comparison of two regimes becomes a word; docs/verdicts.md has them for readers.

*Helped*, *hurt* and *no difference shown* are said of a comparison that was fixed beforehand, by its 95 % interval, and
only where nothing is missing that they rest on: a control that took as many optimiser steps, a training on real images
alone that had converged and beats classifiers of raw pixels, known patients, and three seeds. Otherwise it *cannot be
said*, and the verdict names all that is missing.
"""

import dataclasses
import enum
from collections.abc import Mapping

FEWEST_SEEDS = 3
# Steps of the control for each of the regime; with more of them a loss may be that of shorter training.
MOST_STEPS = 1.1


class Word(enum.Enum):
  """The verdict in one word."""

  HELPED = 'helped'
  HURT = 'hurt'
  NO_DIFFERENCE = 'no difference shown'
  CANNOT_SAY = 'cannot be said'


class Lack(enum.Enum):
  """What a verdict would rest on and does not have; `{control}` stands for what the regime is compared with."""

  COMPARISON = 'nothing was compared'
  CONTROL = 'nothing took as many optimiser steps on real images alone'
  FEWER_STEPS = '{control} took fewer optimiser steps'
  MORE_STEPS = '{control} took more optimiser steps, which may be the cause'
  INTERVAL = 'the comparison has no interval'
  CURVE = 'the training on real images alone has too few epochs to tell whether it converged'
  CONVERGED = 'the accuracy of the training on real images alone was still rising at its end'
  NO_PIXELS = 'there is no classifier of raw pixels to compare with'
  PIXELS = 'the training on real images alone did not beat the best classifier of raw pixels'
  PATIENTS = 'the patients are unknown, so that nothing can be said of new ones'
  SEEDS = f'there are fewer than {FEWEST_SEEDS} seeds'


@dataclasses.dataclass(frozen=True)
class Evidence:
  """What is known of one model, or of all models together.

  Attributes:
    low, high: the ends of the 95 % interval of the change in test accuracy from the control; None without one.
    compared: whether there is a comparison at all.
    steps: optimiser steps of the control for each one of the regime, pretraining included; None without a control.
    converged: whether the training on real images alone had converged, see `convergence.judge`; None if unknown.
    beats_pixels: whether its test accuracy is above that of every classifier of raw pixels; None if unknown.
    patients_known: whether the patients of the test images are known.
    seeds: number of them in the comparison.
  """

  low: float | None
  high: float | None
  compared: bool
  steps: float | None
  converged: bool | None
  beats_pixels: bool | None
  patients_known: bool
  seeds: int


NOTHING = Evidence(
  low=None,
  high=None,
  compared=False,
  steps=None,
  converged=None,
  beats_pixels=None,
  patients_known=False,
  seeds=0,
)


@dataclasses.dataclass(frozen=True)
class Verdict:
  """A word, and what is missing for a better one; `lacks` is empty unless the word is `CANNOT_SAY`."""

  word: Word
  lacks: tuple[Lack, ...] = ()


def decide(evidence: Evidence) -> Verdict:
  """Decides by the rules of this module."""
  if lacks := _lacks(evidence):
    return Verdict(Word.CANNOT_SAY, lacks)
  if evidence.low is not None and evidence.low > 0:
    return Verdict(Word.HELPED)
  if evidence.high is not None and evidence.high < 0:
    return Verdict(Word.HURT)
  return Verdict(Word.NO_DIFFERENCE)


def _lacks(evidence: Evidence) -> tuple[Lack, ...]:
  if not evidence.compared:
    return (Lack.COMPARISON,)
  steps, loss = evidence.steps, evidence.high is not None and evidence.high < 0
  missing = {
    Lack.CONTROL: steps is None,
    Lack.FEWER_STEPS: steps is not None and steps < 1,
    Lack.MORE_STEPS: steps is not None and steps > MOST_STEPS and loss,
    Lack.INTERVAL: steps is not None and (evidence.low is None or evidence.high is None),
    Lack.CURVE: evidence.converged is None,
    Lack.CONVERGED: evidence.converged is False,
    Lack.NO_PIXELS: evidence.beats_pixels is None,
    Lack.PIXELS: evidence.beats_pixels is False,
    Lack.PATIENTS: not evidence.patients_known,
    Lack.SEEDS: evidence.seeds < FEWEST_SEEDS,
  }
  return tuple(lack for lack, is_missing in missing.items() if is_missing)


def of_all(models: Mapping[str, Evidence], low: float | None, high: float | None) -> Evidence:
  """Returns the evidence of all models together: what one of them lacks, all lack.

  Args:
    models: {model: its own}; may be empty.
    low, high: the interval of the mean over models.
  """
  if not models:
    return NOTHING
  each = list(models.values())
  return Evidence(
    low=low,
    high=high,
    compared=all(one.compared for one in each),
    steps=_nearest_to_fault([one.steps for one in each]),
    converged=_all([one.converged for one in each]),
    beats_pixels=_all([one.beats_pixels for one in each]),
    patients_known=all(one.patients_known for one in each),
    seeds=min(one.seeds for one in each),
  )


def _all(known: list[bool | None]) -> bool | None:
  """Returns False if one is, else None if one is unknown, else True."""
  return False if False in known else None if None in known else True


def _nearest_to_fault(steps: list[float | None]) -> float | None:
  """Returns the ratio of the model whose control is the worst: none, then the fewest steps, then the most."""
  known = [one for one in steps if one is not None]
  if len(known) < len(steps):
    return None
  return min(known) if min(known) < 1 else max(known)
