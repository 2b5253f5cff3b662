"""The quality of the synthetic images: the rules by which figures become words.

Three questions, each with a rule of its own; none is answered by a FID alone, which falls with the number of images and may
be better for cartoons than for planes.

- How near? KID of the synthetic images beside that of real training images (the floor) and of the nearest set that is no
  ultrasound (the ceiling: drawn planes where they suit the data, else noise). A difference counts if it is larger
  than the larger of the two standard deviations over subsets.
- Can they be told from real ones? Yes, if a two-sample test's interval lies above 50 % and above that of its control.
- Which classes fail? Those that the judge knows on real images (recall of at least 50 %) and finds in fewer than half of the
  synthetic ones. Where its own recall is lower, or there are fewer than ten images, the class cannot be judged.
"""

import dataclasses
import enum
from collections.abc import Sequence

from fetal_jax.evaluate.results import (
  Agreement,
  Evaluation,
  Fidelity,
  FidelityScores,
  JudgeRecall,
  TwoSample,
  TwoSampleScore,
)

KNOWN = 0.5  # recall of the judge on real images from which on it may judge a class
FOUND = 0.5  # of the synthetic images of a class; below, the class fails
FEWEST = 10  # images of a class, real and synthetic
CHANCE = 0.5


class Nearness(enum.Enum):
  """How near the synthetic images are to real test images, in words that may follow "they are"."""

  AS_REAL = 'as near to real test images as real training images are'
  NEARER = 'nearer to real test images than the ceiling'
  NOT_NEARER = 'not nearer to real test images than the ceiling'
  UNKNOWN = 'of unknown distance'


class Apart(enum.Enum):
  """Whether synthetic images can be told from real ones."""

  YES = 'told apart'
  NO = 'not told apart'
  UNKNOWN = 'too few images to say'


class Word(enum.Enum):
  """The verdict in a few words."""

  LIKE_REAL = 'no difference from real images found'
  BETWEEN = 'better than the ceiling, but not like real images'
  CLOSE = 'close to real images, but told from them'
  POOR = 'no better than the ceiling'
  UNKNOWN = 'cannot be said'


@dataclasses.dataclass(frozen=True)
class Quality:
  """The verdict on the synthetic images and what it rests on.

  Attributes:
    word: the verdict.
    nearness: by KID.
    drawn: whether the ceiling is of drawn planes; else of noise.
    apart: by the two-sample tests.
    test: the test that tells best, None where none could be done.
    fail: classes in which the images fail.
    not_judged: classes that cannot be judged.
  """

  word: Word
  nearness: Nearness
  drawn: bool
  apart: Apart
  test: TwoSample | None
  fail: tuple[str, ...]
  not_judged: tuple[str, ...]


def decide(evaluation: Evaluation) -> Quality:
  """Decides by the rules of this module."""
  nearness, apart = how_near(evaluation.fidelity), told_apart(evaluation.two_sample)
  fail, not_judged = classes(evaluation.agreement, evaluation.judge_recall)
  return Quality(
    word=_word(nearness, apart, fail),
    nearness=nearness,
    drawn=ceiling(evaluation.fidelity)[1],
    apart=apart,
    test=_best(evaluation.two_sample),
    fail=fail,
    not_judged=not_judged,
  )


def _word(nearness: Nearness, apart: Apart, fail: Sequence[str]) -> Word:
  if nearness is Nearness.UNKNOWN:
    return Word.UNKNOWN
  if nearness is Nearness.NOT_NEARER:
    return Word.POOR
  if nearness is Nearness.NEARER or fail:
    return Word.BETWEEN
  return {Apart.YES: Word.CLOSE, Apart.NO: Word.LIKE_REAL, Apart.UNKNOWN: Word.UNKNOWN}[apart]


def ceiling(fidelity: Fidelity) -> tuple[FidelityScores, bool]:
  """Returns the scores of the nearest set that is no ultrasound, and whether it is that of drawn planes."""
  noise, drawn = fidelity.noise.overall, fidelity.phantom.overall if fidelity.phantom else None
  if drawn is None or drawn.kid is None or (noise.kid is not None and noise.kid < drawn.kid):
    return noise, False
  return drawn, True


def how_near(fidelity: Fidelity) -> Nearness:
  """Compares the KID of the synthetic images with floor and ceiling."""
  ours, floor, top = fidelity.synthetic.overall, fidelity.real_train.overall, ceiling(fidelity)[0]
  if ours.kid is None or floor.kid is None or top.kid is None:
    return Nearness.UNKNOWN
  if ours.kid >= top.kid - _scatter(ours, top):
    return Nearness.NOT_NEARER
  return Nearness.AS_REAL if ours.kid <= floor.kid + _scatter(ours, floor) else Nearness.NEARER


def _scatter(*both: FidelityScores) -> float:
  return max(one.kid_sd or 0.0 for one in both)


def told_apart(tests: Sequence[TwoSample]) -> Apart:
  """Returns whether any of the tests tells synthetic images from real ones better than real ones from real ones."""
  if any(_tells(one.synthetic, one.control) for one in tests):
    return Apart.YES
  return Apart.NO if any(one.synthetic.accuracy is not None for one in tests) else Apart.UNKNOWN


def _tells(synthetic: TwoSampleScore, control: TwoSampleScore) -> bool:
  return synthetic.low is not None and synthetic.low > max(CHANCE, control.high or CHANCE)


def _best(tests: Sequence[TwoSample]) -> TwoSample | None:
  """Returns the test with the highest lower end, among those that tell if any does."""
  done = [one for one in tests if one.synthetic.low is not None]
  return max(
    done, key=lambda one: (_tells(one.synthetic, one.control), one.synthetic.low or 0.0), default=None
  )


def classes(agreement: Agreement, recall: JudgeRecall) -> tuple[tuple[str, ...], tuple[str, ...]]:
  """Returns the classes in which the images fail, and those that the judge cannot judge."""
  fail, not_judged = [], []
  for (name, found), row in zip(agreement.per_class.items(), agreement.confusion, strict=True):
    known = recall.per_class[name]
    if known is None or known < KNOWN or recall.counts[name] < FEWEST or sum(row) < FEWEST:
      not_judged.append(name)
    elif found is not None and found < FOUND:
      fail.append(name)
  return tuple(fail), tuple(not_judged)
