"""What progress looks like: at a terminal, in a file, in a notebook, and in the other processes of a run."""

import logging
import os
import re
import subprocess
import sys
import types

import pytest

from fetal_jax.runtime import progress

ROWS, COLUMNS = 24, 70

SCRIPT = """
import logging, sys, time, warnings
from absl import logging as absl_logging
from fetal_jax.runtime.progress import Progress, TerminalHandler

handlers = [TerminalHandler(), logging.FileHandler(sys.argv[1])]
logging.basicConfig(level=logging.INFO, handlers=handlers, format='LOG %(message)s', force=True)
absl_logging.set_verbosity(absl_logging.INFO)
with Progress('diffusion', 5000, 'steps', done=1000, log_seconds=0) as line:
  for step in range(1500, 5001, 500):
    line.update(step, loss=0.08, img_per_s=812.3)
    time.sleep(0.02 if step != 3500 else 0.5)
    if step == 3000:
      absl_logging.warning('a [bold]warning[/bold], longer than the terminal is wide: ' + 'x' * 70)
      print('printed', file=sys.stderr)
absl_logging.info('the end')
"""


def run(path, **streams) -> subprocess.Popen:
  environment = {**os.environ, 'TERM': 'xterm', 'PYTHONPATH': os.getcwd()}
  for name in ('NO_COLOR', 'COLUMNS', 'LINES'):
    environment.pop(name, None)
  return subprocess.Popen([sys.executable, '-c', SCRIPT, path], env=environment, **streams)


def screen(output: str) -> list[str]:
  """The lines that a terminal shows in the end: it obeys what rich sends, and wraps nothing."""
  lines, row, column = [''], 0, 0
  for part in re.findall(r'\x1b\[[?\d;]*[A-Za-z]|\r|\n|[^\x1b\r\n]+', output):
    if part == '\r':
      column = 0
    elif part == '\n':
      row += 1
      lines += [''] * (row == len(lines))
    elif part == '\x1b[2K':
      lines[row] = ''
    elif part.startswith('\x1b['):
      row -= int(part[2:-1] or 1) if part.endswith('A') else 0
    else:
      lines[row] = lines[row][:column].ljust(column) + part + lines[row][column + len(part) :]
      column += len(part)
  return [line for line in lines if line.strip()]


@pytest.mark.skipif(sys.platform == 'win32', reason='there is no pseudo-terminal')
def test_at_a_terminal_one_line_lives_below_the_log(tmp_path):
  import fcntl
  import pty
  import struct
  import termios

  ours, theirs = pty.openpty()
  fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack('HHHH', ROWS, COLUMNS, 0, 0))
  process = run(str(tmp_path / 'run.log'), stdin=theirs, stdout=theirs, stderr=theirs)
  os.close(theirs)
  output = b''
  try:
    while chunk := os.read(ours, 65536):
      output += chunk
  except OSError:  # how Linux says that the other end is closed
    pass
  os.close(ours)
  assert process.wait() == 0
  text = output.decode()
  assert '\x1b[2K' in text  # it updates in place
  live = re.findall(r'diffusion[^\r\n]*3,500 of 5,000 steps, \d+ s left, loss 0.08, 812 img/s', text)
  assert live, text
  assert all(len(re.sub(r'\x1b\[[\d;]*m', '', line)) <= COLUMNS for line in live)
  # Log lines are whole and above the live line, which is gone in the end and took no plain lines along.
  assert screen(text) == [
    'LOG a [bold]warning[/bold], longer than the terminal is wide: ' + 'x' * 70,
    'printed',
    'LOG the end',
  ]
  log = (tmp_path / 'run.log').read_text().splitlines()
  assert [line for line in log if '3,500 of 5,000 steps' in line], log
  assert '\x1b' not in '\n'.join(log)


def test_without_a_terminal_there_are_plain_lines_and_no_escape_code(tmp_path):
  process = run(str(tmp_path / 'run.log'), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
  _, said = process.communicate()
  lines = said.decode().splitlines()
  assert process.returncode == 0
  assert b'\x1b' not in said
  assert b'\r' not in said
  assert re.fullmatch(r'LOG diffusion: 1,500 of 5,000 steps, \d+ s left, loss 0.08, 812 img/s', lines[0])
  assert len(lines) == 8 + 3


@pytest.fixture
def logged(caplog):
  caplog.set_level(logging.INFO, logger='absl')
  return caplog


def test_plain_lines_come_at_most_so_often(logged, monkeypatch):
  clock = types.SimpleNamespace(now=100.0)
  monkeypatch.setattr(progress.time, 'monotonic', lambda: clock.now)
  with progress.Progress('sample', 60, 'images', log_seconds=10) as line:
    for done in range(1, 31):
      clock.now += 1
      line.tick(done)
      line.update(done, 'a note')
  assert logged.messages == [
    f'sample: {done} of 60 images, {60 - done} s left, a note' for done in (10, 20, 30)
  ]


def test_the_time_left_is_that_of_this_start(monkeypatch):
  clock = types.SimpleNamespace(now=0.0)
  monkeypatch.setattr(progress.time, 'monotonic', lambda: clock.now)
  line = progress.Progress('diffusion', 1000, 'steps', done=900)
  assert line.eta() == 'time left unknown'
  clock.now = 5.0
  line.tick(920)
  assert line.eta() == '20 s left'


def test_an_unknown_total_is_not_named(logged):
  with progress.Progress('Downloading', 0, 'MB', log_seconds=0) as line:
    line.update(12)
  assert logged.messages == ['Downloading: 12 MB, time left unknown']


class Terminal:
  """A stderr that says it is a terminal."""

  def __init__(self):
    self.text = ''

  def write(self, text):
    self.text += text

  def flush(self):
    pass

  def isatty(self):
    return True


def put_terminal(monkeypatch, kind='xterm') -> Terminal:
  """In the test itself: pytest puts its own stderr in place after the fixtures."""
  terminal = Terminal()
  monkeypatch.setenv('TERM', kind)
  monkeypatch.setattr(sys, 'stderr', terminal)
  return terminal


def test_a_line_within_a_line_is_not_drawn(monkeypatch):
  terminal = put_terminal(monkeypatch)
  with progress.Progress('outer', 10, 'steps') as outer:
    with progress.Progress('inner', 10, 'steps') as inner:
      inner.update(5)
    outer.update(5)
  assert 'outer' in terminal.text
  assert 'inner' not in terminal.text
  with progress.Progress('next', 10, 'steps'):
    pass
  assert 'next' in terminal.text


def test_an_error_takes_the_line_away(monkeypatch):
  terminal = put_terminal(monkeypatch)
  with pytest.raises(ZeroDivisionError), progress.Progress('outer', 10, 'steps'):
    raise ZeroDivisionError
  assert progress._live is None
  assert terminal.text.rfind('\x1b[?25h') > terminal.text.rfind('\x1b[?25l') >= 0  # the cursor is back


@pytest.mark.parametrize('reason', ['another process', 'a dumb terminal'])
def test_nothing_is_drawn_by(reason, monkeypatch):
  terminal = put_terminal(monkeypatch, 'dumb' if reason == 'a dumb terminal' else 'xterm')
  if reason == 'another process':
    jax = types.SimpleNamespace(
      distributed=types.SimpleNamespace(is_initialized=lambda: True), process_index=lambda: 1
    )
    monkeypatch.setitem(sys.modules, 'jax', jax)
  with progress.Progress('diffusion', 10, 'steps') as line:
    line.update(5)
  assert terminal.text == ''
