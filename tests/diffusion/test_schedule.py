"""Schedules, respacing and tables, equal to guided-diffusion's."""

import pathlib

import numpy as np
import pytest
from helpers.hostile import repeatable
from hypothesis import given
from hypothesis import strategies as st

from fetal_jax.diffusion import schedule

GOLDEN = dict(np.load(pathlib.Path(__file__).resolve().parent.parent / 'golden' / 'diffusion.npz'))


@pytest.mark.parametrize('respacing', ['250', 'ddim25', '10,15,20', '1000', '25'])
def test_respacing_equals_reference(respacing):
  kept = schedule.space_timesteps(1000, respacing)
  np.testing.assert_array_equal(kept, GOLDEN[f'timesteps_{respacing.replace(",", "_")}'])
  assert kept.dtype == np.int64


def test_respacing_in_its_other_forms():
  np.testing.assert_array_equal(schedule.space_timesteps(1000, 250), GOLDEN['timesteps_250'])
  np.testing.assert_array_equal(schedule.space_timesteps(1000, (10, 15, 20)), GOLDEN['timesteps_10_15_20'])
  np.testing.assert_array_equal(schedule.space_timesteps(10, ''), np.arange(10))
  np.testing.assert_array_equal(schedule.space_timesteps(10, '1'), [0])
  np.testing.assert_array_equal(schedule.space_timesteps(101, 'quad5'), [0, 6, 25, 56, 100])


@pytest.mark.parametrize(
  'respacing', ['1001', '0', '-3', 'ddim7x', 'ddim999', 'quad1', 'quad1001', 'fast', '400,400,400', '10,,10']
)
def test_impossible_respacing_is_refused(respacing):
  with pytest.raises(ValueError, match=f'respacing {respacing!r}: '):
    schedule.space_timesteps(1000, respacing)


@repeatable(50)
@given(timesteps=st.integers(2, 1000), form=st.sampled_from(['', 'quad']), data=st.data())
def test_respacing_keeps_first_and_last_and_so_many(timesteps, form, data):
  count = data.draw(st.integers(2, timesteps))
  kept = schedule.space_timesteps(timesteps, f'{form}{count}')
  assert (kept[0], kept[-1], len(kept)) == (0, timesteps - 1, count)
  assert (np.diff(kept) > 0).all()


@pytest.mark.parametrize(
  'table',
  [
    *('betas', 'alphas_cumprod', 'posterior_variance', 'posterior_log_variance_clipped'),
    *('posterior_mean_coef1', 'posterior_mean_coef2'),
  ],
)
def test_tables_equal_reference(table):
  ours = getattr(schedule.make_process(), table)
  assert ours.dtype == np.float64
  np.testing.assert_allclose(ours, GOLDEN[f'full_{table}'], rtol=1e-10)


def test_cosine_equals_reference():
  np.testing.assert_allclose(schedule.cosine_betas(1000), GOLDEN['cosine_betas'], rtol=1e-10)


@pytest.mark.parametrize('name', sorted(schedule.BETAS))
def test_respaced_process_has_the_same_marginals(name):
  full, short = schedule.make_process(name), schedule.make_process(name, respacing='ddim25')
  np.testing.assert_array_equal(short.alphas_cumprod, full.alphas_cumprod[short.timesteps])
  np.testing.assert_allclose(np.cumprod(1 - short.betas), short.alphas_cumprod, rtol=1e-9)
  # "Fixed large": betas, except where the posterior variance would be 0.
  np.testing.assert_allclose(np.exp(short.fixed_large_log_variance[1:]), short.betas[1:], rtol=1e-9)
  assert np.exp(short.fixed_large_log_variance[0]) == pytest.approx(short.posterior_variance[1])


def test_linear_schedule_ends_alike_for_any_length():
  ends = [schedule.make_process('linear', timesteps).alphas_cumprod[-1] for timesteps in (500, 1000, 4000)]
  assert max(ends) < 5e-5
  assert schedule.linear_betas(500)[0] == pytest.approx(2e-4)


def test_process_of_one_step_is_finite():
  process = schedule.make_process(respacing='1')
  assert len(process) == 1
  assert np.isfinite(process.posterior_log_variance_clipped).all()
  assert np.isfinite(process.fixed_large_log_variance).all()


def test_impossible_processes_are_refused():
  with pytest.raises(ValueError, match="no schedule named 'sigmoid'; there are: linear, cosine"):
    schedule.make_process('sigmoid')
  with pytest.raises(ValueError, match='betas'):
    schedule.process_from_betas(np.array([0.1, 1.5]))
  with pytest.raises(ValueError, match='ascending'):
    schedule.process_from_betas(np.array([0.1, 0.2, 0.3]), np.array([2, 1]))
  with pytest.raises(ValueError, match='ascending'):
    schedule.process_from_betas(np.array([0.1, 0.2, 0.3]), np.array([1, 1]))
  with pytest.raises(ValueError, match='ascending'):
    schedule.process_from_betas(np.array([0.1, 0.2]), np.array([0, 2]))
