"""Where the images of a run come from, in words: what page and cards call them, under which terms they may be shown."""

import dataclasses
import pathlib

from fetal_jax.report.run import Run

_CITATIONS = pathlib.Path(__file__).parent.parent / 'data' / 'sources' / 'fetal_planes_db' / 'CITATIONS.bib'


@dataclasses.dataclass(frozen=True)
class Source:
  """The origin of the images that the generator was trained on.

  Attributes:
    title: what people call it.
    images: what its images are, a plural, as in 'Synthetic fetal ultrasound planes'.
    real: heading of a column of its images.
    lede: what a page about a run on it is about.
    licence: of what is derived from it, by Hugging Face's name.
    terms: of the source, a sentence.
    tags: of cards, what its images are about.
    attribution: the line that must stand where its images are shown; '' if none must.
    citation: BibTeX, '' if there is none.
    in_paper: whether the paper's figures are of these data.
    biases: what a set drawn from it repeats, after a colon.
  """

  title: str
  images: str
  real: str
  lede: str
  licence: str
  terms: str
  tags: tuple[str, ...] = ()
  attribution: str = ''
  citation: str = ''
  in_paper: bool = False
  biases: str = 'where they come from, and who or what is seen on them'


def of(name: str) -> Source:
  """Returns the source of the name that `config.data.source` has; what is known of a user's own for any other."""
  return {'fetal_planes_db': _planes_db, 'fetal_phantom': _phantom}.get(name, _own)()


def of_run(run: Run) -> Source:
  """Returns the source of a run's images."""
  asked = run.config.get('data') or {}
  return of(run.data.source if run.data else asked.get('source', ''))


def _planes_db() -> Source:
  return Source(
    title='FETAL_PLANES_DB, common maternal-fetal ultrasound images (Burgos-Artizzu et al., 2020)',
    images='fetal ultrasound planes',
    real='Real, training side',
    lede='Synthetic fetal ultrasound planes from a classifier-guided diffusion model, and what they are worth for '
    'classification.',
    licence='cc-by-4.0',
    terms='FETAL_PLANES_DB is licensed CC BY 4.0: credit its authors, also for what is derived from it '
    '(doi:10.5281/zenodo.3904280, doi:10.1038/s41598-020-67076-5).',
    tags=('medical', 'ultrasound', 'fetal'),
    attribution='Real images: FETAL_PLANES_DB by X. P. Burgos-Artizzu, D. Coronado-Gutiérrez, B. Valenzuela-Alcaraz, '
    'E. Bonet-Carne, E. Eixarch, F. Crispi and E. Gratacós, doi:10.5281/zenodo.3904280, licence CC BY 4.0 '
    '(creativecommons.org/licenses/by/4.0); scaled to the size of this run.',
    citation=_CITATIONS.read_text(encoding='utf-8').strip(),
    in_paper=True,
    biases='their hospitals, machines, operators, and the people examined there',
  )


def _phantom() -> Source:
  return Source(
    title='fetal_phantom, planes drawn by fetal_jax',
    images='drawn planes',
    real='Drawn, training side',
    lede='Images from a classifier-guided diffusion model that was trained on planes which a program has drawn '
    '(fetal_phantom), and what they are worth for classification. What this page calls real images are these drawings, and their '
    'patients are made up: its figures show that the code works, and say nothing about ultrasound.',
    licence='apache-2.0',
    terms='The planes are drawn, of nobody: Apache-2.0.',
    tags=('drawings',),
    biases='the program that drew them',
  )


def _own() -> Source:
  return Source(
    title='images of the user',
    images='images',
    real='Real, training side',
    lede='Synthetic images from a classifier-guided diffusion model, and what they are worth for classification.',
    licence='other',
    terms='The licence is that which the owner of the training images grants; state it here before publishing.',
  )
