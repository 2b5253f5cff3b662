"""Exit codes, and the one line that goes with them."""

import contextlib
import errno
import gc
import logging
import os
import resource
import signal
import subprocess
import sys

import numpy as np
import pytest

from fetal_jax.runtime import exits, files, logs, signals
from fetal_jax.runtime.errors import UserError


def run(command, capsys):
  """The exit code and what was said, which is one line at most."""
  code = exits.exit_code(command, then='run the same command again to resume', place=lambda: 'runs/demo')
  said = capsys.readouterr().err.removesuffix('\n')
  assert '\n' not in said
  return code, said


def raising(error):
  def command():
    raise error

  return command


def test_all_is_well(capsys):
  assert run(lambda: None, capsys) == (0, '')


def test_what_the_user_can_mend(capsys):
  assert run(raising(UserError('a.csv: no rows')), capsys) == (2, 'fetal_jax: a.csv: no rows')


@pytest.mark.parametrize(('number', 'code'), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals(capsys, number, code):
  before = signal.getsignal(number)

  def command():
    with signals.deferred():
      os.kill(os.getpid(), number)
      while not signals.requested():
        pass
      signals.stop('diffusion is at step 3 of 4')

  said = 'fetal_jax: stopped: diffusion is at step 3 of 4; run the same command again to resume'
  assert run(command, capsys) == (code, said)
  assert signal.getsignal(number) is before


def test_a_keyboard_interrupt_of_a_program_of_ones_own(capsys):
  assert run(raising(KeyboardInterrupt()), capsys) == (
    130,
    'fetal_jax: stopped; run the same command again to resume',
  )


def wrapped(error, outer):
  try:
    raise outer from error
  except Exception as e:
    return e


@pytest.mark.parametrize(
  ('error', 'said'),
  [
    (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), 'w/a.npy'), 'w/a.npy: the disk is full: make room'),
    (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), 'runs/demo: the disk is full: make room'),
    (OSError(errno.EDQUOT, os.strerror(errno.EDQUOT), 'x'), 'x: your quota of disk space is used up'),
    (OSError(errno.EROFS, os.strerror(errno.EROFS), b'x'), 'x: the file system is read-only'),
    (PermissionError(errno.EACCES, 'Permission denied', 'x'), 'x: permission denied: make it readable and'),
    (
      ValueError(
        'Error writing "zarr": Error writing local file "/w/ocdbt/d/1.__lock": No space left on device [x]'
      ),
      '/w/ocdbt/d/1.__lock: the disk is full',
    ),
    (RuntimeError('INTERNAL: write() failed: Disk quota exceeded'), 'runs/demo: your quota'),
    (
      wrapped(OSError(errno.EFBIG, os.strerror(errno.EFBIG), '/w/big'), ValueError('Failed to save')),
      '/w/big: the largest size of a file is reached',
    ),
    (
      ExceptionGroup('two', [ValueError('a'), OSError(errno.EIO, os.strerror(errno.EIO), '/w/b')]),
      '/w/b: the disk does not answer',
    ),
  ],
)
def test_a_disk_that_refuses(capsys, error, said):
  code, line = run(raising(error), capsys)
  assert code == 2
  assert line.startswith(f'fetal_jax: {said}')
  assert line.endswith('; run the same command again to resume')


@pytest.mark.parametrize(
  ('number', 'said'),
  [
    (errno.ENOENT, 'x: it is missing: put it back, or give another path'),
    (errno.ENOTDIR, 'x: it lies under a file, or is one, where a folder is needed: give another path'),
    (errno.EISDIR, 'x: a folder lies where a file is needed: move it away'),
    (errno.EEXIST, 'x: a file of this name is there already: move it away'),
    (errno.ENAMETOOLONG, 'x: the name is too long: give a shorter one'),
    (errno.ELOOP, 'x: its symbolic links lead in a circle: mend them'),
    (
      errno.EMFILE,
      'x: too many files are open: raise the limit (ulimit -n); run the same command again to resume',
    ),
    (errno.EBUSY, 'x: Device or resource busy: mend it'),
    (errno.ENODEV, 'x: No such device: mend it'),
  ],
)
def test_any_error_of_the_system_is_one_line(capsys, number, said):
  code, line = run(raising(OSError(number, os.strerror(number), 'x')), capsys)
  assert code == 2
  assert line.startswith(f'fetal_jax: {said}')
  code, line = run(raising(wrapped(OSError(number, os.strerror(number), 'x'), ValueError('outer'))), capsys)
  assert line.startswith(f'fetal_jax: {said}')


def test_an_error_that_names_no_file_names_the_workdir(capsys):
  assert run(raising(OSError(errno.ELOOP, 'x')), capsys)[1].startswith(
    'fetal_jax: runs/demo: its symbolic links'
  )
  assert 'runs/demo: there is not enough memory' in run(raising(MemoryError()), capsys)[1]


