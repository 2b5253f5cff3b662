"""Log lines of a run: to the terminal and to logs/run.log."""

import logging as python_logging
import pathlib
import sys
from typing import Any

from absl import logging

from fetal_jax.runtime import files
from fetal_jax.runtime.files import PathLike
from fetal_jax.runtime.progress import TerminalHandler

_PACKAGE = str(pathlib.Path(__file__).resolve().parents[1])


def start_logging(workdir: PathLike, process: int) -> None:
  """Sends the project's own lines and all warnings to stderr and to logs/run.log.

  Args:
    workdir: of the run.
    process: index of this process. The first one logs everything; the others only warn, and say which one they are.
  """
  folder = pathlib.Path(workdir) / 'logs'
  folder.mkdir(parents=True, exist_ok=True)
  handlers: list[python_logging.Handler] = [TerminalHandler()]
  if process == 0:
    handlers.append(_RunLog(folder / 'run.log', encoding='utf-8'))
  who = f'[process {process}] ' if process else ''
  for handler in handlers:
    handler.addFilter(_is_worth_reading)
    handler.setLevel(python_logging.WARNING if process else python_logging.INFO)
    handler.setFormatter(python_logging.Formatter(f'%(asctime)s {who}%(message)s', '%H:%M:%S'))
  python_logging.basicConfig(level=python_logging.INFO, handlers=handlers, force=True)
  logging.set_verbosity(logging.INFO)


class _RunLog(python_logging.FileHandler):
  """A log file that is given up, with one line on stderr, when it cannot be written: it must not stop a run."""

  def _open(self) -> Any:
    return files.open_own(self.baseFilename, 'a')

  def handleError(self, record: python_logging.LogRecord) -> None:
    python_logging.getLogger().removeHandler(self)
    print(f'{self.baseFilename}: no longer written ({sys.exc_info()[1]})', file=sys.stderr)


def _is_worth_reading(record: python_logging.LogRecord) -> bool:
  """Returns whether a record is of this project, or a warning that says something new."""
  # Orbax logs an error with a traceback in each of its threads, and raises it as well.
  if 'orbax' in record.pathname and record.exc_info:
    return False
  # TFDS warns of every data set that is given its own settings.
  quiet = python_logging.ERROR if 'tensorflow_datasets' in record.pathname else python_logging.WARNING
  return record.levelno >= quiet or record.pathname.startswith(_PACKAGE)
