"""What the evaluate and sweep stages leave, by their own functions from made-up images and features."""

import functools
import io
import pathlib

import numpy as np
from PIL import Image

from fetal_jax import config as config_lib
from fetal_jax.data.grid import grid
from fetal_jax.evaluate import fidelity, sweep
from fetal_jax.evaluate import stage as evaluate_stage
from fetal_jax.evaluate.copies import audit
from fetal_jax.runtime import files

SIZE, TRAIN, HELD_OUT, DIM = 16, 60, 120, 6
JUDGE = 'last hidden layer of resnet50, trained by this run on the real training images alone (seed 0)'


def write_evaluation(
  workdir, class_names, drawn: int, split_hash: str, shared: float, *, copies: int
) -> None:
  """evaluate/results.json and pairs_<space>.png; of the synthetic images `copies` are training images."""
  found, pairs = _evaluation(tuple(class_names), drawn, copies)
  leakage = {
    'split': 'paper',
    'split_hash': split_hash,
    'trained_on': 'the training side of this split alone: UNet, guide, and the judging classifier',
    'shared_patients': 12,
    'test_patient_overlap': shared,
  }
  files.write_json(workdir / 'evaluate' / 'results.json', {**found, 'leakage': leakage})
  for space, picture in pairs.items():
    (workdir / 'evaluate' / f'pairs_{space}.png').write_bytes(picture)


def _encode(images):
  """Grey levels of a few places."""
  return images.reshape(len(images), -1)[:, :: images[0].size // DIM][:, :DIM].astype(np.float32)


@functools.cache  # the same for all tests of a process
def _evaluation(class_names, drawn, copies):
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
    return fidelity.summarise(
      real, offset + rng.normal(size=(60, DIM)), of, of, class_names, subsets=3, subset_size=20
    )

  sets = {'synthetic': 0.4, 'real_train': 0.0, 'synthetic_to_train': 0.3, 'noise': 9.0, 'phantom': 3.0}
  audited = audit.audit(synthetic, train, held_out, encoder=_encode, pairs=5)
  pairs = {
    name: _png(audit.draw_pairs(synthetic, train, space['pairs']))
    for name, space in audited['spaces'].items()
  }
  results = {
    'inputs': '0123',
    'judge': JUDGE,
    'encoder': JUDGE,
    'agreement': evaluate_stage.agreement(labels, judged, class_names),
    'fidelity': {'n': 60, 'reference': 60, **{name: summarise(offset) for name, offset in sets.items()}},
    'memorisation': {**audited, 'heldout_unseen': True},
  }
  return results, pairs


def write_sweep(workdir, class_names, split_hash: str) -> None:
  """sweep/ with two scales and two samplers."""
  rng = np.random.default_rng(1)
  config = config_lib.default_config()
  config.sweep.update(scales=(0.0, 1.0), samplers=('ddim:25', 'dpmpp_2m:10'))
  real, of = rng.normal(size=(60, DIM)), np.zeros(60, int)

  def summarise(offset):
    fake = offset + rng.normal(size=(60, DIM))
    return fidelity.summarise(real, fake, of, of, class_names, subsets=3, subset_size=20)['overall']

  rows = {
    sweep.name(setting): {
      **setting,
      'seconds': 0.1 * setting['steps'],
      'classifier_accuracy': 0.7 + 0.05 * k,
      'guide_accuracy': 0.9,
      **summarise(0.5 - 0.1 * k),
    }
    for k, setting in enumerate(sweep.make_settings(config, has_guide=True))
  }
  results = {
    'images': 60,
    'seed': 0,
    'checkpoint_step': 2000,
    'split_hash': split_hash,
    'classifier': 'auto',
    'encoder': 'classifier',
    'common': {},
    'settings': rows,
    'reference': '60 real images of the validation side',
    'judge': JUDGE,
    'encoded_by': JUDGE,
    'real_accuracy': 0.93,
    'floor': summarise(0.0),
  }
  folder = pathlib.Path(workdir) / 'sweep'
  files.write_json(folder / 'results.json', results)
  best = sweep.recommend(list(rows.values()))
  files.write_json(folder / 'recommended.json', {'flags': sweep.flags(best), 'why': sweep.WHY, **best})
  for name in ('scales', 'samplers'):
    sheet = grid(rng.integers(0, 256, (3, 12, 32, 32, 1), np.uint8), ['a', 'b', 'c'])
    (folder / f'{name}.png').write_bytes(_png(sheet))


def _png(picture: Image.Image) -> bytes:
  out = io.BytesIO()
  picture.save(out, 'PNG')
  return out.getvalue()
