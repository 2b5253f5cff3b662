"""The command: `python -m fetal_jax.main --config=configs/demo.py --workdir=runs/demo`.

Reads the flags and runs the stages in order; what they do is in libraries that a notebook can import.
"""

import argparse
import functools
import importlib
import json
import os
import pathlib
import shlex
import sys
import time

import ml_collections
from absl import logging

from fetal_jax import config as config_lib
from fetal_jax.runtime import environment, exits, files
from fetal_jax.runtime import run as run_lib
from fetal_jax.runtime.errors import UserError
from fetal_jax.runtime.units import duration

FLOW = {
  'prepare': 'fetal_jax.data.prepare',
  'diffusion': 'fetal_jax.train.diffusion',
  'sample': 'fetal_jax.sample.stage',
  'classify': 'fetal_jax.train.classify',
  'filter': 'fetal_jax.evaluate.filter',
  'evaluate': 'fetal_jax.evaluate.stage',
  'report': 'fetal_jax.report.stage',
}
STAGES = {**FLOW, 'sweep': 'fetal_jax.evaluate.sweep'}  # the others run only when they are asked for
_PLAN = 'plan'  # no stage: leaves nothing in the workdir
_IN_CONFIG_DTYPE = ('diffusion', 'sample', 'classify', 'filter', 'sweep')  # the others compute in float32
_ON_ONE_HOST = ('prepare', 'evaluate', 'report', 'sweep')  # the other hosts wait for the first

_HELP = """\
The flow: prepare -> diffusion -> sample -> classify -> filter -> evaluate -> report. A stage that is done says so and
returns, one that was interrupted resumes, so the same command is also the way to resume.

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
The table in fetal_jax/config/settings.py says what each one means.
"""


def parse(argv: list[str]) -> tuple[argparse.Namespace, ml_collections.ConfigDict]:
  """Returns the flags and the config that they ask for, checked.

  Raises:
    UserError: an unknown flag or key, or a value that cannot be.
  """
  for word in argv:
    word.encode()  # `exits` says which one is no UTF-8
  flags, settings = _parser().parse_known_args(argv)
  config = config_lib.load_file(flags.config)
  for argument in settings:
    key, equals, text = argument.partition('=')
    if not key.startswith('--config.') or not equals:
      raise UserError(
        f'{argument}: no such flag; --help lists them, settings are --config.<section>.<key>=<value>'
      )
    config_lib.override(config, key.removeprefix('--config.'), text)
  check(config)
  if not flags.print_config and not flags.workdir and flags.stage != _PLAN:
    raise UserError('--workdir is missing: name a folder for the results, such as --workdir=runs/demo')
  flags.workdir = flags.workdir and files.expanded(flags.workdir)
  return flags, config


def _parser() -> argparse.ArgumentParser:
  """Returns the parser of all flags but those of settings."""
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
    help='the folder of the run: data, checkpoints, images, report; made if missing, else the run in it resumes',
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
  return parser


def check(config: ml_collections.ConfigDict) -> None:
  """Makes all checks that need nothing but the config.

  Raises:
    UserError: names the key, its value, and what it may be.
  """
  environment.load_jax()
  from fetal_jax.train import regimes

  config_lib.validate(config)
  regimes.check(config)


def run(
  config: ml_collections.ConfigDict, workdir: pathlib.Path, stages: list[str], *, after: str = ''
) -> None:
  """Runs stages in order in this process, with accounts in the workdir.

  Args:
    config: of the run.
    workdir: of the run.
    stages: keys of `STAGES`.
    after: the command that follows this one, to be named at the end.

  Raises:
    UserError: the workdir holds results of other settings, or a stage cannot do its work.
  """
  from fetal_jax.runtime import devices, hosts

  devices.enable_compilation_cache(config.compilation_cache)
  devices.all_devices()  # raises UserError where there are none
  workdir.mkdir(parents=True, exist_ok=True)
  hosts.on_one_host(config_lib.check_changes, config, workdir)
  hosts.on_one_host(run_lib.note_asked, workdir, config_lib.to_dict(config))
  clock = time.monotonic()
  calls = {stage: functools.partial(_run_stage, stage, config, workdir) for stage in stages}
  dtypes = dict.fromkeys(_IN_CONFIG_DTYPE, devices.compute_dtype(config.dtype).name)
  run_lib.run_stages(calls, workdir, on_one_host=_ON_ONE_HOST, dtypes=dtypes)
  done = f'{", ".join(stages)} done in {duration(time.monotonic() - clock)}'
  report = workdir / 'report' / 'index.html'
  if after:
    done += f'; next: {after}'
  elif report.is_file():
    done += f'; the report: {report}'
  logging.info('%s', done)


def _run_stage(stage: str, config: ml_collections.ConfigDict, workdir: pathlib.Path) -> bool:
  """Runs one stage, whose libraries are loaded only now."""
  return importlib.import_module(STAGES[stage]).run(config, workdir)


def main(argv: list[str]) -> int:
  """Returns the exit code, see `fetal_jax.runtime.exits`."""
  workdir = pathlib.Path()

  def command() -> None:
    nonlocal workdir
    flags, config = parse(argv)
    if flags.print_config:
      print(json.dumps(config_lib.to_dict(config), indent=2))
    elif flags.stage == _PLAN:
      _plan(config, flags.workdir)
    else:
      workdir = pathlib.Path(flags.workdir)
      stages = list(FLOW) if flags.stage == 'all' else [flags.stage]
      _use_cpu_cores(config)
      with run_lib.started(workdir):
        run(config, workdir, stages, after=_next_command(argv, flags.stage))

  return exits.exit_code(command, then='run the same command again to resume', place=lambda: workdir)


def _next_command(argv: list[str], stage: str) -> str:
  """Returns the command of the stage after this one; empty after the last one, and where all run."""
  stages = list(FLOW)
  if stage not in stages[:-1]:
    return ''
  same = [word for i, word in enumerate(argv) if '--stage' not in (word.partition('=')[0], argv[i - 1])]
  return shlex.join(['python', '-m', 'fetal_jax.main', *same, f'--stage={stages[stages.index(stage) + 1]}'])


def _plan(config: ml_collections.ConfigDict, workdir: str | None) -> None:
  """Prints what a run would take on the devices of this machine."""
  os.environ.setdefault('XLA_PYTHON_CLIENT_PREALLOCATE', 'false')  # a run may be using them
  from fetal_jax.planning import plan
  from fetal_jax.runtime import devices

  _use_cpu_cores(config)
  devices.all_devices()  # raises UserError where there are none
  plan.run(config, workdir)


def _use_cpu_cores(config: ml_collections.ConfigDict) -> None:
  from fetal_jax.runtime import devices

  devices.use_cpu_cores(
    config.diffusion.batch_size // config.diffusion.microbatches, config.classify.batch_size
  )


if __name__ == '__main__':
  sys.exit(main(sys.argv[1:]))
