"""Names that a reader takes for one and a computer for several: `12` and `12.0`, `P7` and `p-07`, `Café` in two forms."""

import re
import unicodedata
from collections.abc import Callable, Iterable

from fetal_jax.data import patients as patients_lib
from fetal_jax.data.problems import MOST
from fetal_jax.data.records import Records


def of_class(name: str) -> str:
  """Returns what is left of a class's name without case, Unicode form and blanks."""
  return ' '.join(unicodedata.normalize('NFKC', unicodedata.normalize('NFKC', name).casefold()).split())


def of_patient(name: str) -> str:
  """Returns what is left of a patient's number without the decimals of a table, leading zeros and punctuation too."""
  plain = re.sub(r'(?<=\d)[.,]0+$', '', of_class(name))
  return ' '.join(part.lstrip('0') or part[:1] for part in re.findall(r'[^\W\d_]+|\d+', plain)) or plain


def several(names: Iterable[str], spelling: Callable[[str], str]) -> list[tuple[str, ...]]:
  """Returns the groups of names that have one spelling, in order."""
  groups: dict[str, list[str]] = {}
  for name in dict.fromkeys(names):
    groups.setdefault(spelling(name), []).append(name)
  return [tuple(group) for group in groups.values() if len(group) > 1]


def short(name: str, most: int = 28) -> str:
  """Returns a name as it fits beside a picture: on one line, and without its middle where it is long."""
  line = ''.join(character if character.isprintable() else ' ' for character in name)
  end = most // 2 - 1
  return line if len(line) <= most else f'{line[: most - end - 1]}…{line[-end:]}'


def warnings(records: Records) -> list[str]:
  """Returns what must be said of the patients and the classes of a data set."""
  said = []
  known = records.patients[patients_lib.known(records.patients)]
  patients = several(known.tolist(), of_patient)
  if patients:
    said.append(
      f'{len(patients):,} patients have several spellings ({_in_words(patients)}), which count as different patients: '
      'if they are the same, they may be in train and test at once; write each in one way, and prepare them in a new '
      '--workdir'
    )
  if classes := several(records.class_names, of_class):
    said.append(
      f'names of classes differ only in case, blanks or Unicode form ({_in_words(classes)}); if they are the same '
      'class, give them one name, and prepare them in a new --workdir'
    )
  return said


def _in_words(groups: list[tuple[str, ...]]) -> str:
  # With the escapes of what is no ASCII, since two forms of a letter look the same.
  shown = '; '.join(' and '.join(map(ascii, group)) for group in groups[:MOST])
  return shown + ('; ...' if len(groups) > MOST else '')
