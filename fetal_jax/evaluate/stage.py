"""The evaluate stage: how near synthetic images are to real ones, and whether they are too near.

Fidelity and diversity against real test images, beside the same figures of real training images (the floor) and of
noise and drawn planes (the ceiling); memorisation against what fresh real images do; and who has seen what.
"""

import pathlib
from collections.abc import Sequence
from typing import Any

import ml_collections
import numpy as np
from absl import logging
from jaxtyping import Int, UInt8

from fetal_jax import config as config_lib
from fetal_jax.data import decode, prepare, splits
from fetal_jax.data.rounds.writer import check_files
from fetal_jax.evaluate import fidelity
from fetal_jax.evaluate import judge as judges
from fetal_jax.evaluate.copies import audit
from fetal_jax.evaluate.encoders import Encoder
from fetal_jax.runtime import files
from fetal_jax.runtime.errors import UserError

# Held-out images of patients whom the generator has not seen: with fewer, 1 % of them cannot be told.
_ENOUGH_UNSEEN = 100
_PHANTOMS = 500


def run(config: ml_collections.ConfigDict, workdir: files.PathLike) -> bool:
  """Judges all finished synthetic rounds of a run together.

  Leaves in `evaluate/`: `results.json` with `leakage`, `fidelity`, `agreement` and `memorisation`, and
  `pairs_pixel.png` and `pairs_feature.png`, the closest pairs of synthetic and training images in both spaces.

  Returns:
    Whether there was anything to do.

  Raises:
    UserError: rounds or the judging classifier are missing, or something was trained on another split.
  """
  workdir, folder = pathlib.Path(workdir), pathlib.Path(workdir) / 'evaluate'
  data = prepare.load(workdir)
  manifests = finished_rounds(workdir)
  inputs = config_lib.config_hash(
    config.evaluate,
    config.report.show_real_images,
    data.info['split_hash'],
    [[shard['sha256'] for shard in manifest['shards']] for manifest in manifests],
    sorted(str(path.parent.parent.name) for path in workdir.glob('classify/*/real/seed_0')),
  )
  if (folder / 'results.json').is_file() and files.read_json(folder / 'results.json')['inputs'] == inputs:
    logging.info('evaluate: done before.')
    return False

  if not judges.has_judge(config, workdir):
    logging.warning(
      'evaluate: left out, for there is no classifier trained on real images to judge with; add real to '
      'config.classify.regimes and run --stage=classify.'
    )
    return False
  judge = judges.load_judge(config, workdir)
  encoder = judges.load_encoder(config, judge)
  leakage = check_leakage(data, manifests, judge)
  images, labels = load_rounds(workdir, manifests, data)
  logging.info('evaluate: %d synthetic images, judged by %s in %s.', len(images), judge.name, encoder.name)

  judged = judges.probabilities(judge, judge(images)).argmax(-1)
  results = {
    'inputs': inputs,
    'judge': judge.description,
    'encoder': encoder.description,
    'leakage': leakage,
    'agreement': agreement(labels, judged, data.records.class_names),
    'fidelity': measure_fidelity(config, data, images, labels, encoder),
  }
  heldout, unseen = unseen_side(data)
  train = data.images[data.split.train]
  audited = audit.audit(
    images,
    train,
    data.images[heldout],
    encoder=encoder,
    synthetic_labels=labels,
    heldout_labels=data.records.labels[heldout],
  )
  results['memorisation'] = {**audited, 'heldout_unseen': unseen}
  folder.mkdir(parents=True, exist_ok=True)
  for space, found in audited['spaces'].items():
    if found:
      with files.replacing(folder / f'pairs_{space}.png') as temporary:
        audit.draw_pairs(images, train, found['pairs'], show_training=config.report.show_real_images).save(
          temporary, 'PNG'
        )
  files.write_json(folder / 'results.json', results)
  _say(results)
  return True


def finished_rounds(workdir: pathlib.Path) -> list[dict[str, Any]]:
  """The manifests of the finished rounds, in order.

  Raises:
    UserError: there are none.
  """
  manifests = [files.read_json(path) for path in workdir.glob('synthetic/round_*/manifest.json')]
  manifests = sorted((m for m in manifests if m['complete']), key=lambda manifest: manifest['round'])
  if not manifests:
    raise UserError(f'{workdir / "synthetic"}: no finished round to judge; run --stage=sample first')
  return manifests


def check_leakage(
  data: prepare.Prepared, manifests: Sequence[dict[str, Any]], judge: Encoder
) -> dict[str, Any]:
  """Refuses a generator or a judge of another split; says who is on both sides of this one.

  Raises:
    UserError: a split hash differs, or classes do.
  """
  for manifest in manifests:
    judges.check_split(
      data, manifest['checkpoint']['split_hash'], f'the generator of round {manifest["round"]}'
    )
    if manifest['class_names'] != list(data.records.class_names):
      raise UserError(
        f'round {manifest["round"]}: its classes are not those of the data; use a new --workdir'
      )
  judges.check_split(data, judge.split_hash, f'the judge {judge.name}')
  told = splits.describe(data.records, data.split)
  if data.info['split'] != 'paper' and told['shared_patients']:
    raise UserError(
      f'split {data.info["split"]}: {told["shared_patients"]} patients are on both sides, which it promises not to '
      'happen; delete the data folder of the workdir and prepare again'
    )
  return {
    'split': data.info['split'],
    'split_hash': data.info['split_hash'],
    'trained_on': 'the training side of this split alone: UNet, guide, and the judging classifier',
    'shared_patients': told['shared_patients'],
    'test_patient_overlap': told['test_patient_overlap'],
  }


