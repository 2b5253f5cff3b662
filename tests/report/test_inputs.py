"""The hash by which the report stage knows whether it is done."""

import msgspec
from helpers import fake_workdir

from fetal_jax.report.inputs import digest
from fetal_jax.runtime import run as accounts_lib
from fetal_jax.train import results


def test_digest_changes_with_what_the_page_shows_and_with_nothing_else(tmp_path):
  fake_workdir.make(tmp_path, models=('resnet50',), regimes=('real',), num_images=60, image_size=8)
  before = digest(tmp_path, show_real_images=True)
  accounts = accounts_lib.read_accounts(tmp_path)
  accounts_lib.write_accounts(tmp_path, {**accounts, 'report': accounts['prepare']})
  (tmp_path / 'notes.txt').write_text('mine')
  assert digest(tmp_path, show_real_images=True) == before
  assert digest(tmp_path, show_real_images=False) != before
  folder = tmp_path / 'classify' / 'resnet50' / 'real' / 'seed_0'
  results.write(folder, msgspec.structs.replace(results.read(folder), selected_epoch=3))
  assert digest(tmp_path, show_real_images=True) != before
  for name in ('kept.json', 'kept.png', 'dropped.png'):
    before = digest(tmp_path, show_real_images=True)
    (tmp_path / 'synthetic' / name).write_text('{}')
    assert digest(tmp_path, show_real_images=True) != before


def test_settings_and_accounts_count(tmp_path):
  fake_workdir.make(tmp_path, models=(), num_images=60, image_size=8)
  before = digest(tmp_path)
  asked = accounts_lib.read(tmp_path)
  accounts_lib.write(tmp_path, msgspec.structs.replace(asked, git_commit='other'))
  changed = digest(tmp_path)
  assert changed != before
  accounts = accounts_lib.read_accounts(tmp_path)
  accounts_lib.write_accounts(tmp_path, {'prepare': accounts['prepare']})
  assert digest(tmp_path) != changed


def test_an_empty_workdir_has_a_digest(tmp_path):
  assert digest(tmp_path) == digest(tmp_path)
