"""Results as Markdown: every machine's file in a folder makes a section."""

import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

from fetal_jax.runtime.files import read_json, write_text

BEGIN, END = '<!-- benchmarks: begin (written by `make bench`) -->', '<!-- benchmarks: end -->'

# Lengths of the reverse process that are of interest for each method.
STEPS = {'ancestral': (250, 50, 25), 'ddim': (50, 25), 'dpmpp_2m': (25, 15, 10)}
ROUND = 60_000  # images of the paper's experiment

Cases = dict[str, dict[str, Any]]


def markdown(folder: pathlib.Path) -> str:
  """Returns all tables of all machines."""
  return '\n'.join(_machine(read_json(path)) for path in sorted(folder.glob('*.json')))


def write_docs(page: pathlib.Path, folder: pathlib.Path) -> None:
  """Replaces what is between the markers of a page."""
  before, _, rest = page.read_text(encoding='utf-8').partition(BEGIN)
  _, _, after = rest.partition(END)
  write_text(page, f'{before}{BEGIN}\n\n{markdown(folder)}\n{END}{after}')


def _machine(results: dict[str, Any]) -> str:
  machine, parts = results['machine'], results['parts']
  lines = [f'### {machine["device"]}', '']
  lines += [f'{machine["cpu"]}, cores: {machine["cores"]}, {machine["memory_gib"]} GiB, {machine["system"]}.']
  versions: dict[str, str] = {}
  for part in parts.values():
    versions |= part['versions']
  days = sorted({part['measured'][:10] for part in parts.values()})
  lines += [f'{", ".join(f"{k} {v}" for k, v in versions.items())}. Measured {" and ".join(days)}.', '']
  peaks = best_peaks(parts.get('peaks', {}).get('cases', {}))
  for name, function in _SECTIONS.items():
    if name in parts:
      lines += [*function(parts[name]['cases'], peaks), '']
  return '\n'.join(lines)


def best_peaks(cases: Cases) -> dict[str, float]:
  """TFLOP/s: the best of each kind and dtype, under `matmul float32` and the like."""
  peaks: dict[str, float] = {}
  for name, case in cases.items():
    kind = ' '.join(name.split()[:2])
    peaks[kind] = max(peaks.get(kind, 0.0), case.get('tflops', 0.0))
  return peaks


def _peaks(cases: Cases, peaks: dict[str, float]) -> list[str]:
  rows = [(kind, f'{tflops:.3g}') for kind, tflops in peaks.items()]
  return ['**Peaks**', '', *_table(('best of', 'TFLOP/s'), rows)]


def _sampling(cases: Cases, peaks: dict[str, float]) -> list[str]:
  rows = []
  for name, case in cases.items():
    if 'error' in case:
      rows.append((name, *[''] * 6, case['error']))
      continue
    speed = case['image_steps_per_s']
    lengths = STEPS[case['method']]
    rows.append(
      (
        name,
        f'{case["ms_per_step"]:.4g}',
        f'{case["gflop_per_image_step"]:.4g}',
        _speed(case, case['tflops'], peaks),
        _memory(case),
        ', '.join(f'{steps}: {speed / steps:.3g}' for steps in lengths),
        ', '.join(f'{steps}: {ROUND * steps / speed / 3600:.3g}' for steps in lengths),
        '',
      )
    )
  header = ('sampling', 'ms a step', 'GFLOP an image', 'TFLOP/s (of the matmul peak)', 'memory')
  header = (*header, 'images/s by steps', f'hours for {ROUND:,} images by steps', '')
  return ['**Sampling**', '', *_table(header, rows)]


def _step(cases: Cases, peaks: dict[str, float]) -> list[str]:
  lines = ['**One guided step**', '']
  for name, case in cases.items():
    lines += [f'{name}:', ''] if 'error' not in case else [f'{name}: {case["error"]}', '']
    if 'error' in case:
      continue
    rows = []
    for title, seconds in case['seconds'].items():
      if title == 'scanned':
        ratio = f'{_ratio(case["scan_over_alone"])} times the time of a step alone'
      elif title == 'alone':
        ratio = ''
      else:
        ratio = f'ours is {_ratio(case["speed_against"][title])} times as fast'
      own = title in ('alone', 'scanned')
      label = {'alone': 'fetal_jax, a step alone', 'scanned': 'fetal_jax, a step inside the scan'}.get(
        title, title
      )
      parameters = case['parameters'].get('fetal_jax' if own else title, {}).get('unet', 0)
      speed = _speed(case, case['tflops'][title], peaks)
      rows.append((label, f'{1e3 * seconds["median"]:.4g}', speed, f'{parameters / 1e6:.1f} M', ratio))
    rows += [
      (title, '', '', '', error)
      for title, error in case['errors'].items()
      if 'ModuleNotFoundError' not in error
    ]
    header = ('', 'ms', 'TFLOP/s (of the matmul peak)', 'UNet', 'median (range) of the rounds')
    lines += [*_table(header, rows), '']
  return lines


