"""The arithmetic of the batch size, and that the sampler uses it."""

import types

import jax
import pytest

from fetal_jax.sample import batch_size

GIB = 2**30


def program(gib):
  """A stand-in for a compiled program that needs `gib` on the device."""
  memory = types.SimpleNamespace(
    argument_size_in_bytes=int(gib * GIB / 2),
    output_size_in_bytes=int(gib * GIB / 4),
    temp_size_in_bytes=int(gib * GIB / 2),
    alias_size_in_bytes=int(gib * GIB / 4),
  )
  return types.SimpleNamespace(memory_analysis=lambda: memory)


def device(platform, limit):
  stats = None if limit is None else {'bytes_limit': limit * GIB}
  return types.SimpleNamespace(platform=platform, memory_stats=lambda: stats)


@pytest.mark.parametrize(
  ('small', 'large', 'limit', 'most', 'expected'),
  [
    ((8, 2.8), (16, 3.6), 10.0, 5000, 64),  # 2 + 0.1 each in 8.5: 65 fit
    ((8, 2.8), (16, 3.6), 16.0, 5000, 96),  # 116 fit
    ((8, 2.8), (16, 3.6), 10.0, 60, 60),  # the plan has no more
    ((8, 2.8), (16, 3.6), 10.0, 66, 64),
    ((8, 2.8), (16, 3.6), 1000.0, 10**6, 1024),
    ((8, 2.8), (16, 3.6), 1.0, 5000, 1),  # nothing fits: running will tell
    ((8, 2.0), (16, 2.0), 10.0, 40, 40),  # memory that does not grow
    ((0, 0.0), (32, 64.0), 40.0, 32, 16),  # one measurement: 17 fit
  ],
)
def test_the_largest_batch_that_fits(small, large, limit, most, expected):
  in_bytes = [(images, int(gib * GIB)) for images, gib in (small, large)]
  assert batch_size.largest_batch(*in_bytes, int(limit * GIB), most) == expected


def test_a_program_s_memory_is_all_it_holds():
  assert batch_size.program_bytes(program(2.0)) == 2 * GIB


def test_a_large_device_is_filled(caplog):
  compiled = []

  def compile(size):
    compiled.append(size)
    return program(1.0 + size / 4 * 0.05)  # four devices

  with caplog.at_level('INFO', logger='absl'):
    assert batch_size.find(compile, [device('gpu', 16)] * 4, 30_000) == 4 * 192  # 252 fit
  assert compiled == [32, 64]
  assert '192 images a device and dispatch (51.2 MiB an image, 10.6 GiB in all, of 16 GiB' in caplog.text


@pytest.mark.parametrize(
  ('platform', 'limit', 'images', 'expected'),
  [('cpu', None, 10_000, 64), ('cpu', None, 21, 22), ('gpu', None, 10_000, 64), ('gpu', 16, 10, 10)],
)
def test_where_there_is_nothing_to_weigh(platform, limit, images, expected):
  assert batch_size.find(lambda size: program(0.001), [device(platform, limit)] * 2, images) == expected


def test_a_compiler_that_refuses_leaves_the_smaller_probe():
  def compile(size):
    raise jax.errors.JaxRuntimeError(f'RESOURCE_EXHAUSTED: {size}' if refuses else 'INTERNAL: something else')

  refuses = True
  assert batch_size.find(compile, [device('tpu', 16)], 1000) == 8
  refuses = False
  with pytest.raises(jax.errors.JaxRuntimeError, match='INTERNAL'):
    batch_size.find(compile, [device('tpu', 16)], 1000)


def test_a_small_host_draws_fewer(monkeypatch):
  monkeypatch.setattr(batch_size, 'host_bytes', lambda: 4 * GIB)
  assert batch_size.find(lambda size: program(size / 10), [device('cpu', None)], 1000) == 16  # 17 fit
