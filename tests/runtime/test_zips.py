"""A zip file's table of contents has a limit, in both forms of the format."""

import io
import zipfile

import pytest

from fetal_jax.runtime import zips
from fetal_jax.runtime.errors import UserError


def packed(entries, *, comment=b''):
  file = io.BytesIO()
  with zipfile.ZipFile(file, 'w') as z:
    for i in range(entries):
      z.writestr(f'{i:05d}', '')
    z.comment = comment
  return file


@pytest.mark.parametrize('comment', [b'', b'x' * 65_535])
def test_the_limit_is_that_of_the_table(comment):
  file = packed(100, comment=comment)
  assert len(zips.open_zip(file, 5_100).namelist()) == 100  # 46 bytes an entry, and its name
  with pytest.raises(
    UserError, match='has a table of contents of 5,100 bytes, over the limit of 5,099; pack'
  ):
    zips.open_zip(file, 5_099)


def test_a_table_of_many_entries_has_another_end():
  file = packed(65_536)
  size, end = 65_536 * 51, file.getvalue().rfind(b'PK\5\6')
  file.seek(end + 12)
  file.write(b'\xff' * 8)  # size and place are in the other end alone, as in a file of more than 4 GiB
  assert len(zips.open_zip(file, size).namelist()) == 65_536
  with pytest.raises(UserError, match=f'of {size:,} bytes, over the limit'):
    zips.open_zip(file, size - 1)


@pytest.mark.parametrize('content', [b'', b'PK', b'PK\5\6', b'PK\5\6' + b'\xff' * 10, b'x' * 100_000])
def test_what_is_no_zip(content):
  with pytest.raises(zipfile.BadZipFile):
    zips.open_zip(io.BytesIO(content), 1000)
