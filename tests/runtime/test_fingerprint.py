"""A fingerprint tells a changed file from the one that was written."""

import re

import pytest
from helpers import damage

from fetal_jax.runtime.fingerprint import Fingerprint

# printf "some content" | sha256sum
CONTENT, SHA256 = b'some content', '290f493c44f5d63d06b374d0a5abd292fae38b92cab2fae5efefe1b0e9347f56'


def test_of_a_file(tmp_path):
  (tmp_path / 'file').write_bytes(CONTENT)
  assert Fingerprint.of(tmp_path / 'file') == Fingerprint(bytes=12, sha256=SHA256)


@pytest.mark.parametrize(
  ('kind', 'said'),
  [
    (damage.flip, 'is not what was written'),
    (damage.cut, r'has \d+ of 12 bytes'),
    (damage.empty, 'has 0 of 12 bytes'),
    (damage.delete, 'is missing'),
  ],
)
def test_damage_is_named(tmp_path, kind, said):
  path = tmp_path / 'file'
  path.write_bytes(CONTENT)
  fingerprint = Fingerprint.of(path)
  assert fingerprint.damage(path) is None
  kind(path)
  assert re.fullmatch(said, fingerprint.damage(path))
