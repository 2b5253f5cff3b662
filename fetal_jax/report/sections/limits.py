"""What the results do not say."""

from fetal_jax.report import paper, sources
from fetal_jax.report.page import Bullets, Section
from fetal_jax.report.run import Run
from fetal_jax.report.sections.certainty import longer_training


def section(run: Run) -> Section:
  """Lists the limits of this run."""
  return Section('limits', 'Limits', [Bullets(limits(run))], nav='Limits')


def limits(run: Run) -> list[str]:
  """Returns a sentence on each limit."""
  found = [
    'For research only. Neither the synthetic images nor the classifiers have been examined for use in care.'
  ]
  source = sources.of_run(run)
  if run.data and not run.data.patients_known:
    found.append(
      'Which images show the same patient is not known: whether accuracies hold for new patients cannot be said, and '
      'intervals are too narrow if several images show one patient.'
    )
  elif run.data and run.data.split == 'paper':
    found.append('The split is by image, not by patient: accuracies say little about patients never seen.')
  found += [
    'Synthetic images carry the label that was asked of the generator; no clinician has confirmed what they show.',
    'A generator can repeat its training images. The search for copies finds what is near in pixels or features; it does '
    'not prove that nobody can be recognised.'
    if run.evaluation
    else 'A generator can repeat its training images. Before publishing synthetic images, compare them with those: '
    'run --stage=evaluate.',
  ]
  if source.in_paper:
    found.append(paper.OPEN)
  if run.runs and len({one.seed for one in run.runs}) == 1:
    found.append('One seed: how much an accuracy changes from one training to the next is not known here.')
  if longer := longer_training(run):
    found.append(longer)
  if any(one.protocol == 'paper' for one in run.runs):
    found.append(
      'The epoch was chosen on the test set, as the paper of the method does: accuracies are the best of many looks.'
    )
  return found
