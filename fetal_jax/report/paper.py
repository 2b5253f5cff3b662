"""The paper's figures, as data: what a report's tables put beside a run's own.

Tian et al., "Enhancing Fetal Plane Classification Accuracy with Data Augmentation Using Diffusion Models",
arXiv:2501.15248. Counts are images, accuracies percent. A figure that is not here is not known to this
project and is shown as a dash: none is inferred.
"""

import dataclasses

CITATION = (
  'Tian, Ucurum, Han, Young, Chatwin, Birch: Enhancing Fetal Plane Classification Accuracy with Data '
  'Augmentation Using Diffusion Models. arXiv:2501.15248, 2025.'
)

# Table 1: (train, test) images a class.
TABLE_1 = {
  'abdomen': (569, 142),
  'brain': (2474, 618),
  'femur': (833, 207),
  'thorax': (1375, 343),
  'cervix': (1301, 325),
  'other': (3371, 842),
}

# Table 2: synthetic images a class in each of two rounds.
TABLE_2_PER_CLASS = 5000
TABLE_2_ROUNDS = 2

# The paper's own words for the regimes, in the order of its tables; the keys are this project's.
REGIMES = {
  'real': 'real images',
  'synth_r1': '30k synthetic',
  'synth_r1_then_real': '30k pretraining + fine-tuning',
  'synth_r1_plus_real': '30k mixed with real',
  'synth_r12': '60k synthetic',
  'synth_r12_then_real': '60k pretraining + fine-tuning',
}


@dataclasses.dataclass(frozen=True)
class Model:
  """A classifier of the paper: its table, its test accuracies by regime, and what is known by class.

  Attributes:
    title: its name in the paper.
    table: the number of its table.
    accuracy: percent of the test images, by regime key; a regime that its table lacks is absent.
    recall: percent by class, by regime key; only what is known.
    note: what else is known and fits no cell.
  """

  title: str
  table: int
  accuracy: dict[str, float]
  recall: dict[str, dict[str, float]] = dataclasses.field(default_factory=dict)
  note: str = ''


def _accuracy(*values: float | None) -> dict[str, float]:
  return {regime: value for regime, value in zip(REGIMES, values, strict=True) if value is not None}


_SIZE = 'The paper does not say which size of MedMamba it used.'
_MEDMAMBA = _accuracy(91.6, 84.1, 92.1, None, 90.6, 92.4)

# In the order of the paper's text.
MODELS = {
  'vit_b_32': Model(
    'ViT-B/32',
    3,
    _accuracy(75.5, 83.6, 89.6, 88.3, 88.4, 90.8),
    recall={'real': {'abdomen': 30.28, 'femur': 44.93}},
    note='The paper reports that with synthetic data the recall of abdomen rose to 74.65 % and of femur to 81.64 %.',
  ),
  'swin_t': Model('Swin-T', 4, _accuracy(89.9, 84.3, 91.5, 91.6, 89.5, 93.1)),
  'resnet50': Model('ResNet50', 5, _accuracy(92.0, 86.1, 92.5, None, 90.4, 93.2)),
  'densenet169': Model('DenseNet169', 6, _accuracy(92.0, 85.7, 92.7, None, 91.7, 92.8)),
  'medmamba_t': Model('MedMamba-T', 7, _MEDMAMBA, note=_SIZE),
  'medmamba_s': Model('MedMamba-S', 7, _MEDMAMBA, note=_SIZE),
  'medmamba_b': Model('MedMamba-B', 7, _MEDMAMBA, note=_SIZE),
}

NUMBERING = (
  'Tables 3 and 4 are ViT-B/32 and Swin-T in the paper, the only ones with a row for real images mixed with '
  'synthetic ones; the numbers 5 to 7 follow the order of its text and may differ from its own.'
)

# What the paper leaves open, so that nobody takes an equal number for an equal experiment.
OPEN = (
  'The paper does not state the rule of its split, whether patients were kept apart, the width, depth, steps, '
  'guidance scale, batch size or iterations of its diffusion model, or whether its classifiers started from '
  'ImageNet weights. Its accuracies are the best on the test set during training.'
)
