"""What the evaluate and sweep stages leave, by their own functions from made-up images and features."""

import functools
import io
import pathlib

import msgspec
import numpy as np
from PIL import Image

from fetal_jax import config as config_lib
from fetal_jax.data import rounds as rounds_lib
from fetal_jax.data.grid import grid
from fetal_jax.evaluate import fidelity, results, sweep, sweep_results
from fetal_jax.evaluate.copies import audit
from fetal_jax.evaluate.results import (
  Evaluation,
  Fidelity,
  JudgeRecall,
  Leakage,
  TwoSample,
  TwoSampleScore,
)
from fetal_jax.evaluate.stage import agreement
from fetal_jax.evaluate.sweep_results import Common, Recommended, SweepResults, SweepRow

SIZE, TRAIN, HELD_OUT, DIM = 16, 60, 120, 6
JUDGE = 'last hidden layer of resnet50, trained by this run on the real training images alone (seed 0)'


def write_evaluation(
  workdir, class_names, drawn: int, split_hash: str, shared: float, *, copies: int
) -> None:
  """Writes evaluate/results.json and pairs_<space>.png; of the synthetic images `copies` are training images."""
  found, pairs = _evaluation(tuple(class_names), drawn, copies)
  leakage = msgspec.structs.replace(found.leakage, split_hash=split_hash, test_patient_overlap=shared)
  rounds = {str(one.number): one.hash for one in rounds_lib.find(workdir)}
  results.write(workdir, msgspec.structs.replace(found, leakage=leakage, rounds=rounds))
  for space, picture in pairs.items():
    (pathlib.Path(workdir) / 'evaluate' / f'pairs_{space}.png').write_bytes(picture)


def _encode(images):
  """Returns grey levels of a few places."""
  return images.reshape(len(images), -1)[:, :: images[0].size // DIM][:, :DIM].astype(np.float32)


@functools.cache  # the same for all tests of a process
def _evaluation(class_names, drawn, copies) -> tuple[Evaluation, dict[str, bytes]]:
  rng = np.random.default_rng(0)

  def images(n):
    return rng.integers(0, 256, (n, SIZE, SIZE, 1), np.uint8)

  synthetic, train, held_out = images(drawn), images(TRAIN), images(HELD_OUT)
  synthetic[:copies] = train[:copies]
  labels = np.arange(drawn) % len(class_names)
  judged = np.where(rng.random(drawn) < 0.8, labels, rng.integers(0, len(class_names), drawn))
  real = rng.normal(size=(60, DIM))
  of = np.arange(60) % len(class_names)

  def summarise(offset):
    fake = offset + rng.normal(size=(60, DIM))
    return fidelity.summarise(real, fake, of, of, class_names, subsets=3, subset_size=20)

  sets = {'synthetic': 0.4, 'real_train': 0.0, 'synthetic_to_train': 0.3, 'noise': 9.0, 'phantom': 3.0}
  copied = audit.audit(synthetic, train, held_out, encoder=_encode, pairs=5)
  pairs = {
    name: _png(audit.draw_pairs(synthetic, train, space.pairs)) for name, space in copied.spaces.items()
  }
  found = Evaluation(
    inputs='0123',
    rounds={},
    judge=JUDGE,
    encoder=JUDGE,
    leakage=Leakage(
      split='paper',
      split_hash='0' * 64,
      trained_on='the training side of this split alone: UNet, guide, and the judging classifier',
      shared_patients=12,
      test_patient_overlap=0.5,
    ),
    agreement=agreement(labels, judged, class_names),
    judge_recall=JudgeRecall(
      images=240,
      accuracy=0.85,
      per_class=dict.fromkeys(class_names, 0.85),
      counts=dict.fromkeys(class_names, 40),
    ),
    two_sample=[
      TwoSample(
        space='features',
        classifier='logistic regression on the features',
        synthetic=TwoSampleScore(images=60, accuracy=0.72, low=0.66, high=0.78),
        control=TwoSampleScore(images=60, accuracy=0.51, low=0.44, high=0.58),
      ),
    ],
    fidelity=Fidelity(n=60, reference=60, **{name: summarise(offset) for name, offset in sets.items()}),
    memorisation=copied,
  )
  return found, pairs


def write_sweep(workdir, class_names, split_hash: str) -> None:
  """Writes sweep/ with two scales and two samplers."""
  rng = np.random.default_rng(1)
  config = config_lib.default_config()
  config.sweep.update(scales=(0.0, 1.0), samplers=('ddim:25', 'dpmpp_2m:10'))
  real, of = rng.normal(size=(60, DIM)), np.zeros(60, int)

  def summarise(offset):
    fake = offset + rng.normal(size=(60, DIM))
    return fidelity.summarise(real, fake, of, of, class_names, subsets=3, subset_size=20).overall

  rows = [
    SweepRow(
      **setting._asdict(),
      seconds=0.1 * setting.steps,
      classifier_accuracy=0.7 + 0.05 * k,
      guide_accuracy=0.9,
      **msgspec.structs.asdict(summarise(0.5 - 0.1 * k)),
    )
    for k, setting in enumerate(sweep.make_settings(config, has_guide=True))
  ]
  found = SweepResults(
    images=60,
    seed=0,
    checkpoint_step=2000,
    split_hash=split_hash,
    classifier='auto',
    encoder='classifier',
    common=Common(),
    settings={sweep.name(row): row for row in rows},
    reference='60 real images of the validation side',
    judge=JUDGE,
    encoded_by=JUDGE,
    real_accuracy=0.93,
    floor=summarise(0.0),
  )
  sweep_results.write(workdir, found)
  best = sweep.recommend(rows)
  recommended = Recommended(flags=sweep.flags(best), why=sweep.WHY, **best._asdict())
  sweep_results.write_recommended(workdir, recommended)
  for name in ('scales', 'samplers'):
    sheet = grid(rng.integers(0, 256, (3, 12, 32, 32, 1), np.uint8), ['a', 'b', 'c'])
    (pathlib.Path(workdir) / 'sweep' / f'{name}.png').write_bytes(_png(sheet))


def _png(picture: Image.Image) -> bytes:
  out = io.BytesIO()
  picture.save(out, 'PNG')
  return out.getvalue()