def load_rounds(
  workdir: pathlib.Path, manifests: Sequence[dict[str, Any]], data: prepare.Prepared
) -> tuple[UInt8[np.ndarray, 'n h w c'], Int[np.ndarray, ' n']]:
  """The images and labels of the rounds, one after the other.

  Raises:
    UserError: a file of a round is not the one that was written.
  """
  _, size, _, channels = data.images.shape
  folders = [workdir / 'synthetic' / f'round_{manifest["round"]}' for manifest in manifests]
  for folder, manifest in zip(folders, manifests, strict=True):
    check_files(folder, manifest)
  read = [decode.read_images(folder, size, channels) for folder in folders]
  return np.concatenate([images for images, _, _ in read]), np.concatenate([labels for _, labels, _ in read])


def agreement(
  labels: Int[np.ndarray, ' n'], judged: Int[np.ndarray, ' n'], class_names: Sequence[str]
) -> dict[str, Any]:
  """How often the judge sees what was asked for: overall and by class, and what it sees instead."""
  confusion = np.zeros((len(class_names), len(class_names)), np.int64)
  np.add.at(confusion, (labels, judged), 1)
  return {
    'accuracy': float((labels == judged).mean()),
    'per_class': {
      name: float(row[k] / row.sum()) if row.sum() else None
      for k, (name, row) in enumerate(zip(class_names, confusion, strict=True))
    },
    'confusion': confusion.tolist(),
  }


def measure_fidelity(
  config: ml_collections.ConfigDict,
  data: prepare.Prepared,
  images: UInt8[np.ndarray, 'n h w c'],
  labels: Int[np.ndarray, ' n'],
  encoder: Encoder,
) -> dict[str, Any]:
  """Fidelity to the test side, of synthetic images, real training images, noise and drawn planes.

  All are judged with the same number of images, since a FID falls with it.

  Returns:
    `n`, `reference` (test images), and by set (`synthetic`, `real_train`, `noise`, `phantom`) what
    `fidelity.summarise` returns; `synthetic_to_train` beside them is what a copying generator would be good at.
  """
  names = data.records.class_names
  n = min(len(data.split.train), len(images), config.evaluate.max_images)
  rng = np.random.default_rng(config.seed)

  def take(source: np.ndarray, of: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    chosen = np.sort(rng.choice(len(of), n, replace=False))
    return np.asarray(source[chosen]), of[chosen]

  synthetic, synthetic_labels = take(images, labels)
  train = data.split.train[np.sort(rng.choice(len(data.split.train), n, replace=False))]
  test_labels, train_labels = data.records.labels[data.split.test], data.records.labels[train]
  test, real_train = encoder(data.images[data.split.test]), encoder(data.images[train])
  drawn = encoder(synthetic)
  noise = encoder(rng.integers(0, 256, synthetic.shape, np.uint8))
  results = {
    'n': n,
    'reference': len(test),
    'synthetic': fidelity.summarise(test, drawn, test_labels, synthetic_labels, names),
    'real_train': fidelity.summarise(test, real_train, test_labels, train_labels, names),
    'synthetic_to_train': fidelity.summarise(real_train, drawn, train_labels, synthetic_labels, names),
    'noise': fidelity.summarise(test, noise, test_labels, synthetic_labels, names),
  }
  if data.info['source'] != 'fetal_phantom':
    phantom, phantom_labels = _phantoms(min(n, _PHANTOMS), data)
    results['phantom'] = fidelity.summarise(test, encoder(phantom), test_labels, phantom_labels, names)
  return results


def unseen_side(data: prepare.Prepared) -> tuple[Int[np.ndarray, ' n'], bool]:
  """Test images of patients whom the training side lacks, where there are enough; else all; and which it is."""
  seen = np.isin(data.records.patients[data.split.test], data.records.patients[data.split.train_side])
  unseen = data.split.test[~seen]
  return (unseen, True) if len(unseen) >= _ENOUGH_UNSEEN or not seen.any() else (data.split.test, False)


def _phantoms(n: int, data: prepare.Prepared) -> tuple[np.ndarray, np.ndarray]:
  """Drawn planes as images of the data's size; their classes do not matter to the overall figures."""
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


def _say(results: dict[str, Any]) -> None:
  synthetic, floor = (results['fidelity'][name]['overall'] for name in ('synthetic', 'real_train'))
  logging.info(
    'evaluate: FID %s (real training images: %s), KID %s (%s), n %d; the judge agrees with %.1f %% of the labels.',
    *(_digits(row[key]) for key in ('fid', 'kid') for row in (synthetic, floor)),
    results['fidelity']['n'],
    100 * results['agreement']['accuracy'],
  )
  verdict = {True: 'yes', False: 'no', None: 'cannot be said'}[results['memorisation']['copied']]
  logging.info('evaluate: nearer to training images than fresh real images are: %s.', verdict)


def _digits(value: float | None) -> str:
  return 'unknown' if value is None else f'{value:.3g}'
