"""The evaluate stage: how near synthetic images are to real ones, and whether they are too near.

Fidelity and diversity against real test images, beside the same figures of real training images (the floor) and of
noise and drawn planes (the ceiling); copies, judged by what fresh real images do; and who has seen what.
"""

import pathlib
from collections.abc import Sequence

import ml_collections
import numpy as np
from absl import logging
from jaxtyping import Int, UInt8

from fetal_jax import config as config_lib
from fetal_jax.data import patients as patients_lib
from fetal_jax.data import prepared
from fetal_jax.data import rounds as rounds_lib
from fetal_jax.data.rounds import Round
from fetal_jax.evaluate import fidelity, leakage, pixel_baselines, results
from fetal_jax.evaluate import judge as judges
from fetal_jax.evaluate.copies import audit
from fetal_jax.evaluate.encoders import Encoder
from fetal_jax.evaluate.results import Agreement, CopiesAudit, Evaluation, Fidelity, FidelitySet
from fetal_jax.runtime import files
from fetal_jax.runtime.errors import UserError

# Held-out images of patients whom the generator has not seen: with fewer, 1 % of them cannot be told.
_ENOUGH_UNSEEN = 100
_PHANTOMS = 500

Images = UInt8[np.ndarray, 'n h w c']
Labels = Int[np.ndarray, ' n']


def run(config: ml_collections.ConfigDict, workdir: files.PathLike) -> bool:
  """Tells what classifiers of raw pixels reach, then judges all finished synthetic rounds of a run together.

  Leaves in `evaluate/`: `baselines.json` (`pixel_baselines.Baselines`), `results.json` (`results.Evaluation`), and
  `pairs_pixel.png` and `pairs_feature.png`, the closest pairs of synthetic and training images in both spaces.

  Returns:
    Whether there was anything to do.

  Raises:
    UserError: no data are prepared, or something was trained on another split.
  """
  has_baselines = pixel_baselines.ensure(config, workdir)
  return _judge_rounds(config, pathlib.Path(workdir)) or has_baselines


def _judge_rounds(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> bool:
  """Judges the synthetic rounds, if there are any; returns whether there was anything to do."""
  evaluate = config.evaluate
  data, rounds = prepared.load(workdir), rounds_lib.find(workdir)
  if not rounds:
    logging.warning('evaluate: no finished synthetic round to judge; run --stage=sample for one.')
    return False
  inputs = _inputs(config, workdir, data, rounds)
  if results.path(workdir).is_file() and results.read(workdir).inputs == inputs:
    logging.info('evaluate: done before.')
    return False
  if not judges.exists(workdir, evaluate.classifier):
    logging.warning(
      'evaluate: left out, for there is no classifier trained on real images to judge with; add real to '
      'config.classify.regimes and run --stage=classify.'
    )
    return False

  judge = judges.load(workdir, evaluate.classifier)
  encoder = judges.load_encoder(evaluate.encoder, judge)
  checked = leakage.check(data, rounds, judge)
  images, labels = load_images(rounds, *data.images.shape[2:])
  logging.info('evaluate: %d synthetic images, judged by %s in %s.', len(images), judge.model, encoder.name)
  judged = judge.probabilities(judge.encoder(images)).argmax(-1)
  near = measure_fidelity(data, images, labels, encoder, max_images=evaluate.max_images, seed=config.seed)
  copies = find_copies(data, images, labels, encoder)
  found = Evaluation(
    inputs=inputs,
    rounds={str(one.number): one.hash for one in rounds},
    judge=judge.description,
    encoder=encoder.description,
    leakage=checked,
    agreement=agreement(labels, judged, data.records.class_names),
    fidelity=near,
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
    sorted(str(path.parent.parent.name) for path in workdir.glob('classify/*/real/seed_0')),
  )


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


def measure_fidelity(
  data: prepared.Prepared, images: Images, labels: Labels, encoder: Encoder, *, max_images: int, seed: int
) -> Fidelity:
  """Measures the fidelity to the test side, of synthetic images, real training images, noise and drawn planes.

  All are judged with the same number of images, since a FID falls with it.

  Args:
    data: the prepared data.
    images, labels: the synthetic images and the classes that were asked for.
    encoder: makes the features that distances are measured in.
    max_images: at most so many images of each set.
    seed: of the choice of images, and of the noise.
  """
  names, split = data.records.class_names, data.split
  n = min(len(split.train), len(images), max_images)
  rng = np.random.default_rng(seed)
  chosen = np.sort(rng.choice(len(labels), n, replace=False))
  synthetic, synthetic_labels = np.asarray(images[chosen]), labels[chosen]
  train = split.train[np.sort(rng.choice(len(split.train), n, replace=False))]
  test_labels, train_labels = data.records.labels[split.test], data.records.labels[train]
  test, real_train, drawn = encoder(data.images[split.test]), encoder(data.images[train]), encoder(synthetic)
  noise = encoder(rng.integers(0, 256, synthetic.shape, np.uint8))

  def against_test(features: np.ndarray, of: Labels) -> FidelitySet:
    return fidelity.summarise(test, features, test_labels, of, names)

  phantom = None
  if data.info.source != 'fetal_phantom':
    planes, plane_labels = _phantoms(min(n, _PHANTOMS), data)
    phantom = against_test(encoder(planes), plane_labels)
  return Fidelity(
    n=n,
    reference=len(test),
    synthetic=against_test(drawn, synthetic_labels),
    real_train=against_test(real_train, train_labels),
    synthetic_to_train=fidelity.summarise(real_train, drawn, train_labels, synthetic_labels, names),
    noise=against_test(noise, synthetic_labels),
    phantom=phantom,
  )


def _phantoms(n: int, data: prepared.Prepared) -> tuple[Images, Labels]:
  """Draws planes of the data's image size; their classes do not matter to the overall figures."""
  from PIL import Image

  from fetal_jax.data.sources.fetal_phantom import phantom_records

  _, size, _, channels = data.images.shape
  images = np.stack(
    [
      np.asarray(Image.fromarray(record.image).resize((size, size), Image.Resampling.BOX))
      for record in phantom_records(n)
    ]
  )[..., None]
  return np.repeat(images, channels, -1), np.zeros(n, np.int64)


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


def unseen_side(data: prepared.Prepared) -> tuple[Int[np.ndarray, ' n'], bool | None]:
  """Chooses the held-out images: test images of patients whom the training side lacks, or all if these are too few.

  Returns:
    Their indices, and whether none of their patients is on the training side; None where nobody knows, because patients
    are unknown.
  """
  if not patients_lib.known(data.records.patients).all():
    return data.split.test, None
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
