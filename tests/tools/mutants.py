"""Changes one thing in the code at a time and asks whether the module's tests notice.

    make mutants        # 60 changes; on two CPU cores about half an hour
    python tests/tools/mutants.py --count=20 --seed=3 fetal_jax/diffusion fetal_jax/data/splits.py

A change is an operator, a comparison, a number or a bool that becomes another. It is made in a copy of the repository, in
which the tests of the module run until the first failure. The changes that no test noticed are printed: each is either
one that changes nothing (say so to yourself), or a test that is missing.
"""

import argparse
import ast
import dataclasses
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEFAULT = ('fetal_jax/diffusion', 'fetal_jax/train', 'fetal_jax/evaluate', 'fetal_jax/data/splits.py')
_OPERATORS = {
  ast.Add: ('+', '-'),
  ast.Sub: ('-', '+'),
  ast.Mult: ('*', '/'),
  ast.Div: ('/', '*'),
  ast.FloorDiv: ('//', '*'),
  ast.Pow: ('**', '*'),
  ast.Lt: ('<', '<='),
  ast.LtE: ('<=', '<'),
  ast.Gt: ('>', '>='),
  ast.GtE: ('>=', '>'),
  ast.Eq: ('==', '!='),
  ast.NotEq: ('!=', '=='),
  ast.And: ('and', 'or'),
  ast.Or: ('or', 'and'),
}
_NAMES = {'min': 'max', 'max': 'min', 'argmin': 'argmax', 'argmax': 'argmin', 'any': 'all', 'all': 'any'}
_TIMEOUT = 300.0  # seconds; tests that no longer end have noticed


@dataclasses.dataclass(frozen=True)
class Change:
  """One change of a file: `source[start:end]` becomes `new`."""

  start: int
  end: int
  line: int
  old: str
  new: str

  def apply(self, source: str) -> str:
    return source[: self.start] + self.new + source[self.end :]


def changes(source: str) -> list[Change]:
  """Returns the changes that can be made to a module, in its order; none in messages, annotations and logs."""
  # ast counts columns in bytes.
  lines = source.encode().splitlines(keepends=True)
  starts = [len(b''.join(lines[:number]).decode()) for number in range(len(lines) + 1)]

  def offset(line: int, column: int) -> int:
    return starts[line - 1] + len(lines[line - 1][:column].decode())

  def between(before: ast.expr, after: ast.expr, old: str, new: str) -> Change | None:
    assert before.end_lineno is not None
    assert before.end_col_offset is not None
    start, end = (
      offset(before.end_lineno, before.end_col_offset),
      offset(after.lineno, after.col_offset),
    )
    at = source.find(old, start, end)
    return Change(at, at + len(old), after.lineno, old, new) if at >= 0 else None

  found: list[Change | None] = []
  for node in _walk(ast.parse(source)):
    match node:
      case ast.BinOp(left, op, right) if type(op) in _OPERATORS:
        found.append(between(left, right, *_OPERATORS[type(op)]))
      case ast.Compare(left, [op], [right]) if type(op) in _OPERATORS:
        found.append(between(left, right, *_OPERATORS[type(op)]))
      case ast.BoolOp(op, [left, right, *_]):
        found.append(between(left, right, *_OPERATORS[type(op)]))
      case ast.Constant(bool() | int() | float() as value):
        new = str(not value) if isinstance(value, bool) else repr(value + 1)
        start = offset(node.lineno, node.col_offset)
        end = offset(node.end_lineno or 0, node.end_col_offset or 0)
        found.append(Change(start, end, node.lineno, source[start:end], new))
      case ast.Name(name) | ast.Attribute(attr=name) if name in _NAMES:
        end = offset(node.end_lineno or 0, node.end_col_offset or 0)
        found.append(Change(end - len(name), end, node.lineno, name, _NAMES[name]))
      case _:
        pass
  return sorted((change for change in found if change), key=lambda change: change.start)


def _walk(node: ast.AST) -> Iterator[ast.AST]:
  """Walks a tree, but not into what no test should depend on, such as whether a class is frozen."""
  yield node
  for name, value in ast.iter_fields(node):
    if name in ('annotation', 'returns', 'decorator_list') or (
      name == 'keywords' and isinstance(node, ast.ClassDef)
    ):
      continue
    for child in value if isinstance(value, list) else [value]:
      is_log = isinstance(child, ast.Expr) and ast.unparse(child).startswith('logging.')
      if isinstance(child, ast.AST) and not is_log and not isinstance(child, ast.Raise | ast.JoinedStr):
        yield from _walk(child)


