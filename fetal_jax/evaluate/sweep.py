"""The sweep stage: which guidance scale, method and number of steps to sample a trained model with.

Every setting draws the same labels from the same noise, so that settings differ by themselves alone. They are
judged by real images of patients that nothing was trained on and nothing is reported on: the validation side. A split without
one lends training images that the judge has not seen; the generator has.
"""

import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import msgspec
import numpy as np
from absl import logging
from jaxtyping import Float, Int, UInt8

from fetal_jax.data import prepared, splits
from fetal_jax.data.grid import grid
from fetal_jax.data.rounds import SamplerSettings
from fetal_jax.diffusion.sample import to_float
from fetal_jax.diffusion.samplers import NO_USE
from fetal_jax.evaluate import fidelity, leakage, sweep_results
from fetal_jax.evaluate import judge as judges
from fetal_jax.evaluate.encoders import Encoder
from fetal_jax.evaluate.judge import Judge
from fetal_jax.evaluate.sweep_results import Common, Recommended, SweepResults, SweepRow
from fetal_jax.runtime import files
from fetal_jax.runtime.errors import UserError
from fetal_jax.sample.sampler import Sampler
from fetal_jax.sample.trained import Description, Trained, describe, load_trained
from fetal_jax.train import judge_parts

WHY = 'the fewest steps, then the lowest KID, among the settings whose KID is within one standard deviation of the lowest'
_COLUMNS = 12  # of the grids


class Setting(NamedTuple):
  """What a sweep varies."""

  method: str
  steps: int
  guidance_scale: float


class _Reference(NamedTuple):
  """The real images that settings are compared with: in words, their features, their labels."""

  words: str
  features: Float[np.ndarray, 'n d']
  labels: Int[np.ndarray, ' n']


def run(config: ml_collections.ConfigDict, workdir: files.PathLike) -> bool:
  """Draws and judges every setting of `config.sweep` that has not been yet.

  Leaves in `sweep/`: `results.json`, every setting with its figures; `scales.png` and `samplers.png`, rows the
  settings, columns the noise; `recommended.json`, whose `flags` ask for the recommended sampler.

  Returns:
    Whether there was anything to do.

  Raises:
    UserError: the diffusion model or the judging classifier is not trained, or was on another split.
  """
  workdir = pathlib.Path(workdir)
  data, model = prepared.load(workdir), describe(workdir)
  leakage.check_split(data.info.split_hash, model.split_hash, str(workdir / 'diffusion'))
  settings = make_settings(config, has_guide=model.has_guide)
  own = SamplerSettings.asked(config.sample, has_guide=model.has_guide)
  about = _about(config, model, own)
  done = _read(workdir, about)
  if all(name(s) in done for s in settings) and (workdir / 'sweep' / 'recommended.json').is_file():
    logging.info('sweep: done before (%d settings).', len(settings))
    return False

  trained, judge = load_trained(workdir), judges.load(workdir, judge_parts.model_of(config))
  encoder = judges.load_encoder(config.evaluate.encoder, judge)
  reference, results = _begin(data, judge, encoder, about, done)
  sampler = Sampler(trained)
  labels = np.tile(np.arange(len(trained.class_names), dtype=np.int32), config.sweep.per_class)  # in turns
  for number, setting in enumerate(settings, 1):
    if name(setting) in results.settings:
      continue
    asked = msgspec.structs.replace(own, **setting._asdict())
    images, seconds = _draw(sampler, labels, asked, seed=config.seed, batch_size=config.sample.batch_size)
    row = _judge(images, labels, setting, seconds, trained, judge, encoder, reference)
    results = msgspec.structs.replace(results, settings={**results.settings, name(setting): row})
    with files.replacing(workdir / 'sweep' / f'{name(setting)}.npy') as temporary, open(temporary, 'wb') as f:
      np.save(f, images[:_COLUMNS])
    sweep_results.write(workdir, results)
    logging.info('sweep: %d of %d: %s', number, len(settings), _line(row))

  rows = [results.settings[name(s)] for s in settings]
  _draw_grids(workdir / 'sweep', rows, own)
  best = recommend(rows)
  sweep_results.write_recommended(workdir, Recommended(flags=flags(best), why=WHY, **best._asdict()))
  logging.info('sweep: recommended (%s): %s', WHY, ' '.join(flags(best)))
  return True


