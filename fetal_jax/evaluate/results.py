"""evaluate/results.json: what the evaluate stage found, as typed records.

Every record is a part of `Evaluation`. A figure that could not be computed is None; the `notes` beside it say why, by figure.
"""

import pathlib

import msgspec

from fetal_jax.runtime import records
from fetal_jax.runtime.files import PathLike

_REMEDY = 'delete it and run --stage=evaluate again'


class _Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
  """The base of all records of this file: unknown keys are refused."""


class Leakage(_Record, frozen=True):
  """Which split everything was trained on, and which patients are on both of its sides.

  Attributes:
    split: name of the split.
    split_hash: of its content.
    trained_on: a sentence: which images the generator and the judge have seen.
    shared_patients: number of patients on both sides.
    test_patient_overlap: share of the test images that show such a patient.
  """

  split: str
  split_hash: str
  trained_on: str
  shared_patients: int
  test_patient_overlap: float


class Agreement(_Record, frozen=True):
  """How often the judge sees the class that was asked for.

  Attributes:
    accuracy: the share of all synthetic images.
    per_class: the share by class name; None for a class without images.
    confusion: counts; rows: the class that was asked for, columns: the class that the judge sees.
  """

  accuracy: float
  per_class: dict[str, float | None]
  confusion: list[list[int]]


class JudgeRecall(_Record, frozen=True):
  """How often the judge is right on real test images that it has not seen: what its agreement is worth.

  Attributes:
    images: number of these test images.
    accuracy: the share that it takes for what they are.
    per_class: the same by class name, its recall; None for a class without images.
    counts: number of images by class name.
  """

  images: int
  accuracy: float
  per_class: dict[str, float | None]
  counts: dict[str, int]


class TwoSampleScore(_Record, frozen=True):
  """How often a small classifier tells images of two sets apart that it was not trained on.

  Attributes:
    images: number of images of each set.
    accuracy: balanced accuracy; 0.5 is chance. None where there are too few images.
    low, high: its 95 % interval; None without an accuracy.
    why: why there is none; '' if there is.
  """

  images: int
  accuracy: float | None = None
  low: float | None = None
  high: float | None = None
  why: str = ''


class TwoSample(_Record, frozen=True):
  """The classifier two-sample test in one space, see `evaluate.two_sample`.

  Attributes:
    space: `features` or `pixels`.
    classifier: which, in words.
    synthetic: real test images against synthetic ones.
    control: real test images against real training images.
  """

  space: str
  classifier: str
  synthetic: TwoSampleScore
  control: TwoSampleScore


class FidelityScores(_Record, frozen=True):
  """The fidelity of one set of images to another, see `evaluate.fidelity`.

  Attributes:
    n_real, n_fake: number of images of the reference and of the judged set.
    fid: Fréchet inception distance.
    kid, kid_sd, kid_subset_size: mean of the kernel inception distance over subsets, its standard deviation, images a subset.
    precision, recall, density, coverage: shares of neighbours.
    notes: {figure: why it is None, or what to keep in mind}.
  """

  n_real: int
  n_fake: int
  fid: float | None
  kid: float | None
  kid_sd: float | None
  kid_subset_size: int | None
  precision: float | None
  recall: float | None
  density: float | None
  coverage: float | None
  notes: dict[str, str]


class ClassFidelity(FidelityScores, frozen=True):
  """The same for the images of one class."""

  name: str


class FidelitySet(_Record, frozen=True):
  """The scores of one set of images: over all classes, and class by class."""

  overall: FidelityScores
  per_class: list[ClassFidelity]


class Fidelity(_Record, frozen=True):
  """How near the synthetic images are to real ones, beside sets that tell what a good and a bad figure is.

  Attributes:
    n: number of images of each judged set, of drawn planes fewer; all have the class shares of the test images.
    reference: number of test images.
    synthetic: synthetic images against the test images.
    real_train: real training images against the test images: the floor.
    synthetic_to_train: synthetic images against training images: too good where the generator copies.
    noise: noise against the test images: the ceiling.
    phantom: drawn planes against the test images; None where the data are drawn planes themselves, or not grey images of
      the same classes.
  """

  n: int
  reference: int
  synthetic: FidelitySet
  real_train: FidelitySet
  synthetic_to_train: FidelitySet
  noise: FidelitySet
  phantom: FidelitySet | None = None


class Near(_Record, frozen=True):
  """How many synthetic images are nearer to the training images than fresh real images are, see `copies.statistics`.

  Attributes:
    rate: the share that is expected of fresh real images.
    threshold: the distance below which an image is called near.
    count, share: of the synthetic images below it.
    interval: of the share, 95 %.
    p: probability of so many, if the synthetic images were fresh real ones.
    copied: whether both say that there are too many.
  """

  rate: float
  threshold: float
  count: int
  share: float
  interval: tuple[float, float]
  p: float
  copied: bool


