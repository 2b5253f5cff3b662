"""What ran: settings, code, versions, time and memory."""

from fetal_jax.data.rounds import Manifest
from fetal_jax.report.page import DASH, Block, Cell, Section, Table, Terms
from fetal_jax.report.run import Run
from fetal_jax.report.sections.accuracy import protocol
from fetal_jax.runtime.records import to_json
from fetal_jax.runtime.units import duration

_COLOURS = {1: 'grey', 3: 'RGB'}


def section(run: Run) -> Section:
  """Says with what the results were made, and what that took."""
  blocks: list[Block] = [Terms([(term, '', value) for term, value in facts(run)])]
  if accounts := stages(run):
    blocks.append(accounts)
  return Section('ran', 'What ran', blocks, nav='What ran')


def facts(run: Run) -> list[tuple[str, str]]:
  """Returns what ran, as (term, value) pairs."""
  data, trained = run.data, run.config.get('diffusion') or {}
  found = [('Configuration', run.name)]
  if data:
    found += [
      ('Data', data.source),
      ('Split', f'{data.split} (seed {data.seed}, hash {data.split_hash[:12]})'),
      ('Images', f'{data.image_size} × {data.image_size} px, {_COLOURS.get(data.channels, "")}'),
    ]
  if run.diffusion and trained:
    size = (
      f'{trained["steps"]:,} steps of batch {trained["batch_size"]:,}, UNet width {trained["unet"]["width"]}'
    )
    found.append(('Diffusion model', size))
  if run.rounds:
    first = run.rounds[0]
    found.append(('Sampler', f'{sampler(first)}; checkpoint of step {first.checkpoint.step:,}'))
  if run.runs:
    found.append(('Model selection', protocol(run)))
  found.append(('Code', f'git commit {run.git_commit[:12]}' if run.git_commit else 'git commit unknown'))
  if run.versions:
    found.append(('Versions', ', '.join(f'{name} {version}' for name, version in run.versions.items())))
  return found


def sampler(drawn: Manifest) -> str:
  """Returns the settings of the sampler that drew a round."""
  settings = to_json(drawn.sampler).items()
  return ', '.join(f'{key} {value}' for key, value in settings if isinstance(value, str | int | float))


def stages(run: Run) -> Table | None:
  """Returns wall time and peak memory by stage; None if they are unknown."""
  rows = [
    [
      Cell(name),
      Cell(account.device or DASH),
      Cell(duration(account.seconds)),
      Cell(f'{account.peak_memory_gib:.1f} GiB'),
      Cell(account.finished[:16].replace('T', ' ')),
    ]
    for name, account in run.stages.items()
    if name != 'report'
  ]
  columns = ['Stage', 'Device', 'Wall time', 'Peak memory', 'Finished']
  return Table('stages', 'Time and memory', columns, rows, text_columns=2) if rows else None
