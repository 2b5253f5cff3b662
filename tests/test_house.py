"""The house is what CONTRIBUTING.md's map says: imports point down, and every module has its test."""

import ast
import graphlib
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent

# Modules without a test of their own name (a folder: all of its modules): the test file that tests them, and why.
TESTED_ELSEWHERE: dict[str, tuple[str, str]] = {
  'fetal_jax/convert/__init__.py': (
    'tests/convert/test_torchvision.py',
    'from_torch and to_torch are tried on the files of each family',
  ),
  'fetal_jax/convert/adapt.py': (
    'tests/convert/test_torchvision.py',
    'weights are fitted on their way from a file to a network',
  ),
  'fetal_jax/convert/torch_file.py': (
    'tests/convert/test_files.py',
    'all kinds of files are opened by one function, and damaged in the same ways',
  ),
  'fetal_jax/data/sources/fetal_phantom/': (
    'tests/data/sources/fetal_phantom/test_fetal_phantom.py',
    'a plane is drawn by all of these together, and what is promised is the plane',
  ),
  'fetal_jax/data/sources/fetal_planes_db/fetal_planes_db_dataset_builder.py': (
    'tests/data/sources/fetal_planes_db/test_fetal_planes_db.py',
    'the builder and its table are tested on the same archive',
  ),
  'fetal_jax/data/sources/fetal_planes_db/metadata.py': (
    'tests/data/sources/fetal_planes_db/test_fetal_planes_db.py',
    'the builder and its table are tested on the same archive',
  ),
  'fetal_jax/runtime/version.py': (
    'tests/runtime/test_run.py',
    'it is read where a run says what it was made with',
  ),
  'fetal_jax/export/select.py': (
    'tests/export/test_export.py',
    'what is selected is seen in what is exported',
  ),
  'fetal_jax/models/__init__.py': (
    'tests/models/test_classifiers.py',
    'what all families promise is asked of every name',
  ),
  'fetal_jax/models/dinov2.py': (
    'tests/evaluate/test_encoders.py',
    'compared with the reference through the encoder that reads its file',
  ),
  'fetal_jax/models/encoder.py': (
    'tests/models/test_half_unet.py',
    'the half that the UNet and the guide share is tested in both',
  ),
  'fetal_jax/models/inception.py': (
    'tests/evaluate/test_encoders.py',
    'compared with the reference through the encoder that reads its file',
  ),
  'fetal_jax/models/layers.py': ('tests/models/test_swin.py', 'seen in the networks that are made of them'),
  'fetal_jax/planning/images.py': (
    'tests/planning/test_plan.py',
    'how many images there are is seen on the page of the plan',
  ),
  'fetal_jax/planning/page.py': ('tests/planning/test_plan.py', 'the page is what a plan prints'),
  'fetal_jax/planning/stages.py': (
    'tests/planning/test_plan.py',
    'what stages take is seen on the page of the plan',
  ),
  'fetal_jax/report/sections/__init__.py': (
    'tests/report/test_stage.py',
    'the order of the page is seen on it',
  ),
  'fetal_jax/sample/trained.py': (
    'tests/train/test_initial.py',
    'weights that training wrote are read back as sampling does',
  ),
  'fetal_jax/train/state.py': ('tests/train/test_diffusion_step.py', 'fields alone, which the step fills'),
}

# Test files that are about no single module, and what they are about.
ACROSS: dict[str, str] = {
  'tests/models/test_initial_weights.py': 'all classifiers start as their references do',
  'tests/report/test_browser.py': 'the page in a browser',
  'tests/sample/test_determinism.py': 'an image is the same on any number of devices',
  'tests/test_benchmarks.py': 'make bench',
  'tests/test_contributing.py': 'the worked examples and walks of CONTRIBUTING.md',
  'tests/test_damage.py': 'what each reader does with damaged files',
  'tests/test_docs.py': 'README and docs',
  'tests/test_end_to_end.py': 'the whole flow',
  'tests/test_house.py': 'the map in CONTRIBUTING.md, and these lists',
}


# Imports.


def module_files(root: pathlib.Path) -> dict[str, pathlib.Path]:
  """Returns the modules under `root`, dotted name to file."""
  files = {}
  for top in ('fetal_jax', 'configs', 'benchmarks'):
    for path in sorted((root / top).rglob('*.py')):
      parts = path.relative_to(root).with_suffix('').parts
      files['.'.join(parts[:-1] if parts[-1] == '__init__' else parts)] = path
  return files


