"""A folder whose files are run is the user's own, or it is not used."""

import os

import pytest

from fetal_jax.runtime import trust

as_root = pytest.mark.skipif(os.geteuid() != 0, reason='only root can give files away')


@pytest.fixture
def folder(tmp_path):
  (tmp_path / 'above' / 'cache').mkdir(parents=True)
  (tmp_path / 'above' / 'cache' / 'program').write_bytes(b'')
  for path in (tmp_path / 'above', *(tmp_path / 'above').rglob('*')):
    path.chmod(0o755)
  return tmp_path / 'above' / 'cache'


def test_a_folder_of_ones_own(folder):
  assert trust.why_not_own(folder) is None
  (folder.parent / 'link').symlink_to(folder)
  assert trust.why_not_own(folder.parent / 'link') is None


def test_everybody_can_write(folder):
  folder.chmod(0o777)
  assert trust.why_not_own(folder) == 'everybody can write it'
  folder.chmod(0o1777)  # a sticky folder takes new files from everybody
  assert trust.why_not_own(folder) == 'everybody can write it'
  folder.chmod(0o755)
  (folder / 'program').chmod(0o666)
  assert trust.why_not_own(folder) == 'program in it: everybody can write it'


def test_everybody_can_put_another_folder_in_its_place(folder):
  folder.parent.chmod(0o777)
  assert trust.why_not_own(folder) == f'{folder.parent} can be written by everybody'
  folder.parent.chmod(0o1777)  # as /tmp
  assert trust.why_not_own(folder) is None


@as_root
def test_another_user_owns_it(folder):
  os.chown(folder / 'program', 12345, -1)
  assert trust.why_not_own(folder) == 'program in it: it belongs to another user (12345)'
  os.chown(folder, 12345, -1)
  assert trust.why_not_own(folder) == 'it belongs to another user (12345)'


@as_root
def test_a_group_can_write_it_unless_it_is_the_users_own(folder):
  folder.chmod(0o775)
  os.chown(folder, -1, 12345)
  assert trust.why_not_own(folder) == 'its group (12345) can write it'
  os.chown(folder, -1, 0)
  assert trust.why_not_own(folder) is None  # root's


def test_what_is_no_folder_or_holds_links(folder, tmp_path):
  assert trust.why_not_own(folder / 'program') == 'it is no folder'
  (folder / 'other').symlink_to(tmp_path)
  assert trust.why_not_own(folder) == 'other in it is a link'
