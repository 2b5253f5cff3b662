"""The evaluate stage: how near synthetic images are to real ones, and whether they are too near.

Fidelity and diversity against real test images, beside the same figures of real training images (the floor) and of
noise and drawn planes (the ceiling); whether a classifier tells them apart; copies, judged by what fresh real images do;
and who has seen what.
"""

import pathlib
from collections.abc import Sequence

import ml_collections
import numpy as np
from absl import logging
from jaxtyping import Int, UInt8

from fetal_jax import config as config_lib
from fetal_jax.data import prepared
from fetal_jax.data import rounds as rounds_lib
from fetal_jax.data.rounds import Round
from fetal_jax.evaluate import compared, fidelity, leakage, results, two_sample
from fetal_jax.evaluate import judge as judges
from fetal_jax.evaluate.compared import Compared, Sets
from fetal_jax.evaluate.copies import audit
from fetal_jax.evaluate.encoders import Encoder
from fetal_jax.evaluate.results import (
  Agreement,
  CopiesAudit,
  Evaluation,
  Fidelity,
  FidelitySet,
  JudgeRecall,
  TwoSample,
)
from fetal_jax.runtime import files
from fetal_jax.runtime.errors import UserError
from fetal_jax.train import judge_parts
from fetal_jax.train import results as train_results

# Held-out images of patients whom the generator has not seen: with fewer, 1 % of them cannot be told.
_ENOUGH_UNSEEN = 100

Images = UInt8[np.ndarray, 'n h w c']
Labels = Int[np.ndarray, ' n']


def run(config: ml_collections.ConfigDict, workdir: files.PathLike) -> bool:
  """Judges all finished synthetic rounds of a run together.

  Leaves in `evaluate/`: `results.json` (`results.Evaluation`), and `pairs_pixel.png` and `pairs_feature.png`, the
  closest pairs of synthetic and training images in both spaces.

  Returns:
    Whether there was anything to do.

  Raises:
    UserError: rounds or the judging classifier are missing, or something was trained on another split.
  """
  workdir, evaluate, model = pathlib.Path(workdir), config.evaluate, judge_parts.model_of(config)
  data, rounds = prepared.load(workdir), find_rounds(workdir)
  inputs = _inputs(config, workdir, data, rounds)
  if results.path(workdir).is_file() and results.read(workdir).inputs == inputs:
    logging.info('evaluate: done before.')
    return False
  if not judges.exists(workdir, model):
    logging.warning(
      'evaluate: left out, for there is no judge; run --stage=classify, which trains it '
      '(--config.classify.regimes=real is enough).'
    )
    return False

  judge = judges.load(workdir, model)
  encoder = judges.load_encoder(evaluate.encoder, judge)
  checked = leakage.check(data, rounds, judge)
  images, labels = load_images(rounds, *data.images.shape[2:])
  logging.info('evaluate: %d synthetic images, judged by %s in %s.', len(images), judge.model, encoder.name)
  judged = judge.probabilities(judge.encoder(images)).argmax(-1)
  sets = compared.choose(
    data,
    images,
    labels,
    judge,
    by_judge=encoder is judge.encoder,
    max_images=evaluate.max_images,
    seed=config.seed,
  )
  near, apart = compare_sets(sets, encoder, data.records.class_names, seed=config.seed)
  copies = find_copies(data, images, labels, encoder)
  found = Evaluation(
    inputs=inputs,
    rounds={str(one.number): one.hash for one in rounds},
    judge=judge.description,
    encoder=encoder.description,
    leakage=checked,
    agreement=agreement(labels, judged, data.records.class_names),
    judge_recall=judge_recall(data, judge),
    fidelity=near,
    two_sample=apart,
    memorisation=copies,
  )
  _draw_pairs(workdir, images, data.images[data.split.train], copies, config.report.show_real_images)
  results.write(workdir, found)
  _log(found)
  return True


def _inputs(
  config: ml_collections.ConfigDict,
  workdir: pathlib.Path,
  data: prepared.Prepared,
  rounds: Sequence[Round],
) -> str:
  """Hashes everything that decides the results."""
  return config_lib.config_hash(
    config.evaluate,
    config.report.show_real_images,
    data.info.split_hash,
    [one.hash for one in rounds],
    _judge_mark(config, workdir),
  )