def tests_of(module: str, elsewhere: dict[str, str]) -> str:
  """Returns the test file of a module: the mirrored one, or where it is tested instead."""
  path = pathlib.PurePosixPath(module)
  name = path.parent.name if path.stem == '__init__' else path.stem
  mirrored = pathlib.PurePosixPath('tests', *path.parent.parts[1:], f'test_{name}.py').as_posix()
  return elsewhere.get(module, mirrored)


def copy_repository(folder: pathlib.Path) -> None:
  """Copies what tests need into a folder."""
  for name in ('fetal_jax', 'tests', 'configs', 'benchmarks', 'notebooks', 'docs'):
    shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns('__pycache__'))
  for path in ROOT.iterdir():
    if path.is_file():
      shutil.copy(path, folder)


def is_noticed(
  folder: pathlib.Path, module: str, change: Change, test: str, timeout: float = _TIMEOUT
) -> bool:
  """Makes one change in a copy of the repository, runs a test file, and undoes the change."""
  path = folder / module
  source = path.read_text(encoding='utf-8')
  path.write_text(change.apply(source), encoding='utf-8')
  command = [sys.executable, '-m', 'pytest', '-n0', '-x', '-q', '-p', 'no:cacheprovider', test]
  env = {
    'JAX_COMPILATION_CACHE_DIR': str(ROOT / '.jax_cache'),
    **os.environ,
    'PYTHONPATH': str(folder),
    'PYTHONDONTWRITEBYTECODE': '1',
  }
  try:
    done = subprocess.run(
      command, cwd=folder, env=env, capture_output=True, text=True, timeout=timeout, check=False
    )
  except subprocess.TimeoutExpired:
    return True
  finally:
    path.write_text(source, encoding='utf-8')
  if done.returncode not in (0, 1, 2):  # passed, failed, could not even be imported
    raise RuntimeError(f'{test}: pytest ended with exit code {done.returncode}\n{done.stdout[-2000:]}')
  return done.returncode != 0


def choose(
  folder: pathlib.Path, places: list[str], count: int, rng: random.Random
) -> list[tuple[str, Change]]:
  """Chooses changes, about as many from each module."""
  modules = sorted(
    path.relative_to(folder).as_posix()
    for place in places
    for path in ([folder / place] if place.endswith('.py') else (folder / place).rglob('*.py'))
  )
  left = {module: changes((folder / module).read_text(encoding='utf-8')) for module in modules}
  chosen: list[tuple[str, Change]] = []
  while len(chosen) < count and any(left.values()):
    for module in rng.sample(modules, len(modules)):
      if left[module] and len(chosen) < count:
        chosen.append((module, left[module].pop(rng.randrange(len(left[module])))))
  return sorted(chosen, key=lambda one: (one[0], one[1].start))


def run(
  places: list[str], count: int, seed: int, elsewhere: dict[str, str], timeout: float = _TIMEOUT
) -> list[str]:
  """Tries changes and returns those that nobody noticed, a line each."""
  survived = []
  with tempfile.TemporaryDirectory() as temporary:
    folder = pathlib.Path(temporary)
    copy_repository(folder)
    for module, change in choose(folder, places, count, random.Random(seed)):
      noticed = is_noticed(folder, module, change, tests_of(module, elsewhere), timeout)
      line = f'{module}:{change.line}: {change.old} -> {change.new}'
      print(f'{"noticed " if noticed else "SURVIVED"} {line}', flush=True)
      if not noticed:
        survived.append(line)
  return survived


if __name__ == '__main__':
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('places', nargs='*', default=DEFAULT, help='folders and files (default: %(default)s)')
  parser.add_argument('--count', type=int, default=60, help='how many changes')
  parser.add_argument('--seed', type=int, default=0, help='chooses them')
  flags = parser.parse_args()
  sys.path[:0] = [str(ROOT / 'tests')]
  from test_house import TESTED_ELSEWHERE

  survivors = run(
    list(flags.places), flags.count, flags.seed, {m: test for m, (test, _) in TESTED_ELSEWHERE.items()}
  )
  print(f'{flags.count - len(survivors)} of {flags.count} noticed')
  print('\n'.join(survivors))
