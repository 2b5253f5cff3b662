"""Records of a run, for tests of the report that need no workdir."""

from fetal_jax.evaluate.comparisons import Comparisons, PairedDifference
from fetal_jax.evaluate.results import (
  Agreement,
  CopiesAudit,
  Duplicates,
  Evaluation,
  Fidelity,
  FidelityScores,
  FidelitySet,
  JudgeRecall,
  Leakage,
  Near,
  SpaceAudit,
)
from fetal_jax.evaluate.scores import Bin, ClassScores, Scores
from fetal_jax.report.classifier_runs import ClassifierRun
from fetal_jax.report.run import Run

_SCORES = FidelityScores(
  n_real=60, n_fake=60, fid=1.0, kid=0.1, kid_sd=0.01, kid_subset_size=20, precision=0.5, recall=0.5, density=0.5,
  coverage=0.5, notes={},
)  # fmt: skip
_SET = FidelitySet(overall=_SCORES, per_class=[])


def make(**known) -> Run:
  """Returns a run of which only `known` is known."""
  nothing = {
    'name': 'fake', 'config': {}, 'versions': {}, 'git_commit': None, 'stages': {}, 'data': None, 'rounds': [],
    'diffusion': None, 'runs': [], 'left_out': [], 'curve': None, 'filter': None, 'evaluation': None, 'sweep': None, 'recommended': None,
    'missing': [],
    'comparisons': comparisons(),
  }  # fmt: skip
  return Run(**(nothing | known))


def comparisons(planned=None, control=None, models=None, groups=None) -> Comparisons:
  return Comparisons(planned=planned, control=control, models=models or {}, groups=groups or {})


def difference(
  value, low, high, *, baseline='real', regime='synth_r12_then_real', models=('resnet50', 'vit_b_32'), seeds=(0, 1, 2),
  why='',
) -> PairedDifference:  # fmt: skip
  """Returns a paired difference on 400 images of 90 patients, the same for every model."""
  return PairedDifference(
    baseline=baseline, regime=regime, models=dict.fromkeys(models, value), seeds=list(seeds), images=400, patients=90,
    metric='accuracy', value=value, low=low, high=high, why=why,
  )  # fmt: skip


def classifier(regime, *, model='a', seed=0, **known) -> ClassifierRun:
  """Returns a run of a classifier of which only `known` is known."""
  return ClassifierRun(**{'model': model, 'regime': regime, 'seed': seed, 'protocol': 'honest', **known})


def near(share, *, copied) -> Near:
  return Near(rate=0.01, threshold=0.4, count=3, share=share, interval=(0.03, 0.08), p=0.02, copied=copied)


def duplicates(count) -> Duplicates:
  return Duplicates(count=count, indices=list(range(count)), threshold=0.1, dimension=9.0, level=0.01)


def space(name='pixel', **known) -> SpaceAudit:
  """Returns a search for copies in one space of which only `known` is known."""
  nothing = {
    'description': 'a description', 'unit': 'grey levels', 'n_synthetic': 300, 'n_train': 200, 'n_heldout': 40,
    'median_heldout': None, 'ratio': None, 'histogram': None, 'authpct': None, 'authpct_heldout': None, 'c_t': None,
    'nearer': None, 'near': None, 'duplicates': None, 'pairs': [], 'notes': {},
  }  # fmt: skip
  return SpaceAudit(name=name, **(nothing | known))


def evaluation(**spaces: SpaceAudit | None) -> Evaluation:
  """Returns an evaluation with these spaces of the search for copies; what else it holds is made up."""
  found = [space.near.copied for space in spaces.values() if space and space.near]
  copies = CopiesAudit(
    n_synthetic=300, n_train=200, n_heldout=40, n_judged=300, copied=any(found) if found else None,
    spaces={'pixel': None, 'feature': None} | spaces, notes={},
  )  # fmt: skip
  return Evaluation(
    inputs='0123',
    rounds={},
    judge='a judge',
    encoder='an encoder',
    leakage=Leakage(
      split='paper', split_hash='0', trained_on='one side', shared_patients=1, test_patient_overlap=0.5
    ),
    agreement=Agreement(accuracy=0.5, per_class={'brain': 0.5}, confusion=[[1]]),
    judge_recall=JudgeRecall(images=40, accuracy=0.8, per_class={'brain': 0.8}, counts={'brain': 40}),
    two_sample=[],
    fidelity=Fidelity(
      n=60, reference=60, synthetic=_SET, real_train=_SET, synthetic_to_train=_SET, noise=_SET
    ),
    memorisation=copies,
  )


def scored(accuracy, *, n=100, names=('brain', 'heart')) -> Scores:
  """Returns the scores of `n` images; all rates are the accuracy, and the last class has no image."""
  rates = ('precision', 'recall', 'f1', 'auroc')
  *present, absent = names
  classes = [ClassScores(name=name, support=n, **dict.fromkeys(rates, accuracy)) for name in present]
  classes.append(ClassScores(name=absent, support=0, **dict.fromkeys(rates)))
  right = round(accuracy * n)
  return Scores(
    n=n, accuracy=accuracy, balanced_accuracy=accuracy, macro_f1=accuracy, auroc=0.9, brier=0.2, ece=0.05,
    per_class=classes, confusion=[[right, n - right], [0, 0]],
    reliability=[Bin(low=0.0, high=1.0, count=n, confidence=accuracy, accuracy=accuracy)],
  )  # fmt: skip
