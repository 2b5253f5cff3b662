"""The report's pictures: what each shows, and what it says to who cannot see it."""

import base64
import dataclasses
import pathlib
import re
from typing import Any

from fetal_jax.report import charts, summary, tables
from fetal_jax.report import examples as sources
from fetal_jax.report import run as run_lib
from fetal_jax.runtime.metrics import read_curves

EXAMPLES_PER_CLASS = 6


@dataclasses.dataclass(frozen=True)
class Picture:
  """A picture of the page: its file under `figures/`, what it says to who cannot see it, and its caption.

  `data` holds the bytes by theme; an image that needs only one version has 'light' alone.
  """

  file: str
  alt: str
  caption: str
  data: dict[str, bytes]

  def uri(self, theme: str) -> str:
    """The picture as a data URI, so that the page needs no other file."""
    kind = 'svg+xml' if self.file.endswith('.svg') else 'png'
    return f'data:image/{kind};base64,{base64.b64encode(self.data[theme]).decode()}'


def chart(name: str, alt: str, caption: str, draw: Any, *args: Any) -> Picture:
  """`draw(*args, theme)` in both themes."""
  data = {theme: charts.svg(draw, *args, theme=colours) for theme, colours in charts.THEMES.items()}
  return Picture(f'{name}.svg', alt, caption, data)


def accuracies(results: dict[str, Any]) -> Picture | None:
  """Test accuracy by model and regime beside the paper's; None without runs of the main regimes."""
  if not summary.groups(results['runs']):
    return None
  said = [
    f'{run_lib.model_title(model)}: '
    + ', '.join(f'{regime} {tables.percent(_mean(runs))} %' for regime, runs in by_regime.items())
    for model, by_regime in summary.groups(results['runs']).items()
  ]
  alt = f'Test accuracy by model and regime. {"; ".join(said)}.'
  caption = 'Test accuracy by model and regime. Filled: this run, bars one standard deviation over seeds. Hollow: the paper.'
  return chart('accuracy', alt, caption, charts.accuracies, results)


def _mean(runs: list[dict[str, Any]]) -> tuple[float, float | None] | None:
  return summary.mean_and_sd([summary.SCORES['accuracy'](run) for run in runs])


def confusions(
  model: str, by_regime: dict[str, list[dict[str, Any]]], results: dict[str, Any]
) -> list[Picture]:
  """Confusion matrices of real images alone and of the best regime with synthetic ones, summed over seeds."""
  pictures = []
  for regime in dict.fromkeys(['real', summary.best_regime(by_regime, synthetic_only=True)]):
    runs = [run for run in by_regime.get(regime or '', []) if run['scores']]
    if not runs:
      continue
    names = tables.classes(runs[0])
    counts = [
      [sum(cells) for cells in zip(*rows, strict=True)]
      for rows in zip(*(r['scores']['confusion'] for r in runs), strict=True)
    ]
    title = summary.regime_title(str(regime), results['rounds'])
    diagonal = ', '.join(
      f'{name} {100 * row[k] / max(sum(row), 1):.0f} %'
      for k, (name, row) in enumerate(zip(names, counts, strict=True))
    )
    what = f'{run_lib.model_title(model)}, {title[0].lower()}{title[1:]}'
    seeds = f', counts over {len(runs)} seeds' if len(runs) > 1 else ''
    alt = f'Confusion matrix of {what}. Right by class: {diagonal}.'
    pictures.append(
      chart(f'confusion_{model}_{regime}', alt, f'{title}{seeds}', charts.confusion, counts, names)
    )
  return pictures


def classifier_curves(
  model: str, by_regime: dict[str, list[dict[str, Any]]], results: dict[str, Any]
) -> list[Picture]:
  """Loss and accuracies of one model's runs against epochs, those that its history has."""
  rows = [row for runs in by_regime.values() for run in runs for row in run.get('history') or ()]
  title = run_lib.model_title(model)
  said = {
    'train_loss': 'training loss',
    'validation_accuracy': 'validation accuracy',
    'test_accuracy': 'test accuracy',
  }
  return [
    chart(
      f'curves_{model}_{key}',
      f'{title}: {what} against epochs, a line a regime.',
      f'{what[0].upper()}{what[1:]}',
      charts.classifier_curves,
      by_regime,
      results['rounds'],
      key,
    )
    for key, what in said.items()
    if any(row.get(key) is not None for row in rows)
  ]