def imports(module: str, path: pathlib.Path, known: set[str]) -> set[str]:
  """Returns the modules of the project that a file imports: at its top, in functions, for types or by name."""
  package = module if path.name == '__init__.py' else module.rpartition('.')[0]
  found = set()
  for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
    if isinstance(node, ast.Import):
      found |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
      above = package.split('.')[: len(package.split('.')) - node.level + 1] if node.level else []
      base = '.'.join([*above, *filter(None, [node.module])])
      names = {f'{base}.{alias.name}' for alias in node.names}
      found |= (names & known) | ({base} if names - known else set())
    elif isinstance(node, ast.Constant) and isinstance(node.value, str) and '.' in node.value:
      found.add(node.value)  # the whole of it is a module's name: for importlib.import_module
  return (found & known) - {module}


def read_map(text: str) -> dict[str, set[str]]:
  """Reads the map of CONTRIBUTING.md: folder or file, from top to bottom, and what it imports of the others."""
  table = text.partition('| folder | what | imports |\n|---|---|---|\n')[2].partition('\n\n')[0]
  rows = re.findall(r'^\| `([\w/.]+)` \|[^|]*\| ([^|]*) \|$', table, re.MULTILINE)
  assert len(rows) == len(table.splitlines()), 'the map in CONTRIBUTING.md has a line that is no row'
  short = {name.removeprefix('fetal_jax/').rstrip('/'): name for name, _ in rows}
  return {name: {short[n] for n in named.split(', ')} if named != '-' else set() for name, named in rows}


def place(module: str, path: pathlib.Path, root: pathlib.Path, rows: list[str]) -> str:
  """Returns the row of the map that a module belongs to: that of its file, else that of its folder."""
  file = path.relative_to(root).as_posix()
  for row in rows:
    if file == row or (row.endswith('/') and file.startswith(row)):
      return row
  raise AssertionError(f'{file} is in no row of the map in CONTRIBUTING.md')


def wrong_imports(root: pathlib.Path, house: dict[str, set[str]]) -> list[str]:
  """Returns what contradicts the map, a line each: arrows back, and rows that name too little or too much."""
  files, rows = module_files(root), list(house)
  home = {module: place(module, path, root, rows) for module, path in files.items()}
  wrong, used = [], {row: set() for row in rows}
  for module, path in files.items():
    for other in sorted(imports(module, path, set(files))):
      here, there = home[module], home[other]
      if rows.index(there) < rows.index(here):
        wrong.append(f'{path.relative_to(root)} imports {other}: {there} stands above {here}')
      elif here != there:
        used[here].add(there)
        if there not in house[here]:
          wrong.append(f'{path.relative_to(root)} imports {other}: the row of {here} does not name {there}')
  for row in rows:
    wrong += [f'the row of {row} names {other}, which it does not import' for other in house[row] - used[row]]
  return wrong


def circle(root: pathlib.Path) -> list[str]:
  """Returns modules that import each other in a circle, or nothing."""
  files = module_files(root)
  try:
    graphlib.TopologicalSorter(
      {module: imports(module, path, set(files)) for module, path in files.items()}
    ).prepare()
  except graphlib.CycleError as error:
    return error.args[1]
  return []


def test_imports_point_down_the_map():
  house = read_map((ROOT / 'CONTRIBUTING.md').read_text(encoding='utf-8'))
  assert len(house) > 10
  assert not (wrong := wrong_imports(ROOT, house)), '\n'.join(wrong)


def test_no_module_imports_itself_in_a_circle():
  assert circle(ROOT) == []


MADE_UP = {
  'fetal_jax/train/loop.py': 'from fetal_jax.data import loader\nfrom fetal_jax.runtime.files import write',
  'fetal_jax/data/loader.py': 'import fetal_jax.runtime.files',
  'fetal_jax/data/__init__.py': '"""Prepared images."""',
  'fetal_jax/runtime/files.py': 'import json',
}
MADE_UP_MAP = """
| folder | what | imports |
|---|---|---|
| `fetal_jax/train/` | training | data, runtime |
| `fetal_jax/data/` | images | runtime |
| `fetal_jax/runtime/` | files | - |
"""


