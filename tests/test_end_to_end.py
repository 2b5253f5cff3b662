"""The whole flow as a user runs it: `configs/smoke.py`, its resumption, and real images."""

import csv
import json
import shutil

import numpy as np
import pytest
from helpers import damage, tiny
from PIL import Image
from tools.notebook_runner import NOTEBOOKS, execute, pictures, printed

from fetal_jax import main
from fetal_jax.runtime.files import read_json
from fetal_jax.runtime.metrics import read_metrics
from fetal_jax.train.regimes import REGIMES

# `configs/smoke.py` with the smallest networks, which compile in less time: what is asked for here shows at any size.
SMALLEST = (*tiny.ARGUMENTS, '--config.sample.steps=4', '--config.sample.guidance_scale=0.5')
FAMILIES = ('vit_b_32', 'swin_t', 'resnet50', 'densenet169', 'medmamba_t')
ONE = '--config.classify.models=vit_b_32'  # the others are slow tests


def ok(process):
  assert process.returncode == 0, process.stderr[-3000:]
  return process


@pytest.fixture(scope='module')
def workdir(tmp_path_factory, command):
  """A finished run."""
  folder = tmp_path_factory.mktemp('smoke')
  process = ok(command(*SMALLEST, ONE, f'--workdir={folder}'))
  (folder / 'stderr.txt').write_text(process.stderr)
  return folder


def test_every_stage_leaves_what_the_next_ones_need(workdir):
  assert read_json(workdir / 'config.json')['config']['name'] == 'smoke'
  assert {'jax', 'flax', 'python'} <= set(read_json(workdir / 'config.json')['versions'])
  assert (workdir / 'data' / 'split.json').is_file()
  assert (workdir / 'diffusion' / 'samples' / 'step_0000040.png').is_file()
  assert sorted(p.name for p in (workdir / 'diffusion' / 'checkpoints').iterdir()) == ['20', '40']
  assert set(read_json(workdir / 'logs' / 'stages.json')) == {
    'prepare',
    'diffusion',
    'sample',
    'classify',
    'evaluate',
    'report',
  }


def test_the_log_says_what_is_spent_and_what_is_seen(workdir):
  said = (workdir / 'stderr.txt').read_text()
  assert 'TFLOP a step' in said
  assert 'GiB while computing' in said
  assert 'unet: ' in said
  assert 'parameters' in said
  assert '% of the test images show a patient who is also in train' in said
  rows = read_metrics(workdir / 'logs' / 'diffusion' / 'metrics.jsonl')
  names = set().union(*rows)
  quarters = {
    f'{n}_q{q}' for n in ('unet/loss', 'unet/mse', 'unet/vb', 'guide/heldout_accuracy') for q in range(4)
  }
  assert quarters | {'grad_norm/unet', 'grad_norm/guide', 'img_per_s'} <= names