def make_settings(config: ml_collections.ConfigDict, *, has_guide: bool) -> list[Setting]:
  """Lists scales under the config's sampler, then samplers at the config's scale; each setting once."""
  sweep, sample = config.sweep, config.sample
  scale = sample.guidance_scale if has_guide else 0.0
  found = [Setting(sample.method, sample.steps, float(s)) for s in (sweep.scales if has_guide else (0.0,))]
  for sampler in sweep.samplers:
    method, steps = sampler.split(':')
    found.append(Setting(method, int(steps), scale))
  return [setting for setting in dict.fromkeys(found) if setting.steps <= config.diffusion.timesteps]


def name(setting: Setting | SweepRow) -> str:
  """Returns a setting's name, for example `ddim_50_scale_0.5`."""
  return f'{setting.method}_{setting.steps}_scale_{setting.guidance_scale:g}'


def recommend(rows: Sequence[SweepRow]) -> Setting:
  """Chooses the setting to sample with, see `WHY`."""

  def kid(row: SweepRow) -> float:
    return float('inf') if row.kid is None else row.kid

  best = min(rows, key=kid)
  good = [row for row in rows if kid(row) <= kid(best) + (best.kid_sd or 0.0)]
  chosen = min(good, key=lambda row: (row.steps, kid(row)))
  return Setting(chosen.method, chosen.steps, chosen.guidance_scale)


def flags(setting: Setting) -> list[str]:
  """Returns the words of the command line that ask for a setting."""
  return [f'--config.sample.{key}={value}' for key, value in setting._asdict().items()]


def _about(config: ml_collections.ConfigDict, model: Description, own: SamplerSettings) -> dict[str, Any]:
  """Collects the fields of `SweepResults` that all settings share; a sweep of something else must start anew."""
  return {
    'images': config.sweep.per_class * len(model.class_names),
    'seed': config.seed,
    'checkpoint_step': model.step,
    'split_hash': model.split_hash,
    'classifier': config.evaluate.classifier,
    'encoder': config.evaluate.encoder,
    'common': Common(interval=own.interval, guidance_at=own.guidance_at, eta=own.eta, clip=own.clip),
  }


def _read(workdir: pathlib.Path, about: Mapping[str, Any]) -> dict[str, SweepRow]:
  """Reads the rows of earlier starts, if they are of the same model and images."""
  try:
    results = sweep_results.read(workdir)
  except FileNotFoundError:
    return {}
  changed = [key for key, value in about.items() if getattr(results, key) != value]
  if changed:
    folder = workdir / 'sweep'
    raise UserError(
      f'{folder / "results.json"}: of another {", ".join(changed)}; delete {folder} to sweep again'
    )
  return results.settings


def _begin(
  data: prepared.Prepared,
  judge: Judge,
  encoder: Encoder,
  about: Mapping[str, Any],
  done: dict[str, SweepRow],
) -> tuple[_Reference, SweepResults]:
  """Encodes the real images that settings are compared with, and says how good real training images would be."""
  indices, train, words = _sides(data, judge)
  real, labels = data.images[indices], data.records.labels
  reference = _Reference(words, encoder(real), labels[indices])
  floor = fidelity.summarise(
    reference.features, encoder(data.images[train]), reference.labels, labels[train], judge.class_names
  )
  results = SweepResults(
    **about,
    settings=done,
    reference=reference.words,
    judge=judge.description,
    encoded_by=encoder.description,
    real_accuracy=judge.accuracy(judge.encoder(real), reference.labels),
    floor=floor.overall,
  )
  return reference, results