@pytest.mark.parametrize(
  ('changed', 'said'),
  [
    ({}, None),
    ({'runtime/files.py': 'from fetal_jax.data import loader'}, 'data/ stands above fetal_jax/runtime/'),
    ({'runtime/files.py': 'def read():\n  import fetal_jax.train.loop'}, 'train/ stands above'),
    ({'runtime/files.py': 'from ..data.loader import load'}, 'data/ stands above fetal_jax/runtime/'),
    ({'runtime/files.py': "STAGES = {'sample': 'fetal_jax.train.loop'}"}, 'train/ stands above'),
    ({'train/loop.py': 'from fetal_jax.data import loader'}, 'names fetal_jax/runtime/, which it does not'),
    ({'report/page.py': ''}, 'fetal_jax/report/page.py is in no row'),
  ],
)
def test_an_arrow_back_is_noticed(tmp_path, changed, said):
  for name, text in {**MADE_UP, **{f'fetal_jax/{name}': text for name, text in changed.items()}}.items():
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text(text)
  try:
    wrong = wrong_imports(tmp_path, read_map(MADE_UP_MAP))
  except AssertionError as error:
    wrong = [str(error)]
  assert len(wrong) == (said is not None)
  assert said is None or said in wrong[0]


def test_an_import_that_the_map_does_not_name_is_noticed(tmp_path):
  for name, text in MADE_UP.items():
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text(text)
  house = read_map(MADE_UP_MAP.replace('data, ', ''))
  (wrong,) = wrong_imports(tmp_path, house)
  assert wrong.endswith('the row of fetal_jax/train/ does not name fetal_jax/data/')


def test_a_circle_is_noticed(tmp_path):
  for name, text in {**MADE_UP, 'fetal_jax/data/grid.py': 'from fetal_jax.data import loader'}.items():
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text(text)
  assert circle(tmp_path) == []
  (tmp_path / 'fetal_jax/data/loader.py').write_text('def load():\n  from fetal_jax.data.grid import tile')
  assert set(circle(tmp_path)) == {'fetal_jax.data.loader', 'fetal_jax.data.grid'}


# The tree.


def read_tree(text: str) -> set[str]:
  """Reads the tree of docs/how-it-works.md: the files that it names."""
  block = text.partition('## File by file\n')[2].partition('```text\n')[2].partition('\n```')[0]
  folders, files = [], set()
  for line in block.splitlines():
    name = line.split()[0]
    depth = (len(line) - len(line.lstrip())) // 2
    folders[depth:] = [name] if name.endswith('/') else []
    if name.endswith('.py'):
      assert len(line.split()) > 1, f'{line}: what is it?'
      files.add(''.join(folders) + name)
  return files


def test_the_tree_names_every_module():
  """But `__init__.py` and `__main__.py` of folders, which the line of the folder is about."""
  named = read_tree((ROOT / 'docs' / 'how-it-works.md').read_text(encoding='utf-8'))
  found = {
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / 'fetal_jax').rglob('*.py')
    if not path.name.startswith('__') or path.parent.name == 'fetal_jax'
  }
  assert sorted(found - named) == [], 'docs/how-it-works.md does not name these'
  assert sorted(named - found) == [], 'docs/how-it-works.md names these, which do not exist'


# Tests.


def needs_a_test(path: pathlib.Path) -> bool:
  """Returns whether a file has code of its own, not only names of what is elsewhere."""
  body = ast.parse(path.read_text(encoding='utf-8')).body
  if path.name in ('__init__.py', '__main__.py'):
    return any(isinstance(node, ast.FunctionDef | ast.ClassDef) for node in body)
  return any(
    not isinstance(node, ast.Expr | ast.Import | ast.ImportFrom)
    and not ast.unparse(node).startswith('__all__')
    for node in body
  )


def mirrored(path: pathlib.Path, root: pathlib.Path) -> str:
  """Returns the name of the test file that a module's file asks for."""
  inside = path.relative_to(root / 'fetal_jax')
  name = path.parent.name if path.name in ('__init__.py', '__main__.py') else inside.stem
  return (pathlib.PurePosixPath('tests') / inside.parent.as_posix() / f'test_{name}.py').as_posix()


