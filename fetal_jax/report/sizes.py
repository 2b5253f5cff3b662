"""How large the networks of a run are beside the published ones of their names, and where the paper's figures may stand.

A network that is smaller, or that sees images smaller than the paper's, is called reduced wherever it is named. The paper's
figures stand beside a run's own where its networks have the published size and its images the paper's, else apart; and
nowhere if the run is about other data.
"""

import enum
from collections.abc import Iterable

from fetal_jax.report import paper
from fetal_jax.report.classifier_runs import IMAGE_SIZE, ClassifierRun
from fetal_jax.report.format import digits
from fetal_jax.report.groups import groups
from fetal_jax.report.names import model_title
from fetal_jax.report.page import Cell
from fetal_jax.report.run import Run

APART_HEAD = f'Paper: full size, {IMAGE_SIZE} px, its own split'


class Standing(enum.Enum):
  """Where the paper's figures for a model stand."""

  BESIDE = 'beside those of the run'
  APART = 'in a column that says why they differ'
  NOWHERE = 'nowhere'


def standing(run: Run, model: str) -> Standing:
  """Returns where the paper's figures for a model may stand on the page of a run."""
  if run.data is None or run.data.source != 'fetal_planes_db' or model not in paper.MODELS:
    return Standing.NOWHERE
  full_size = run.data.image_size == IMAGE_SIZE and not any(one.reduced for one in _of(run, model))
  return Standing.BESIDE if full_size else Standing.APART


def beside(run: Run, model: str) -> str:
  """Returns what stands beside the title of a model: 'reduced, 0.14 M parameters, 32 px', or '' for a full-size one."""
  runs = [one for one in _of(run, model) if one.reduced]
  return f'reduced, {_parameters(runs)}{_pixels(run)}' if runs else ''


def titled(run: Run, model: str) -> str:
  """Returns the title of a model with what stands beside it, for a sentence."""
  said = beside(run, model)
  return f'{model_title(model)} ({said})' if said else model_title(model)


def title_cell(run: Run, model: str, small: str = '') -> Cell:
  """Returns the first cell of a model's row: its title, and small beneath it `small` and what stands beside the title."""
  return Cell(model_title(model), small='; '.join(filter(None, (small, beside(run, model)))))


def summed(run: Run) -> str:
  """Returns what stands beside the number of classifiers: 'reduced, 0.015 to 0.14 M parameters, 32 px'; '' if none is."""
  models = groups(run.runs)
  reduced = [model for model in models if beside(run, model)]
  if not reduced:
    return ''
  runs = [one for model in reduced for one in _of(run, model) if one.reduced]
  which = 'reduced' if len(reduced) == len(models) else f'{len(reduced)} of them reduced'
  return f'{which}, {_parameters(runs)}{_pixels(run)}'


def _of(run: Run, model: str) -> list[ClassifierRun]:
  return [one for one in run.runs if one.model == model]


def _parameters(runs: Iterable[ClassifierRun]) -> str:
  """Returns the numbers of parameters: '0.14 M parameters', '0.015 to 0.14 M parameters'."""
  known = sorted({one.parameters for one in runs if one.parameters is not None})
  if not known:
    return 'parameters not known'
  ends = dict.fromkeys(digits(number / 1e6) for number in (known[0], known[-1]))
  return f'{" to ".join(ends)} M parameters'


def _pixels(run: Run) -> str:
  return f', {run.data.image_size} px' if run.data else ''