def test_the_synthetic_rounds_open_as_tfds_data_sets(workdir):
  import tensorflow_datasets as tfds

  for number in (1, 2):
    folder = workdir / 'synthetic' / f'round_{number}'
    source = tfds.builder_from_directory(folder).as_data_source(
      'train', decoders={'image': tfds.decode.SkipDecoding()}
    )
    assert [int(example['label']) for example in source] == [k // 8 for k in range(48)]
    manifest = read_json(folder / 'manifest.json')
    assert manifest['complete']
    assert manifest['counts'] == dict.fromkeys(manifest['class_names'], 8)
    assert {'seed', 'class', 'checkpoint_step', 'config_hash', 'sha256'} <= set(manifest['shards'][0])


def test_models_and_regimes_were_trained_as_asked(workdir):
  check_runs(workdir, ['vit_b_32'])


@pytest.fixture(scope='module')
def smallest(tmp_path_factory, command):
  """A finished run of all families."""
  folder = tmp_path_factory.mktemp('smallest')
  ok(command(*SMALLEST, f'--workdir={folder}'))
  return folder


@pytest.mark.slow
def test_all_families_are_trained_in_all_regimes(smallest):
  check_runs(smallest, FAMILIES)


def check_runs(workdir, models):
  """Every model in every regime: what it was trained on, where it started, and what it predicted."""
  split = read_json(workdir / 'data' / 'split.json')
  rounds = {'synth_r1': 48, 'synth_r1_plus_real': 48, 'synth_r12': 96}
  for model in models:
    for regime, spec in REGIMES.items():
      folder = workdir / 'classify' / model / regime / 'seed_0'
      metrics = read_json(folder / 'metrics.json')
      assert metrics['real_images'] == (len(split['train']) if spec.real else 0)
      assert metrics['synthetic_images'] == rounds.get(regime, 0)
      assert metrics['initialised_from'] == spec.start
      with open(folder / 'predictions.csv', newline='') as f:
        rows = list(csv.DictReader(f))
      assert len(rows) == len(split['test'])
      right = np.mean([row['label'] == row['predicted'] for row in rows])
      assert right == pytest.approx(metrics['test_accuracy'])
      total = [sum(float(v) for k, v in row.items() if k.startswith('p_')) for row in rows]
      np.testing.assert_allclose(total, 1, atol=1e-4)


def test_pretrained_runs_start_where_their_pretraining_ended(workdir):
  """After one epoch they know the synthetic images' weights: their first loss differs from a fresh start's."""

  def first_loss(regime):
    return read_json(workdir / 'classify' / 'vit_b_32' / regime / 'seed_0' / 'metrics.json')['history'][0][
      'train_loss'
    ]

  assert first_loss('synth_r1_then_real') != first_loss('real')


def test_the_control_takes_as_many_steps_as_what_it_controls(workdir):
  def about(regime):
    return read_json(workdir / 'classify' / 'vit_b_32' / regime / 'seed_0' / 'metrics.json')

  pretraining, control = about('synth_r12'), about('real_then_real')
  assert pretraining['steps'] == control['steps'] == 6  # 96 images in batches of 16
  assert (control['initialised_from'], control['synthetic_images'], control['rounds']) == ('real', 0, {})


def test_the_report_is_written_and_self_contained(workdir):
  page = (workdir / 'report' / 'index.html').read_text()
  for title in (
    'Drawn images',
    'Synthetic images',
  ):  # tables have the paper's numbers where the data are the paper's
    assert title in page
  assert 'table-vit_b_32' in page
  assert 'ViT-B/32 (reduced, ' in page
  assert 'http-equiv="refresh"' not in page
  assert '<script src' not in page
  assert '<link rel="stylesheet"' not in page
  results = read_json(workdir / 'report' / 'results.json')
  assert results
  with open(workdir / 'report' / 'results.csv', newline='') as f:
    rows = list(csv.DictReader(f))
  networks = len(REGIMES) + 1  # and the control
  assert [row['kind'] for row in rows] == ['network'] * networks + ['raw pixels, no network'] * 4
  assert 'Random forest' in page
  assert (workdir / 'report' / 'report.md').read_text().startswith('#')


def test_running_again_does_nothing_and_says_so(workdir, command_here):
  before = {p: p.stat().st_mtime_ns for p in workdir.rglob('*') if p.is_file() and p.parent.name != 'logs'}
  said = ok(command_here(*SMALLEST, ONE, f'--workdir={workdir}')).stderr
  for stage in ('prepare', 'diffusion', 'sample', 'classify', 'report'):
    assert any(stage in line and ('done' in line or 'unchanged' in line) for line in said.splitlines()), (
      stage,
      said,
    )
  after = {p: p.stat().st_mtime_ns for p in workdir.rglob('*') if p.is_file() and p.parent.name != 'logs'}
  changed = {str(p.relative_to(workdir)) for p in after if before.get(p) != after[p]}
  assert changed <= {'config.json', 'stderr.txt'}


@pytest.mark.slow
def test_the_notebook_of_results_shows_it(smallest):
  notebook = execute(NOTEBOOKS / 'results.ipynb', workdir=str(smallest))
  for title in ('Drawn images', 'Synthetic images'):
    assert title in printed(notebook)
  assert 'classify/densenet169/real/seed_0\n' in printed(notebook)  # the first by name
  metrics = read_json(smallest / 'classify' / 'densenet169' / 'real' / 'seed_0' / 'metrics.json')
  assert f'all: {metrics["test_accuracy"]:.3f}' in printed(notebook)
  assert pictures(notebook) >= 4


@pytest.mark.slow
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(smallest, command, tmp_path):
  """Stopped after 30 of 40 diffusion steps, its last checkpoint damaged, then run to the end from step 20."""
  shutil.copytree(smallest / 'data', tmp_path / 'data')
  ok(command(*SMALLEST, f'--workdir={tmp_path}', '--stage=diffusion', '--config.diffusion.steps=30'))
  checkpoints = tmp_path / 'diffusion' / 'checkpoints'
  weights = max((checkpoints / '30' / 'state').rglob('*'), key=lambda path: path.stat().st_size)
  damage.flip(weights)
  resumed = ok(command(*SMALLEST, f'--workdir={tmp_path}', '--stage=diffusion'))
  assert f'{weights.name} is not what was written' in resumed.stderr
  assert 'resuming from step 20, 10 steps are taken again' in resumed.stderr
  assert {path.name for path in checkpoints.iterdir()} == {'20', '40', 'damaged'}
  ok(command(*SMALLEST, f'--workdir={tmp_path}', '--stage=sample'))

  def curve(folder):
    rows = read_metrics(folder / 'logs' / 'diffusion' / 'metrics.jsonl')
    return [
      {k: v for k, v in row.items() if k != 'img_per_s'}
      for row in rows
      if row['step'] != 20 or 'unet/loss' in row
    ]

  assert [r for r in curve(tmp_path) if 'unet/loss' in r] == [r for r in curve(smallest) if 'unet/loss' in r]
  for number in (1, 2):
    for file in sorted((smallest / 'synthetic' / f'round_{number}').glob('*.array_record*')):
      assert file.read_bytes() == (tmp_path / 'synthetic' / f'round_{number}' / file.name).read_bytes(), (
        file.name
      )


def test_a_changed_setting_is_refused_with_its_name(workdir, command_here):
  process = command_here(*SMALLEST, f'--workdir={workdir}', '--config.diffusion.learning_rate=0.5')
  assert process.returncode == 2
  assert 'config.diffusion.learning_rate: 0.001 there, 0.5 asked' in process.stderr


def test_a_class_count_that_does_not_fit_is_refused(workdir, command_here, tmp_path):
  """The data of the workdir was replaced by one of two classes."""
  shutil.copytree(workdir / 'diffusion', tmp_path / 'diffusion')
  for name in ('left', 'right'):
    (tmp_path / 'mine' / name).mkdir(parents=True)
    for i in range(10):
      Image.new('L', (20, 20), 10 * i).save(tmp_path / 'mine' / name / f'{i}.png')
  own = ('--config.data.source=image_folder', f'--config.data.path={tmp_path / "mine"}')
  ok(command_here(*SMALLEST, *own, f'--workdir={tmp_path}', '--stage=prepare'))
  process = command_here(
    *SMALLEST, *own, f'--workdir={tmp_path}', '--stage=diffusion', '--config.diffusion.steps=60'
  )
  assert process.returncode == 2
  assert 'trained on 6 classes' in process.stderr
  assert 'has 2 (left, right)' in process.stderr
  assert 'Traceback' not in process.stderr


@pytest.mark.slow
def test_real_planes_go_through_the_whole_flow(command, tmp_path, real_data):
  """60 unchanged images, one model: prepare, diffusion, sample, classify, report."""
  ok(
    command(
      *SMALLEST,
      f'--workdir={tmp_path}',
      '--config.data.source=fetal_planes_db',
      f'--config.data.path={real_data / "fetal_planes_sample_native.zip"}',
      '--config.data.split=official',
      '--config.classify.models=resnet50',
      '--config.classify.regimes=real,synth_r1_then_real',
    )
  )
  split = json.loads((tmp_path / 'data' / 'split.json').read_text())
  assert len(split['train']) + len(split['validation']) == 30
  assert len(split['test']) == 30
  assert split['shared_patients'] == 0
  images = np.load(tmp_path / 'data' / 'images.npy')
  assert images.shape == (60, 8, 8, 1)
  assert images.std() > 20
  assert (tmp_path / 'report' / 'index.html').is_file()


def test_synthetic_images_are_judged(workdir):
  """Beside the floor, the ceiling and fresh real images; and nothing but this split has trained anything."""
  results = read_json(workdir / 'evaluate' / 'results.json')
  split = read_json(workdir / 'data' / 'split.json')
  assert results['leakage']['split_hash'] == split['split_hash']
  assert results['leakage']['shared_patients'] == 0
  fidelity = {name: results['fidelity'][name]['overall'] for name in ('synthetic', 'real_train', 'noise')}
  # Of 2 rounds x 6 classes x 8 images as many as have the class shares of the test images; equally many of all sets.
  (taken,) = {row['n_fake'] for row in fidelity.values()}
  assert 30 < taken < 96
  assert results['judge_recall']['images'] == split['totals']['test']
  assert [one['space'] for one in results['two_sample']] == ['features', 'pixels']
  assert fidelity['real_train']['fid'] < min(fidelity['synthetic']['fid'], fidelity['noise']['fid'])
  assert fidelity['real_train']['coverage'] > fidelity['noise']['coverage']
  memorisation = results['memorisation']
  assert memorisation['n_synthetic'] == 96
  assert memorisation['copied'] in (None, False)  # a network of 40 steps copies nothing
  assert len(memorisation['spaces']['pixel']['pairs']) == 20
  assert sum(map(sum, results['agreement']['confusion'])) == 96
  with Image.open(workdir / 'evaluate' / 'pairs_pixel.png') as picture:
    assert picture.height > 20 * 8


@pytest.mark.slow
def test_a_finished_run_is_swept_and_a_sweep_goes_on(smallest, command, command_here, tmp_path):
  """Figures for every setting, the same noise in all, more settings later, and flags that are flags."""
  folder = tmp_path / 'run'
  shutil.copytree(smallest, folder)
  asked = [*SMALLEST, f'--workdir={folder}', '--stage=sweep', '--config.sweep.per_class=4']
  ok(command(*asked, '--config.sweep.scales=0,2', '--config.sweep.samplers=ddim:4'))
  results = read_json(folder / 'sweep' / 'results.json')
  assert list(results['settings']) == ['ancestral_4_scale_0', 'ancestral_4_scale_2', 'ddim_4_scale_0.5']
  for figures in results['settings'].values():
    assert figures['n_fake'] == 24
    assert (
      figures['fid'] > results['floor']['fid'] > 0
    )  # an untrained model's planes are further than real ones
    assert 0 <= figures['guide_accuracy'] <= 1
    assert 0 <= figures['classifier_accuracy'] <= 1
  one, other = (
    np.load(folder / 'sweep' / f'ancestral_4_scale_{s}.npy').astype(float)[..., 0] for s in (0, 2)
  )
  distances = np.abs(one[:, None] - other[None]).mean((2, 3))
  assert (distances.argmin(1) == np.arange(len(one))).all()  # an image is nearest to that of the same noise
  with Image.open(folder / 'sweep' / 'scales.png') as picture:
    assert picture.height > 2 * 8
  recommended = read_json(folder / 'sweep' / 'recommended.json')
  _, config = main.parse([*SMALLEST, f'--workdir={folder}', *recommended['flags']])
  assert config.sample.steps == recommended['steps'] == 4

  ok(command(*asked, '--config.sweep.scales=0', '--config.sweep.samplers=dpmpp_2m:3'))
  after = read_json(folder / 'sweep' / 'results.json')['settings']
  assert after == {**results['settings'], 'dpmpp_2m_3_scale_0.5': after['dpmpp_2m_3_scale_0.5']}
  refused = command_here(*SMALLEST, f'--workdir={folder}', '--stage=sweep', '--config.sweep.per_class=5')
  assert refused.returncode == 2
  assert 'of another images; delete' in refused.stderr
