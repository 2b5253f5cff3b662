"""The command: `python -m fetal_jax.main --config=configs/demo.py --workdir=runs/demo`.

Reads the flags and runs the stages; what they do is in libraries that a notebook can import.
"""

import argparse
import contextlib
import datetime
import importlib
import json
import logging as python_logging
import os
import pathlib
import resource
import shlex
import subprocess
import sys
import time
from importlib import metadata

import ml_collections
from absl import logging

from fetal_jax import config as config_lib
from fetal_jax.runtime import exits
from fetal_jax.runtime.errors import UserError
from fetal_jax.runtime.files import read_json, write_json
from fetal_jax.runtime.progress import TerminalHandler, duration

FLOW = {
  'prepare': 'fetal_jax.data.prepare',
  'diffusion': 'fetal_jax.train.diffusion',
  'sample': 'fetal_jax.sample.stage',
  'classify': 'fetal_jax.train.classify',
  'filter': 'fetal_jax.evaluate.filter',
  'evaluate': 'fetal_jax.evaluate.stage',
  'report': 'fetal_jax.report.stage',
}
STAGES = {**FLOW, 'sweep': 'fetal_jax.evaluate.sweep'}  # the others run when they are asked for
_PLAN = 'plan'  # looks, and leaves nothing: no stage like those

# The other hosts wait for the first.
_ON_ONE_HOST = ('prepare', 'evaluate', 'report', 'sweep')

_HELP = """\
The flow: prepare -> diffusion -> sample -> classify -> filter -> evaluate -> report. A stage that is done says so and
returns, one that was interrupted goes on, so the same command is also the way to resume.

  prepare    reads, splits and resizes the images
  diffusion  trains the diffusion model and its guide
  sample     draws the synthetic images
  classify   trains classifiers with and without them
  filter     trains on those that an independent classifier agrees with, if the config asks for that
  evaluate   judges the synthetic images: fidelity, agreement, copies
  report     writes report/index.html

Beside it:

  plan       estimates time, memory and disk of all this; computes and writes nothing, needs no --workdir
  sweep      compares guidance scales, methods and steps of a trained model

Any value of the config can be set: --config.diffusion.learning_rate=1e-4 --config.classify.models=resnet50,swin_t
The comments in fetal_jax/config.py say what each one means.
"""


def parse(argv: list[str]) -> tuple[argparse.Namespace, ml_collections.ConfigDict]:
  """Flags and the config they ask for, checked.

  Raises:
    UserError: an unknown flag or key, or a value that cannot be.
  """
  parser = argparse.ArgumentParser(
    prog='python -m fetal_jax.main',
    description=_HELP,
    formatter_class=argparse.RawDescriptionHelpFormatter,
    allow_abbrev=False,
  )
  parser.add_argument(
    '--config',
    required=True,
    metavar='FILE[:ARG]',
    help='the experiment, such as configs/demo.py (a laptop, minutes) or configs/paper.py:w128 (a GPU, days); what '
    'follows the colon is for its get_config()',
  )
  parser.add_argument(
    '--workdir',
    metavar='DIR',
    help='the folder of the run: data, checkpoints, images, report; made if it is not there, else gone on from',
  )
  parser.add_argument(
    '--stage',
    default='all',
    metavar='STAGE',
    choices=('all', *STAGES, _PLAN),
    help='one of the above instead of the whole flow',
  )
  parser.add_argument(
    '--print_config',
    action='store_true',
    help='print every setting as this command has it, as JSON, and stop',
  )
  flags, rest = parser.parse_known_args(argv)
  config = config_lib.load_file(flags.config)
  for argument in rest:
    key, equals, text = argument.partition('=')
    if not key.startswith('--config.') or not equals:
      raise UserError(
        f'{argument}: no such flag; --help lists them, settings are --config.<section>.<key>=<value>'
      )
    config_lib.override(config, key.removeprefix('--config.'), text)
  check(config)
  if not flags.print_config and not flags.workdir and flags.stage != _PLAN:
    raise UserError('--workdir is missing: name a folder for the results, such as --workdir=runs/demo')
  return flags, config


