"""Which classifiers count: a page on files that somebody touched would be worse than none."""

import csv
import json
import math
import pathlib
import shutil

import jax
import jax.numpy as jnp
import msgspec
import numpy as np
import pytest
from helpers import damage, fake_workdir
from report.test_run import SMALL, draw_again

from fetal_jax import models
from fetal_jax.report import classifier_runs
from fetal_jax.report import run as run_lib
from fetal_jax.runtime.errors import UserError
from fetal_jax.runtime.fingerprint import Fingerprint
from fetal_jax.train import results

GOLDEN = pathlib.Path(__file__).resolve().parent.parent / 'golden'


@pytest.mark.parametrize('model', ['resnet50', 'densenet169', 'vit_b_32', 'swin_t', 'medmamba_t'])
def test_the_published_sizes_are_those_of_the_reference_networks(model):
  golden = np.load(GOLDEN / f'{model}.npz')  # six classes, three channels
  shapes = zip(golden['param_names'], golden['param_shapes'], strict=True)
  sizes = [math.prod(json.loads(str(shape))) for name, shape in shapes if 'running_' not in str(name)]
  assert classifier_runs.PUBLISHED[model] == sum(sizes)


@pytest.mark.slow
@pytest.mark.parametrize('model', ['medmamba_s', 'medmamba_b'])
def test_larger_ones_without_golden_files_have_the_sizes_of_their_constructors(model):
  shapes = jax.eval_shape(models.create(model).init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
  assert classifier_runs.PUBLISHED[model] == sum(leaf.size for leaf in jax.tree.leaves(shapes['params']))


def test_sizes_are_of_networks_that_are_there():
  assert set(classifier_runs.PUBLISHED) <= set(models.CLASSIFIERS)


@pytest.mark.parametrize(
  ('model', 'parameters', 'image_size', 'reduced'),
  [
    ('resnet50', 23_514_054, 128, False),  # grey images
    ('resnet50', 23_514_054, 224, False),
    ('resnet50', 23_514_054, 64, True),
    ('resnet50', 15_264, 128, True),
    ('vit_b_32', 23_514_054, 128, True),
    ('my_net', 100, 128, False),
    ('my_net', 100, 32, True),
    ('my_net', 100, None, False),
  ],
)
def test_what_is_called_reduced(model, parameters, image_size, reduced):
  assert classifier_runs.is_reduced(model, parameters, image_size) is reduced


def test_a_run_says_whether_it_is_reduced(tmp_path):
  fake_workdir.make(tmp_path, models=('resnet50',), regimes=('real',), rounds=0, **SMALL)
  (one,) = run_lib.read(tmp_path).runs
  assert (one.reduced, one.parameters) == (True, 23_520_000)  # of full size, but its images are small


def all_right(path):
  header, *rows = csv.reader(path.read_text().splitlines())
  first = header.index('predicted') + 1
  for row in rows:
    label = row[header.index('label')]
    row[first - 1 :] = [
      label,
      *('1.000000' if name == f'p_{label}' else '0.000000' for name in header[first:]),
    ]
  with open(path, 'w', newline='') as f:
    csv.writer(f).writerows([header, *rows])


def three_rows(path):
  path.write_text('\n'.join(path.read_text().splitlines()[:4]) + '\n')


def no_text(path):
  path.write_bytes(path.read_bytes().replace(b'image_0', b'image\xff0', 1))


@pytest.mark.parametrize('harm', [all_right, three_rows, no_text, damage.flip, damage.empty, damage.delete])
def test_damaged_predictions_are_named_and_left_out_of_every_figure(tmp_path, harm):
  fake_workdir.make(
    tmp_path, models=('resnet50', 'vit_b_32'), regimes=('real', 'synth_r1_then_real'), rounds=1, **SMALL
  )
  name = 'classify/vit_b_32/real/seed_0'
  harm(tmp_path / name / 'predictions.csv')
  run = run_lib.read(tmp_path)
  touched = shutil.copytree(tmp_path, tmp_path / 'other')
  shutil.rmtree(touched / name)
  without = run_lib.read(touched)
  assert (run.runs, run.comparisons, run.curve) == (without.runs, without.comparisons, without.curve)
  (said,) = (sentence for sentence in run.missing if 'predictions.csv' in sentence)
  assert said.startswith(f'Left out of every figure: {name}/predictions.csv: ')
  assert said.endswith('; delete its folder and run --stage=classify again.')
  (left_out,) = run_lib.to_json(run)['runs'][3:]
  assert left_out == {'model': 'vit_b_32', 'regime': 'real', 'seed': 0, 'left_out': said[26:-1]}


def test_predictions_that_nothing_seals_are_left_out(tmp_path):
  fake_workdir.make(tmp_path, models=('resnet50',), regimes=('real',), **SMALL)
  (tmp_path / 'classify' / 'resnet50' / 'real' / 'seed_0' / 'metrics.json').unlink()
  run = run_lib.read(tmp_path)
  assert run.runs == []
  assert 'nothing tells whether it is whole, since metrics.json is missing' in run.missing[0]


def sealed(folder, **changes):
  """Changes the metrics of a run, with their seal."""
  about = {'predictions': Fingerprint.of(folder / 'predictions.csv'), **changes}
  results.write(folder, msgspec.structs.replace(results.read(folder), **about))


def test_what_was_made_from_something_else_is_left_out(tmp_path):
  fake_workdir.make(tmp_path, models=('resnet50',), regimes=('real', 'synth_r1', 'synth_r12'), **SMALL)
  folder = tmp_path / 'classify' / 'resnet50'
  sealed(folder / 'real' / 'seed_0', split_hash='other')
  draw_again(tmp_path / 'synthetic' / 'round_2')
  run = run_lib.read(tmp_path)
  assert [one.regime for one in run.runs] == ['synth_r1']
  said = '\n'.join(run.missing)
  assert 'real/seed_0: was trained on another split than the one in data/split.json; ' in said
  assert 'synth_r12/seed_0: was trained on another round 2 than synthetic/round_2; ' in said


def test_predictions_of_other_images_are_left_out_even_with_a_seal(tmp_path):
  fake_workdir.make(tmp_path, models=('resnet50',), regimes=('real',), **SMALL)
  folder = tmp_path / 'classify' / 'resnet50' / 'real' / 'seed_0'
  path = folder / 'predictions.csv'
  path.write_text(path.read_text().replace('image_00', 'image_99'))
  sealed(folder)
  run = run_lib.read(tmp_path)
  assert run.runs == []
  assert 'predictions.csv: is not about the test images of data/split.json' in run.missing[0]


def test_a_copy_of_a_run_is_no_second_seed(tmp_path):
  fake_workdir.make(tmp_path, models=('resnet50',), regimes=('real',), **SMALL)
  folder = tmp_path / 'classify' / 'resnet50' / 'real'
  shutil.copytree(folder / 'seed_0', folder / 'seed_1')
  with pytest.raises(UserError, match=r'seed_1.metrics\.json: is of resnet50 real 0, a copy'):
    run_lib.read(tmp_path)
