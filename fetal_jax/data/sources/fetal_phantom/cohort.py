"""Who is scanned, with what, and which planes are kept: the table behind the drawings, without a pixel.

The numbers are those of FETAL_PLANES_DB's public metadata (Burgos-Artizzu et al., Scientific Reports 10,
10200, 2020). Everything is a function of (seed, patient) or (seed, image), so a larger set begins with the
smaller one.
"""

import dataclasses
import heapq

import numpy as np

CLASS_NAMES = ('abdomen', 'brain', 'femur', 'thorax', 'cervix', 'other')
MACHINES = ('Voluson E6', 'Aloka', 'Voluson S10', 'Other')
# Images of each class (rows, in the order of CLASS_NAMES) by each machine (columns, MACHINES).
IMAGES_BY_MACHINE = np.array(
  [
    [366, 212, 98, 35],
    [2064, 640, 261, 127],
    [623, 294, 74, 49],
    [1324, 291, 74, 29],
    [897, 610, 33, 86],
    [588, 3067, 542, 16],
  ]
)
BRAIN_PLANES = {'Trans-thalamic': 1638, 'Trans-cerebellum': 714, 'Trans-ventricular': 597, 'Other': 143}
OPERATORS = {'Op. 1': 2792, 'Op. 2': 2435, 'Op. 3': 3560, 'Other': 3613}
IMAGES_PER_PATIENT = 12_400 / 1_792
TRAIN_SHARE = 7_129 / 12_400  # of the official split, which keeps nearly all of the Voluson S10 for the test
FIRST_OF_EACH = 4  # images of every class that a set begins with, so that small sets have them all

# What a random stream is for: the second number of its seed.
PATIENT, PLANE, COUNTS = 1, 2, 3


@dataclasses.dataclass(frozen=True)
class Patient:
  """What the images of one patient have in common. Decibels are relative, lengths in cm."""

  number: int
  machine: str
  operator: str
  official_train: bool
  gain: float  # dB
  dynamic_range: float  # dB added to that of the machine
  attenuation: float  # dB/cm that the time gain compensation leaves over
  echogenicity: float  # dB, of soft tissue
  contrast: float  # factor on differences of level between tissues
  haze: float  # dB, reverberation near the probe
  noise: float  # dB, electronic noise
  contact: float  # dB by which beams differ, where the probe touches badly
  growth: float  # 0 (18 weeks) ... 1 (40 weeks)
  lie: float  # radians, orientation of the fetus
  fill: float  # share of the field of view that the plane's object takes
  probe: float  # lateral offset of the object, share of the field
  anterior_placenta: bool
  other_kind: float  # 0 ... 1, which kind of 'other' plane this visit is about


@dataclasses.dataclass(frozen=True)
class Plane:
  """One image to be drawn: image `index` of the set."""

  index: int
  name: str
  label: int
  brain_plane: str
  patient: Patient


def draw_patient(seed: int, number: int) -> Patient:
  """Draws the traits of patient `number`, a function of (seed, number) alone."""
  rng = np.random.default_rng([seed, PATIENT, number])
  machine = rng.choice(len(MACHINES), p=IMAGES_BY_MACHINE.sum(0) / IMAGES_BY_MACHINE.sum())
  # A golden-ratio sequence keeps the share of train patients steady in small sets too.
  position = (number * 0.6180339887 + np.random.default_rng(seed).random()) % 1
  others = 1 - IMAGES_BY_MACHINE[:, 2].sum() / IMAGES_BY_MACHINE.sum()
  return Patient(
    number=number,
    machine=MACHINES[machine],
    operator=str(rng.choice(list(OPERATORS), p=np.array(list(OPERATORS.values())) / sum(OPERATORS.values()))),
    official_train=bool(MACHINES[machine] != 'Voluson S10' and position < TRAIN_SHARE / others),
    gain=rng.normal(0, 3.5),
    dynamic_range=rng.normal(0, 4),
    attenuation=rng.normal(0.5, 0.5),
    echogenicity=rng.normal(0, 2.5),
    contrast=rng.uniform(0.7, 1.1),
    haze=rng.uniform(-34, -16),
    noise=rng.uniform(-68, -52),
    contact=rng.uniform(1, 10),
    growth=rng.beta(1.6, 2.0),
    lie=rng.uniform(-np.pi, np.pi),
    fill=rng.uniform(0.65, 1.0),
    probe=rng.normal(0, 0.05),
    anterior_placenta=bool(rng.random() < 0.5),
    other_kind=rng.random(),
  )