def _training(cases: Cases, peaks: dict[str, float]) -> list[str]:
  rows = []
  for name, case in cases.items():
    if 'error' in case:
      rows.append((name, '', '', '', '', case['error']))
      continue
    for title, seconds in case['seconds'].items():
      ratio = ''
      if case['speed_against'] and title == 'scanned':
        ratio = f'{_ratio(case["speed_against"]["torch eager"])} times as fast as PyTorch'
      if case['speed_against_alone'] and title == 'alone':
        ratio = f'{_ratio(case["speed_against_alone"]["torch eager"])} times as fast as PyTorch'
      count = case['steps_per_call']
      label = {
        'scanned': f'fetal_jax, {count} steps a dispatch',
        'alone': 'fetal_jax, a step a dispatch',
      }.get(title)
      label = label or (f'{title}: {case["errors"][title]}' if title in case['errors'] else title)
      memory = _memory(case) if title == 'scanned' else ''
      speed = _speed(case, case['tflops'][title], peaks)
      rows.append((name, label, f'{1e3 * seconds["median"]:.4g}', speed, memory, ratio))
  header = ('training UNet and guide', '', 'ms a step', 'TFLOP/s (of the matmul peak)', 'memory')
  return ['**Training the diffusion model**', '', *_table((*header, 'median (range) of the rounds'), rows)]


def _classifiers(cases: Cases, peaks: dict[str, float]) -> list[str]:
  rows = []
  for name, case in cases.items():
    if 'error' in case:
      rows.append((name, '', '', '', '', case['error']))
      continue
    ratio = '; '.join(case['errors'].values())
    if case['speed_against']:
      ((title, against),) = case['speed_against'].items()
      ratio = f'{_ratio(against)} times as fast as {title}'
    figures = (f'{case["steps_per_s"]:.3g}', f'{case["images_per_s"]:.4g}')
    rows.append((name, *figures, _speed(case, case['tflops'], peaks), _memory(case), ratio))
  header = ('training classifiers', 'steps/s', 'images/s', 'TFLOP/s (of the matmul peak)', 'memory')
  return ['**Training classifiers**', '', *_table((*header, 'median (range) of the rounds'), rows)]


def _scan(cases: Cases, peaks: dict[str, float]) -> list[str]:
  rows = []
  for name, case in cases.items():
    if 'error' in case:
      rows.append((name, '', '', '', case['error'], ''))
      continue
    ways = dict.fromkeys(title.rpartition(', ')[0] for title in (*case['seconds'], *case['errors']))
    for way in ways:
      cells = []
      for kind in ('forward', 'gradient'):
        title = f'{way}, {kind}'
        if title in case['errors']:
          cells += [case['errors'][title].split(':')[0], '']
        else:
          cells.append(f'{1e3 * case["seconds"][title]["median"]:.4g}')
          memory = case['memory'][title]
          cells.append(f'{memory["temporary"] / 2**20:.4g}' if memory else '')
      rows.append((name, way, *cells))
  header = ('selective scan', '', 'forward, ms', 'temporary MiB', 'gradient, ms', 'temporary MiB')
  return ['**Selective scan**', '', *_table(header, rows)]


def _startup(cases: Cases, peaks: dict[str, float]) -> list[str]:
  rows = []
  for name, case in cases.items():
    if 'error' in case:
      rows.append((name, case['error']))
    elif 'cold_s' in case:
      rows.append((f'{name}, nothing compiled before', f'{case["cold_s"]:.3g}'))
      rows.append((f'{name}, with the compilation cache', f'{case["warm_s"]:.3g}'))
    else:
      rows.append((f'`{name}`', f'{case["median_s"]:.3g}'))
  return ['**Start**', '', *_table(('from a fresh interpreter', 'seconds'), rows)]


_SECTIONS = {
  'peaks': _peaks,
  'sampling': _sampling,
  'step': _step,
  'training': _training,
  'classifiers': _classifiers,
  'scan': _scan,
  'startup': _startup,
}


def _ratio(summary: dict[str, float]) -> str:
  return f'{summary["median"]:.2f} ({summary["min"]:.2f}–{summary["max"]:.2f}, n={summary["n"]})'


def _speed(case: dict[str, Any], tflops: float, peaks: dict[str, float]) -> str:
  peak = peaks.get(f'matmul {case["dtype"]}')
  return f'{tflops:.3g}' + (f' ({tflops / peak:.0%})' if peak else '')


def _memory(case: dict[str, Any]) -> str:
  return f'{case["memory"]["total"] / 2**30:.2f} GiB' if case.get('memory') else ''


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
  line = lambda cells: '| ' + ' | '.join(cell.replace('|', '/') for cell in cells) + ' |'  # noqa: E731
  return [line(header), line(['---'] * len(header)), *map(line, rows)]
