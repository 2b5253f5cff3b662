"""The sweep stage: which guidance scale, method and number of steps to sample a trained model with.

Every setting draws the same labels from the same noise, so that settings differ by themselves alone. They are
judged by real images of patients that nothing was trained on and nothing is reported on: the validation side.
"""

import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from absl import logging
from jaxtyping import Int, UInt8

from fetal_jax.data import prepare
from fetal_jax.data.grid import grid
from fetal_jax.diffusion.sample import to_float
from fetal_jax.evaluate import fidelity
from fetal_jax.evaluate import judge as judges
from fetal_jax.runtime import files
from fetal_jax.runtime.errors import UserError
from fetal_jax.sample.sampler import Sampler
from fetal_jax.sample.stage import sampler_settings
from fetal_jax.sample.trained import Trained, describe, load_trained

WHY = 'the fewest steps, then the lowest KID, among the settings whose KID is within one standard deviation of the lowest'
_COLUMNS = 12  # of the grids


def run(config: ml_collections.ConfigDict, workdir: files.PathLike) -> bool:
  """Draws and judges every setting of `config.sweep` that has not been yet.

  Leaves in `sweep/`: `results.json`, every setting with its figures; `scales.png` and `samplers.png`, rows the
  settings, columns the noise; `recommended.json`, whose `flags` ask for the recommended sampler.

  Returns:
    Whether there was anything to do.

  Raises:
    UserError: the diffusion model or the judging classifier is not trained, or was on another split.
  """
  workdir, c = pathlib.Path(workdir), config.sweep
  folder = workdir / 'sweep'
  data, model = prepare.load(workdir), describe(workdir)
  judges.check_split(data, model.split_hash, str(workdir / 'diffusion'))
  common = sampler_settings(config, has_guide=model.has_guide)
  settings = make_settings(config, has_guide=model.has_guide)
  about = {
    'images': c.per_class * len(model.class_names),
    'seed': config.seed,
    'checkpoint_step': model.step,
    'split_hash': model.split_hash,
    'classifier': config.evaluate.classifier,
    'encoder': config.evaluate.encoder,
    'common': {k: v for k, v in common.items() if k not in ('method', 'steps', 'guidance_scale')},
  }
  results = _read(folder / 'results.json', about)
  if all(name(s) in results['settings'] for s in settings) and (folder / 'recommended.json').is_file():
    logging.info('sweep: done before (%d settings).', len(settings))
    return False

  trained, judge = load_trained(workdir), judges.load_judge(config, workdir)
  encoder = judges.load_encoder(config, judge)
  side = 'validation' if len(data.split.validation) else 'test'
  if side == 'test':
    logging.warning(
      'sweep: no validation patients; settings are chosen on the test side, which flatters them.'
    )
  reference = getattr(data.split, side)
  real, real_labels = encoder(data.images[reference]), data.records.labels[reference]
  train = data.split.train
  results |= {
    'reference': f'{len(reference)} real images of the {side} side',
    'judge': judge.description,
    'encoded_by': encoder.description,
    'real_accuracy': judges.accuracy(judge, judge(data.images[reference]), real_labels),
    'floor': fidelity.summarise(
      real, encoder(data.images[train]), real_labels, data.records.labels[train], trained.class_names
    )['overall'],
  }
  sampler = Sampler(trained)
  labels = np.tile(np.arange(len(trained.class_names), dtype=np.int32), c.per_class)  # classes take turns
  for number, setting in enumerate(settings, 1):
    if name(setting) in results['settings']:
      continue
    images, seconds = _draw(sampler, labels, {**common, **setting}, config)
    encoded = encoder(images)
    figures = fidelity.summarise(real, encoded, real_labels, labels, trained.class_names)['overall']
    results['settings'][name(setting)] = {
      **setting,
      'seconds': seconds,
      'classifier_accuracy': judges.accuracy(judge, encoded if encoder is judge else judge(images), labels),
      'guide_accuracy': _guide_accuracy(trained, images, labels),
      **figures,
    }
    with files.replacing(folder / f'{name(setting)}.npy') as temporary, open(temporary, 'wb') as f:
      np.save(f, images[:_COLUMNS])
    files.write_json(folder / 'results.json', {**about, **results})
    logging.info('sweep: %d of %d: %s', number, len(settings), _line(results['settings'][name(setting)]))

  rows = [results['settings'][name(s)] for s in settings]
  by_scale = [row for row in rows if (row['method'], row['steps']) == (common['method'], common['steps'])]
  by_sampler = [row for row in rows if row['guidance_scale'] == common['guidance_scale']]
  _draw_grid(folder / 'scales.png', by_scale, [f'scale {row["guidance_scale"]:g}' for row in by_scale])
  _draw_grid(folder / 'samplers.png', by_sampler, [f'{r["method"]} {r["steps"]}' for r in by_sampler])
  best = recommend(rows)
  files.write_json(folder / 'recommended.json', {'flags': flags(best), 'why': WHY, **best})
  logging.info('sweep: recommended (%s): %s', WHY, ' '.join(flags(best)))
  return True


