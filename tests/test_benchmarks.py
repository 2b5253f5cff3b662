"""The benchmark command runs and writes what it says; FLOPs are counted right."""

import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

from benchmarks import ROOT, measure, tables


def run_quickly(folder, parts):
  """What `python -m benchmarks --quick` writes and prints."""
  command = [sys.executable, '-m', 'benchmarks', '--quick', f'--only={parts}', f'--out={folder}']
  done = subprocess.run(command, cwd=ROOT, env=dict(os.environ), capture_output=True, text=True, check=False)
  assert done.returncode == 0, done.stderr
  (path,) = folder.glob('*.json')
  return json.loads(path.read_text()), done.stdout


def test_quick_run_writes_results_and_tables(tmp_path):
  results, said = run_quickly(tmp_path, 'peaks')
  assert results['machine']['backend'] == 'cpu'
  assert set(results['parts']) == {'peaks'}
  peaks = results['parts']['peaks']['cases']
  assert set(peaks) == {'matmul float32 128', 'conv3x3 float32 2x8x8x16'}
  assert all(0 < case['tflops'] < 1000 for case in peaks.values())
  assert '| best of | TFLOP/s |' in said


@pytest.mark.slow
def test_a_scan_is_measured_in_all_its_forms(tmp_path):
  results, said = run_quickly(tmp_path, 'scan')
  (scan,) = results['parts']['scan']['cases'].values()
  assert not scan['errors']
  assert set(scan['seconds']) == set(scan['memory'])
  assert len(scan['seconds']) == 6
  assert all(0 < time['min'] <= time['median'] <= time['max'] for time in scan['seconds'].values())
  assert '| length 100 | chunked (fetal_jax) |' in said


def test_unknown_parts_are_refused():
  command = [sys.executable, '-m', 'benchmarks', '--only=peeks']
  done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
  assert done.returncode == 2
  assert 'peeks' in done.stderr.splitlines()[-1]


def convolve(x, kernel, stride=1):
  strides, layout = (stride, stride), ('NHWC', 'HWIO', 'NHWC')
  return jax.lax.conv_general_dilated(x, kernel, strides, 'SAME', dimension_numbers=layout)


def loop(x):
  return jax.lax.scan(lambda h, _: (h @ h, None), x, length=5)[0]


X, KERNEL = jnp.ones((2, 8, 8, 4)), jnp.ones((3, 3, 4, 6))
CONVOLUTION = 2 * (2 * 8 * 8) * (3 * 3 * 4 * 6)


@pytest.mark.parametrize(
  ('function', 'args', 'expected'),
  [
    pytest.param(jnp.matmul, (jnp.ones((3, 5)), jnp.ones((5, 7))), 2 * 3 * 5 * 7, id='matmul'),
    pytest.param(loop, (jnp.ones((4, 4)),), 5 * 2 * 4**3, id='five times in a loop'),
    pytest.param(jax.checkpoint(jax.jit(loop)), (jnp.ones((4, 4)),), 5 * 2 * 4**3, id='in a wrapped program'),
    pytest.param(convolve, (X, KERNEL), CONVOLUTION, id='convolution'),
    pytest.param(lambda x, k: (convolve(x, k), x)[1], (X, KERNEL), 0, id='whose result is not used'),
    pytest.param(lambda x, k: convolve(x, k, 2), (X, KERNEL), CONVOLUTION / 4, id='strided'),
    pytest.param(
      jax.grad(lambda x, k: (convolve(x, k, 2) ** 2).sum(), argnums=(0, 1)),
      (X, KERNEL),
      3 * CONVOLUTION / 4,
      id='strided, with both gradients',
    ),
  ],
)
def test_flops_of_products_and_convolutions(function, args, expected):
  assert measure.flops(function, *args) == pytest.approx(expected)


def test_ratios_are_of_pairs():
  ratio = measure.ratio([2.0, 9.0, 4.0], [1.0, 3.0, 4.0])
  assert ratio == {'median': 2.0, 'min': 1.0, 'max': 3.0, 'n': 3}


def test_tables_replace_only_what_is_between_the_markers(tmp_path):
  page = tmp_path / 'page.md'
  page.write_text(f'before\n{tables.BEGIN}\nold\n{tables.END}\nafter\n')
  tables.write_docs(page, tmp_path)
  assert page.read_text() == f'before\n{tables.BEGIN}\n\n\n{tables.END}\nafter\n'
