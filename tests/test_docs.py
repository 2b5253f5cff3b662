"""README and docs tell the truth: commands parse or run, code runs, and what is named exists."""

import contextlib
import importlib
import itertools
import os
import pathlib
import re
import shlex
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import yaml
from helpers import tiny

import benchmarks.__main__ as bench
import fetal_jax
from fetal_jax import config as config_lib
from fetal_jax import main
from fetal_jax.evaluate import sweep
from fetal_jax.export import __main__ as export
from fetal_jax.sample import stage as sample_stage
from fetal_jax.train import regimes

ROOT = pathlib.Path(__file__).resolve().parent.parent
DOCS = ROOT / 'docs'
# Not what runs wrote, docs/results/<run>/.
PAGES = [
  ROOT / 'README.md',
  ROOT / 'CONTRIBUTING.md',
  ROOT / 'CHANGELOG.md',
  *sorted(set(DOCS.rglob('*.md')) - set(DOCS.glob('results/*/**/*.md'))),
]
TEXT = {path: path.read_text(encoding='utf-8') for path in PAGES}
CODE = '\n'.join(path.read_text(encoding='utf-8') for path in sorted((ROOT / 'fetal_jax').rglob('*.py')))
MAKEFILE = (ROOT / 'Makefile').read_text(encoding='utf-8')
DEFAULTS = config_lib.to_dict(config_lib.default_config())


def setting_names(values: dict[str, Any], prefix: str = '') -> Iterator[str]:
  """All keys, sections among them, dotted."""
  for key, value in values.items():
    yield prefix + key
    if isinstance(value, dict):
      yield from setting_names(value, f'{prefix}{key}.')


SETTINGS = set(setting_names(DEFAULTS))

# Commands of others: they are not checked.
OTHERS = {'export', 'gcloud', 'git', 'pip', 'srun'}
# Flags of others, named in passing.
OTHER_FLAGS = {
  '--constraint',
  '--signal',
  '--use_new_attention_order',
  '--xla_cpu_max_isa',
  '--xla_force_host_platform_device_count',
}


def fences(text: str) -> list[tuple[str, str]]:
  """(language, content) of the fenced blocks of a page."""
  return re.findall(r'^```([^\s`]*)[^\n]*\n(.*?)^```', text, re.DOTALL | re.MULTILINE)


def inline(text: str) -> list[str]:
  """What stands in backticks, outside fenced blocks."""
  return re.findall(r'`([^`\n]+)`', re.sub(r'^```.*?^```', '', text, flags=re.DOTALL | re.MULTILINE))


def shell_lines(text: str) -> Iterator[str]:
  """The lines of blocks without a language or with that of the shell, continued ones joined, without comments."""
  for language, block in fences(text):
    if language in ('', 'bash'):
      for line in block.replace('\\\n', ' ').splitlines():
        yield line.partition(' #')[0].strip()


def commands(module: str) -> list[str]:
  """What follows `python -m <module>`, wherever a page has it in its blocks or in backticks; each once."""
  found = []
  for text in TEXT.values():
    for line in itertools.chain(shell_lines(text), inline(text)):
      found += re.findall(rf"python -m {re.escape(module)}(?: ([^'\"]*))?(?=['\"]|$)", line)
  return sorted({arguments.strip() for arguments in found if '…' not in arguments} - {''})


def test_there_are_commands_to_check():
  assert len(commands('fetal_jax.main')) >= 15
  assert len(commands('fetal_jax.export')) >= 3


@pytest.mark.parametrize('path', PAGES, ids=lambda path: path.name)
def test_every_line_of_a_shell_block_is_known(path):
  """A command that none of the tests here looks at would go unchecked."""
  for block in (block for language, block in fences(TEXT[path]) if language == 'bash'):
    for line in block.replace('\\\n', ' ').splitlines():
      words = [word for word in shlex.split(line, comments=True) if not re.match(r'\w+=', word)]
      if not words or words[0] in OTHERS:
        continue
      if words[0] == 'make':
        assert words[1:]
        for target in (word for word in words[1:] if word not in ('&&', 'make')):
          assert re.search(rf'^{target}:', MAKEFILE, re.MULTILINE), line
        continue
      assert words[0] in ('python', '.venv/bin/python'), line
      if words[1] == '-m':
        assert words[2] in ('fetal_jax.main', 'fetal_jax.export', 'benchmarks', 'pytest', 'pip'), line
        if words[2] == 'pytest':
          assert all((ROOT / word).exists() for word in words[3:] if word.startswith('tests')), line
      else:
        assert all((ROOT / word).is_file() for word in words[1:]), line


