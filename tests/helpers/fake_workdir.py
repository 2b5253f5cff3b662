"""A small workdir as the earlier stages leave it, made of noise, for tests of the report."""

import csv
import json
import pathlib
from collections.abc import Sequence

import msgspec
import numpy as np
from helpers import fake_audits, tiny
from PIL import Image

from fetal_jax.data import prepared, splits
from fetal_jax.data import records as records_lib
from fetal_jax.data import rounds as rounds_lib
from fetal_jax.data.prepared import SplitFile
from fetal_jax.data.rounds import CheckpointMark, SamplerSettings
from fetal_jax.data.rounds import manifest as manifest_lib
from fetal_jax.evaluate import filter as filtering
from fetal_jax.runtime import files, run
from fetal_jax.runtime.fingerprint import Fingerprint
from fetal_jax.train import kept, results
from fetal_jax.train import regimes as regimes_lib
from fetal_jax.train.kept import Kept, KeptRound, Rule
from fetal_jax.train.results import ClassifierMetrics, EpochRow, Normalisation

CLASSES = ('abdomen', 'brain', 'femur', 'thorax', 'cervix', 'other')
REGIMES = (
  'real', 'synth_r1', 'synth_r1_then_real', 'synth_r1_plus_real', 'synth_r12', 'synth_r12_then_real'
)  # fmt: skip
KEPT_SHARE = 0.75  # of the synthetic images, by the fake filter

# Roughly how often a fake classifier is right; the page should look like a real one.
SKILL = dict(zip(REGIMES, (0.88, 0.78, 0.92, 0.91, 0.84, 0.94), strict=True))


def make(
  workdir: pathlib.Path,
  *,
  class_names: Sequence[str] = CLASSES,
  models: Sequence[str] = ('vit_b_32', 'resnet50'),
  regimes: Sequence[str] = REGIMES,
  num_seeds: int = 1,
  rounds: int = 2,
  per_class: int = 8,
  num_images: int = 240,
  image_size: int = 16,
  split: str = 'paper',
  dataset: bool = False,
  protocol: str = 'honest',
  evaluated: bool = False,
  copies: int = 0,
  swept: bool = False,
  curve: Sequence[int] = (),
  kept: Sequence[str] = (),
) -> pathlib.Path:
  """Writes data/, logs/, synthetic/, classify/ and config.json; `dataset` makes real TFDS rounds (slower).

  `evaluated` and `swept` add what those stages leave; then `copies` of the synthetic images are training images. `curve`
  adds regimes of so many synthetic images, `kept` regimes of filtered ones with what the filter leaves.
  """
  rng = np.random.default_rng(0)
  asked = (*regimes, *kept)
  drawn = {'rounds': rounds, 'per_class': per_class}
  _write_config(workdir, class_names, models, asked, num_seeds, image_size, split, protocol, curve, drawn)
  records, test = _write_data(workdir, rng, class_names, num_images, image_size, split, protocol)
  _write_diffusion(workdir, rng)
  for r in range(1, rounds + 1):
    _write_round(workdir, rng, r, class_names, per_class, image_size, dataset)
  if kept:
    write_kept(workdir, class_names, rounds, per_class)
  for model in models:
    for regime in (*asked, *(f'synth_{n}{use}' for n in curve for use in ('', '_then_real'))):
      for seed in range(num_seeds):
        counts = (records, test, rounds, per_class)
        write_run(workdir, model, regime, seed, *counts, protocol=protocol)
  about = prepared.read_info(workdir)
  if evaluated:
    drawn, shared = rounds * per_class * len(class_names), about.test_patient_overlap
    fake_audits.write_evaluation(workdir, class_names, drawn, about.split_hash, shared, copies=copies)
  if swept:
    fake_audits.write_sweep(workdir, class_names, about.split_hash)
  return workdir


def _write_config(
  workdir, class_names, models, regimes, num_seeds, image_size, split, protocol, curve, drawn
) -> None:
  config = {
    'name': 'fake',
    'seed': 0,
    'data': {
      'source': 'fetal_phantom',
      'path': '/home/somebody/planes.zip',
      'split': split,
      'image_size': image_size,
    },
    'diffusion': {'timesteps': 1000, 'steps': 2000, 'batch_size': 64, 'unet': {'width': 64}},
    'sample': drawn,
    'classify': {
      'models': list(models),
      'regimes': list(regimes),
      'curve': list(curve),
      'curve_models': [],
      'num_seeds': num_seeds,
      'protocol': protocol,
    },
  }
  versions = {'python': '3.11.7', 'jax': '0.10.2', 'flax': '0.12.8', 'fetal_jax': '0.1.0'}
  run.write(workdir, run.RunFile(config, versions, '0123456789abcdef'))
  seconds = {'prepare': 31.2, 'diffusion': 15_121.0, 'sample': 9200.0, 'classify': 802.0}
  maker = run.Maker(
    versions=versions, git_commit='0123456789abcdef', device='1 x cpu', cpu_cores=None, dtype='float32'
  )
  stages = {
    stage: run.StageAccount(s, 1.5 + i, f'2026-01-0{i + 1}T10:00:00+00:00', [maker])
    for i, (stage, s) in enumerate(seconds.items())
  }
  run.write_accounts(workdir, stages)


