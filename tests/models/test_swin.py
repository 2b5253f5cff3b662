import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.quick_keys import COUNTING

from fetal_jax.models import swin


def test_windows_are_row_major_and_undone():
  x = jnp.arange(2 * 4 * 6 * 3, dtype=jnp.float32).reshape(2, 4, 6, 3)
  windows = swin.to_windows(x, 2)
  assert windows.shape == (2, 6, 4, 3)
  np.testing.assert_array_equal(windows[1, 4], x[1, 2:4, 2:4].reshape(4, 3))
  np.testing.assert_array_equal(swin.from_windows(windows, 2, 4, 6), x)


def test_relative_positions_of_a_2x2_window():
  expected = [[4, 3, 1, 0], [5, 4, 2, 1], [7, 6, 4, 3], [8, 7, 5, 4]]
  np.testing.assert_array_equal(swin.relative_positions(2), expected)


def test_shift_mask_parts_what_the_roll_joined():
  mask = swin.shift_mask(4, 4, 2, (1, 1))
  np.testing.assert_array_equal(mask[0], 0)
  # In the last window the four tokens come from four corners; in the second, left is apart from right.
  np.testing.assert_array_equal(mask[3], np.where(np.eye(4), 0, -100))
  np.testing.assert_array_equal(mask[1, 0], [0, -100, 0, -100])
  np.testing.assert_array_equal(swin.shift_mask(4, 4, 2, (0, 1))[2], 0)


@pytest.mark.parametrize('shifted', [False, True])
def test_attention_stays_in_its_window(shifted):
  model = swin.WindowAttention(heads=1, window=3, shifted=shifted)
  x = jnp.asarray(np.random.default_rng(0).standard_normal((1, 6, 6, 4)), jnp.float32)
  key = jax.random.key(0, impl=COUNTING)
  variables = jax.tree.map(lambda w: w + 0.1, model.init(key, x))
  apply = jax.jit(model.apply)
  # The token at (3, 3) is the first of the last window, and shifted by one, of rows and columns 1 to 3.
  changed = np.abs(apply(variables, x.at[0, 3, 3].add(1.0)) - apply(variables, x))[0].max(-1) > 0
  rows, columns = np.nonzero(changed)
  first, last = (1, 3) if shifted else (3, 5)
  assert (rows.min(), rows.max(), columns.min(), columns.max()) == (first, last, first, last)
  assert changed.sum() == 9


def test_a_single_window_is_not_shifted():
  x = jnp.asarray(np.random.default_rng(0).standard_normal((1, 4, 4, 4)), jnp.float32)
  plain, shifted = (swin.WindowAttention(1, 7, s) for s in (False, True))
  variables = plain.init(jax.random.key(0, impl=COUNTING), x)
  np.testing.assert_array_equal(plain.apply(variables, x), shifted.apply(variables, x))


def test_initial_weights():
  model = swin.swin_t(embed_dim=32, depths=(1, 1), heads=(2, 4))
  key = jax.random.key(0, impl=COUNTING)
  params = jax.jit(lambda: model.init(key, jnp.zeros((1, 32, 32, 3)))['params'])()
  np.testing.assert_allclose(params['stem']['kernel'].std(), (3 * 48) ** -0.5, rtol=0.05)
  assert 0 < jnp.abs(params['stem']['bias']).max() <= 48**-0.5
  block = params['stage0_0']
  for leaf in (
    block['attn']['qkv']['kernel'],
    block['attn']['relative_position_bias_table'],
    block['mlp_in']['kernel'],
    params['merge1']['reduction']['kernel'],
    params['head']['kernel'],
  ):
    np.testing.assert_allclose(leaf.std(), 0.02, rtol=0.15)
  np.testing.assert_array_equal(block['mlp_in']['bias'], 0)


def test_images_smaller_than_a_patch_are_refused():
  with pytest.raises(ValueError, match='3x8 are smaller than a patch of 4'):
    swin.swin_t().init(jax.random.key(0), jnp.zeros((1, 3, 8, 1)))
