"""The cards of the synthetic set and of the models: a run's results in the form of Hugging Face's cards."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2

from fetal_jax.data.rounds import Manifest
from fetal_jax.export.formats import size_category
from fetal_jax.report import markdown, paper, pixel_rows, sizes, sources
from fetal_jax.report.estimates import too_narrow, unit_of_run
from fetal_jax.report.format import Ends
from fetal_jax.report.groups import groups, mean_accuracy
from fetal_jax.report.names import regime_title
from fetal_jax.report.page import DASH, Cell, Table
from fetal_jax.report.run import Data, Run, num_images
from fetal_jax.report.sections import accuracy, copies, fidelity, filter, leakage, ran, summary
from fetal_jax.report.sources import Source

CARDS = ('dataset', 'model')  # templates and files


@dataclasses.dataclass(frozen=True)
class Facts:
  """All that the templates show; '', [] or None where it is not known."""

  name: str
  source: Source
  title: str
  unit: str  # that intervals are over
  too_narrow: str  # why intervals may be
  code: str
  citation: str  # of the paper
  data: Data | None
  split: str
  overlap: str
  trained_on: str
  models: list[str]
  drawn: int
  size: str
  counts: Table | None
  sampler: list[str]
  kept: str
  training: list[str]
  did_it_help: str
  accuracies: Table | None
  protocol: str
  fidelity: Table | None
  agrees: str
  was_it_copied: str
  caveat: str
  copies: Table | None


def texts(run: Run) -> dict[str, str]:
  """Returns the Markdown of every card."""
  environment = jinja2.Environment(
    loader=jinja2.PackageLoader('fetal_jax.report', 'templates'),
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
  )
  environment.policies['json.dumps_kwargs'] = {'ensure_ascii': False}
  environment.filters['markdown_table'] = markdown.table
  environment.filters['markdown'] = markdown.escape
  about = vars(facts(run))
  return {card: environment.get_template(f'{card}_card.md').render(about) for card in CARDS}


def facts(run: Run) -> Facts:
  """Collects what the cards show."""
  data, found, source = run.data, run.evaluation, sources.of_run(run)
  drawn = sum(map(num_images, run.rounds))
  return Facts(
    name=run.name,
    source=source,
    title=f'Synthetic {source.images}',
    unit=unit_of_run(run),
    too_narrow=too_narrow(run),
    code=_code(run),
    citation=paper.CITATION,
    data=data,
    split=leakage.split_title(data) if data else '',
    overlap=leakage.overlap(data) if data else '',
    trained_on=found.leakage.trained_on if found else '',
    models=[sizes.titled(run, model) for model in groups(run.runs)],
    drawn=drawn,
    size=size_category(drawn),
    counts=_counts(run.rounds),
    sampler=_sampler(run.rounds),
    kept=_kept(run),
    training=_training(run),
    did_it_help=summary.did_it_help(run),
    accuracies=_accuracies(run),
    protocol=accuracy.protocol(run),
    fidelity=fidelity.overall(found) if found else None,
    agrees=f'{100 * found.agreement.accuracy:.1f}' if found else '',
    was_it_copied=copies.was_it_copied(run),
    caveat=copies.caveat(run),
    copies=copies.table(found.memorisation) if found else None,
  )


def _code(run: Run) -> str:
  """Says which code did the stages."""
  return ran.made_by(run, lambda maker: _of_code(maker.versions, maker.git_commit)) or _of_code(
    run.versions, run.git_commit
  )


def _of_code(versions: Mapping[str, str], commit: str | None) -> str:
  version = versions.get('fetal_jax')
  return f'fetal_jax{f" {version}" if version else ""}{f", git commit {commit[:12]}" if commit else ""}'


def _counts(rounds: Sequence[Manifest]) -> Table | None:
  """Returns images by class and round; None without rounds."""
  if not rounds:
    return None
  names = list(dict.fromkeys(name for one in rounds for name in one.counts))
  rows = [[name, *(f'{one.counts.get(name, 0):,}' for one in rounds)] for name in names]
  rows.append(['all', *(f'{num_images(one):,}' for one in rounds)])
  cells = [[Cell(text) for text in row] for row in rows]
  return Table('counts', 'Images', ['Class', *(f'Round {one.round}' for one in rounds)], cells)


def _sampler(rounds: Sequence[Manifest]) -> list[str]:
  """Says how the images were drawn, a sentence a round."""
  return [
    f'Round {one.round}: {ran.sampler(one)}; seed {one.seed}; checkpoint of step {one.checkpoint.step:,}'
    for one in rounds
  ]


def _kept(run: Run) -> str:
  """Says that a filter found some of the images better than others; '' where none has run."""
  if run.filter is None or run.filter.kept is None:
    return ''
  return f'{filter.choice(run.filter.kept)}; synthetic/kept.json lists them. This set holds all images.'


def _training(run: Run) -> list[str]:
  """Says how generator and classifiers were trained."""
  lines = []
  diffusion, classify = (run.config.get(key) or {} for key in ('diffusion', 'classify'))
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
  if classify and run.runs:
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


def _listed(asked: Mapping[str, Any]) -> str:
  return ', '.join(
    f'{key} {value:,}' if isinstance(value, int) else f'{key} {value}'
    for key, value in asked.items()
    if value is not None
  )


def _ends(score: Ends | None) -> str:
  """Returns an interval in percent, or a dash where there is none."""
  if score is None or score.low is None or score.high is None:
    return DASH
  return f'{100 * score.low:.1f} to {100 * score.high:.1f}'


def _accuracies(run: Run) -> Table | None:
  """Returns test accuracy of every model and regime, and of raw pixels, with its interval; None without runs."""
  rows = []
  for model, by_regime in groups(run.runs).items():
    compared = run.comparisons.models.get(model)
    for regime, runs in by_regime.items():
      found = compared.regimes.get(regime) if compared else None
      ends = _ends(found.scores['accuracy'] if found else None)
      title = regime_title(regime, run.rounds)
      row = (sizes.titled(run, model), title, f'{100 * mean_accuracy(runs):.1f}', ends, str(len(runs)))
      rows.append([Cell(text) for text in row])
  if not rows:
    return None
  for one in run.pixel_baselines or ():
    trained = f'Real images; {pixel_rows.NO_NETWORK}'
    ends = _ends(one.intervals.get('accuracy'))
    row = (one.name.capitalize(), trained, f'{100 * one.accuracy:.1f}', ends, DASH)
    rows.append([Cell(text) for text in row])
  columns = ['Model', 'Trained on', 'Test accuracy (%)', '95 % interval', 'Seeds']
  return Table('accuracies', 'Test accuracy', columns, rows, text_columns=2)