def diffusion_curves(results: dict[str, Any], workdir: pathlib.Path) -> list[Picture]:
  """Loss of the UNet and accuracy of the guide by noise level, those that were logged."""
  curves = read_curves(workdir / 'logs' / 'diffusion' / 'metrics.jsonl')
  timesteps = (results['config'].get('diffusion') or {}).get('timesteps') or 1000
  num_classes = len(results['data']['class_names']) if results['data'] else 0
  pictures = []
  if any(key.startswith('unet/loss') for key in curves):
    alt = 'Loss of the UNet against optimiser steps, a line for each quarter of the noise levels.'
    caption = 'Loss of the UNet by noise level: t is the timestep; a small t means little noise.'
    pictures.append(chart('diffusion_loss', alt, caption, charts.diffusion_loss, curves, timesteps))
  if any(re.match('guide/(heldout_)?accuracy', key) for key in curves):
    alt = 'Accuracy of the guide on noised images against optimiser steps, a line for each quarter of the noise levels.'
    caption = 'Accuracy of the guide on noised images by noise level. Near chance at high noise is normal.'
    pictures.append(
      chart('guide_accuracy', alt, caption, charts.guide_accuracy, curves, timesteps, num_classes)
    )
  return pictures


def examples(results: dict[str, Any], workdir: pathlib.Path, show_real_images: bool) -> list[dict[str, Any]]:
  """For each class a strip of real and one of synthetic images; `real` is None where it is not to be shown."""
  real = sources.real_examples(workdir, EXAMPLES_PER_CLASS) if show_real_images else {}
  synthetic = {}
  if results['rounds']:
    synthetic = sources.synthetic_examples(workdir / results['rounds'][0]['folder'], EXAMPLES_PER_CLASS)
  names = results['data']['class_names'] if results['data'] else list(synthetic)
  rows = []
  for k, name in enumerate(names):
    row: dict[str, Any] = {'name': name, 'real': None, 'synthetic': None}
    for kind, images in (('real', real), ('synthetic', synthetic)):
      if name in images and len(images[name]):
        alt = f'{len(images[name])} {kind} images of the class {name}'
        file = f'{kind}_{k}_{re.sub(r"[^A-Za-z0-9]+", "_", name)}.png'
        row[kind] = Picture(file, alt, alt, {'light': charts.strip(images[name])})
    rows.append(row)
  return rows


def previews(results: dict[str, Any], workdir: pathlib.Path, strips: list[dict[str, Any]]) -> list[Picture]:
  """Sheets that earlier stages drew: the last of the training, and of rounds that have no examples."""
  pictures = []
  sheets = sorted((workdir / 'diffusion' / 'samples').glob('step_*.png'), key=lambda p: (len(p.name), p.name))
  if sheets:
    step = int(re.sub(r'\D', '', sheets[-1].stem) or 0)
    caption = f'Synthetic images during training, after {step:,} steps, a row a class'
    pictures.append(Picture('training_samples.png', caption, caption, {'light': sheets[-1].read_bytes()}))
  if not any(row['synthetic'] for row in strips):
    for r in results['rounds']:
      path = workdir / r['folder'] / 'preview.png'
      if path.is_file():
        caption = f'Synthetic images of round {r["round"]}, a row a class'
        pictures.append(Picture(f'round_{r["round"]}.png', caption, caption, {'light': path.read_bytes()}))
  return pictures


def all_in(content: Any) -> list[Picture]:
  """All pictures in (nested) content."""
  if isinstance(content, Picture):
    return [content]
  values = content.values() if isinstance(content, dict) else content if isinstance(content, list) else ()
  return [picture for value in values for picture in all_in(value)]