def _write_data(workdir, rng, class_names, num_images, image_size, split, protocol):
  labels = np.sort(rng.integers(0, len(class_names), num_images)).astype(np.int32)
  patients = [f'{p}' for p in rng.integers(0, num_images // 4, num_images)]
  names = [f'image_{i:04d}' for i in range(num_images)]
  records = records_lib.make(names, labels, patients, class_names)
  sides = splits.SPLITS[split](records, seed=0, validation=protocol == 'honest')
  y, x = np.mgrid[:image_size, :image_size] / image_size
  waves = [np.sin(2 * np.pi * (k + 1) * (x * np.cos(k) + y * np.sin(k))) for k in range(len(class_names))]
  noise = rng.normal(0, 25, (num_images, image_size, image_size))
  images = np.clip(110 + 60 * np.stack([waves[k] for k in labels]) + noise, 0, 255).astype(np.uint8)[
    ..., None
  ]
  folder = workdir / 'data'
  folder.mkdir(parents=True, exist_ok=True)
  np.save(folder / 'images.npy', images)
  records_lib.write_csv(folder / 'records.csv', records)
  info = SplitFile(
    source='fetal_phantom', phantom_images=num_images, phantom_seed=0, split=split, seed=0, protocol=protocol, resize='stretch',
    image_size=image_size, channels=1, class_names=tuple(class_names), num_images=num_images, intake=None,
    **msgspec.structs.asdict(splits.describe(records, sides)), split_hash=splits.split_hash(records, sides),
    images_sha256=files.sha256(folder / 'images.npy'), records_sha256=files.sha256(folder / 'records.csv'),
    **{side: getattr(sides, side).tolist() for side in splits.SIDES},
  )  # fmt: skip
  prepared.write_info(workdir, info)
  return records, sides.test


def _write_diffusion(workdir, rng) -> None:
  lines = []
  for step in range(20, 2001, 20):
    loss = 0.02 + 0.5 * np.exp(-step / 300)
    row = {'step': step, 'unet/loss': loss * rng.uniform(0.9, 1.1), 'img_per_s': 40.0}
    row |= {f'unet/loss_q{q}': loss * (2.0 - 0.55 * q) * rng.uniform(0.85, 1.15) for q in range(4)}
    if step % 200 == 0:
      row |= {
        f'guide/heldout_accuracy_q{q}': 0.95 - 0.23 * q - 0.5 * np.exp(-step / 400) * (q < 3)
        for q in range(4)
      }
      row['guide/heldout_accuracy'] = float(np.mean([row[f'guide/heldout_accuracy_q{q}'] for q in range(4)]))
    lines.append(json.dumps(row))
  files.write_text(workdir / 'logs' / 'diffusion' / 'metrics.jsonl', '\n'.join(lines) + '\n')
  sheet = rng.integers(0, 255, (96, 160), np.uint8)
  (workdir / 'diffusion' / 'samples').mkdir(parents=True, exist_ok=True)
  Image.fromarray(sheet).save(workdir / 'diffusion' / 'samples' / 'step_0002000.png')


def _write_round(workdir, rng, r, class_names, per_class, image_size, dataset) -> None:
  folder = workdir / 'synthetic' / f'round_{r}'
  folder.mkdir(parents=True, exist_ok=True)
  about = {
    'seed': 0,
    'checkpoint': CheckpointMark(
      step=2000, ema_rate=0.9999, split_hash=prepared.read_info(workdir).split_hash
    ),
    'config_hash': 'abc',
    'sampler': SamplerSettings(method='ancestral', steps=250, guidance_scale=0.5),
    'image_size': image_size,
    'channels': 1,
  }
  if dataset:
    from fetal_jax.data.rounds.plan import Plan
    from fetal_jax.data.rounds.writer import RoundWriter

    plan = Plan(r, tuple(class_names), per_class)
    images = np.empty((plan.num_images, image_size, image_size, 1), np.uint8)
    images[:] = (10 * plan.labels() + r)[:, None, None, None]  # an image says its class and its round
    with RoundWriter(folder, plan, **about) as writer:
      writer.put(0, images)
      writer.finish()
    return
  manifest_lib.write(folder, tiny.manifest(r, class_names, per_class, **about))
  Image.fromarray(rng.integers(0, 255, (96, 160), np.uint8)).save(folder / 'preview.png')


def write_kept(workdir, class_names, rounds, per_class) -> None:
  """synthetic/kept.json and its pictures, of a filter that agrees with all but the last images of each class."""
  labels = np.repeat(np.arange(len(class_names)), per_class)
  right = np.tile(np.arange(per_class) < round(KEPT_SHARE * per_class), len(class_names))
  judged = np.where(right, labels, (labels + 1) % len(class_names))
  probabilities = 0.9 * np.eye(len(class_names))[judged] + 0.1 / len(class_names)
  chosen = filtering.select(probabilities, labels, min_confidence=0.5)
  folder, found = workdir / 'synthetic', {}
  for r in range(1, rounds + 1):
    found[str(r)] = KeptRound(
      round_hash=rounds_lib.read(folder / f'round_{r}').hash,
      asked=np.bincount(labels).tolist(),
      judged_right=np.bincount(labels[right]).tolist(),
      kept_per_class=np.bincount(labels[chosen]).tolist(),
      kept=chosen.tolist(),
    )
  rule, names = Rule(min_confidence=0.5, top_k=0), list(class_names)
  kept.write(workdir, Kept(inputs='0', judge=fake_audits.JUDGE, rule=rule, class_names=names, rounds=found))
  for name, grey in (('kept', 200), ('dropped', 50)):
    Image.new('L', (160, 96), grey).save(folder / f'{name}.png')


def _seen_by(workdir, regime, rounds) -> dict[str, str]:
  """The rounds that a regime is trained on: number -> hash."""
  of = regimes_lib.synthetic(regime)
  numbers = range(1, rounds + 1) if of.count else [r for r in of.rounds if r <= rounds]
  return {str(r): rounds_lib.read(rounds_lib.folder_of(workdir, r)).hash for r in numbers}


def skill(regime: str, rounds: int, per_class: int) -> float:
  """Roughly how often a fake classifier is right: of a further regime what the number of images suggests."""
  plain = regimes_lib.without_filter(regime)
  if plain in SKILL:
    return SKILL[plain] + 0.02 * (plain != regime)
  share = min(1.0, regimes_lib.images(plain, {}) / (rounds * per_class * len(CLASSES)))
  return (0.6 + 0.25 * share) if regimes_lib.use(plain) == 'synthetic' else (0.88 + 0.06 * share)


def write_run(workdir, model, regime, seed, records, test, rounds, per_class, *, protocol='honest') -> None:
  """One classifier's metrics.json and predictions.csv."""
  rng = np.random.default_rng([seed, len(model), len(regime)])
  class_names = records.class_names
  labels = records.labels[test]
  right = rng.random(len(test)) < skill(regime, rounds, per_class) - 0.1 * (model == 'vit_b_32')
  target = np.where(right, labels, rng.integers(0, len(class_names), len(test)))
  logits = rng.normal(0, 0.7, (len(test), len(class_names))) + 5 * np.eye(len(class_names))[target]
  probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
  predicted = probabilities.argmax(axis=1)
  folder = workdir / 'classify' / model / regime / f'seed_{seed}'
  folder.mkdir(parents=True, exist_ok=True)
  with open(folder / 'predictions.csv', 'w', newline='', encoding='utf-8') as f:
    writer = csv.writer(f)
    about = ('image', 'patient', 'machine', 'operator', 'brain_plane')
    writer.writerow([*about, 'label', 'predicted', *(f'p_{name}' for name in class_names)])
    for i, k in enumerate(test):
      machine, operator = ('Aloka', 'Voluson E6', '')[k % 3], ('Op. 1', 'Op. 2')[k % 2]
      brain_plane = 'Trans-thalamic' if class_names[labels[i]] == 'brain' else 'Not A Brain'
      row = [records.names[k], records.patients[k], machine, operator, brain_plane]
      row += [class_names[labels[i]], class_names[predicted[i]]]
      writer.writerow([*row, *(f'{p:.6f}' for p in probabilities[i])])
  accuracy = float((predicted == labels).mean())
  about = regimes_lib.get(regime)
  sizes = {r: per_class * len(class_names) * (r <= rounds) for r in (1, 2)}
  synthetic = 0 if about.start else regimes_lib.images(regimes_lib.without_filter(regime), sizes)
  synthetic = round(synthetic * (KEPT_SHARE if about.kept else 1))
  history = []
  for epoch in range(1, 21):
    score = accuracy - 0.5 * float(np.exp(-epoch / 5)) + 0.01 * float(rng.normal())
    row = EpochRow(
      epoch=epoch,
      step=10 * epoch,
      train_loss=1.6 * float(np.exp(-epoch / 6)) + 0.05,
      train_accuracy=1 - 0.7 * float(np.exp(-epoch / 6)),
      validation_accuracy=score if protocol == 'honest' else None,
      test_accuracy=score if protocol == 'paper' else None,
      score=score,
    )
    history.append(row)
  metrics = ClassifierMetrics(
    model=model, regime=regime, seed=seed, protocol=protocol, epochs=20, selected_epoch=17,
    steps=200, batch_size=32, real_images=190 if about.real else 0,
    synthetic_images=synthetic, parameters=23_520_000,
    train_accuracy=0.97, validation_accuracy=accuracy if protocol == 'honest' else None, test_accuracy=accuracy,
    test_accuracy_last=accuracy - 0.01, seconds=12.5, initialised_from=about.start, init_from=None,
    normalisation=Normalisation(), settings='s', split_hash=prepared.read_info(workdir).split_hash, rounds=_seen_by(workdir, regime, rounds),
    predictions=Fingerprint.of(folder / 'predictions.csv'), history=history,
  )  # fmt: skip
  results.write(folder, metrics)
