"""Scalars survive interruptions: a resumed run writes its lines once."""

import json
import time
import types

import pytest

from fetal_jax.runtime import metrics
from fetal_jax.runtime.metrics import MetricWriter, read_curves, read_metrics


def test_a_resumed_run_replaces_the_lines_after_its_checkpoint(tmp_path):
  with MetricWriter(tmp_path) as writer:
    for step in (10, 20, 30):
      writer.write_scalars(step, {'loss': step})
  with open(tmp_path / 'metrics.jsonl', 'a') as f:
    f.write('{"step": 40, "lo')  # killed while writing
  with MetricWriter(tmp_path, start_step=20) as writer:
    writer.write_scalars(30, {'loss': 0.5})
  rows = read_metrics(tmp_path / 'metrics.jsonl')
  assert rows == [{'step': 10, 'loss': 10}, {'step': 20, 'loss': 20}, {'step': 30, 'loss': 0.5}]


@pytest.mark.parametrize('later', [0, -3600], ids=['in the same second', 'with the clock set back'])
def test_a_second_start_keeps_the_events_of_the_first(tmp_path, monkeypatch, later):
  clock = iter([1e9, 1e9 + later])
  for step in (1, 2):
    now = next(clock)
    monkeypatch.setattr(
      metrics, 'time', types.SimpleNamespace(time=lambda now=now: now, monotonic=time.monotonic)
    )
    with MetricWriter(tmp_path, start_step=step - 1) as writer:
      writer.write_scalars(step, {f'loss_{step}': 1.0})
  first, second = sorted(tmp_path.glob('events.out.tfevents.*'))  # the order in which TensorBoard reads them
  assert b'loss_1' in first.read_bytes()
  assert b'loss_2' in second.read_bytes()


def test_not_a_number_stays_valid_json(tmp_path):
  with MetricWriter(tmp_path) as writer:
    writer.write_scalars(1, {'loss': float('nan')})
  assert json.loads((tmp_path / 'metrics.jsonl').read_text(), parse_constant=pytest.fail) == {
    'step': 1,
    'loss': None,
  }


def test_tensorboard_sees_a_step_while_training_goes_on(tmp_path, monkeypatch):
  monkeypatch.setattr(metrics, '_FLUSH_SECONDS', 0.05)
  with MetricWriter(tmp_path) as writer:
    writer.write_scalars(1, {'loss': 1.0})
    (events,) = tmp_path.glob('events.out.tfevents.*')
    deadline = time.monotonic() + 20
    while b'loss' not in events.read_bytes():
      assert time.monotonic() < deadline, 'nothing was written'
      time.sleep(0.02)


def test_curves_are_finite_and_later_rows_count(tmp_path):
  path = tmp_path / 'metrics.jsonl'
  path.write_text(
    '{"step": 2, "a": 1.0, "b": null}\n'
    '{"step": 1, "a": 5.0, "b": NaN, "c": "text"}\n'
    '{"step": 2, "a": 3.0}\n'
    '{"step": 3, "a": 2'
  )
  assert read_curves(path) == {'a': ([1, 2], [5.0, 3.0])}
  assert read_curves(tmp_path / 'missing.jsonl') == {}


def test_rows_of_another_shape_are_left_out(tmp_path, caplog):
  path = tmp_path / 'metrics.jsonl'
  bad = [
    '{"step": "7", "a": 1}',
    '{"step": [1]}',
    '{"a": 1}',
    '[]',
    '3',
    'null',
    '"x"',
    '[' * 50_000,
    '{"step": true}',
  ]
  bad.append(f'{{"step": {10**400}}}')
  lines = ['{"step": 1, "a": 5}', *bad, f'{{"step": 2, "a": {10**400}, "b": "1", "c": true, "d": 4}}']
  path.write_bytes('\n'.join(lines).encode() + b'\n{"step": 3, "a": \xff}\n')
  assert read_curves(path) == {'a': ([1], [5]), 'd': ([2], [4])}
  assert caplog.text.count('left out an unfinished line') == len(bad) + 1