def planes_of_patient(seed: int, patient: Patient) -> np.ndarray:
  """Draws how many planes of each class [classes] are kept of a patient: few of most, dozens of some."""
  rng = np.random.default_rng([seed, COUNTS, patient.number])
  by_machine = IMAGES_BY_MACHINE[:, MACHINES.index(patient.machine)]
  expected = IMAGES_PER_PATIENT * by_machine / by_machine.sum()
  visit = rng.gamma(1.2, 1 / 1.2)
  interest = rng.gamma(0.6, 1 / 0.6, len(CLASS_NAMES))
  return rng.poisson(0.9 * expected * visit * interest)


def labels_in_order(images: int) -> np.ndarray:
  """Labels [images] whose first n, for every n, have the class shares of the real data.

  Sainte-Laguë's method: the next image goes to the class with the largest total / (2 count + 1). It rounds
  like the method of largest remainders but never takes an image away as n grows: label k does not depend on
  `images`. The first ones are `FIRST_OF_EACH` of every class.
  """
  totals = IMAGES_BY_MACHINE.sum(1)
  labels = list(range(len(totals))) * FIRST_OF_EACH
  queue = [(-total / (2 * FIRST_OF_EACH + 1), label) for label, total in enumerate(totals)]
  heapq.heapify(queue)
  counts = np.full(len(totals), FIRST_OF_EACH)
  while len(labels) < images:
    _, label = heapq.heappop(queue)
    labels.append(label)
    counts[label] += 1
    heapq.heappush(queue, (-totals[label] / (2 * counts[label] + 1), label))
  return np.array(labels[:images], np.int32)


def plan(images: int, seed: int = 0) -> list[Plane]:
  """Returns the first `images` planes of the set `seed`, in order.

  Image j of a class belongs to the patient with whom the number of planes of that class, counted over the
  patients in order, passes j: classes and patients are interleaved, and plane k is the same in every set that
  has it.
  """
  patients: list[Patient] = []
  seen = np.zeros(len(CLASS_NAMES), np.int64)
  labels = labels_in_order(images)
  needed = np.bincount(labels, minlength=len(CLASS_NAMES))
  rows = []
  total = np.zeros(len(CLASS_NAMES), np.int64)
  while (total < needed).any():
    patients.append(draw_patient(seed, len(patients) + 1))
    total = total + planes_of_patient(seed, patients[-1])
    rows.append(total)
  ends = np.array(rows)  # [patients, classes]: planes up to and with each patient

  planes = []
  for index, label in enumerate(labels):
    row = int(np.searchsorted(ends[:, label], seen[label], side='right'))
    patient = patients[row]
    before = ends[row - 1, label] if row else 0
    within = seen[label] - before + 1
    seen[label] += 1
    brain_plane = ''
    if CLASS_NAMES[label] == 'brain':
      rng = np.random.default_rng([seed, PLANE, index])
      shares = np.array(list(BRAIN_PLANES.values())) / sum(BRAIN_PLANES.values())
      brain_plane = str(rng.choice(list(BRAIN_PLANES), p=shares))
    name = f'Phantom{patient.number:05d}_{CLASS_NAMES[label]}_{within}'
    planes.append(Plane(index, name, int(label), brain_plane, patient))
  return planes