def _judge_mark(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> str | None:
  """Returns what identifies the judge; None if there is none."""
  model = judge_parts.model_of(config)
  if model is None or not judges.exists(workdir, model):
    return None
  return train_results.read(judge_parts.folder_of(workdir, model)).predictions.sha256


def find_rounds(workdir: pathlib.Path) -> list[Round]:
  """Finds the finished rounds, in order.

  Raises:
    UserError: there are none.
  """
  found = rounds_lib.find(workdir)
  if not found:
    raise UserError(f'{workdir / "synthetic"}: no finished round to judge; run --stage=sample first')
  return found


def load_images(rounds: Sequence[Round], image_size: int, channels: int) -> tuple[Images, Labels]:
  """Reads the images and labels of the rounds, one after the other.

  Raises:
    UserError: a file of a round is not the one that was written.
  """
  images = np.concatenate([one.images(image_size, channels) for one in rounds])
  return images, np.concatenate([one.labels() for one in rounds])


def agreement(labels: Labels, judged: Labels, class_names: Sequence[str]) -> Agreement:
  """Counts how often the judge sees the class that was asked for, overall and by class, and what it sees instead."""
  confusion = np.zeros((len(class_names), len(class_names)), np.int64)
  np.add.at(confusion, (labels, judged), 1)
  return Agreement(
    accuracy=float((labels == judged).mean()),
    per_class={
      name: float(row[k] / row.sum()) if row.sum() else None
      for k, (name, row) in enumerate(zip(class_names, confusion, strict=True))
    },
    confusion=confusion.tolist(),
  )


def judge_recall(data: prepared.Prepared, judge: judges.Judge) -> JudgeRecall:
  """Asks the judge about real test images of patients whom it has not seen."""
  test = judge.parts.test
  labels = data.records.labels[test]
  judged = judge.probabilities(judge.encoder(data.images[test])).argmax(-1)
  counted = agreement(labels, judged, data.records.class_names)
  counts = {name: sum(row) for name, row in zip(data.records.class_names, counted.confusion, strict=True)}
  return JudgeRecall(images=len(test), accuracy=counted.accuracy, per_class=counted.per_class, counts=counts)


def compare_sets(
  sets: Sets, encoder: Encoder, class_names: Sequence[str], *, seed: int
) -> tuple[Fidelity, list[TwoSample]]:
  """Measures how near all sets are to the test images, and whether a classifier tells them apart.

  Args:
    sets: the images.
    encoder: makes the features that distances are measured in.
    class_names: the classes.
    seed: of the two-sample test.
  """
  test, train, synthetic = (encoder(one.images) for one in (sets.test, sets.train, sets.synthetic))

  def against_test(features: np.ndarray, of: Compared) -> FidelitySet:
    return fidelity.summarise(test, features, sets.test.labels, of.labels, class_names)

  near = Fidelity(
    n=len(synthetic),
    reference=len(test),
    synthetic=against_test(synthetic, sets.synthetic),
    real_train=against_test(train, sets.train),
    synthetic_to_train=fidelity.summarise(
      train, synthetic, sets.train.labels, sets.synthetic.labels, class_names
    ),
    noise=against_test(encoder(sets.noise.images), sets.noise),
    phantom=against_test(encoder(sets.phantom.images), sets.phantom) if sets.phantom else None,
  )
  real = (sets.test, sets.train, sets.synthetic)
  values = {
    'features': (test, train, synthetic),
    'pixels': tuple(two_sample.pixels(one.images) for one in real),
  }
  return near, [_tell_apart(space, values[space], real, seed) for space in two_sample.CLASSIFIERS]


def _tell_apart(space: str, values: Sequence[np.ndarray], sets: Sequence[Compared], seed: int) -> TwoSample:
  """Does the two-sample test in one space; values and sets are of test, training and synthetic images."""
  test, train, synthetic = (
    two_sample.Sample(seen, of.labels, of.groups) for seen, of in zip(values, sets, strict=True)
  )
  return TwoSample(
    space=space,
    classifier=two_sample.CLASSIFIERS[space][0],
    synthetic=two_sample.tell_apart(test, synthetic, space, seed=seed),
    control=two_sample.tell_apart(test, train, space, seed=seed),
  )


def find_copies(data: prepared.Prepared, images: Images, labels: Labels, encoder: Encoder) -> CopiesAudit:
  """Looks for copies of training images among the synthetic ones, in pixels and in features."""
  heldout, unseen = unseen_side(data)
  return audit.audit(
    images,
    data.images[data.split.train],
    data.images[heldout],
    encoder=encoder,
    synthetic_labels=labels,
    heldout_labels=data.records.labels[heldout],
    heldout_unseen=unseen,
  )


def unseen_side(data: prepared.Prepared) -> tuple[Int[np.ndarray, ' n'], bool]:
  """Chooses the held-out images: test images of patients whom the training side lacks, or all if these are too few.

  Returns:
    Their indices, and whether none of their patients is on the training side.
  """
  seen = np.isin(data.records.patients[data.split.test], data.records.patients[data.split.train_side])
  unseen = data.split.test[~seen]
  return (unseen, True) if len(unseen) >= _ENOUGH_UNSEEN or not seen.any() else (data.split.test, False)


def _draw_pairs(
  workdir: pathlib.Path, synthetic: Images, train: Images, copies: CopiesAudit, show_training: bool
) -> None:
  for name, space in copies.spaces.items():
    if space:
      picture = audit.draw_pairs(synthetic, train, space.pairs, show_training=show_training)
      with files.replacing(workdir / 'evaluate' / f'pairs_{name}.png') as temporary:
        picture.save(temporary, 'PNG')


def _log(found: Evaluation) -> None:
  synthetic, floor = found.fidelity.synthetic.overall, found.fidelity.real_train.overall
  logging.info(
    'evaluate: FID %s (real training images: %s), KID %s (%s), n %d; the judge agrees with %.1f %% of the labels.',
    *(_digits(value) for value in (synthetic.fid, floor.fid, synthetic.kid, floor.kid)),
    found.fidelity.n,
    100 * found.agreement.accuracy,
  )
  verdict = {True: 'yes', False: 'no', None: 'cannot be said'}[found.memorisation.copied]
  logging.info('evaluate: nearer to training images than fresh real images are: %s.', verdict)


def _digits(value: float | None) -> str:
  return 'unknown' if value is None else f'{value:.3g}'