@pytest.fixture
def users_folder(tmp_path, monkeypatch):
  """The folder in which a reader of the docs works: a clone, as far as commands can tell, and files of their own."""
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'configs').symlink_to(ROOT / 'configs')
  return tmp_path


@pytest.mark.parametrize('arguments', commands('fetal_jax.main'))
def test_commands_ask_for_what_exists(arguments, users_folder):
  """By the real parser, with all checks that need no data."""
  for file in re.findall(
    r'[\w.-]+\.(?:pth?|safetensors)\b', arguments
  ):  # the user's own, named after init_from
    (users_folder / file).touch()
  arguments = os.path.expandvars(arguments)
  if '--config=' not in arguments:
    assert arguments in ('--help',)
    return
  flags, config = main.parse(shlex.split(arguments))
  assert config.name
  if flags.stage == 'sweep':
    assert sweep.make_settings(config, has_guide=True)


def test_benchmark_commands():
  asked = re.findall(r"make bench BENCH=('[^'\n]*'|[^\s`]+)", '\n'.join(TEXT.values()))
  assert len(asked) >= 3
  for flags in [*(text.strip("'") for text in asked), *commands('benchmarks')]:
    assert bench.parse(shlex.split(flags)).only, flags


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
  """A workdir with a tiny model and two rounds of its images."""
  folder = tiny.make_workdir(tmp_path_factory.mktemp('docs') / 'run')
  sample_stage.run(tiny.make_config('--config.sample.per_class=2'), folder)
  return folder


@pytest.fixture
def with_runs(users_folder, finished):
  """The reader's folder, where all runs that the docs name are there."""
  (users_folder / 'runs').mkdir()
  for name in ('demo', 'mine', 'paper', 'fast'):
    (users_folder / 'runs' / name).symlink_to(finished)
  return users_folder


def test_export_commands_run(with_runs):
  for number, arguments in enumerate(commands('fetal_jax.export')):
    out = with_runs / f'out_{number}'
    replaced = re.sub(r'--out=(\S+?)(\.npz)?(?=\s|$)', rf'--out={out}\2', arguments)
    assert export.main(shlex.split(replaced)) == 0, arguments
    assert any(with_runs.glob(f'out_{number}*')), arguments


# Fewer steps and stages for tests; the code stays what it is otherwise.
SMALLER = (
  ('steps=25', 'steps=2'),
  ('batch_size=64', 'batch_size=6'),  # as the first call, which is compiled
  ('list(main.FLOW)', "['prepare']"),
  ("'runs/smoke'", "'runs/new'"),
)


@pytest.mark.parametrize(
  'path',
  [
    pytest.param(page, marks=pytest.mark.slow if page.name == 'sampling.md' else [])  # many programs
    for page in PAGES
    if page.name != 'CONTRIBUTING.md'
  ],
  ids=lambda path: path.relative_to(ROOT).as_posix(),
)
def test_code_runs(path, request):
  """The Python blocks of a page, one after the other in one program."""
  blocks = [block for language, block in fences(TEXT[path]) if language == 'python']
  if not blocks:
    return
  folder = request.getfixturevalue('with_runs')
  scope = {'__name__': 'page', '__file__': str(ROOT / 'configs' / 'mine.py')}
  for block in blocks:
    for old, new in SMALLER:
      block = block.replace(old, new)
    exec(compile(block, f'{path.name}', 'exec'), scope)
  if 'get_config' in scope:
    main.check(scope['get_config']())
  if 'images' in scope:
    images = np.asarray(scope['images'])
    assert images.dtype == np.uint8
    assert images.shape[1:] == (8, 8, 1)
  if path.name == 'sampling.md':
    assert scope['count'] == 6
    assert scope['total'] > 0
    assert scope['example']['name'] == b'round1_abdomen_00000'
  if path.name == 'index.md' and 'main' in scope:
    assert (folder / 'runs' / 'new' / 'data' / 'split.json').is_file()


