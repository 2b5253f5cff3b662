"""The accounts of a run: config.json (what was asked) and logs/stages.json (who did each stage, and what it took).

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

from fetal_jax.runtime import records, signals
from fetal_jax.runtime.files import PathLike
from fetal_jax.runtime.logs import start_logging
from fetal_jax.runtime.version import __version__
from fetal_jax.runtime.workdir import locked

CONFIG = 'config.json'
ACCOUNTS = 'logs/stages.json'
_ROOT = pathlib.Path(__file__).resolve().parents[2]  # of the checkout, if this is one
_PACKAGES = ('jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'grain', 'tensorflow-datasets', 'numpy')
_REMEDY = 'delete it and run the same command again, which writes it anew'


class RunFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
  """The content of config.json.

  Attributes:
    config: all settings, nested by section, as last asked.
    versions, git_commit: of the start that began the run; see `Maker` for those of each stage.
  """

  config: dict[str, Any]
  versions: dict[str, str]
  git_commit: str | None


class Maker(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
  """With what a stage, or a part of it, was done.

  Attributes:
    versions: of this project, of Python and of the libraries that decide results.
    git_commit: of the source; None where it is no checkout of this project.
    device: for example `8 x NVIDIA H100 on 1 host`.
    cpu_cores: of the machine.
    dtype: of matmuls and convolutions; None where the stage has none in the config's dtype.
  """

  versions: dict[str, str]
  git_commit: str | None
  device: str
  cpu_cores: int | None
  dtype: str | None


class StageAccount(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
  """Who did one stage, and what it took, over all its starts that ended by themselves or were asked to stop.

  Attributes:
    seconds: of wall time.
    peak_memory_gib: largest resident memory of the process.
    finished: when, in ISO 8601; None before that.
    makers: all different ones, in order.
  """

  seconds: float
  peak_memory_gib: float
  finished: str | None
  makers: list[Maker]


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


def note_asked(workdir: PathLike, config: dict[str, Any]) -> None:
  """Writes the settings to config.json, unless they are there; who began the run stays.

  Raises:
    DamagedFile: config.json is not what was written.
  """
  try:
    before = read(workdir)
  except FileNotFoundError:
    write(workdir, describe(config))
    return
  after = msgspec.structs.replace(before, config=config)
  if records.to_json(after) != records.to_json(before):
    write(workdir, after)


def describe(config: dict[str, Any]) -> RunFile:
  """Returns the record of a run with these settings by the source and the libraries in use."""
  return RunFile(config, versions(), git_commit(_ROOT))


def versions() -> dict[str, str]:
  """Returns the versions of this project, of Python and of the libraries that decide results."""
  return {
    'fetal_jax': __version__,  # a checkout that was never installed has it too
    'python': sys.version.split()[0],
    **{name: metadata.version(name) for name in _PACKAGES},
  }


def git_commit(root: pathlib.Path) -> str | None:
  """Returns the commit of this project's checkout at `root`; None where there is none, or no git.

  An installed package may lie within somebody else's repository, and a hook of git's names its repository in the
  environment: neither is meant.
  """
  if not (root / 'pyproject.toml').is_file() or not (root / '.git').exists():
    return None
  environment = {key: value for key, value in os.environ.items() if not key.startswith('GIT_')}
  command = ['git', 'rev-parse', '--show-toplevel', 'HEAD']
  try:
    asked = subprocess.run(
      command, cwd=root, env=environment, capture_output=True, text=True, errors='replace', check=False
    )
  except OSError:
    return None
  top, _, commit = asked.stdout.strip().rpartition('\n')
  return commit if asked.returncode == 0 and top and os.path.samefile(top, root) else None


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
  stages: Mapping[str, Callable[[], bool]],
  workdir: PathLike,
  *,
  on_one_host: Collection[str] = (),
  dtypes: Mapping[str, str] | None = None,
) -> None:
  """Runs stages in order, and notes in logs/stages.json who did each of them and what it took.

  Args:
    stages: functions by name; each returns whether there was anything to do.
    workdir: of the run.
    on_one_host: names of those that only the first process runs, while the others wait.
    dtypes: name of a stage -> dtype of its matmuls and convolutions.
  """
  from fetal_jax.runtime import hosts  # loads JAX, which `read` does not need

  def account(name: str, start: float, *, finished: bool) -> None:
    if hosts.is_first():
      dtype = (dtypes or {}).get(name)
      _account(workdir, name, time.monotonic() - start, dtype=dtype, finished=finished)

  for name, stage in stages.items():
    start = time.monotonic()
    try:
      worked = hosts.on_one_host(stage) if name in on_one_host else stage()
    except signals.Stopped:
      account(name, start, finished=False)
      raise
    if worked:
      account(name, start, finished=True)


def _account(workdir: PathLike, stage: str, seconds: float, *, dtype: str | None, finished: bool) -> None:
  """Adds a start of a stage, which has just ended, to its account."""
  from fetal_jax.runtime import devices

  try:
    accounts = read_accounts(workdir)
  except FileNotFoundError:
    accounts = {}
  before = accounts.get(stage) or StageAccount(0.0, 0.0, None, [])
  maker = Maker(
    versions=versions(),
    git_commit=git_commit(_ROOT),
    device=devices.device_summary(),
    cpu_cores=os.cpu_count(),
    dtype=dtype,
  )
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 2**30
  now = datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds')
  accounts[stage] = StageAccount(
    seconds=round(before.seconds + seconds, 1),
    peak_memory_gib=round(max(before.peak_memory_gib, peak), 2),
    finished=now if finished else before.finished,
    makers=[*before.makers, *([maker] if maker not in before.makers else [])],
  )
  write_accounts(workdir, accounts)
