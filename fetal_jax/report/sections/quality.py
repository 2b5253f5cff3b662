"""How good the images are, on the first screen: the verdict of `evaluate.quality` in a sentence, and a few images of every class."""

import pathlib

from fetal_jax.evaluate import quality
from fetal_jax.evaluate.quality import Apart, Quality, Word
from fetal_jax.evaluate.results import Evaluation, TwoSample, TwoSampleScore
from fetal_jax.report.format import digits
from fetal_jax.report.page import Block, Text
from fetal_jax.report.run import Run
from fetal_jax.report.sections import images

QUESTION = 'How good are the images?'
PER_CLASS = 8  # images of each kind

_HEADS = {
  Word.LIKE_REAL: 'No difference from real images was found',
  Word.CLOSE: 'Close to real images, but told from them',
  Word.BETWEEN: 'Better than {ceiling}, but not like real images',
  Word.POOR: 'No better than {ceiling}',
  Word.UNKNOWN: 'How good the images are cannot be said',
}


def how_good(run: Run) -> str:
  """Gives the verdict on the synthetic images, with the figures that it rests on."""
  if run.evaluation is None:
    why = 'they have not been judged, run --stage=evaluate' if run.rounds else 'there are none yet'
    return f'{_HEADS[Word.UNKNOWN]}: {why}.'
  found = quality.decide(run.evaluation)
  head = _HEADS[found.word].format(ceiling=_ceiling(found))
  parts = [_distance(run.evaluation), _told(found), _recognised(run.evaluation), _classes(found)]
  return f'{head}: {" ".join(filter(None, parts))}'


def row(run: Run, workdir: pathlib.Path, *, show_real_images: bool) -> list[Block]:
  """Shows a few synthetic images of every class beside real ones; nothing without synthetic images."""
  if not run.rounds:
    return []
  strips = images.examples(run, workdir, show_real_images=show_real_images, per_class=PER_CLASS, name='first')
  said = ['Spread evenly over each class, not chosen by eye.', images.attribution(run, strips)]
  return [strips, Text(' '.join(filter(None, said)))]


def to_json(run: Run) -> dict[str, object] | None:
  """Returns the verdict for results.json; None where nothing was judged."""
  if run.evaluation is None:
    return None
  found = quality.decide(run.evaluation)
  return {
    'word': found.word.value.replace('the ceiling', _ceiling(found)),
    'told_apart': found.apart.value,
    'fail': list(found.fail),
    'not_judged': list(found.not_judged),
  }


def _ceiling(found: Quality) -> str:
  return 'drawn planes' if found.drawn else 'noise'


def _distance(evaluation: Evaluation) -> str:
  """Says the KID of the synthetic images and of the sets that tell what it means."""
  near = evaluation.fidelity
  if near.synthetic.overall.kid is None:
    return f'there is no KID ({near.synthetic.overall.notes.get("kid", "it was not measured")}).'
  beside = {'real training images': near.real_train, 'drawn planes': near.phantom, 'noise': near.noise}
  said = ', '.join(f'{title} {digits(one.overall.kid)}' for title, one in beside.items() if one)
  return f'KID is {digits(near.synthetic.overall.kid)} ({said}; less is nearer to real test images).'


def _told(found: Quality) -> str:
  """Says how well a classifier tells synthetic images from real ones."""
  test = found.test
  if found.apart is Apart.UNKNOWN or test is None:
    return 'Whether they can be told from real images cannot be said: there are too few images.'
  can = (
    'They can be told from real images' if found.apart is Apart.YES else 'They were not told from real images'
  )
  control = (
    f', real training images from them in {share(test.control)}' if test.control.low is not None else ''
  )
  return (
    f'{can}: a {test.classifier} tells them from real test images in {share(test.synthetic)} of cases{control}; '
    '50 % is chance.'
  )


def share(score: TwoSampleScore) -> str:
  """Returns a balanced accuracy with its interval, or why there is none."""
  if score.accuracy is None or score.low is None or score.high is None:
    return f'unknown ({score.why})'
  return f'{100 * score.accuracy:.0f} % (95 %: {100 * score.low:.0f} to {100 * score.high:.0f} %)'


def _recognised(evaluation: Evaluation) -> str:
  """Says what the judge sees, and how far it is right on real images."""
  return (
    f'A judge that is right for {100 * evaluation.judge_recall.accuracy:.0f} % of real test images sees what was asked for '
    f'in {100 * evaluation.agreement.accuracy:.0f} % of the synthetic ones.'
  )


def _classes(found: Quality) -> str:
  """Names the classes in which the images fail, and those that nobody can judge."""
  said = []
  if found.fail:
    said.append(f'The images fail in {_listed(found.fail)}: the judge finds fewer than half of them.')
  if found.not_judged:
    said.append(
      f'Cannot be judged: {_listed(found.not_judged)}, of which the judge knows fewer than half of the real images, or '
      'there are fewer than ten.'
    )
  return ' '.join(said) or 'No class fails.'


def _listed(names: tuple[str, ...]) -> str:
  *most, last = names
  return f'{", ".join(most)} and {last}' if most else last


def tests(found: list[TwoSample]) -> list[tuple[str, TwoSampleScore]]:
  """Returns a row for each test and each of its two comparisons: what is told from real test images by what."""
  return [
    (f'{title}, by a {one.classifier}', score)
    for one in found
    for title, score in (('Synthetic images', one.synthetic), ('Real training images', one.control))
  ]