def test_names_that_the_system_cannot_take(capsys, tmp_path):
  name = os.fsdecode(b'w\xe9')
  code, line = run(lambda: print(name.encode()), capsys)
  assert (code, line) == (2, "fetal_jax: 'w\\udce9': these bytes are no UTF-8 text: give another name")
  assert 'a name has a NUL in it' in run(lambda: (tmp_path / 'a\0b').mkdir(), capsys)[1]


def test_a_line_stays_one_line(capsys):
  assert run(raising(UserError('a\nb\x1b[31m ü: no')), capsys) == (2, 'fetal_jax: a\\nb\\x1b[31m ü: no')


def test_a_closed_pipe():
  """Python would say it a second time when it ends; so this is a process of its own, with its usual buffer."""
  program = (
    "import sys; from fetal_jax.runtime import exits; sys.exit(exits.exit_code(lambda: print('x'), then=''))"
  )
  reading, writing = os.pipe()
  os.close(reading)
  done = subprocess.run(
    [sys.executable, '-c', program],
    stdout=writing,
    stderr=subprocess.PIPE,
    env={name: value for name, value in os.environ.items() if name != 'PYTHONUNBUFFERED'},
    text=True,
    check=False,
  )
  os.close(writing)
  assert done.returncode == 2
  assert done.stderr == (
    'fetal_jax: standard output: nobody reads it any more: let the program that reads it run to its end\n'
  )


def while_handling(error, outer):
  try:
    try:
      raise error
    except Exception:
      raise outer  # noqa: B904 - a fault of its own, not one that follows
  except Exception as e:
    return e


@pytest.mark.parametrize(
  'error',
  [
    ValueError('wrong shape'),
    ConnectionError(),
    OSError('image file is truncated'),
    while_handling(FileNotFoundError(errno.ENOENT, 'No such file', 'x'), ValueError('wrong shape')),
  ],
)
def test_a_fault_of_ours_keeps_its_traceback(error):
  with pytest.raises(type(error)):
    exits.exit_code(raising(error), then='', place=lambda: '')


@pytest.fixture
def small_disk():
  """No file may grow beyond 64 kB."""
  soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, hard))
  yield
  resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_file_that_grows_too_large_is_named_and_not_left(tmp_path, capsys, small_disk):
  """As a full disk would: the system refuses in the middle of the file."""
  code, line = run(lambda: files.write_text(tmp_path / 'a.json', 'x' * 100_000), capsys)
  assert code == 2
  assert f'{tmp_path / "a.json"}: the largest size of a file is reached' in line
  assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')
def test_a_checkpoint_that_cannot_be_written(tmp_path, capsys, small_disk):
  """In a thread of orbax's, by tensorstore: the checkpoint before it is what there is."""
  from fetal_jax.runtime.checkpoint import Checkpointer

  def save(step, size):
    with Checkpointer(tmp_path / 'checkpoints') as checkpointer:
      checkpointer.save(step, {'a': np.random.default_rng(0).random(size)}, {'step': step})

  assert run(lambda: save(1, 100), capsys) == (0, '')
  code, line = run(lambda: save(2, 1_000_000), capsys)
  assert code == 2
  assert f'fetal_jax: {tmp_path / "checkpoints"}/2' in line
  assert 'the largest size of a file is reached' in line
  with Checkpointer(tmp_path / 'checkpoints') as checkpointer:
    assert checkpointer.latest_step() == 1
    np.testing.assert_array_equal(
      checkpointer.restore(1, {'a': np.zeros(100)})[0]['a'], np.random.default_rng(0).random(100)
    )
  gc.collect()  # what orbax has begun and left, which would warn in a later test


def test_metrics_that_cannot_be_written(tmp_path, capsys, small_disk):
  """Neither the training nor a thread hangs, and the rows that are there can be read."""
  from fetal_jax.runtime.metrics import MetricWriter, read_metrics

  def write():
    with MetricWriter(tmp_path) as writer:
      for step in range(100_000):
        writer.write_scalars(step, {'loss': 0.5})

  code, line = run(write, capsys)
  assert code == 2
  assert f'{tmp_path}: the largest size of a file is reached' in line
  assert len(read_metrics(tmp_path / 'metrics.jsonl')) > 100


def test_a_run_log_that_cannot_be_written_is_given_up(tmp_path, capfd, small_disk):
  handler = logs._RunLog(tmp_path / 'run.log')
  record = logging.LogRecord('absl', logging.INFO, __file__, 1, 'x' * 1000, (), None)
  root = logging.getLogger()
  root.addHandler(handler)
  for _ in range(100):
    if handler in root.handlers:
      handler.handle(record)
  assert handler not in root.handlers
  said = capfd.readouterr().err
  assert said.count('\n') == 1
  assert 'run.log: no longer written ([Errno 27] File too large)' in said
  with contextlib.suppress(OSError):
    handler.close()