def check(config: ml_collections.ConfigDict) -> None:
  """All checks that need nothing but the config."""
  from fetal_jax.train import regimes

  config_lib.validate(config)
  regimes.check(config)


def run(
  config: ml_collections.ConfigDict, workdir: pathlib.Path, stages: list[str], *, after: str = ''
) -> None:
  """Runs stages in order in this process, with logs and accounts in the workdir.

  Args:
    config: of the run.
    workdir: of the run.
    stages: keys of `STAGES`.
    after: the command that goes on from here, to be named at the end.

  Raises:
    UserError: the workdir holds results of other settings, or a stage cannot do its work.
  """
  from fetal_jax.runtime import devices, hosts
  from fetal_jax.runtime.workdir import check_config

  devices.enable_compilation_cache(config.compilation_cache)
  workdir.mkdir(parents=True, exist_ok=True)
  hosts.on_one_host(check_config, config, workdir)
  hosts.on_one_host(_write_config, config, workdir)
  clock = time.monotonic()
  for stage in stages:
    start = time.monotonic()
    run_stage = importlib.import_module(STAGES[stage]).run
    worked = (
      hosts.on_one_host(run_stage, config, workdir) if stage in _ON_ONE_HOST else run_stage(config, workdir)
    )
    if worked and hosts.is_first():
      _account(workdir, stage, time.monotonic() - start, devices.device_summary())
  report = workdir / 'report' / 'index.html'
  done = f'{", ".join(stages)} done in {duration(time.monotonic() - clock)}'
  if after:
    done += f'; next: {after}'
  elif report.is_file():
    done += f'; the report: {report}'
  logging.info('%s', done)


def _account(workdir: pathlib.Path, stage: str, seconds: float, device: str) -> None:
  """Adds to logs/stages.json what a stage took; a resumed stage adds up."""
  path = workdir / 'logs' / 'stages.json'
  accounts = read_json(path) if path.is_file() else {}
  before = accounts.get(stage, {})
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 2**30
  accounts[stage] = {
    'seconds': round(before.get('seconds', 0.0) + seconds, 1),
    'peak_memory_gib': round(max(before.get('peak_memory_gib', 0.0), peak), 2),
    'finished': datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'),
    'device': device,
    'cpu_cores': os.cpu_count(),
  }
  write_json(path, accounts)


