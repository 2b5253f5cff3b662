"""A file that is not the record that was written is refused in one line."""

import json

import msgspec
import pytest

from fetal_jax.runtime import files, records
from fetal_jax.runtime.errors import DamagedFile


class Size(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
  width: int
  name: str | None = None


class Picture(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
  sizes: dict[str, Size]
  scores: tuple[float, ...]


PICTURE = Picture({'small': Size(8), 'large': Size(64, 'L')}, (0.25, 1.0))
PLAIN = {
  'sizes': {'small': {'width': 8, 'name': None}, 'large': {'width': 64, 'name': 'L'}},
  'scores': [0.25, 1.0],
}


def refusal(path, kind=Picture, **keywords) -> str:
  """Returns the one line that reading the file ends in."""
  with pytest.raises(DamagedFile) as error:
    records.read(path, kind, **keywords)
  assert '\n' not in str(error.value)
  return str(error.value).removeprefix(f'{path}: ')


def test_what_is_written_is_read(tmp_path):
  path = tmp_path / 'folder' / 'picture.json'
  records.write(path, PICTURE)
  assert records.read(path, Picture) == PICTURE
  content = json.loads(path.read_text())
  assert list(content) == ['sizes', 'scores', 'sha256_of_the_rest']
  assert {key: content[key] for key in PLAIN} == PLAIN
  assert records.to_json(PICTURE) == PLAIN


def test_records_by_name(tmp_path):
  path = tmp_path / 'sizes.json'
  records.write(path, PICTURE.sizes)
  assert records.read(path, dict[str, Size]) == {'small': Size(8), 'large': Size(64, 'L')}


def test_a_missing_file_is_told_apart(tmp_path):
  with pytest.raises(FileNotFoundError):
    records.read(tmp_path / 'picture.json', Picture)


def test_a_cut_file_is_refused(tmp_path):
  path = tmp_path / 'picture.json'
  records.write(path, PICTURE)
  path.write_text(path.read_text()[:-20])
  assert refusal(path).startswith('damaged (no whole JSON: ')
  assert refusal(path).endswith('; delete it and run the same command again')
  assert refusal(path, remedy='draw it again').endswith('; draw it again')


def test_an_edited_file_is_refused(tmp_path):
  path = tmp_path / 'picture.json'
  records.write(path, PICTURE)
  path.write_text(path.read_text().replace('64', '65'))
  assert refusal(path) == 'damaged (not what was written); delete it and run the same command again'


def test_a_file_without_a_seal_is_refused(tmp_path):
  path = tmp_path / 'picture.json'
  path.write_text(json.dumps(PLAIN))
  assert refusal(path) == 'damaged (not what was written); delete it and run the same command again'


@pytest.mark.parametrize(
  ('value', 'said'),
  [
    ({**PLAIN, 'scores': ['high']}, 'Expected `float`, got `str` - at `$.scores[0]`'),
    ({**PLAIN, 'sizes': {'small': {'width': 8.5}}}, 'Expected `int`, got `float` - at `$.sizes[...].width`'),
    ({'sizes': {}}, 'Object missing required field `scores`'),
    ({**PLAIN, 'colour': 1}, 'Object contains unknown field `colour`'),
  ],
)
def test_another_shape_is_refused(tmp_path, value, said):
  path = tmp_path / 'picture.json'
  files.write_json(path, value, seal=True)
  assert refusal(path, remedy='draw it again') == f'damaged ({said}); draw it again'
