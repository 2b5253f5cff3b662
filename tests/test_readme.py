"""README tells the truth: its commands parse, its names exist, its links lead somewhere."""

import pathlib
import re

import pytest

import fetal_jax
from fetal_jax import export, main

ROOT = pathlib.Path(__file__).resolve().parent.parent
README = (ROOT / 'README.md').read_text()
SHELL = [
  line.strip()
  for block in re.findall(r'```bash\n(.*?)```', README, re.DOTALL)
  for line in block.replace('\\\n', ' ').splitlines()
  if line.strip()
]


def test_there_are_commands_to_check():
  assert len([line for line in SHELL if line.startswith('python -m fetal_jax')]) >= 3
  assert len([line for line in SHELL if line.startswith('make ')]) >= 2


@pytest.mark.parametrize('line', [line for line in SHELL if line.startswith('python -m fetal_jax.main')])
def test_commands_ask_for_what_exists(line, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'configs').symlink_to(ROOT / 'configs')
  for file in re.findall(r'[\w.-]+\.(?:pth?|safetensors)\b', line):  # the user's own, named after init_from
    (tmp_path / file).touch()
  _, config = main.parse(line.split('#')[0].split()[3:])
  assert config.name


@pytest.mark.parametrize('line', [line for line in SHELL if line.startswith('python -m fetal_jax.export')])
def test_export_commands_have_flags_that_exist(line):
  assert export.parse(line.split()[3:]).format in export.FORMATS


@pytest.mark.parametrize('line', [line for line in SHELL if line.startswith('make ')])
def test_make_targets_exist(line):
  target = line.split()[1]
  assert re.search(rf'^{target}:', (ROOT / 'Makefile').read_text(), re.MULTILINE)


@pytest.mark.parametrize('name', sorted(set(re.findall(r'configs/\w+\.py', README))))
def test_configs_exist_and_tell_their_command(name):
  assert f'--config={name}' in (ROOT / name).read_text()


@pytest.mark.parametrize('link', sorted(set(re.findall(r'\]\((?!http)([^)#]+)\)', README))))
def test_local_links_lead_somewhere(link):
  assert (ROOT / link).exists()


def test_public_names_are_importable():
  for name in re.findall(r'fetal_jax\.(\w+)\(', README):
    assert callable(getattr(fetal_jax, name))
  with pytest.raises(AttributeError, match='no attribute'):
    _ = fetal_jax.nothing
