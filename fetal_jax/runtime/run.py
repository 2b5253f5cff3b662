"""The accounts of a run: config.json (what was asked, and of which versions) and logs/stages.json (what it took).

`started` and `run_stages` are what a command does with them.
"""

import contextlib
import datetime
import os
import pathlib
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from importlib import metadata
from typing import Any

import msgspec

from fetal_jax.runtime import records
from fetal_jax.runtime.files import PathLike
from fetal_jax.runtime.logs import start_logging
from fetal_jax.runtime.version import __version__
from fetal_jax.runtime.workdir import locked

CONFIG = 'config.json'
ACCOUNTS = 'logs/stages.json'
_PACKAGES = ('jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'grain', 'tensorflow-datasets', 'numpy')
_REMEDY = 'delete it and run the same command again, which writes it anew'


class RunFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
  """The content of config.json.

  Attributes:
    config: all settings, nested by section.
    versions: of this project, of Python and of the libraries that decide results.
    git_commit: of the source; None where it is no checkout.
  """

  config: dict[str, Any]
  versions: dict[str, str]
  git_commit: str | None


class StageAccount(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
  """What one stage took, over all its starts.

  Attributes:
    seconds: of wall time.
    peak_memory_gib: largest resident memory of the process.
    finished: when, in ISO 8601.
    device: for example `8 x NVIDIA H100 on 1 host`.
    cpu_cores: of the machine.
  """

  seconds: float
  peak_memory_gib: float
  finished: str
  device: str
  cpu_cores: int | None


def write(workdir: PathLike, run: RunFile) -> None:
  """Writes config.json."""
  records.write(pathlib.Path(workdir) / CONFIG, run)


def read(workdir: PathLike) -> RunFile:
  """Reads config.json.

  Raises:
    FileNotFoundError: nothing was run there.
    DamagedFile: it is not what `write` wrote.
  """
  return records.read(pathlib.Path(workdir) / CONFIG, RunFile, remedy=_REMEDY)


def write_accounts(workdir: PathLike, accounts: Mapping[str, StageAccount]) -> None:
  """Writes logs/stages.json: the accounts by the stage's name."""
  records.write(pathlib.Path(workdir) / ACCOUNTS, dict(accounts))


def read_accounts(workdir: PathLike) -> dict[str, StageAccount]:
  """Reads logs/stages.json.

  Raises:
    FileNotFoundError: no stage has finished.
    DamagedFile: it is not what `write_accounts` wrote.
  """
  return records.read(pathlib.Path(workdir) / ACCOUNTS, dict[str, StageAccount], remedy=_REMEDY)


def describe(config: dict[str, Any]) -> RunFile:
  """Returns the record of a run with these settings by the source and the libraries in use."""
  versions = {
    'fetal_jax': __version__,  # a checkout that was never installed has it too
    'python': sys.version.split()[0],
    **{name: metadata.version(name) for name in _PACKAGES},
  }
  return RunFile(config, versions, _git_commit(pathlib.Path(__file__).resolve().parents[2]))


def _git_commit(root: pathlib.Path) -> str | None:
  """Returns the commit of the checkout at `root`; None where it is none, or where there is no git."""
  if not (root / '.git').exists():  # git would look for one in the folders above
    return None
  try:
    asked = subprocess.run(
      ['git', 'rev-parse', 'HEAD'], cwd=root, capture_output=True, text=True, check=False
    )
  except OSError:
    return None
  return asked.stdout.strip() or None


@contextlib.contextmanager
def started(workdir: PathLike) -> Iterator[None]:
  """Joins the other processes of a run, if there are any; in the block the first of all holds the workdir and logs.

  Raises:
    UserError: another run holds the workdir, or the processes do not find each other.
  """
  import jax

  from fetal_jax.runtime import hosts

  # JAX's own handler of SIGTERM would replace the project's, and knows of no classifiers after the diffusion model.
  jax.config.update('jax_enable_preemption_service', False)
  process = hosts.initialize_hosts()
  with contextlib.ExitStack() as stack:
    # The lock comes before the devices, which may be busy with the run that holds it.
    with hosts.together() if jax.distributed.is_initialized() else contextlib.nullcontext():
      if process == 0:
        stack.enter_context(locked(workdir))
    start_logging(workdir, process)
    yield


def run_stages(
  stages: Mapping[str, Callable[[], bool]], workdir: PathLike, *, on_one_host: Collection[str] = ()
) -> None:
  """Runs stages in order, and adds up in logs/stages.json what each of them took.

  Args:
    stages: functions by name; each returns whether there was anything to do.
    workdir: of the run.
    on_one_host: names of those that only the first process runs, while the others wait.
  """
  from fetal_jax.runtime import hosts  # loads JAX, which `read` does not need

  for name, stage in stages.items():
    start = time.monotonic()
    worked = hosts.on_one_host(stage) if name in on_one_host else stage()
    if worked and hosts.is_first():
      _account(workdir, name, time.monotonic() - start)


def _account(workdir: PathLike, stage: str, seconds: float) -> None:
  """Adds a start of a stage, which has just ended, to its account."""
  from fetal_jax.runtime import devices

  try:
    accounts = read_accounts(workdir)
  except FileNotFoundError:
    accounts = {}
  before = accounts.get(stage)
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 2**30
  accounts[stage] = StageAccount(
    seconds=round((before.seconds if before else 0.0) + seconds, 1),
    peak_memory_gib=round(max(before.peak_memory_gib if before else 0.0, peak), 2),
    finished=datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'),
    device=devices.device_summary(),
    cpu_cores=os.cpu_count(),
  )
  write_accounts(workdir, accounts)
