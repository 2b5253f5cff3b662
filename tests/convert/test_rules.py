import jax
import numpy as np
import pytest

from fetal_jax.convert import rules
from fetal_jax.runtime.errors import UserError

RULES = {
  'params/conv/kernel': rules.Rule('c.weight', rules.CONV),
  'params/qkv/kernel': rules.Rule('qkv.weight', rules.CONV1D_AS_DENSE),
  'batch_stats/norm/var': rules.Rule('n.running_var'),
}
SHAPES = {
  'params': {
    'conv': {'kernel': jax.ShapeDtypeStruct((3, 5, 2, 4), np.float32)},
    'qkv': {'kernel': jax.ShapeDtypeStruct((2, 6), np.float32)},
  },
  'batch_stats': {'norm': {'var': jax.ShapeDtypeStruct((4,), np.float32)}},
}


def state():
  rng = np.random.default_rng(0)
  return {
    'c.weight': rng.standard_normal((4, 2, 3, 5)).astype(np.float32),
    'qkv.weight': rng.standard_normal((6, 2, 1)).astype(np.float32),
    'n.running_var': np.ones(4, np.float32),
  }


def test_axes_go_where_they_belong_and_back():
  torch = state()
  variables = rules.to_variables(RULES, torch | {'n.num_batches_tracked': np.array(7)}, SHAPES)
  assert variables['params']['conv']['kernel'][2, 4, 1, 3] == torch['c.weight'][3, 1, 2, 4]
  assert variables['params']['qkv']['kernel'][1, 5] == torch['qkv.weight'][5, 1, 0]
  back = rules.to_torch(RULES, variables)
  assert list(back) == list(torch)
  for name, value in torch.items():
    np.testing.assert_array_equal(back[name], value)


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'c.weight': None}, r'c.weight \[4, 2, 3, 5\] is missing'),
    ({'qkv.weight': np.zeros((6, 2, 3))}, r'qkv.weight has shape \[6, 2, 3\], expected \[6, 2, 1\]'),
    ({'extra.bias': np.zeros(9)}, r'extra.bias \[9\] belongs to no variable'),
  ],
)
def test_what_does_not_fit_is_named(change, message):
  torch = {k: v for k, v in (state() | change).items() if v is not None}
  with pytest.raises(UserError, match=message):
    rules.to_variables(RULES, torch, SHAPES)


def test_only_the_first_problems_are_listed():
  surplus = {f'extra{i}': np.zeros(1) for i in range(10)}
  with pytest.raises(UserError, match=r'extra3 .*and 6 more') as error:
    rules.to_variables(RULES, state() | surplus, SHAPES)
  assert '\n' not in str(error.value)


def test_half_precision_weights_become_float32():
  torch = {k: v.astype(np.float16) for k, v in state().items()}
  assert rules.to_variables(RULES, torch, SHAPES)['params']['conv']['kernel'].dtype == np.float32


def test_other_variables_than_the_rules_are_refused():
  with pytest.raises(ValueError, match='batch_stats/norm/var'):
    rules.to_torch(RULES, {'params': rules.to_variables(RULES, state(), SHAPES)['params']})


def test_names_are_derived_from_paths():
  derived = rules.derive(
    SHAPES, [('^conv', 'features.0'), (r'features\.(\d)', lambda m: f'f{int(m[1]) + 1}')]
  )
  assert derived['params/conv/kernel'] == rules.Rule('f1.weight', rules.CONV)
  assert derived['params/qkv/kernel'] == rules.Rule('qkv.weight', rules.DENSE)
  assert derived['batch_stats/norm/var'] == rules.Rule('norm.running_var')
