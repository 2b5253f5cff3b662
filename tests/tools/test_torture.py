"""The kill harness: a short torment, and that it would notice what it looks for."""

import json
import os

import pytest
from helpers import tiny
from tools import torture

SAID = """\
12:00:01 prepare: done before (runs/x/data).
12:00:02 diffusion: compiled in 2 s.
"""


@pytest.mark.slow
def test_a_run_killed_in_three_stages_ends_like_one_left_alone(tmp_path):
  """Of the smallest networks, whose size no kill asks for."""
  kills = int(os.environ.get('FETAL_JAX_KILLS', 3))
  done, wrong = torture.run(tmp_path, kills, 1, *tiny.ARGUMENTS)
  assert wrong == []
  assert sum(done.values()) == kills
  assert sum(count > 0 for count in done.values()) >= min(kills, 3)


def test_the_stage_is_read_from_what_a_run_says():
  assert torture.stage_of('') is None
  assert torture.stage_of(SAID.splitlines()[0]) == 'diffusion'
  assert torture.stage_of(SAID) == 'diffusion'
  done = '12:00:03 sample: round 1 done before (48 images).\n'
  assert torture.stage_of(SAID + done) == 'sample'
  assert torture.stage_of(SAID + done + done.replace('round 1', 'round 2')) == 'classify'
  assert torture.stage_of('12:00:04 resnet50 synth_r1_then_real seed 0: going on') == 'classify'


def test_differences_are_noticed(tmp_path):
  one, other = tmp_path / 'one', tmp_path / 'other'
  for folder, seconds in ((one, 1.0), (other, 2.0)):
    (folder / 'classify').mkdir(parents=True)
    (folder / 'logs').mkdir()
    metrics = {'seconds': seconds, 'test_accuracy': 0.5, 'sha256_of_the_rest': f'of {seconds}'}
    (folder / 'classify' / 'metrics.json').write_text(json.dumps(metrics))
    (folder / 'classify' / 'predictions.csv').write_text('image,p\na,0.5\n')
    (folder / 'logs' / 'metrics.jsonl').write_text(
      json.dumps({'step': 1, 'loss': 0.25, 'img_per_s': seconds}) + '\n'
    )
    (folder / 'logs' / 'run.log').write_text(str(seconds))
  assert torture.differences(one, other) == []  # clocks alone differ
  (other / 'logs' / 'metrics.jsonl').write_text('{"step": 1, "loss": 0.2500001, "img_per_s": 1}\n')
  (other / 'classify' / 'predictions.csv').write_text('image,p\na,0.6\n')
  (other / 'classify' / 'more.csv').write_text('')
  assert torture.differences(one, other) == [
    'classify/more.csv: only in one of the runs',
    'classify/predictions.csv: differs',
    'logs/metrics.jsonl: differs',
  ]


def test_other_weights_are_noticed(tmp_path):
  import numpy as np

  from fetal_jax.runtime.checkpoint import Checkpointer

  for name, weight in (('one', 1.0), ('same', 1.0), ('other', 1.0 + 1e-7)):
    with Checkpointer(tmp_path / name / 'checkpoints') as checkpointer:
      checkpointer.save(5, {'kernel': np.full(3, weight, np.float64)}, {'seconds': id(name)})
  assert torture.differences(tmp_path / 'one', tmp_path / 'same') == []
  assert torture.differences(tmp_path / 'one', tmp_path / 'other') == ['checkpoints/5: other weights']


def test_temporary_files_are_noticed(tmp_path):
  (tmp_path / 'data').mkdir()
  (tmp_path / 'data' / 'images.npy').write_bytes(b'')
  assert torture.leftovers(tmp_path) == []
  (tmp_path / 'data' / '.split.json.tmp').write_bytes(b'')
  assert torture.leftovers(tmp_path) == ['data/.split.json.tmp']
