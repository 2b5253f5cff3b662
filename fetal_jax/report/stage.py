"""The report stage: one self-contained page, the same as Markdown, JSON and CSV, and cards of data and models."""

import json
import pathlib

import ml_collections
from absl import logging

from fetal_jax.report import cards, html, inputs, markdown, paper, results_csv, sections, written
from fetal_jax.report import run as run_lib
from fetal_jax.report.page import Page, pictures
from fetal_jax.report.run import Run
from fetal_jax.report.sections import quality, summary
from fetal_jax.runtime import files
from fetal_jax.runtime.errors import DamagedFile
from fetal_jax.runtime.files import PathLike

_LEDE = 'Synthetic fetal ultrasound planes from a classifier-guided diffusion model, and what they are worth for classification.'
_FILES = (
  'index.html',
  'report.md',
  'results.json',
  'results.csv',
  *(f'cards/{card}.md' for card in cards.CARDS),
)


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
  report, show_real_images = workdir / 'report', config.report.show_real_images
  mark = inputs.digest(workdir, show_real_images=show_real_images)
  if _is_done(report, mark):
    logging.info('report: nothing has changed since %s was written', report / 'index.html')
    return False
  found = run_lib.read(workdir)
  page = make_page(found, workdir, show_real_images=show_real_images)
  results = {
    'inputs': mark,
    'summary': _summary(found),
    'quality': quality.to_json(found),
    **run_lib.to_json(found),
  }
  texts = {
    'results.csv': results_csv.text(found),
    'report.md': markdown.render(page),
    'index.html': html.render(page),
    **{f'cards/{card}.md': text for card, text in cards.texts(found).items()},
    'results.json': json.dumps(results, indent=2) + '\n',  # last, because it says that all of it is there
  }
  shown = [picture for section in page.sections for picture in pictures(section.blocks)]
  written.replace(
    report,
    {
      **{f'figures/{picture.file}': picture.data['light'] for picture in shown},
      **{name: text.encode() for name, text in texts.items()},
    },
  )
  for sentence in found.missing:
    logging.info('report: %s', sentence)
  logging.info('report: %s', (report / 'index.html').resolve())
  return True


def make_page(found: Run, workdir: pathlib.Path, *, show_real_images: bool) -> Page:
  """Returns the page of a run; see `sections.make`."""
  made = sections.make(found, workdir, show_real_images=show_real_images)
  return Page(found.name, _LEDE, made, f'The paper: {paper.CITATION}')


def _is_done(report: pathlib.Path, mark: str) -> bool:
  """Returns whether the report is there, as it was written, of these inputs."""
  if not all((report / name).is_file() for name in _FILES) or not written.is_whole(report):
    return False
  try:
    return files.read_json(report / 'results.json').get('inputs') == mark
  except DamagedFile:
    return False


def _summary(found: Run) -> dict[str, object]:
  """Returns the page's opening for results.json."""
  tiles = [{'value': value, 'label': label} for value, label in summary.tiles(found)]
  return {'sentences': summary.sentences(found), 'tiles': tiles}
