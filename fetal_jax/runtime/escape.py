"""Text of users, such as names of classes, in files that other programs give a meaning to."""

import re
import unicodedata


def markdown(text: str) -> str:
  """Returns text that in GitHub's Markdown is shown as it is: no markup, no formula, no new row of a table."""
  plain = re.sub(r'&(?=#?\w+;)', '&amp;', text).replace('<', '&lt;')
  plain = re.sub(r'([\\|\[\]*`$~])', r'\\\1', plain)
  # Within a word an underscore is no markup, and names of models have them.
  plain = re.sub(r'(?<![^\W_])_|_(?![^\W_])', r'\\_', plain)
  return ''.join(character if character.isprintable() else ' ' for character in plain)


def is_formula(text: str) -> bool:
  """Returns whether a spreadsheet may compute a cell of a CSV file instead of showing it.

  https://owasp.org/www-community/attacks/CSV_Injection
  """
  first = unicodedata.normalize('NFKC', text.lstrip(' ')[:1])
  return first in ('=', '+', '-', '@', '\t', '\r', '\n') and bool(text)
