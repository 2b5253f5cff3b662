"""The report stage: one self-contained page, the same as Markdown, JSON and CSV, and cards of data and models."""

import math
import pathlib
import re
from typing import Any

import ml_collections
from absl import logging

from fetal_jax.report import (
  audit_pictures,
  cards,
  certainty,
  copied,
  curve,
  fidelity,
  filtering,
  paper,
  pictures,
  summary,
  sweeps,
  tables,
)
from fetal_jax.report import run as run_lib
from fetal_jax.runtime import files
from fetal_jax.runtime.files import PathLike
from fetal_jax.train.regimes import CONTROL, REGIMES

CARDS = ('dataset', 'model')  # templates and files


def run(config: ml_collections.ConfigDict, workdir: PathLike) -> bool:
  """Writes `report/` (index.html, report.md, results.json, results.csv, figures/, cards/) from what is in the workdir.

  What earlier stages have not left is named on the page. If neither their files nor the setting nor the
  report's own code has changed since, nothing is written.

  Args:
    config: only `config.report.show_real_images` is read: whether the page shows real training images.
    workdir: the run's folder.

  Returns:
    Whether there was anything to do.

  Raises:
    UserError: a file of the workdir is damaged.
  """
  workdir = pathlib.Path(workdir)
  report = workdir / 'report'
  show_real_images = config.report.show_real_images
  inputs = run_lib.digest(workdir, show_real_images)
  if _is_done(report, inputs):
    logging.info('report: nothing has changed since %s was written', report / 'index.html')
    return False

  results = run_lib.read_results(workdir)
  content = compose(results, workdir, show_real_images=show_real_images)
  shown = content.pop('all_pictures')
  (report / 'figures').mkdir(parents=True, exist_ok=True)
  for picture in shown:
    with files.replacing(report / 'figures' / picture.file) as temporary:
      temporary.write_bytes(picture.data['light'])
  # What an earlier report showed and this one does not must go: it may be images that are not to be published.
  for path in (report / 'figures').iterdir():
    if path.name not in {picture.file for picture in shown}:
      path.unlink()
  files.write_text(report / 'results.csv', tables.runs_csv(results))
  files.write_text(report / 'report.md', render('page.md', content))
  files.write_text(report / 'index.html', render('page.html', content))
  about = cards.facts(results)
  for card in CARDS:
    files.write_text(report / 'cards' / f'{card}.md', render(f'{card}_card.md', about))
  # Last, because it says that all of it is there.
  files.write_json(
    report / 'results.json', _json({'inputs': inputs, 'summary': content['headline'], **results})
  )
  for sentence in results['missing']:
    logging.info('report: %s', sentence)
  logging.info('report: %s', (report / 'index.html').resolve())
  return True


def _is_done(report: pathlib.Path, inputs: str) -> bool:
  if not all(
    (report / name).is_file()
    for name in (
      'index.html',
      'report.md',
      'results.json',
      'results.csv',
      *(f'cards/{card}.md' for card in CARDS),
    )
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
      'confusions': pictures.confusions(model, by, results),
      'curves': pictures.classifier_curves(model, by, results),
    }
    for (model, by), table in zip(
      summary.groups(results['runs']).items(), tables.by_model(results), strict=True
    )
  ]
  examples = pictures.examples(results, workdir, show_real_images)
  content = {
    'results': results,
    'headline': summary.headline(results),
    'facts': _facts(results),
    'stages': tables.stages(results),
    'split_counts': tables.split_counts(results),
    'synthetic_counts': tables.synthetic_counts(results),
    'overview': tables.overview(results),
    'best_of_many': summary.best_of_many(results),
    'accuracy': pictures.accuracies(results),
    'certainty': {
      'differences': certainty.differences(results),
      'mcnemar': certainty.mcnemar(results),
      'scores': certainty.scores(results),
      'calibration': certainty.calibration(results),
      'reliability': [
        picture
        for model, by in summary.groups(results['runs']).items()
        if (picture := audit_pictures.reliability(model, by, results))
      ],
      'groups': certainty.subgroups(results),
      'longer_training': summary.longer_training(results),
    },
    'curve': curve.section(results),
    'filter': filtering.section(results, workdir),
    'models': models,
    'fidelity': {
      'overall': fidelity.overall(results),
      'agreement': fidelity.agreement(results),
      'by_class': fidelity.by_class(results),
    },
    'copied': {
      'verdict': summary.was_it_copied(results),
      'caveat': copied.caveat(results),
      'table': copied.table(results),
      'ratios': audit_pictures.ratios(results),
      'pairs': audit_pictures.pairs(results, workdir, show_real_images),
    },
    'leakage': copied.leakage(results),
    'sweep': {
      'table': sweeps.table(results),
      'grids': audit_pictures.sweep_grids(results, workdir),
      'flags': sweeps.flags(results),
    },
    'regimes': _regimes(results),
    'examples': examples,
    'previews': pictures.previews(results, workdir, examples),
    'diffusion': pictures.diffusion_curves(results, workdir),
    'limits': _limits(results),
    'paper': paper,
  }
  return content | {'all_pictures': list(pictures.all_in(content))}


