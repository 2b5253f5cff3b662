"""Names of classes as folders, as files and as cells of a table: what any system and any reader takes as it is."""

import re
from collections.abc import Sequence

from fetal_jax.data import spellings
from fetal_jax.runtime.escape import is_formula

# What `pandas.read_csv` takes for a missing value or for a truth value; `datasets` reads with it.
_NOT_TEXT = {
  '', '#n/a', '#n/a n/a', '#na', '-1.#ind', '-1.#qnan', '-nan', '1.#ind', '1.#qnan', '<na>', 'n/a', 'na', 'null', 'nan',
  'none', 'true', 'false',
}  # fmt: skip
_RESERVED = re.compile(r'(con|prn|aux|nul|com\d|lpt\d)(\..*)?', re.IGNORECASE)  # on Windows
_PLAIN = re.compile(r"[^\W_][\w .,()&+='-]*")  # a name that begins with `_` or `.` is hidden to `datasets`
_MOST_BYTES = 200  # of the 255 that a file's name may have


def is_text(name: str) -> bool:
  """Returns whether a cell of a CSV file is read back as this text: no number, no missing value, no formula."""
  if name.strip().lower() in _NOT_TEXT or is_formula(name):
    return False
  try:
    float(name)
  except ValueError:
    return True
  return False


def labels(class_names: Sequence[str]) -> tuple[list[str], list[str]]:
  """Returns each class as a label in a table that `datasets` reads, and the name that this label has for it.

  `datasets` takes a label for a name first and for a number of a class second. So that it, pandas and a spreadsheet see
  the same, labels are names where all of them are text, else numbers; with numbers for names (`1`, `2`) they are names
  again, and where that leaves a formula or a missing value, names and labels are those of `cells`.
  """
  names = list(class_names)
  if all(map(is_text, names)):
    return names, names
  numbers = [str(label) for label in range(len(names))]
  stripped = [name.strip() for name in names]
  if not any(number in stripped and stripped.index(number) != label for label, number in enumerate(numbers)):
    return numbers, names
  if not any(name.strip().lower() in _NOT_TEXT or is_formula(name) for name in names):
    return names, names
  return cells(names), cells(names)


def cells(class_names: Sequence[str]) -> list[str]:
  """Returns each class as a cell that is read back as text: its name, or `class <name>` where that is none."""
  taken = set(class_names)
  found = []
  for name in class_names:
    cell = name
    while not is_text(cell) or (cell != name and cell in taken):
      cell = f'class {cell}'
    taken.add(cell)
    found.append(cell)
  return found


def folders(class_names: Sequence[str]) -> list[str]:
  """Returns each class as the name of a folder: its name, or `class_<label>` where not every system takes that."""
  alike = {name for group in spellings.several(class_names, spellings.of_class) for name in group}
  taken = set(class_names)
  found = []
  for label, name in enumerate(class_names):
    folder = name
    if name in alike or not _is_folder(name):
      folder = f'class_{label}'
      while folder in taken:
        folder += '_'
    taken.add(folder)
    found.append(folder)
  return found


def _is_folder(name: str) -> bool:
  plain = _PLAIN.fullmatch(name) and not name.endswith((' ', '.')) and not _RESERVED.fullmatch(name)
  return bool(plain) and len(name.encode()) <= _MOST_BYTES and name != 'metadata.csv'
