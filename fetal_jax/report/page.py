"""The report stage: one self-contained page, and the same as Markdown, JSON and CSV."""

import base64
import dataclasses
import math
import pathlib
import re
from typing import Any

import ml_collections
from absl import logging

from fetal_jax import files
from fetal_jax.files import PathLike
from fetal_jax.report import collect, figures, paper, summary, tables
from fetal_jax.train.regimes import REGIMES

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


def run(config: ml_collections.ConfigDict, workdir: PathLike) -> None:
  """Writes `report/` (index.html, report.md, results.json, results.csv, figures/) from what is in the workdir.

  What earlier stages have not left is named on the page. If neither their files nor the setting nor the
  report's own code has changed since, nothing is written.

  Args:
    config: only `config.report.show_real_images` is read: whether the page shows real training images.
    workdir: the run's folder.

  Raises:
    UserError: a file of the workdir is damaged.
  """
  workdir = pathlib.Path(workdir)
  report = workdir / 'report'
  show_real_images = config.report.show_real_images
  inputs = collect.digest(workdir, show_real_images)
  if _is_done(report, inputs):
    logging.info('report: nothing has changed since %s was written', report / 'index.html')
    return

  results = collect.read_results(workdir)
  content = compose(results, workdir, show_real_images=show_real_images)
  pictures = content.pop('all_pictures')
  (report / 'figures').mkdir(parents=True, exist_ok=True)
  for picture in pictures:
    with files.replacing(report / 'figures' / picture.file) as temporary:
      temporary.write_bytes(picture.data['light'])
  # What an earlier report showed and this one does not must go: it may be images that are not to be published.
  for path in (report / 'figures').iterdir():
    if path.name not in {picture.file for picture in pictures}:
      path.unlink()
  files.write_text(report / 'results.csv', tables.runs_csv(results))
  files.write_text(report / 'report.md', render('page.md', content))
  files.write_text(report / 'index.html', render('page.html', content))
  # Last, because it says that all of it is there.
  files.write_json(
    report / 'results.json', _json({'inputs': inputs, 'summary': content['headline'], **results})
  )
  for sentence in results['missing']:
    logging.info('report: %s', sentence)
  logging.info('report: %s', (report / 'index.html').resolve())


def _is_done(report: pathlib.Path, inputs: str) -> bool:
  if not all(
    (report / name).is_file() for name in ('index.html', 'report.md', 'results.json', 'results.csv')
  ):
    return False
  try:
    return files.read_json(report / 'results.json').get('inputs') == inputs
  except ValueError:
    return False


def compose(results: dict[str, Any], workdir: PathLike, *, show_real_images: bool) -> dict[str, Any]:
  """Everything that the templates show, in the page's order."""
  workdir = pathlib.Path(workdir)
  models = [
    {
      'table': table,
      'confusions': _confusions(model, by, results),
      'curves': _classifier_curves(model, by, results),
    }
    for (model, by), table in zip(
      summary.groups(results['runs']).items(), tables.by_model(results), strict=True
    )
  ]
  examples = _examples(results, workdir, show_real_images)
  content = {
    'results': results,
    'headline': summary.headline(results),
    'facts': _facts(results),
    'stages': tables.stages(results),
    'split_counts': tables.split_counts(results),
    'synthetic_counts': tables.synthetic_counts(results),
    'overview': tables.overview(results),
    'accuracy': _accuracies(results),
    'models': models,
    'regimes': _regimes(results),
    'examples': examples,
    'previews': _previews(results, workdir, examples),
    'diffusion': _diffusion_curves(results, workdir),
    'overlap': _overlap(results['data']),
    'limits': _limits(results),
    'paper': paper,
  }
  return content | {'all_pictures': list(_pictures(content))}


def render(template: str, content: dict[str, Any]) -> str:
  """Fills a template; everything that is put into HTML is escaped."""
  import jinja2

  environment = jinja2.Environment(
    loader=jinja2.PackageLoader('fetal_jax.report', 'templates'),
    autoescape=template.endswith('.html'),
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
  )
  environment.filters['markdown_table'] = tables.markdown
  environment.filters['markdown'] = tables.escape_markdown
  return environment.get_template(template).render(content)


def _chart(name: str, alt: str, caption: str, draw: Any, *args: Any) -> Picture:
  data = {theme: figures.svg(draw, *args, theme=colours) for theme, colours in figures.THEMES.items()}
  return Picture(f'{name}.svg', alt, caption, data)


def _accuracies(results: dict[str, Any]) -> Picture | None:
  if not results['runs']:
    return None
  said = [
    f'{collect.model_title(model)}: '
    + ', '.join(f'{regime} {tables.percent(_mean(runs))} %' for regime, runs in by_regime.items())
    for model, by_regime in summary.groups(results['runs']).items()
  ]
  alt = f'Test accuracy by model and regime. {"; ".join(said)}.'
  caption = 'Test accuracy by model and regime. Filled: this run, bars one standard deviation over seeds. Hollow: the paper.'
  return _chart('accuracy', alt, caption, figures.accuracies, results)


