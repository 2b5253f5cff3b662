"""Names that JAX gives to devices, and the arithmetic of their time."""

import pytest

from fetal_jax.planning import machines
from fetal_jax.planning.program import Cost


@pytest.mark.parametrize(
  ('kind', 'name'),
  [
    ('NVIDIA A100-SXM4-40GB', 'A100'),
    ('NVIDIA A100-SXM4-80GB', 'A100 80GB'),
    ('NVIDIA A100 80GB PCIe', 'A100 80GB'),
    ('NVIDIA H100 80GB HBM3', 'H100'),
    ('NVIDIA H200', 'H200'),
    ('NVIDIA L4', 'L4'),
    ('NVIDIA L40S', None),
    ('Tesla T4', 'T4'),
    ('Tesla V100-SXM2-16GB', 'V100'),
    ('TPU v4', 'TPU v4'),
    ('TPU v5 lite', 'TPU v5e'),
    ('TPU v5', 'TPU v5p'),
    ('TPU v6 lite', 'TPU v6e'),
    ('cpu', None),
  ],
)
def test_kinds_are_recognised(kind, name):
  assert machines.find(kind) == name


def test_every_column_has_its_published_figures():
  for name in machines.COLUMNS:
    device = machines.published(name, 'bfloat16')
    assert device.flops >= 1e14
    assert device.memory
    assert not device.wide
    assert machines.published(name, 'float32').wide


def test_time_is_products_and_bytes_shared_by_the_devices_and_operations_one_by_one():
  device = machines.Device('two', flops=100.0, bandwidth=10.0, memory=None, launch=0.5, reach=0.5, count=2)
  assert device.seconds(Cost(flops=1000.0, bytes=40.0, operations=6)) == (1000 / 50 + 40 / 10) / 2 + 6 * 0.5


def test_this_machine_is_measured_where_nobody_published_it():
  assert 1e8 < machines.measure_peak('float32', side=256, seconds=0.05) < 1e14
