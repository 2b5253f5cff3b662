"""The mutation tool: which changes it finds, and that a test that notices and one that does not are told apart."""

import pytest
from tools import mutants

SOURCE = '''\
"""At least 1 + 1."""

def mean(values: list[int] | None, twice=False):
  if not values or len(values) < 2:
    raise ValueError(f'{1 + 1} values are needed')
  return max(values) / 3
'''


def test_changes_are_those_of_the_code():
  found = mutants.changes(SOURCE)
  assert [(change.line, change.old, change.new) for change in found] == [
    (3, 'False', 'True'),
    (4, 'or', 'and'),
    (4, '<', '<='),
    (4, '2', '3'),
    (6, 'max', 'min'),
    (6, '/', '*'),
    (6, '3', '4'),
  ]
  assert found[5].apply(SOURCE) == SOURCE.replace('/', '*')


def test_the_tests_of_a_module_are_the_mirrored_ones_or_those_that_are_named():
  assert mutants.tests_of('fetal_jax/data/splits.py', {}) == 'tests/data/test_splits.py'
  assert mutants.tests_of('fetal_jax/export/__init__.py', {}) == 'tests/export/test_export.py'
  named = {'fetal_jax/networks.py': 'tests/models/test_unet.py'}
  assert mutants.tests_of('fetal_jax/networks.py', named) == 'tests/models/test_unet.py'


@pytest.mark.slow
def test_a_changed_split_is_noticed(capsys):
  """Five changes of the module that decides who is in train and test, none of which repeats its loop for ever.

  One changes nothing that a split shows, how ties are broken: that it survives says that tests ran at all.
  """
  survived = mutants.run(['fetal_jax/data/splits.py'], 5, 20, {}, timeout=60)
  said = capsys.readouterr().out.splitlines()
  assert len(said) == 5
  assert [line.removeprefix('SURVIVED ') for line in said if line.startswith('SURVIVED')] == survived
  assert 1 <= len(survived) <= 2