def _mean(runs: list[dict[str, Any]]) -> tuple[float, float | None] | None:
  return summary.mean_and_sd([summary.SCORES['accuracy'](run) for run in runs])


def _confusions(
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
    what = f'{collect.model_title(model)}, {title[0].lower()}{title[1:]}'
    seeds = f', counts over {len(runs)} seeds' if len(runs) > 1 else ''
    alt = f'Confusion matrix of {what}. Right by class: {diagonal}.'
    pictures.append(
      _chart(f'confusion_{model}_{regime}', alt, f'{title}{seeds}', figures.confusion, counts, names)
    )
  return pictures


def _classifier_curves(
  model: str, by_regime: dict[str, list[dict[str, Any]]], results: dict[str, Any]
) -> list[Picture]:
  rows = [row for runs in by_regime.values() for run in runs for row in run.get('history') or ()]
  title = collect.model_title(model)
  said = {
    'train_loss': 'training loss',
    'validation_accuracy': 'validation accuracy',
    'test_accuracy': 'test accuracy',
  }
  return [
    _chart(
      f'curves_{model}_{key}',
      f'{title}: {what} against epochs, a line a regime.',
      f'{what[0].upper()}{what[1:]}',
      figures.classifier_curves,
      by_regime,
      results['rounds'],
      key,
    )
    for key, what in said.items()
    if any(row.get(key) is not None for row in rows)
  ]


def _diffusion_curves(results: dict[str, Any], workdir: pathlib.Path) -> list[Picture]:
  curves = collect.read_curves(workdir / 'logs' / 'diffusion' / 'metrics.jsonl')
  timesteps = (results['config'].get('diffusion') or {}).get('timesteps') or 1000
  num_classes = len(results['data']['class_names']) if results['data'] else 0
  pictures = []
  if any(key.startswith('unet/loss') for key in curves):
    alt = 'Loss of the UNet against optimiser steps, a line for each quarter of the noise levels.'
    caption = 'Loss of the UNet by noise level: t is the timestep; a small t means little noise.'
    pictures.append(_chart('diffusion_loss', alt, caption, figures.diffusion_loss, curves, timesteps))
  if any(re.match('guide/(heldout_)?accuracy', key) for key in curves):
    alt = 'Accuracy of the guide on noised images against optimiser steps, a line for each quarter of the noise levels.'
    caption = 'Accuracy of the guide on noised images by noise level. Near chance at high noise is normal.'
    pictures.append(
      _chart('guide_accuracy', alt, caption, figures.guide_accuracy, curves, timesteps, num_classes)
    )
  return pictures


def _examples(results: dict[str, Any], workdir: pathlib.Path, show_real_images: bool) -> list[dict[str, Any]]:
  """For each class a strip of real and one of synthetic images; `real` is None where it is not to be shown."""
  real = collect.real_examples(workdir, EXAMPLES_PER_CLASS) if show_real_images else {}
  synthetic = {}
  if results['rounds']:
    synthetic = collect.synthetic_examples(workdir / results['rounds'][0]['folder'], EXAMPLES_PER_CLASS)
  names = results['data']['class_names'] if results['data'] else list(synthetic)
  rows = []
  for k, name in enumerate(names):
    row: dict[str, Any] = {'name': name, 'real': None, 'synthetic': None}
    for kind, images in (('real', real), ('synthetic', synthetic)):
      if name in images and len(images[name]):
        alt = f'{len(images[name])} {kind} images of the class {name}'
        file = f'{kind}_{k}_{re.sub(r"[^A-Za-z0-9]+", "_", name)}.png'
        row[kind] = Picture(file, alt, alt, {'light': figures.strip(images[name])})
    rows.append(row)
  return rows


def _previews(
  results: dict[str, Any], workdir: pathlib.Path, examples: list[dict[str, Any]]
) -> list[Picture]:
  """Sheets that earlier stages drew: the last of the training, and of rounds that have no examples."""
  pictures = []
  sheets = sorted((workdir / 'diffusion' / 'samples').glob('step_*.png'), key=lambda p: (len(p.name), p.name))
  if sheets:
    step = int(re.sub(r'\D', '', sheets[-1].stem) or 0)
    caption = f'Synthetic images during training, after {step:,} steps, a row a class'
    pictures.append(Picture('training_samples.png', caption, caption, {'light': sheets[-1].read_bytes()}))
  if not any(row['synthetic'] for row in examples):
    for r in results['rounds']:
      path = workdir / r['folder'] / 'preview.png'
      if path.is_file():
        caption = f'Synthetic images of round {r["round"]}, a row a class'
        pictures.append(Picture(f'round_{r["round"]}.png', caption, caption, {'light': path.read_bytes()}))
  return pictures


def _facts(results: dict[str, Any]) -> list[tuple[str, str]]:
  """What ran, as (term, value) pairs."""
  data, asked = results['data'], results['config']
  facts = [('Configuration', results['name'])]
  if data:
    colour = {1: 'grey', 3: 'RGB'}.get(data['channels'], '')
    facts += [
      ('Data', str(data['source'])),
      ('Split', f'{data["split"]} (seed {data["seed"]}, hash {data["split_hash"][:12]})'),
      ('Images', f'{data["image_size"]} × {data["image_size"]} px, {colour}'),
    ]
  trained = asked.get('diffusion') or {}
  if results['diffusion'] and trained:
    facts.append(
      (
        'Diffusion model',
        f'{trained["steps"]:,} steps of batch {trained["batch_size"]:,}, UNet width {trained["unet"]["width"]}',
      )
    )
  for r in results['rounds'][:1]:
    sampler = ', '.join(
      f'{key} {value}' for key, value in (r['sampler'] or {}).items() if isinstance(value, str | int | float)
    )
    step = (r['checkpoint'] or {}).get('step')
    facts.append(('Sampler', sampler + (f'; checkpoint of step {step:,}' if isinstance(step, int) else '')))
  if results['runs']:
    facts.append(('Model selection', tables.protocol(results)))
  facts.append(
    ('Code', f'git commit {results["git_commit"][:12]}' if results['git_commit'] else 'git commit unknown')
  )
  if results['versions']:
    facts.append(
      ('Versions', ', '.join(f'{name} {version}' for name, version in results['versions'].items()))
    )
  return facts


def _regimes(results: dict[str, Any]) -> list[tuple[str, str, str]]:
  """(title, paper's words, what it is) for the regimes that were run."""
  ran = [regime for regime in REGIMES if any(run['regime'] == regime for run in results['runs'])]
  return [
    (summary.regime_title(regime, results['rounds']), paper.REGIMES[regime], _WHAT_REGIMES_ARE[regime])
    for regime in ran
  ]


_WHAT_REGIMES_ARE = {
  'real': 'The real training images, rotated and flipped at random. What everything else is measured against.',
  'synth_r1': 'No real image at all: the synthetic images of round 1. How much of the task the generator has caught.',
  'synth_r1_then_real': 'Starts from the weights of the regime on round 1 alone, then trains on the real images.',
  'synth_r1_plus_real': 'Real images and those of round 1 in one training set.',
  'synth_r12': 'The synthetic images of both rounds, no real one.',
  'synth_r12_then_real': 'Starts from the weights of the regime on both rounds, then trains on the real images.',
}


def _overlap(data: dict[str, Any] | None) -> str:
  """Plainly: who is seen on both sides of the split."""
  if data is None:
    return ''
  share, shared = data['test_patient_overlap'], data['shared_patients']
  if not shared:
    return 'No patient is on both sides of the split: test images show people whom neither generator nor classifier has seen.'
  text = (
    f'{shared:,} patients are on both sides of the split: {100 * share:.0f} % of the test images show a patient who is '
    f'also on the training side, and {100 * data["test_patient_class_overlap"]:.0f} % show that patient in the same class. '
    'Test accuracies are therefore optimistic for new patients.'
  )
  if data['split'] == 'paper':
    text += (
      ' The split reproduces the counts of the paper; for new patients take one that keeps patients apart '
      '("patient", or "official" where the source has it).'
    )
  return text


def _limits(results: dict[str, Any]) -> list[str]:
  limits = [
    'For research only. Neither the synthetic images nor the classifiers have been examined for use in care.',
    'Synthetic images carry the label that was asked of the generator; no clinician has confirmed what they show.',
    'A generator can repeat its training images. Before publishing synthetic images, compare them with those.',
    paper.OPEN,
  ]
  if results['data'] and results['data']['split'] == 'paper':
    limits.insert(
      1, 'The split is by image, not by patient: accuracies say little about patients never seen.'
    )
  if (
    results['runs']
    and max(len(runs) for by in summary.groups(results['runs']).values() for runs in by.values()) == 1
  ):
    limits.append('One seed: how much an accuracy changes from one training to the next is not known here.')
  if any(run['protocol'] == 'paper' for run in results['runs']):
    limits.append(
      'The epoch was chosen on the test set, as in the paper: accuracies are the best of many looks.'
    )
  return limits


def _pictures(content: Any) -> list[Picture]:
  """All pictures in (nested) content."""
  if isinstance(content, Picture):
    return [content]
  values = content.values() if isinstance(content, dict) else content if isinstance(content, list) else ()
  return [picture for value in values for picture in _pictures(value)]


def _json(value: Any) -> Any:
  """`value` for strict JSON: numbers that are not finite become null, curves are left to the logs."""
  if isinstance(value, dict):
    return {str(k): _json(v) for k, v in value.items() if k != 'history'}
  if isinstance(value, list | tuple):
    return [_json(v) for v in value]
  return None if isinstance(value, float) and not math.isfinite(value) else value
