"""Formulas of the site as MathML, which browsers show by themselves: a hook of mkdocs, nothing is fetched."""

import html as html_lib
import re
from typing import Any

from latex2mathml import converter

# What pymdownx.arithmatex leaves: \( … \) in a span, \[ … \] in a div.
_FORMULA = re.compile(r'<(span|div) class="arithmatex">\s*\\[(\[](.*?)\\[)\]]\s*</\1>', re.DOTALL)


def on_page_content(html: str, **_: Any) -> str:
  """mkdocs calls this with the HTML of every page."""

  def to_mathml(match: re.Match[str]) -> str:
    display = 'block' if match[1] == 'div' else 'inline'
    return converter.convert(html_lib.unescape(match[2]).strip(), display=display)

  return _FORMULA.sub(to_mathml, html)
