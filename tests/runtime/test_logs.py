"""What goes to the terminal and to logs/run.log, in a process of its own: it replaces the handlers of the process."""

import subprocess
import sys

import pytest
from conftest import ROOT

from fetal_jax.runtime import logs
from fetal_jax.runtime.errors import UserError

_SPEAK = """
import logging, sys
from absl import logging as absl_logging
from fetal_jax.runtime import logs

def speak(level, path, text, error=None):
  exc_info = (type(error), error, None) if error else None
  logging.getLogger('absl').handle(logging.LogRecord('absl', level, path, 1, text, (), exc_info))

logs.start_logging(sys.argv[1], int(sys.argv[2]))
speak(logging.INFO, logs._PACKAGE + '/train/loop.py', 'ours')
speak(logging.WARNING, logs._PACKAGE + '/train/loop.py', 'our warning')
speak(logging.INFO, '/lib/other/module.py', 'their line')
speak(logging.WARNING, '/lib/other/module.py', 'their warning')
speak(logging.WARNING, '/lib/tensorflow_datasets/core.py', 'warning of TFDS')
speak(logging.ERROR, '/lib/tensorflow_datasets/core.py', 'error of TFDS')
speak(logging.ERROR, '/lib/orbax/writer.py', 'error with traceback', OSError())
if len(sys.argv) > 3:
  (handler,) = (h for h in logging.getLogger().handlers if isinstance(h, logs._RunLog))
  handler.stream.close()
  handler.stream = open(sys.argv[3], 'w', buffering=1)
  speak(logging.INFO, logs._PACKAGE + '/train/loop.py', 'lost')
  speak(logging.INFO, logs._PACKAGE + '/train/loop.py', 'later')
"""


def speak(*arguments) -> list[str]:
  """Returns the lines on stderr without their times."""
  done = subprocess.run(
    [sys.executable, '-c', _SPEAK, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True, check=True
  )
  return [line.split(' ', 1)[1] for line in done.stderr.splitlines()]


def test_the_first_process_says_everything_worth_reading(tmp_path):
  said = ['ours', 'our warning', 'their warning', 'error of TFDS']
  assert speak(tmp_path, 0) == said
  assert speak(tmp_path, 0) == said
  written = (tmp_path / 'logs' / 'run.log').read_text().splitlines()
  assert [line.split(' ', 1)[1] for line in written] == 2 * said


def test_the_others_only_warn_and_write_no_file(tmp_path):
  assert speak(tmp_path, 2) == [
    '[process 2] our warning',
    '[process 2] their warning',
    '[process 2] error of TFDS',
  ]
  assert not list((tmp_path / 'logs').iterdir())


@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='/dev/full')
def test_a_log_file_on_a_full_disk_is_given_up(tmp_path):
  said = speak(tmp_path, 0, '/dev/full')
  assert said[4:] == ['lost', 'no longer written ([Errno 28] No space left on device)', 'later']


def test_a_log_that_is_a_link_is_not_written_through(tmp_path):
  (tmp_path / 'victim').write_bytes(b'precious')
  (tmp_path / 'logs').mkdir()
  (tmp_path / 'logs' / 'run.log').symlink_to(tmp_path / 'victim')
  with pytest.raises(UserError, match=r'run\.log: a link, or no plain file; remove it'):
    logs.start_logging(tmp_path, 0)
  assert (tmp_path / 'victim').read_bytes() == b'precious'