def make_settings(config: ml_collections.ConfigDict, *, has_guide: bool) -> list[dict[str, Any]]:
  """Returns scales under the config's sampler, then samplers at the config's scale; each setting once."""
  c, sample = config.sweep, config.sample
  scale = sample.guidance_scale if has_guide else 0.0
  pairs = [(sample.method, sample.steps, float(s)) for s in (c.scales if has_guide else (0.0,))]
  for sampler in c.samplers:
    method, _, steps = sampler.partition(':')
    pairs.append((method, int(steps), scale))
  return [
    {'method': method, 'steps': steps, 'guidance_scale': scale}
    for method, steps, scale in dict.fromkeys(pairs)
    if steps <= config.diffusion.timesteps
  ]


def name(setting: Mapping[str, Any]) -> str:
  """For example `ddim_50_scale_0.5`."""
  return f'{setting["method"]}_{setting["steps"]}_scale_{setting["guidance_scale"]:g}'


def recommend(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
  """The setting to sample with, see `WHY`; each row has `method`, `steps`, `guidance_scale`, `kid`, `kid_sd`."""
  best = min(rows, key=lambda row: row['kid'])
  good = [row for row in rows if row['kid'] <= best['kid'] + (best['kid_sd'] or 0.0)]
  chosen = min(good, key=lambda row: (row['steps'], row['kid']))
  return {key: chosen[key] for key in ('method', 'steps', 'guidance_scale')}


def flags(setting: Mapping[str, Any]) -> list[str]:
  """The command line's words for a setting."""
  return [f'--config.sample.{key}={setting[key]}' for key in ('method', 'steps', 'guidance_scale')]


def _draw(
  sampler: Sampler, labels: Int[np.ndarray, ' n'], settings: dict[str, Any], config: ml_collections.ConfigDict
) -> tuple[UInt8[np.ndarray, 'n h w c'], float]:
  """Images of one setting and the seconds that they took, compilation left out."""
  if settings['method'] == 'dpmpp_2m':
    settings = {**settings, 'guidance_at': 'x_t', 'eta': 0.0}
  if settings['method'] == 'ancestral':
    settings = {**settings, 'eta': 0.0}
  size = min(config.sample.batch_size or 64, len(labels))
  sampler.compiled(-(-size // sampler.trained.mesh.size) * sampler.trained.mesh.size, **settings)
  clock = time.monotonic()
  images = sampler(labels, seed=config.seed, batch_size=size, **settings)
  return images, time.monotonic() - clock


def _guide_accuracy(
  trained: Trained, images: UInt8[np.ndarray, 'n h w c'], labels: Int[np.ndarray, ' n']
) -> float | None:
  """The share of finished images that the guide takes for what was asked; None without a guide."""
  guide = trained.guide
  if guide is None:
    return None

  @jax.jit
  def predict(params: Any, images: jax.Array) -> jax.Array:
    x_0 = to_float(images)
    logits: Any = guide.apply({'params': params}, x_0, jnp.zeros(len(x_0), jnp.int32))
    return logits.argmax(-1)

  batches = np.array_split(images, max(1, len(images) // 256))
  predicted = np.concatenate([predict(trained.params['guide'], batch) for batch in batches])
  return float((predicted == labels).mean())


def _read(path: pathlib.Path, about: dict[str, Any]) -> dict[str, Any]:
  """Results of earlier starts, if they are of the same model and images."""
  if not path.is_file():
    return {**about, 'settings': {}}
  results = files.read_json(path)
  changed = [key for key, value in about.items() if results.get(key) != value]
  if changed:
    raise UserError(f'{path}: of another {", ".join(changed)}; delete {path.parent} to sweep again')
  return results


def _line(row: Mapping[str, Any]) -> str:
  words = [f'{row["method"]} {row["steps"]} at scale {row["guidance_scale"]:g}', f'{row["seconds"]:.1f} s']
  for key, title in (('kid', 'KID'), ('fid', 'FID'), ('precision', 'precision'), ('recall', 'recall')):
    if row[key] is not None:
      words.append(f'{title} {row[key]:.3g}')
  return ', '.join([*words, f'judged right {100 * row["classifier_accuracy"]:.0f} %'])


def _draw_grid(path: pathlib.Path, rows: Sequence[Mapping[str, Any]], titles: Sequence[str]) -> None:
  if rows:
    images = np.stack([np.load(path.parent / f'{name(row)}.npy') for row in rows])
    with files.replacing(path) as temporary:
      grid(images, titles).save(temporary, 'PNG')