def _write_config(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
  packages = ('jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'grain', 'tensorflow-datasets', 'numpy')
  root = pathlib.Path(__file__).resolve().parent.parent
  commit = subprocess.run(['git', 'rev-parse', 'HEAD'], cwd=root, capture_output=True, text=True, check=False)
  write_json(
    workdir / 'config.json',
    {
      'config': config_lib.to_dict(config),
      'versions': {
        'fetal_jax': metadata.version('fetal_jax'),
        'python': sys.version.split()[0],
        **{name: metadata.version(name) for name in packages},
      },
      'git_commit': commit.stdout.strip() or None,
    },
  )


class _RunLog(python_logging.FileHandler):
  """A log file that is given up, in one line, where it cannot be written: what matters stops the run by itself."""

  def handleError(self, record: python_logging.LogRecord) -> None:
    python_logging.getLogger().removeHandler(self)
    print(f'{self.baseFilename}: no longer written ({sys.exc_info()[1]})', file=sys.stderr)


def _start_logging(workdir: pathlib.Path, process: int) -> None:
  """This project's lines and everybody's warnings go to stderr and to logs/run.log.

  Of several processes the first one speaks; the others only warn, and say which one they are.
  """
  (workdir / 'logs').mkdir(parents=True, exist_ok=True)
  package = str(pathlib.Path(__file__).resolve().parent)

  def worth_reading(record: python_logging.LogRecord) -> bool:
    # TFDS warns of every data set that is given its own settings. Orbax reports an error in each of its threads, with
    # tracebacks, and raises it as well.
    if 'orbax' in record.pathname and record.exc_info:
      return False
    quiet = python_logging.ERROR if 'tensorflow_datasets' in record.pathname else python_logging.WARNING
    return record.levelno >= quiet or record.pathname.startswith(package)

  handlers: list[python_logging.Handler] = [TerminalHandler()]
  if process == 0:
    handlers.append(_RunLog(workdir / 'logs' / 'run.log', encoding='utf-8'))
  who = f'[process {process}] ' if process else ''
  for handler in handlers:
    handler.addFilter(worth_reading)
    handler.setLevel(python_logging.WARNING if process else python_logging.INFO)
    handler.setFormatter(python_logging.Formatter(f'%(asctime)s {who}%(message)s', '%H:%M:%S'))
  python_logging.basicConfig(level=python_logging.INFO, handlers=handlers, force=True)
  logging.set_verbosity(logging.INFO)


def main(argv: list[str]) -> int:
  """Returns the exit code, see `fetal_jax.runtime.exits`."""
  place = pathlib.Path()

  def command() -> None:
    nonlocal place
    flags, config = parse(argv)
    if flags.print_config:
      print(json.dumps(config_lib.to_dict(config), indent=2))
      return
    if flags.stage == _PLAN:
      _plan(config, flags.workdir)
      return
    place = pathlib.Path(flags.workdir)
    stages = list(FLOW) if flags.stage == 'all' else [flags.stage]
    _run_here(config, place, stages, _next_command(argv, flags.stage))

  return exits.exit_code(command, goes_on='the same command goes on', place=lambda: place)


def _next_command(argv: list[str], stage: str) -> str:
  """The command of the stage after this one; empty after the last one, and where all run."""
  stages = list(FLOW)
  if stage not in stages[:-1]:
    return ''
  same = [word for i, word in enumerate(argv) if '--stage' not in (word.partition('=')[0], argv[i - 1])]
  return shlex.join(['python', '-m', 'fetal_jax.main', *same, f'--stage={stages[stages.index(stage) + 1]}'])


def _plan(config: ml_collections.ConfigDict, workdir: str | None) -> None:
  """Prints what a run would take on the devices of this machine."""
  # A run may be at work on them.
  os.environ.setdefault('XLA_PYTHON_CLIENT_PREALLOCATE', 'false')
  from fetal_jax.planning import plan

  _use_cpu_cores(config)
  plan.run(config, workdir)


def _use_cpu_cores(config: ml_collections.ConfigDict) -> None:
  from fetal_jax.runtime import devices

  devices.use_cpu_cores(
    config.diffusion.batch_size // config.diffusion.microbatches, config.classify.batch_size
  )


def _run_here(
  config: ml_collections.ConfigDict, workdir: pathlib.Path, stages: list[str], after: str
) -> None:
  """`run` as one of the processes that may have been started, the first of which holds the workdir."""
  import jax

  from fetal_jax.runtime import hosts
  from fetal_jax.runtime import workdir as workdir_lib

  _use_cpu_cores(config)
  # JAX's own handler of SIGTERM would take the place of ours, and knows of no classifiers after the diffusion model.
  jax.config.update('jax_enable_preemption_service', False)
  process = hosts.initialize_hosts()
  with contextlib.ExitStack() as stack:
    # One process looks at the lock before it takes its devices: they may be busy with the run that holds it.
    with hosts.together() if jax.distributed.is_initialized() else contextlib.nullcontext():
      if process == 0:
        stack.enter_context(workdir_lib.locked(workdir))
    _start_logging(workdir, process)
    run(config, workdir, stages, after=after)


if __name__ == '__main__':
  sys.exit(main(sys.argv[1:]))
