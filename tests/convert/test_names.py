"""Where in a file a network's entries are."""

import pytest

from fetal_jax.convert import names

NETWORK = ('conv1.weight', 'layer1.0.conv1.weight', 'layer1.0.bn1.weight', 'fc.weight')


def under(prefix, among=NETWORK):
  """Entries whose values say where they were."""
  return {prefix + name: prefix + name for name in among}


@pytest.mark.parametrize(
  ('name', 'average'),
  [
    ('ema', True),
    ('model_ema', True),
    ('state_dict_ema', True),
    ('EMA.module.', True),
    ('model.ema_model.', True),
  ]
  + [(name, False) for name in ('model', 'schema', 'emas', 'gemma.', '')],
)
def test_averages_are_known_by_a_word(name, average):
  assert names.is_average(name) == average


def test_prefixes_that_all_names_have_are_taken_off():
  expected = {name: f'module._orig_mod.model.{name}' for name in NETWORK}
  assert names.without_prefixes(under('module._orig_mod.model.')) == expected
  mixed = {**under('module.'), 'models.bias': 1}
  assert names.without_prefixes(mixed) == mixed
  assert names.without_prefixes({}) == {}


@pytest.mark.parametrize('prefix', ['', 'backbone.', 'module.model.0.', 'student.backbone.'])
def test_a_network_is_found_under_any_prefix(prefix):
  found = names.find({**under(prefix), 'loss.weight': 1} if prefix else under(prefix), 'conv1.weight')
  assert {name: found.entries[name] for name in NETWORK} == {name: prefix + name for name in NETWORK}
  assert found.outside == ({'loss.weight'} if prefix else set())
  assert found.said == ({prefix: 'taken off'} if prefix else {})


def test_what_is_beside_a_network_is_called_as_seen_from_there():
  state = {**under('model.backbone.'), 'model.head.weight': 1, 'model.backbones.weight': 2, 'loss.weight': 3}
  assert names.find(state, 'conv1.weight').outside == {'head.weight', 'backbones.weight', 'loss.weight'}


def test_a_layer_of_a_block_is_not_taken_for_the_first():
  state = under('', NETWORK[1:])
  assert names.find(state, 'conv1.weight') == (state, frozenset(), {})


@pytest.mark.parametrize(
  ('raw', 'average'), [('model.', 'model_ema.'), ('', 'ema.'), ('net.', 'ema.module.')]
)
def test_averages_take_the_place_of_what_they_are_of(raw, average):
  """They are of parameters alone: what else a network has is the network's."""
  state = {**under(raw), f'{raw}bn1.running_mean': 'statistic', **under(average), f'{average}decay': 0.99}
  found = names.find(state, 'conv1.weight')
  assert found.entries == {**{name: average + name for name in NETWORK}, 'bn1.running_mean': 'statistic'}
  assert found.said[average] == 'averages (EMA), taken in place of the weights beside them'


def test_averages_alone_are_taken():
  found = names.find(under('ema.'), 'conv1.weight')
  assert found == (under('', NETWORK) | {n: f'ema.{n}' for n in NETWORK}, frozenset(), {'ema.': 'taken off'})


def test_a_second_network_is_left_out_and_said():
  found = names.find({**under('encoder_q.'), **under('encoder_k.')}, 'conv1.weight')
  assert found.entries == {name: f'encoder_q.{name}' for name in NETWORK}
  assert found.said == {'encoder_q.': 'taken off', 'encoder_k.': 'left out: a second network'}


def test_averages_of_nothing_that_is_there_are_not_taken():
  assert names.averaged({'a': 1}, {'b': 2}) is None
  assert names.averaged({'a': 1, 'c': 3}, {'a': 2, 'b': 2}) == {'a': 2, 'c': 3}
