"""Whether trainings on real images alone had converged: what everything else is compared with."""

from typing import TYPE_CHECKING

from fetal_jax.evaluate.comparisons import BASELINE
from fetal_jax.evaluate.convergence import FEWEST_EPOCHS, TOLERANCE, Convergence
from fetal_jax.report import verdicts
from fetal_jax.report.charts import (
  BLUE,
  GREEN,
  ORANGE,
  PURPLE,
  VERMILION,
  Theme,
  chart,
  finish,
  new_axes,
  thin,
)
from fetal_jax.report.classifier_runs import ClassifierRun
from fetal_jax.report.format import points
from fetal_jax.report.groups import groups
from fetal_jax.report.names import model_title
from fetal_jax.report.page import DASH, Block, Cell, Picture, Pictures, Section, Table, Text
from fetal_jax.report.run import Run

if TYPE_CHECKING:
  from matplotlib.figure import Figure

# {model: its runs on real images alone}
ByModel = dict[str, list[ClassifierRun]]

_STYLES = ((BLUE, '-'), (ORANGE, '--'), (GREEN, '-.'), (VERMILION, ':'), (PURPLE, '-'))


def section(run: Run) -> Section | None:
  """Shows the curves of all models on real images alone, and whether they still rise; None without any."""
  found = real_only(run)
  if not found:
    return None
  blocks: list[Block] = [Text(rule(run)), Pictures([picture(run, found)]), table(run, found)]
  return Section('convergence', 'Training on real images alone', blocks, nav='Convergence')


def real_only(run: Run) -> ByModel:
  """Returns the runs on real images alone that have a history, by model."""
  known = {model: by_regime.get(BASELINE, []) for model, by_regime in groups(run.runs).items()}
  return {model: runs for model, runs in known.items() if any(one.history for one in runs)}


def rule(run: Run) -> str:
  """Says when a training counts as converged, and on which images that is judged."""
  said = (
    f'A training counts as converged if, over the last quarter of its epochs, the {_score(run)} is on average at most '
    f'{100 * TOLERANCE:g} point higher than over the quarter before, the mean of its seeds. Fewer than {FEWEST_EPOCHS} epochs '
    'do not tell.'
  )
  if _on_test(run):
    said += (
      ' The protocol of the paper holds no validation images out, so that this is judged on the test images.'
    )
  return said


def _on_test(run: Run) -> bool:
  return any(one.protocol == 'paper' for one in run.runs)


def _score(run: Run) -> str:
  return f'{"test" if _on_test(run) else "validation"} accuracy'


def table(run: Run, found: ByModel) -> Table:
  """Shows the epochs of every model, its accuracy at the end, and its rise over the last quarter."""
  rows = []
  for model in found:
    end = verdicts.converged(run, model)
    rows.append(
      [
        Cell(model_title(model)),
        Cell(str(end.epochs)),
        Cell(DASH if end.score is None else f'{100 * end.score:.1f}'),
        Cell(DASH if end.rise is None else points(end.rise)),
        Cell(words(end)),
      ]
    )
  score = _score(run)
  columns = [
    'Model',
    'Epochs',
    f'{score[0].upper()}{score[1:]}, last quarter (%)',
    'Change from the quarter before',
  ]
  return Table('converged', 'Real images alone: had training converged?', [*columns, 'Converged'], rows)


def words(found: Convergence) -> str:
  """Says in a word or two whether a training had converged."""
  return {True: 'yes', False: 'no, still rising', None: 'not known: too few epochs'}[found.flat]


def picture(run: Run, found: ByModel) -> Picture:
  """Draws the curves, a line a model."""
  said = '; '.join(f'{model_title(model)}: {words(verdicts.converged(run, model))}' for model in found)
  score = _score(run)
  return chart(
    'convergence',
    f'{score[0].upper()}{score[1:]} against epochs, real images alone. Converged? {said}.',
    f'{score[0].upper()}{score[1:]} of the trainings on real images alone, mean over seeds.',
    figure,
    found,
    f'{score} (%)',
  )


def figure(found: ByModel, label: str, theme: Theme) -> 'Figure':
  """Draws the score of each epoch: a line a model (mean over seeds), a mark where there is one epoch only."""
  figure, axes = new_axes(4.8, 3.2)
  for i, (model, runs) in enumerate(found.items()):
    colour, line = _STYLES[i % len(_STYLES)]
    by_epoch: dict[float, list[float]] = {}
    for row in (row for one in runs for row in one.history):
      by_epoch.setdefault(row.epoch, []).append(100 * row.score)
    epochs = sorted(by_epoch)
    means = [sum(by_epoch[e]) / len(by_epoch[e]) for e in epochs]
    marker = 'o' if len(epochs) == 1 else ''
    axes.plot(
      *thin(epochs, means), line, marker=marker, color=colour, linewidth=1.3, label=model_title(model)
    )
  finish(axes, 'epoch', label, theme)
  return figure
