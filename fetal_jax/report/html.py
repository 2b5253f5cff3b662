"""Draws sections as one HTML page that needs no other file."""

import re

import jinja2
from markupsafe import Markup, escape

from fetal_jax.report.page import Page


def render(page: Page) -> str:
  """Returns the page as HTML, pictures and style within it; all text is escaped."""
  environment = jinja2.Environment(
    loader=jinja2.PackageLoader('fetal_jax.report', 'templates'),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
  )
  environment.filters['tied'] = _tied
  environment.filters['answer'] = _answer
  environment.filters['kind'] = lambda block: type(block).__name__
  return environment.get_template('page.html').render(page=page)


def _tied(text: str) -> str:
  """Returns the text with each percent sign tied to its number."""
  return re.sub(r'(?<=\d) (?=%)', '\u00a0', text)


def _answer(sentence: str) -> Markup:
  """Returns a sentence with what stands before its colon in bold."""
  verdict, colon, why = _tied(sentence).partition(': ')
  return Markup('<strong>{}:</strong> {}').format(verdict, why) if colon else escape(verdict)
