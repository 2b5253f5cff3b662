"""What the cards of the synthetic set and of the models say: a run's results in the words of Hugging Face's cards."""

import dataclasses
import pathlib
from typing import Any

from fetal_jax.export.formats import size_category
from fetal_jax.report import copied, fidelity, filtering, paper, summary, tables
from fetal_jax.report.run import model_title

_DATA = pathlib.Path(__file__).parent.parent / 'data'
_NOT_EVALUATED = 'Not measured: the evaluate stage has not been run (--stage=evaluate).'


@dataclasses.dataclass(frozen=True)
class Source:
  """What the generator was trained on.

  Attributes:
    title: what people call it.
    licence: of what is derived from it, by Hugging Face's name.
    terms: of the source, a sentence.
    citation: BibTeX, '' if there is none.
  """

  title: str
  licence: str
  terms: str
  citation: str = ''


def source(name: str) -> Source:
  """By the name that `config.data.source` has."""
  if name == 'fetal_planes_db':
    return Source(
      'FETAL_PLANES_DB, common maternal-fetal ultrasound images (Burgos-Artizzu et al., 2020)',
      'cc-by-4.0',
      'FETAL_PLANES_DB is licensed CC BY 4.0: credit its authors, also for what is derived from it '
      '(doi:10.5281/zenodo.3904280, doi:10.1038/s41598-020-67076-5).',
      (_DATA / 'fetal_planes_db' / 'CITATIONS.bib').read_text(encoding='utf-8').strip(),
    )
  if name == 'fetal_phantom':
    return Source(
      'fetal_phantom, planes drawn by fetal_jax', 'apache-2.0', 'The planes are drawn, of nobody: Apache-2.0.'
    )
  return Source(
    'images of the user',
    'other',
    'The licence is that which the owner of the training images grants; state it here before publishing.',
  )


def facts(results: dict[str, Any]) -> dict[str, Any]:
  """All that the two templates show; plain values, cells and sentences."""
  data, rounds = results['data'], results['rounds']
  drawn = sum(sum((r['counts'] or {}).values()) for r in rounds)
  return {
    'results': results,
    'name': results['name'],
    'paper': paper,
    'source': source(data['source'] if data else ''),
    'data': data,
    'rounds': rounds,
    'drawn': drawn,
    'size': size_category(drawn),
    'sampler': _sampler(rounds),
    'kept': _kept(results),
    'training': _training(results),
    'did_it_help': summary.did_it_help(results),
    'longer_training': summary.longer_training(results),
    'was_it_copied': summary.was_it_copied(results),
    'overlap': copied.overlap(data),
    'caveat': copied.caveat(results),
    'counts': _counts(rounds),
    'accuracies': _accuracies(results),
    'fidelity': fidelity.overall(results),
    'agreement': fidelity.agreement(results),
    'copies': copied.table(results),
    'code': _code(results),
    'not_evaluated': _NOT_EVALUATED,
    'protocol': tables.protocol(results),
    'models': [model_title(model) for model in summary.groups(results['runs'])],
  }


def _code(results: dict[str, Any]) -> str:
  version, commit = results['versions'].get('fetal_jax'), results['git_commit']
  return f'fetal_jax{f" {version}" if version else ""}{f", git commit {commit[:12]}" if commit else ""}'


def _counts(rounds: list[dict[str, Any]]) -> tables.Table | None:
  """Images by class and round."""
  if not rounds:
    return None
  names = list(dict.fromkeys(name for r in rounds for name in r['counts'] or {}))
  rows = [[name, *((r['counts'] or {}).get(name, 0) for r in rounds)] for name in names]
  rows.append(['all', *(sum((r['counts'] or {}).values()) for r in rounds)])
  cells = [[tables.Cell(n if isinstance(n, str) else f'{n:,}') for n in row] for row in rows]
  return tables.Table('counts', 'Images', ['Class', *(f'Round {r["round"]}' for r in rounds)], cells)


def _sampler(rounds: list[dict[str, Any]]) -> list[str]:
  """How the images were drawn, a sentence a round."""
  lines = []
  for r in rounds:
    settings = ', '.join(
      f'{key} {value}' for key, value in (r['sampler'] or {}).items() if isinstance(value, str | int | float)
    )
    step = (r['checkpoint'] or {}).get('step')
    lines.append(
      f'Round {r["round"]}: {settings}; seed {r["seed"]}'
      + (f'; checkpoint of step {step:,}' if isinstance(step, int) else '')
    )
  return lines


def _kept(results: dict[str, Any]) -> str:
  """That a filter found some of the images better than others; '' where none has run."""
  kept = results['filter'] and results['filter']['kept']
  if not kept:
    return ''
  return f'{filtering.choice(kept)}; synthetic/kept.json lists them. This set holds all images.'


def _training(results: dict[str, Any]) -> list[str]:
  """How generator and classifiers were trained."""
  lines = []
  diffusion, classify = (results['config'].get(key) or {} for key in ('diffusion', 'classify'))
  if diffusion:
    unet = diffusion.get('unet') or {}
    asked = {
      'steps': diffusion.get('steps'),
      'batch size': diffusion.get('batch_size'),
      'noise schedule': diffusion.get('schedule'),
      'timesteps': diffusion.get('timesteps'),
      'learning rate': diffusion.get('learning_rate'),
      'UNet width': unet.get('width'),
    }
    lines.append(f'Diffusion model: {_listed(asked)}')
  if diffusion.get('init_from'):
    lines.append(f'It started from weights of elsewhere: {", ".join(map(str, diffusion["init_from"]))}')
  if classify and results['runs']:
    asked = {
      'epochs': classify.get('epochs'),
      'batch size': classify.get('batch_size'),
      'learning rate': classify.get('learning_rate'),
      'seeds': classify.get('num_seeds'),
    }
    lines.append(f'Classifiers: {_listed(asked)}')
  if classify.get('init_from'):
    lines.append(f'Some started from weights of elsewhere: {", ".join(map(str, classify["init_from"]))}')
  return lines


def _listed(asked: dict[str, Any]) -> str:
  return ', '.join(
    f'{key} {value:,}' if isinstance(value, int) else f'{key} {value}'
    for key, value in asked.items()
    if value is not None
  )


def _accuracies(results: dict[str, Any]) -> tables.Table | None:
  """Test accuracy of every model and regime with its interval."""
  rows = []
  compared = results['comparisons']['models']
  for model, by_regime in summary.groups(results['runs']).items():
    for regime, runs in by_regime.items():
      known = compared.get(model, {}).get('regimes', {}).get(regime)
      value, ends = summary.mean_accuracy(runs), tables.DASH
      if known and known['scores']['accuracy']['low'] is not None:
        score = known['scores']['accuracy']
        ends = f'{100 * score["low"]:.1f} to {100 * score["high"]:.1f}'
      title = summary.regime_title(regime, results['rounds'])
      row = (model_title(model), title, f'{100 * value:.1f}', ends, str(len(runs)))
      rows.append([tables.Cell(text) for text in row])
  columns = ['Model', 'Trained on', 'Test accuracy (%)', '95 % interval', 'Seeds']
  return tables.Table('accuracies', 'Test accuracy', columns, rows, text_columns=2) if rows else None