def _sides(data: prepared.Prepared, judge: Judge) -> tuple[Int[np.ndarray, ' n'], Int[np.ndarray, ' m'], str]:
  """Chooses the real images that settings are compared with, and those of the floor; the judge has seen neither."""
  rest = judge.parts.rest
  if len(data.split.validation):
    return data.split.validation, rest, f'{len(data.split.validation)} real images of the validation side'
  logging.warning(
    'sweep: no validation images; settings are compared with training images, which the generator has seen: one that '
    'copies more looks better.'
  )
  half = splits.hold_out(data.records.take(rest), 0.5, np.random.default_rng([data.info.seed, 3]))
  words = f'{half.sum()} real training images that the generator has seen and the judge has not'
  return rest[half], rest[~half], words


def _draw(
  sampler: Sampler, labels: Int[np.ndarray, ' n'], asked: SamplerSettings, *, seed: int, batch_size: int
) -> tuple[UInt8[np.ndarray, 'n h w c'], float]:
  """Draws images of one setting; returns them and the seconds that they took, compilation left out."""
  defaults = SamplerSettings()
  asked = msgspec.structs.replace(asked, **{name: getattr(defaults, name) for name in NO_USE[asked.method]})
  settings = msgspec.structs.asdict(asked)
  size = min(batch_size or 64, len(labels))
  sampler.compiled(sampler.whole_devices(size), **settings)
  clock = time.monotonic()
  images = sampler(labels, seed=seed, batch_size=size, **settings)
  return images, time.monotonic() - clock


def _judge(
  images: UInt8[np.ndarray, 'n h w c'],
  labels: Int[np.ndarray, ' n'],
  setting: Setting,
  seconds: float,
  trained: Trained,
  judge: Judge,
  encoder: Encoder,
  reference: _Reference,
) -> SweepRow:
  encoded = encoder(images)
  figures = fidelity.summarise(reference.features, encoded, reference.labels, labels, trained.class_names)
  judged = encoded if encoder is judge.encoder else judge.encoder(images)
  return SweepRow(
    **setting._asdict(),
    seconds=seconds,
    classifier_accuracy=judge.accuracy(judged, labels),
    guide_accuracy=_guide_accuracy(trained, images, labels),
    **msgspec.structs.asdict(figures.overall),
  )


def _guide_accuracy(
  trained: Trained, images: UInt8[np.ndarray, 'n h w c'], labels: Int[np.ndarray, ' n']
) -> float | None:
  """Computes the share of images that the guide takes for what was asked; None without a guide."""
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


def _line(row: SweepRow) -> str:
  words = [f'{row.method} {row.steps} at scale {row.guidance_scale:g}', f'{row.seconds:.1f} s']
  figures = (('KID', row.kid), ('FID', row.fid), ('precision', row.precision), ('recall', row.recall))
  words += [f'{title} {value:.3g}' for title, value in figures if value is not None]
  return ', '.join([*words, f'judged right {100 * row.classifier_accuracy:.0f} %'])


def _draw_grids(folder: pathlib.Path, rows: Sequence[SweepRow], own: SamplerSettings) -> None:
  """Draws `scales.png`, of the config's own sampler, and `samplers.png`, of its own scale."""
  by_scale = [row for row in rows if (row.method, row.steps) == (own.method, own.steps)]
  by_sampler = [row for row in rows if row.guidance_scale == own.guidance_scale]
  sheets = {
    'scales': {name(row): f'scale {row.guidance_scale:g}' for row in by_scale},
    'samplers': {name(row): f'{row.method} {row.steps}' for row in by_sampler},
  }
  for sheet, titles in sheets.items():
    if titles:
      images = np.stack([np.load(folder / f'{setting}.npy') for setting in titles])
      with files.replacing(folder / f'{sheet}.png') as temporary:
        grid(images, list(titles.values())).save(temporary, 'PNG')