class Duplicates(_Record, frozen=True):
  """Synthetic images so near to a training image that no fresh real image would come as near by chance.

  Attributes:
    count, indices: of these synthetic images.
    threshold: the distance below which an image is a duplicate.
    dimension: estimated number of dimensions that real images vary in.
    level: probability that one of as many fresh images would be below the threshold.
  """

  count: int
  indices: list[int]
  threshold: float
  dimension: float
  level: float


class Ratio(_Record, frozen=True):
  """Quantiles of the distance to the nearest training image, over the median of held-out images."""

  quantiles: list[float]
  synthetic: list[float]
  heldout: list[float]


class Histogram(_Record, frozen=True):
  """Counts of the same ratio; `edges` of the bins are one more than the counts."""

  edges: list[float]
  synthetic: list[int]
  heldout: list[int]


class Pair(_Record, frozen=True):
  """A synthetic image and its nearest training image.

  Attributes:
    synthetic, train: indices of both.
    flip, shift: what the training image goes through to look like the other; shift is [down, right] in pixels of 32 x 32.
    distance: between them.
    ratio: the distance over the median of held-out images; None without that.
    heldout_percentile: percentage of held-out images that are nearer to a training image; None without held-out images.
  """

  synthetic: int
  train: int
  flip: str
  shift: tuple[int, int]
  distance: float
  ratio: float | None
  heldout_percentile: float | None


class SpaceAudit(_Record, frozen=True):
  """The search for copies in one space; d is the distance of an image to its nearest training image.

  Attributes:
    name, description, unit: of the space and its distances.
    n_synthetic, n_train, n_heldout: number of images of each set.
    median_heldout: median d of the held-out images.
    ratio, histogram: d over that median.
    authpct, authpct_heldout: percentage of authentic images among the synthetic and the held-out ones.
    c_t: score of Meehan et al., below -2: systematically nearer.
    nearer: probability that a synthetic image is nearer than a held-out one.
    near: test of the share of near images.
    duplicates: single copies, among all synthetic images.
    pairs: the closest pairs, among all synthetic images, ascending.
    notes: {figure: why it is None}.
  """

  name: str
  description: str
  unit: str
  n_synthetic: int
  n_train: int
  n_heldout: int
  median_heldout: float | None
  ratio: Ratio | None
  histogram: Histogram | None
  authpct: float | None
  authpct_heldout: float | None
  c_t: float | None
  nearer: float | None
  near: Near | None
  duplicates: Duplicates | None
  pairs: list[Pair]
  notes: dict[str, str]


class CopiesAudit(_Record, frozen=True):
  """The search for copies of training images among the synthetic ones.

  Attributes:
    n_synthetic, n_train, n_heldout: number of images that were compared.
    n_judged: number of synthetic images that the shares are about.
    copied: whether one of the spaces shows copies; None: neither can tell.
    spaces: `pixel` and `feature`; None where a space was not examined.
    notes: {figure: what to keep in mind}.
    heldout_unseen: whether the held-out images show patients whom the generator has not seen.
  """

  n_synthetic: int
  n_train: int
  n_heldout: int
  n_judged: int
  copied: bool | None
  spaces: dict[str, SpaceAudit | None]
  notes: dict[str, str]
  heldout_unseen: bool = True


class Evaluation(_Record, frozen=True):
  """All that the evaluate stage found.

  Attributes:
    inputs: hash of the settings, the split, the rounds and the judge that it was made from.
    rounds: number of a round, as text -> its hash, of all that were judged.
    judge, encoder: a sentence on each.
    leakage, agreement, judge_recall, fidelity, memorisation: see there.
    two_sample: a test in each space.
  """

  inputs: str
  rounds: dict[str, str]
  judge: str
  encoder: str
  leakage: Leakage
  agreement: Agreement
  judge_recall: JudgeRecall
  fidelity: Fidelity
  two_sample: list[TwoSample]
  memorisation: CopiesAudit


def path(workdir: PathLike) -> pathlib.Path:
  """Returns where a run keeps its results."""
  return pathlib.Path(workdir) / 'evaluate' / 'results.json'


def write(workdir: PathLike, results: Evaluation) -> None:
  """Writes the results of a run, whole or not at all."""
  records.write(path(workdir), results)


def read(workdir: PathLike) -> Evaluation:
  """Reads the results of a run.

  Raises:
    FileNotFoundError: there are none.
    DamagedFile: the file is not what was written.
  """
  return records.read(path(workdir), Evaluation, remedy=_REMEDY)
