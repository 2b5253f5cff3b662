"""What is wrong is said in one go, by its cause."""

import pytest

from fetal_jax.data.problems import Problems
from fetal_jax.runtime.errors import UserError


def said(*things):
  problems = Problems('folder')
  for what, why in things:
    problems.add(what, why)
  with pytest.raises(UserError) as error:
    problems.check()
  return str(error.value)


def test_nothing_wrong_says_nothing():
  Problems('folder').check()


def test_one_thing_is_named_alone():
  assert said(('a.png', 'damaged; replace it')) == 'a.png: damaged; replace it'


def test_several_are_grouped_by_their_cause():
  assert said(('a', 'damaged; replace it'), ('b', 'empty; remove it'), ('c', 'damaged; replace it')) == (
    'folder: 3 things are wrong: a, c: damaged; replace it. b: empty; remove it'
  )


def test_the_first_twenty_are_named_and_the_others_counted():
  text = said(*((f'<{i}>', 'damaged') for i in range(1234)))
  assert text.startswith('folder: 1,234 things are wrong, of which the first 20 are: <0>, <1>')
  assert text.endswith('<18>, <19>: damaged')