def render(template: str, content: dict[str, Any]) -> str:
  """Fills a template; everything that is put into HTML is escaped."""
  import jinja2

  environment = jinja2.Environment(
    loader=jinja2.PackageLoader('fetal_jax.report', 'templates'),
    autoescape=template.endswith('.html'),
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
  )
  environment.policies['json.dumps_kwargs'] = {'ensure_ascii': False}
  environment.globals['zip'] = zip
  environment.filters['markdown_table'] = tables.markdown
  environment.filters['tied'] = lambda text: re.sub(r'(?<=\d) (?=%)', '\u00a0', text)
  environment.filters['markdown'] = tables.escape_markdown
  return environment.get_template(template).render(content)


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
  ran = [regime for regime in (*REGIMES, CONTROL) if any(run['regime'] == regime for run in results['runs'])]
  return [
    (
      summary.regime_title(regime, results['rounds']),
      paper.REGIMES.get(regime, ''),
      _WHAT_REGIMES_ARE[regime],
    )
    for regime in ran
  ]


_WHAT_REGIMES_ARE = {
  'real': 'The real training images, rotated and flipped at random. What everything else is measured against.',
  'synth_r1': 'No real image at all: the synthetic images of round 1. How much of the task the generator has caught.',
  'synth_r1_then_real': 'Starts from the weights of the regime on round 1 alone, then trains on the real images.',
  'synth_r1_plus_real': 'Real images and those of round 1 in one training set.',
  'synth_r12': 'The synthetic images of both rounds, no real one.',
  'synth_r12_then_real': 'Starts from the weights of the regime on both rounds, then trains on the real images.',
  CONTROL: 'A control that the paper does not have: starts from the weights of the regime on real images, and trains on '
  'them again. What of a gain is longer training.',
}


def _limits(results: dict[str, Any]) -> list[str]:
  limits = [
    'For research only. Neither the synthetic images nor the classifiers have been examined for use in care.',
    'Synthetic images carry the label that was asked of the generator; no clinician has confirmed what they show.',
    'A generator can repeat its training images. The search for copies finds what is near in pixels or features; it does '
    'not prove that nobody can be recognised.'
    if results['evaluation']
    else 'A generator can repeat its training images. Before publishing synthetic images, compare them with those: '
    'run --stage=evaluate.',
    paper.OPEN,
  ]
  if results['data'] and results['data']['split'] == 'paper':
    limits.insert(
      1, 'The split is by image, not by patient: accuracies say little about patients never seen.'
    )
  if results['runs'] and all(run['seed'] == results['runs'][0]['seed'] for run in results['runs']):
    limits.append('One seed: how much an accuracy changes from one training to the next is not known here.')
  if longer := summary.longer_training(results):
    limits.append(longer)
  if any(run['protocol'] == 'paper' for run in results['runs']):
    limits.append(
      'The epoch was chosen on the test set, as in the paper: accuracies are the best of many looks.'
    )
  return limits


def _json(value: Any) -> Any:
  """`value` for strict JSON: numbers that are not finite become null, curves are left to the logs."""
  if isinstance(value, dict):
    return {str(k): _json(v) for k, v in value.items() if k != 'history'}
  if isinstance(value, list | tuple):
    return [_json(v) for v in value]
  return None if isinstance(value, float) and not math.isfinite(value) else value