def check_settings(text: str) -> None:
  """Flags, settings, stages and regimes in backticks."""
  known = {'--workdir', '--config', '--stage', '--help', '--print_config', *OTHER_FLAGS}
  for module in (export, bench):
    source = pathlib.Path(str(module.__file__)).read_text(encoding='utf-8')
    known |= set(re.findall(r"add_argument\(\s*'(--\w+)'", source))
  for token in inline(text):
    for flag, key in re.findall(r'(?<![\w-])(--[a-z]\w*(?:\.([\w.]+))?)', token):
      assert key in SETTINGS if flag.startswith('--config.') else flag in known, token
    for stage in re.findall(r'--stage=(\w+)', token):
      assert stage in ('plan', *main.STAGES), token
    name = token.removeprefix('config.').partition('=')[0]
    if re.fullmatch(r'[a-z_]+(\.[a-z_]\w*)+', name) and name.split('.')[0] in DEFAULTS:
      is_file = name.rpartition('.')[2] in ('py', 'md', 'json', 'csv', 'png', 'html', 'npz', 'jsonl')
      assert is_file or name in SETTINGS, token
    if re.fullmatch(r'(synth|real)_\w+', token):
      assert regimes.get(token).title


def check_files(text: str) -> None:
  """Files in backticks: those of the repository are there, those of a workdir are spoken of in the code."""
  for token in inline(text):
    if re.search(r'[<>…\s]', token):
      continue
    if re.match(r'(fetal_jax|configs|docs|tests|notebooks|benchmarks)/', token):
      file = token.partition(':')[0]  # of configs/paper.py:w128 the file
      assert any(ROOT.glob(file.rstrip('/'))), token
    elif re.match(r'(data|diffusion|synthetic|classify|evaluate|sweep|report|logs)/\S', token):
      last = re.sub(r'_\d+$', '_', pathlib.PurePosixPath(token).name)
      assert last in CODE, token


def check_names(text: str) -> int:
  """Dotted names of the package in backticks; "`file.py`: `name`" pairs, which are counted; what the reference is made of."""
  pairs = re.findall(r'`(fetal_jax/[\w/]+\.py)`: ((?:`[\w.]+`(?:, )?)+)', text)
  for file, names in pairs:
    module = file.removesuffix('.py').removesuffix('/__init__').replace('/', '.')
    for name in re.findall(r'`([\w.]+)`', names):
      assert exists(f'{module}.{name}'), f'{file}: {name}'
  for token in [*inline(text), *re.findall(r'^::: (\S+)', text, re.MULTILINE)]:
    if name := re.match(r'fetal_jax(?:\.\w+)+', token):
      assert exists(name[0]), token
  for module, members in re.findall(
    r'^::: (\S+)\n    options:\n      members: \[(.*?)\]', text, re.MULTILINE
  ):
    for member in members.split(', '):
      assert exists(f'{module}.{member}'), f'{module}: {member}'
  return len(pairs)


def exists(name: str) -> bool:
  """Whether a dotted name is a module or something in one."""
  parts = name.split('.')
  for cut in range(len(parts), 0, -1):
    with contextlib.suppress(ModuleNotFoundError):
      value = importlib.import_module('.'.join(parts[:cut]))
      for part in parts[cut:]:
        if not hasattr(value, part):
          return False
        value = getattr(value, part)
      return True
  return False


def headings(text: str) -> set[str]:
  """The anchors of a page, as GitHub and the site make them."""
  outside = re.sub(r'^```.*?^```', '', text, flags=re.DOTALL | re.MULTILINE)
  titles = re.findall(r'^#+ (.+)$', outside, re.MULTILINE)
  return {re.sub(r'\s+', '-', re.sub(r'[^\w\s-]', '', title.strip().lower())) for title in titles}


def check_links(text: str, path: pathlib.Path) -> None:
  """Links within the repository, with their anchors."""
  for link in re.findall(r'\]\((?!http)([^)\s]+)\)', text):
    file, _, anchor = link.partition('#')
    target = (path.parent / file).resolve() if file else path
    assert target.exists(), link
    if anchor.startswith('fetal_jax.'):
      modules = re.findall(r'^::: (\S+)', TEXT[target], re.MULTILINE)
      assert exists(anchor), link
      assert any(f'{anchor}.'.startswith(f'{module}.') for module in modules), link
    elif anchor:
      assert anchor in headings(target.read_text(encoding='utf-8')), link