def wrong_tests(
  root: pathlib.Path, elsewhere: dict[str, tuple[str, str]], across: dict[str, str]
) -> list[str]:
  """Returns what contradicts "every module has its test", a line each."""
  modules = {
    path.relative_to(root).as_posix(): path
    for path in sorted((root / 'fetal_jax').rglob('*.py'))
    if needs_a_test(path)
  }
  wanted = {name: mirrored(path, root) for name, path in modules.items()}
  wrong = []
  for name, test in wanted.items():
    is_listed = any(name == one or (one.endswith('/') and name.startswith(one)) for one in elsewhere)
    if (root / test).is_file() == is_listed:
      wrong.append(
        f'{name}: {test} exists, so take it out of TESTED_ELSEWHERE'
        if is_listed
        else f'{name}: write {test}, or say in TESTED_ELSEWHERE where it is tested'
      )
  for name, (test, reason) in elsewhere.items():
    if not any(module.startswith(name) for module in modules):
      wrong.append(f'{name} of TESTED_ELSEWHERE does not exist')
    elif not (root / test).is_file():
      wrong.append(f'{name}: {test} of TESTED_ELSEWHERE does not exist')
    elif not reaches(root / test, name, root):
      wrong.append(f'{name}: {test} of TESTED_ELSEWHERE does not import it')
    elif len(reason) < 5:
      wrong.append(f'{name}: why is it tested in {test}?')
  found = {
    path.relative_to(root).as_posix()
    for path in (root / 'tests').rglob('test_*.py')
    if path.parent != root / 'tests' / 'tools'
  }
  known = {*wanted.values(), *across, *(test for test, _ in elsewhere.values())}
  wrong += [f'{test}: mirrors no module and is not in ACROSS' for test in found - known]
  wrong += [f'{test} of ACROSS does not exist' for test in across.keys() - found]
  return sorted(wrong)


def reaches(test: pathlib.Path, name: str, root: pathlib.Path) -> bool:
  """Returns whether a test file imports a module (or one of a folder), or something that is made of it."""
  files = module_files(root)
  wanted = {module for module, path in files.items() if path.relative_to(root).as_posix().startswith(name)}
  found = imports('', test, set(files))
  for _ in range(2):
    found |= {other for module in found for other in imports(module, files[module], set(files))}
  return bool(wanted & found)


def test_every_module_has_its_test():
  assert not (wrong := wrong_tests(ROOT, TESTED_ELSEWHERE, ACROSS)), '\n'.join(wrong)


def test_a_module_without_a_test_is_noticed(tmp_path):
  """And a list that is out of date, in each of its ways."""
  code = 'from fetal_jax.data.grid import tile\n\n\ndef load():\n  return tile'
  for name, text in {
    'fetal_jax/data/loader.py': code,
    'fetal_jax/data/grid.py': 'def tile():\n  return 1',
    'fetal_jax/data/names.py': 'from fetal_jax.data.grid import tile',
    'tests/data/test_loader.py': 'from fetal_jax.data import loader',
    'tests/data/test_old.py': '',
  }.items():
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text(text)
  across = {'tests/data/test_old.py': 'of a time before'}

  def wrong(**elsewhere):
    listed = {
      f'fetal_jax/data/{name}.py': (f'tests/data/{test}.py', 'a reason') for name, test in elsewhere.items()
    }
    return wrong_tests(tmp_path, listed, across)

  assert wrong() == [
    'fetal_jax/data/grid.py: write tests/data/test_grid.py, or say in TESTED_ELSEWHERE where it is tested'
  ]
  assert wrong(grid='test_loader') == []
  assert wrong(grid='test_old') == [
    'fetal_jax/data/grid.py: tests/data/test_old.py of TESTED_ELSEWHERE does not import it'
  ]
  assert wrong(grid='test_none') == [
    'fetal_jax/data/grid.py: tests/data/test_none.py of TESTED_ELSEWHERE does not exist'
  ]
  assert wrong(grid='test_loader', loader='test_loader') == [
    'fetal_jax/data/loader.py: tests/data/test_loader.py exists, so take it out of TESTED_ELSEWHERE'
  ]
  assert wrong(grid='test_loader', none='test_loader') == [
    'fetal_jax/data/none.py of TESTED_ELSEWHERE does not exist'
  ]
  across.clear()
  assert wrong(grid='test_loader') == ['tests/data/test_old.py: mirrors no module and is not in ACROSS']
