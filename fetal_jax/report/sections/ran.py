"""What ran: settings, code, versions, time and memory."""

from collections.abc import Callable, Iterable, Mapping

from fetal_jax.data.rounds import Manifest
from fetal_jax.report.page import DASH, Block, Cell, Section, Table, Terms
from fetal_jax.report.run import Run
from fetal_jax.report.sections.accuracy import protocol
from fetal_jax.report.sections.leakage import split_title
from fetal_jax.runtime.records import to_json
from fetal_jax.runtime.run import Maker
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
      ('Split', f'{split_title(data)} (seed {data.seed}, hash {data.split_hash[:12]})'),
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
  found.append(('Code', made_by(run, lambda maker: _commit(maker.git_commit)) or _commit(run.git_commit)))
  if versions := made_by(run, lambda maker: _listed_versions(maker.versions)) or _listed_versions(
    run.versions
  ):
    found.append(('Versions', versions))
  return found


def made_by(run: Run, tell: Callable[[Maker], str]) -> str:
  """Tells with what the stages were done; who only read them for the report does not count.

  Args:
    run: the run.
    tell: what is to be told of a maker.

  Returns:
    That, with the names of the stages where it differs between them; '' for a run without accounts.
  """
  stages: dict[str, list[str]] = {}
  for name, account in run.stages.items():
    if name != 'report':
      for maker in account.makers:
        stages.setdefault(tell(maker), []).append(name)
  if len(stages) == 1:
    return next(iter(stages))
  return '; '.join(f'{told} ({", ".join(dict.fromkeys(names))})' for told, names in stages.items())


def _commit(commit: str | None) -> str:
  return f'git commit {commit[:12]}' if commit else 'git commit unknown'


def _listed_versions(versions: Mapping[str, str]) -> str:
  return ', '.join(f'{name} {version}' for name, version in versions.items())


def sampler(drawn: Manifest) -> str:
  """Returns the settings of the sampler that drew a round."""
  settings = to_json(drawn.sampler).items()
  return ', '.join(f'{key} {value}' for key, value in settings if isinstance(value, str | int | float))


def stages(run: Run) -> Table | None:
  """Returns devices, wall time and peak memory by stage; None if they are unknown."""
  rows = [
    [
      Cell(name),
      Cell(_listed(maker.device for maker in account.makers)),
      Cell(_listed(maker.dtype for maker in account.makers)),
      Cell(duration(account.seconds)),
      Cell(f'{account.peak_memory_gib:.1f} GiB'),
      Cell(account.finished[:16].replace('T', ' ') if account.finished else 'not finished'),
    ]
    for name, account in run.stages.items()
    if name != 'report'
  ]
  columns = ['Stage', 'Device', 'Precision', 'Wall time', 'Peak memory', 'Finished']
  return Table('stages', 'Time and memory', columns, rows, text_columns=3) if rows else None


def _listed(values: Iterable[str | None]) -> str:
  """Returns different values, in order, with `, then` between them."""
  return ', then '.join(dict.fromkeys(value for value in values if value)) or DASH
