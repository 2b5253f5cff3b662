"""Only what the report wrote is deleted, and what was changed since is noticed."""

import pytest

from fetal_jax.report import written
from fetal_jax.runtime.errors import UserError

OLD = {'figures/real.png': b'old', 'figures/curve.svg': b'old', 'index.html': b'old'}
NEW = {'figures/curve.svg': b'new', 'index.html': b'new'}


def contents(report):
  found = {
    path.relative_to(report).as_posix(): path.read_bytes() for path in report.rglob('*') if path.is_file()
  }
  found.pop('files.json', None)
  return found


@pytest.fixture
def report(tmp_path):
  written.replace(tmp_path / 'report', OLD)
  return tmp_path / 'report'


def test_what_is_no_longer_shown_goes_and_the_rest_stays(report, tmp_path):
  (report / 'figures' / 'thesis.txt').write_bytes(b'mine')
  (report / 'figures' / 'mine').mkdir()
  assert written.is_whole(report)
  written.replace(report, NEW)
  assert contents(report) == {**NEW, 'figures/thesis.txt': b'mine'}
  assert (report / 'figures' / 'mine').is_dir()


def test_a_file_that_was_changed_or_replaced_by_a_link_stays(report, tmp_path, caplog):
  (tmp_path / 'victim').write_bytes(b'old')
  (report / 'figures' / 'real.png').unlink()
  (report / 'figures' / 'real.png').symlink_to(tmp_path / 'victim')
  (report / 'index.html').write_bytes(b'changed')
  written.replace(report, {'figures/curve.svg': b'new'})
  assert (tmp_path / 'victim').read_bytes() == b'old'
  assert (report / 'index.html').read_bytes() == b'changed'
  assert caplog.text.count('left there') == 2


@pytest.mark.parametrize('name', ['report', 'figures'])
def test_a_folder_that_is_a_link_is_refused(tmp_path, name):
  (tmp_path / 'home').mkdir()
  (tmp_path / 'home' / 'index.html').write_bytes(b'mine')
  report = tmp_path / 'report'
  if name == 'figures':
    report.mkdir()
  (report if name == 'report' else report / 'figures').symlink_to(tmp_path / 'home')
  with pytest.raises(UserError, match=f'{name}: a link; remove it'):
    written.replace(report, OLD)
  assert contents(tmp_path / 'home') == {'index.html': b'mine'}


@pytest.mark.parametrize('name', ['figures/curve.svg', 'index.html', 'files.json'])
@pytest.mark.parametrize('damage', ['gone', 'empty', 'changed'])
def test_damage_is_noticed(report, name, damage):
  if damage == 'gone':
    (report / name).unlink()
  else:
    (report / name).write_bytes(b'' if damage == 'empty' else b'abc')
  assert not written.is_whole(report)


def test_a_report_that_is_killed_leaves_nothing_that_the_next_does_not_know(report, monkeypatch):
  with monkeypatch.context() as patch:
    patch.setattr(written.files, 'replacing', _dying(written.files.replacing, 'figures/secret.png'))
    with pytest.raises(KeyboardInterrupt):
      written.replace(report, {'figures/secret.png': b'a', **NEW})
  assert contents(report) == {**OLD, 'figures/secret.png': b'a'}
  written.replace(report, NEW)
  assert contents(report) == NEW


def _dying(replacing, name):
  """`replacing`, but the process is stopped when this file has got its name."""

  class Dying:
    def __init__(self, path):
      self.path, self.context = path, replacing(path)

    def __enter__(self):
      return self.context.__enter__()

    def __exit__(self, *error):
      self.context.__exit__(*error)
      if self.path.as_posix().endswith(name):
        raise KeyboardInterrupt

  return Dying


def test_a_list_that_names_files_elsewhere_is_not_believed(report, tmp_path):
  victim = tmp_path / 'victim'
  victim.write_bytes(b'old')
  fingerprint = written.Fingerprint.of(victim)
  for name in ('../victim', str(victim)):
    with pytest.raises(ValueError, match='is no file of a report'):
      written.Written(files={name: fingerprint})
    written.records.write(report / 'files.json', {'files': {name: fingerprint}})
    written.replace(report, NEW)
    assert victim.exists()
