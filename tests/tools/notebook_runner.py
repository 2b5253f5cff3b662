"""Runs notebooks with other parameters. As a script it writes their outputs anew, without this machine's paths:

.venv/bin/python tests/tools/notebook_runner.py notebooks/quickstart_colab.ipynb
"""

import os
import pathlib
import re
import sys
from typing import Any

import nbclient
import nbformat

ROOT = pathlib.Path(__file__).resolve().parents[2]
NOTEBOOKS = ROOT / 'notebooks'
_MOST_LINES = 32  # of the text that one cell prints, in a committed notebook


def execute(path: pathlib.Path, *, timeout: int = 600, **parameters: Any) -> nbformat.NotebookNode:
  """Runs a notebook in a kernel of its own, its folder being the current one; nothing is written to it.

  Args:
    path: the notebook.
    timeout: seconds a cell.
    **parameters: values for names that its cell tagged `parameters` sets.

  Raises:
    KeyError: the notebook has no such parameter.
    nbclient.exceptions.CellExecutionError: a cell failed.
  """
  os.environ.setdefault('JUPYTER_PLATFORM_DIRS', '1')  # jupyter_core warns otherwise
  notebook = nbformat.read(path, as_version=4)
  (cell,) = (cell for cell in notebook.cells if 'parameters' in cell.metadata.get('tags', ()))
  for name, value in parameters.items():
    if not re.search(rf'^{name} = ', cell.source, re.MULTILINE):
      raise KeyError(f'{path.name} has no parameter {name}')
    cell.source += f'\n{name} = {value!r}'
  resources = {'metadata': {'path': str(path.parent)}}
  nbclient.NotebookClient(notebook, timeout=timeout, kernel_name='python3', resources=resources).execute()
  return notebook


def printed(notebook: nbformat.NotebookNode) -> str:
  """Returns all text that the cells printed or returned."""
  outputs = [output for cell in notebook.cells for output in cell.get('outputs', ())]
  return '\n'.join(
    output.get('text') or output.get('data', {}).get('text/markdown', '') for output in outputs
  )


def pictures(notebook: nbformat.NotebookNode) -> int:
  """Returns how many pictures the cells show."""
  outputs = [output for cell in notebook.cells for output in cell.get('outputs', ())]
  kinds = ('image/png', 'image/svg+xml')
  return sum(any(kind in output.get('data', {}) for kind in kinds) for output in outputs)


def tidy(notebook: nbformat.NotebookNode) -> None:
  """Takes out of the outputs what is only true here, the project's own folder, and what nobody would read."""
  for cell in notebook.cells:
    cell.metadata.pop('execution', None)
    outputs: list[nbformat.NotebookNode] = []
    for output in cell.get('outputs', ()):
      if output.output_type == 'stream' and outputs and outputs[-1].get('name') == output.name:
        outputs[-1].text += output.text
      else:
        outputs.append(output)
      if 'image/png' in output.get('data', {}):
        output.data.pop('image/jpeg', None)  # the same picture again
    for output in outputs:
      if output.output_type == 'stream':
        output.text = _shorten(output.text.replace(f'{ROOT}/', ''))
    if cell.cell_type == 'code':
      cell.outputs = outputs


def _shorten(text: str) -> str:
  """Without tables of parameters, and without the middle if that is still long."""
  lines = [line for line in text.splitlines() if not line.startswith(('|', '+--', 'Total: '))]
  if len(lines) <= _MOST_LINES:
    return '\n'.join(lines) + '\n'
  left_out = f'[… {len(lines) - _MOST_LINES} more lines …]'
  return '\n'.join([*lines[: _MOST_LINES // 4], left_out, *lines[-_MOST_LINES * 3 // 4 :]]) + '\n'


if __name__ == '__main__':
  for argument in sys.argv[1:]:
    made = execute(pathlib.Path(argument).resolve(), timeout=7200)
    tidy(made)
    nbformat.write(made, argument)