@pytest.mark.parametrize('path', PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_what_is_named_exists(path):
  check_settings(TEXT[path])
  check_files(TEXT[path])
  pairs = check_names(TEXT[path])
  check_links(TEXT[path], path)
  assert pairs >= 20 or path.name != 'how-it-works.md'


@pytest.mark.parametrize(
  ('check', 'wrong'),
  [
    (check_settings, '`data.image_sise` pixels'),
    (check_settings, 'with `--config.sample.stepz=25`'),
    (check_settings, 'or `--resume`'),
    (check_settings, '`--stage=smaple`'),
    (check_settings, '`config.diffusion.unet.widht`'),
    (check_files, 'see `fetal_jax/diffusion/sampler.py`'),
    (check_files, '`configs/papers.py:w128`'),
    (check_files, 'in `data/splits.json`'),
    (check_names, '`fetal_jax/diffusion/gaussian.py`: `q_sample`, `q_simple`'),
    (check_names, '`fetal_jax.load_samplers(...)`'),
    (check_names, '::: fetal_jax.diffusion.sampler'),
    (lambda text: check_links(text, DOCS / 'faq.md'), '[there](sampler.md)'),
    (lambda text: check_links(text, DOCS / 'faq.md'), '[there](sampling.md#the-impure-function)'),
    (lambda text: check_links(text, DOCS / 'faq.md'), '[there](api/diffusion.md#fetal_jax.models.unet.UNet)'),
  ],
)
def test_what_is_not_there_is_noticed(check, wrong):
  with pytest.raises(AssertionError):
    check(wrong)


@pytest.mark.parametrize('page', ['index.md', 'reliability.md'])
def test_tables_of_stages_have_them_all(page):
  rows = re.findall(r'^\| (\w+) \|', TEXT[DOCS / page], re.MULTILINE)
  assert [row for row in rows if row in main.FLOW] == list(main.FLOW)


def test_the_site_has_every_page():
  text = (ROOT / 'mkdocs.yml').read_text(encoding='utf-8')
  named = re.findall(r'^ +- (?:[^:\n]+: )?([\w/-]+\.md)$', text, re.MULTILINE)
  assert sorted(named) == sorted(
    path.relative_to(DOCS).as_posix() for path in PAGES if path.is_relative_to(DOCS)
  )
  assert re.search(r'^  font: false$', text, re.MULTILINE)  # nothing is fetched by who reads it


@pytest.mark.parametrize('name', sorted(set(re.findall(r'configs/\w+\.py', TEXT[ROOT / 'README.md']))))
def test_configs_exist_and_tell_their_command(name):
  assert f'--config={name}' in (ROOT / name).read_text(encoding='utf-8')


def test_public_names_are_importable():
  assert fetal_jax.__all__
  for name in fetal_jax.__all__:
    assert callable(getattr(fetal_jax, name))
  with pytest.raises(AttributeError, match='no attribute'):
    _ = fetal_jax.nothing


def test_versions_agree():
  """Of the package, its citation and the changelog."""
  package = (ROOT / 'fetal_jax' / 'runtime' / 'version.py').read_text(encoding='utf-8')
  (version,) = re.findall(r"^__version__ = '(.+)'$", package, re.MULTILINE)
  citation = yaml.safe_load((ROOT / 'CITATION.cff').read_text(encoding='utf-8'))
  assert citation['version'] == version
  assert {'title', 'authors', 'message', 'cff-version'} <= set(citation)
  assert all({'title', 'authors', 'type'} <= set(reference) for reference in citation['references'])
  assert re.search(rf'^## \[(Unreleased|{re.escape(version)})\]', TEXT[ROOT / 'CHANGELOG.md'], re.MULTILINE)


@pytest.mark.parametrize('path', sorted((ROOT / '.github').rglob('*.yml')), ids=lambda path: path.name)
def test_issue_templates_are_forms(path):
  form = yaml.safe_load(path.read_text(encoding='utf-8'))
  if path.name != 'config.yml':
    assert {'name', 'description', 'body'} <= set(form)
    ids = [item['id'] for item in form['body'] if item['type'] != 'markdown']
    assert len(ids) == len(set(ids)) > 0
    assert all(item['attributes'].get('label') or item['type'] == 'markdown' for item in form['body'])


@pytest.mark.parametrize('path', PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_nothing_of_one_machine(path):
  assert not re.search(r'(?<![\w.$~])/(work|tmp|root|home|opt)/', TEXT[path])
