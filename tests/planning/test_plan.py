"""The plan of a tiny run: what is exact is exact, sums are sums, and nothing is written."""

import ast
import collections
import dataclasses
import functools
import json
import os
import pathlib
import re

import jax
import numpy as np
import pytest
from helpers import tiny
from PIL import Image

from fetal_jax import main, networks
from fetal_jax.data import prepared
from fetal_jax.planning import images, machines, page, plan, stages
from fetal_jax.runtime.errors import UserError
from fetal_jax.train import classify_step, diffusion_step

MODEL = '--config.classify.models=resnet50'
CLASSES = 6


@pytest.fixture(scope='module')
def config():
  regimes = '--config.classify.regimes=real,synth_r1,synth_r12_then_real,synth_r1_kept'
  return tiny.make_config(MODEL, regimes, '--config.classify.num_seeds=2', '--config.dtype=float32')


@pytest.fixture(scope='module')
def made(config):
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(machines, 'measure_peak', lambda dtype: 1e11)
    return plan.make(config)


def real_states(config):
  """What training starts from, made as training makes it."""
  optimizers = diffusion_step.make_optimizers(config)
  init = functools.partial(
    diffusion_step.init_state,
    nets=networks.make_diffusion_networks(config, CLASSES),
    optimizers=optimizers,
    image_shape=(8, 8, 1),
    ema_rates=tuple(config.diffusion.ema_rates),
  )
  net = networks.make_classifier(config, 'resnet50', CLASSES)
  start = functools.partial(
    classify_step.init_state, net=net, optimizer=classify_step.optax.adam(1e-3), image_shape=(8, 8, 1)
  )
  return jax.eval_shape(init, jax.random.key(0)), jax.eval_shape(start, jax.random.key(0))


def find(config, workdir):
  keys = ('source', 'path', 'split', 'test_fraction', 'phantom_images', 'patients_csv')
  data = {key: config.data[key] for key in keys}
  return images.find(workdir, seed=config.seed, **data)


def numbers(tree) -> int:
  return sum(leaf.size for leaf in jax.tree.leaves(tree))


def bytes_of(tree) -> int:
  return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def test_parameters_and_states_are_those_of_training(config, made):
  diffusion, classifier = real_states(config)
  assert made.stages.parameters == {
    'unet': numbers(diffusion.params['unet']),
    'guide': numbers(diffusion.params['guide']),
    'resnet50': numbers(classifier.variables['params']),
  }
  trained, drawn, classified = made.stages.memories
  assert trained.state == bytes_of(diffusion)
  assert drawn.state == bytes_of(diffusion.params)
  assert classified.state == bytes_of(classifier)
  assert made.stages.disk['diffusion'] == 3 * trained.state  # two are kept while a third one is written
  weights = bytes_of(classifier.variables)
  assert (
    made.stages.disk['classify'] == 5 * 2 * weights
  )  # synth_r12, which one starts from, is trained as well


def test_every_stage_has_a_row_in_order(made):
  assert list(dict.fromkeys(work.stage for work in made.stages.works)) == list(main.FLOW)


UNITS = {
  's': 1, 'min': 60, 'h': 3600, 'days': 86_400, 'k': 1e3, 'M': 1e6, 'G': 1e9, 'T': 1e12, 'P': 1e15, 'E': 1e18,
  'KiB': 2**10, 'MiB': 2**20, 'GiB': 2**30,
}  # fmt: skip


def measure(said: str) -> float:
  """Reads `1.9 GiB`, `3.1 T` or `7 h 5 min`."""
  return sum(float(number) * UNITS[unit] for number, unit in re.findall(r'([\d.]+) (\w+)', said))


def test_the_sums_at_the_bottom_are_sums(made):
  lines = page.text(made).splitlines()
  time, disk = (re.split(' {2,}', line)[1:] for line in lines if line.startswith('all'))
  assert measure(time[0]) == pytest.approx(sum(work.cost().flops for work in made.stages.works), rel=0.01)
  for said, column in zip(time[1:], made.columns, strict=True):
    assert measure(said) == pytest.approx(sum(column.seconds), rel=0.05, abs=0.5)
    assert len(column.seconds) == len(made.stages.works)
  assert measure(disk[-1]) == pytest.approx(sum(made.stages.disk.values()), rel=0.05)


def test_drawing_grows_with_what_is_asked(config):
  """Twice the images cost twice as much; an interval of guidance lies between none and all of it."""
  nets = networks.make_diffusion_networks(config, CLASSES)
  x, t = np.zeros((1, 8, 8, 1), np.float32), np.zeros(1, np.int32)
  inputs = {'unet': (x, t, t), 'guide': (x, t)}
  params = {
    name: jax.eval_shape(net.init, jax.random.key(0), *inputs[name])['params'] for name, net in nets.items()
  }

  def flops(images, **settings) -> float:
    changed = config.copy_and_resolve_references()
    changed.sample.update(settings)
    return stages._sample(changed, nets, params, (8, 8, 1), images)[0].cost().flops

  guided = flops(96)
  assert flops(192) == pytest.approx(2 * guided)
  assert flops(96, guidance_scale=0.0) < flops(96, guidance_interval=(400, 1000)) < guided


def test_regimes_take_the_steps_that_training_takes(config):
  """round(images / batch) an epoch: 173 real and 48 synthetic a round, in batches of 16; validation is held out."""
  found = find(config, None)
  assert (found.train, found.validation, found.test) == (173, 19, 48)
  assert (found.classes, found.total) == (CLASSES, config.data.phantom_images)
  drawn = config.sample.rounds * config.sample.per_class * CLASSES
  lengths = {
    name: stages._length(config, name, found, drawn)
    for name in (
      'real',
      'synth_r1',
      'synth_r12_then_real',
      'synth_r1_plus_real',
      'synth_60',
      'synth_60_plus_real',
      'real_then_real',
    )
  }
  assert lengths == {
    'real': (11, 1),
    'synth_r1': (3, 1),
    'synth_r12_then_real': (11, 1),
    'synth_r1_plus_real': (14, 1),
    'synth_60': (4, 1),
    'synth_60_plus_real': (15, 1),
    'real_then_real': (6, 1),  # as many as on the 96 images of both rounds
  }


def test_what_does_not_fit_gets_advice(made):
  trained, column = made.stages.memories[0], made.columns[1]
  fits_in_four = (trained.state + column.activations[0] / 4) / page._FILL
  device = dataclasses.replace(column.device, name='1 x tiny', memory=fits_in_four)
  small = dataclasses.replace(made, columns=(made.columns[0], dataclasses.replace(column, device=device)))
  text = page.text(small)
  assert '! diffusion on 1 x tiny: --config.diffusion.microbatches=4, or' in text
  assert '!' not in page.text(made)


@pytest.mark.parametrize(
  ('devices', 'advice'),
  [
    (1, 'microbatches=6,'),
    (2, 'microbatches=6,'),
    (3, 'microbatches=8,'),
    (4, 'microbatches=6,'),
    (5, 'remat=true, and more devices'),
  ],
)
def test_advised_parts_divide_by_the_devices(devices, advice):
  """A batch of 24 that must be split in at least five: 24 / 6 images are one a device on four, and none on five."""
  memory = stages.Memory('diffusion', None, 0, batch=24, parts=1)
  assert page._remedy(memory, activations=5.0, room=1.0, devices=devices).startswith(
    f'--config.diffusion.{advice}'
  )


@pytest.mark.parametrize(
  ('arguments', 'total', 'origin'),
  [
    ((), 12_400, 'as published'),
    (('--config.data.path=nowhere.zip',), 12_400, 'as published, for nowhere.zip is missing'),
  ],
)
def test_images_that_are_not_there_are_those_published(arguments, total, origin):
  asked = ('--config.data.source=fetal_planes_db', '--config.data.split=official', *arguments)
  found = find(tiny.make_config(MODEL, *asked), None)
  assert (found.total, found.classes, found.test, found.origin) == (total, 6, 5271, origin)


def test_an_archive_is_split_as_it_will_be(real_data):
  """The counts of docs/results."""
  archive = real_data / 'fetal_planes_subset_256px.zip'
  asked = (
    '--config.data.source=fetal_planes_db',
    '--config.data.split=official',
    f'--config.data.path={archive}',
  )
  found = find(tiny.make_config(MODEL, *asked), None)
  assert (found.train, found.validation, found.test, found.classes) == (863, 96, 392, 6)


def test_images_are_counted_where_they_are(tmp_path):
  for name in ('left', 'right', 'up'):
    (tmp_path / 'mine' / name).mkdir(parents=True)
    for i in range(10):
      Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / 'mine' / name / f'{i}.png')
  asked = ('--config.data.source=image_folder', f'--config.data.path={tmp_path / "mine"}')
  found = find(tiny.make_config(MODEL, *asked), None)
  assert (found.total, found.classes, found.test) == (30, 3, 6)
  assert found.source_bytes == sum(path.stat().st_size for path in tmp_path.glob('mine/*/*.png'))
  with pytest.raises(UserError, match='no such folder'):
    find(tiny.make_config(MODEL, *asked[:1], '--config.data.path=nowhere'), None)


def test_unknown_patients_are_said(made, tmp_path):
  for name in ('left', 'right'):
    (tmp_path / 'mine' / name).mkdir(parents=True)
    for i in range(10):
      Image.new('L', (4, 4)).save(tmp_path / 'mine' / name / f'{i}.png')
  asked = ['--config.data.source=image_folder', f'--config.data.path={tmp_path / "mine"}']
  assert find(tiny.make_config(MODEL, *asked), None).of_unknown_patients == 20
  table = tmp_path / 'patients.csv'
  table.write_text('image,patient\nleft/1,Ann\nright/1,Ann\n')
  found = find(tiny.make_config(MODEL, *asked, f'--config.data.patients_csv={table}'), None)
  assert found.of_unknown_patients == 18
  (first, *_) = page._patients(found)
  assert first.startswith(
    'The patients of 18 of 20 images are unknown: whether somebody is in train and test at once'
  )
  assert page._patients(find(tiny.make_config(MODEL), None)) == []


def test_a_prepared_workdir_knows_its_images(config, tmp_path):
  totals = {'train': 60, 'validation': 15, 'test': 25}
  info = tiny.split_file(num_images=100, totals=totals, class_names=('a', 'b', 'c'))
  prepared.write_info(tmp_path, info)
  found = find(config, tmp_path)
  assert (found.train, found.validation, found.test, found.classes) == (60, 15, 25, 3)


def test_the_command_prints_it_and_writes_nothing(tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(machines, 'measure_peak', lambda dtype: 1e11)
  command = [*tiny.ARGUMENTS, MODEL, '--stage=plan']
  assert main.main([*command, '--workdir=run']) == 0
  said = capsys.readouterr().out
  assert said.count('Plan of smoke: 240 images (fetal_phantom, drawn) of 6 classes at 8 x 8 x 1:') == 1
  assert 'Estimates from shapes' in said
  assert '\x1b' not in said
  assert max(map(len, said.splitlines())) <= 120
  assert os.listdir(tmp_path) == []
  assert main.main([*command, '--config.data.source=image_folder', '--config.data.path=none']) == 2


COSTS = re.compile(r'^ +(w\d+) +([\d.]+) GiB +([\d.]+) h +([\d.]+) h +([\d.]+) h$', re.MULTILINE)


def said_costs(config: str) -> dict[str, list[float]]:
  """What a config's docstring says by network: GiB in training, hours of training, drawing and classifiers."""
  rows = COSTS.findall(ast.get_docstring(ast.parse(pathlib.Path(config).read_text()), clean=False))
  return {network: [float(value) for value in values] for network, *values in rows}


def planned_costs(text: str) -> tuple[list[float], float]:
  """The same of a printed plan, in its column H100; and the hours of MedMamba."""
  header, *rows = [re.split(' {2,}', line.replace('! ', '')) for line in text.splitlines() if '  ' in line]
  hours: dict[str, float] = collections.defaultdict(float)
  for stage, what, *cells in (row for row in rows if len(row) == len(header) + 1):
    hours[stage] += measure(cells[header[1:].index('1 x H100')]) / 3600
    if what.startswith('medmamba_t,'):
      hours['MedMamba'] += measure(cells[header[1:].index('1 x H100')]) / 3600
  titles, memory = (row for row in rows if row[0] in ('memory of a device', 'diffusion, batch 128'))
  gibibytes = measure(memory[titles.index('H100, 80 GiB')]) / 2**30
  return [gibibytes, hours['diffusion'], hours['sample'], hours['classify']], hours['MedMamba']


@pytest.mark.slow  # the networks at their full size are traced
@pytest.mark.parametrize('config', ['configs/paper.py', 'configs/fast.py'])
def test_docstrings_of_configs_say_what_the_plan_says(config, command):
  planned, medmamba = planned_costs(command(f'--config={config}', '--stage=plan').stdout)
  assert said_costs(config)['w128'] == pytest.approx(planned, rel=0.2)
  (said,) = re.findall(r'MedMamba takes (\d+) h', pathlib.Path(config).read_text())
  assert float(said) == pytest.approx(medmamba, rel=0.2)


@pytest.mark.slow
def test_the_docstring_of_the_wide_network_says_what_the_plan_says(command):
  few = ('--config.classify.models=()', '--config.classify.curve_models=()')  # classifiers are those of w128
  planned, _ = planned_costs(command('--config=configs/paper.py:w256', *few, '--stage=plan').stdout)
  said = said_costs('configs/paper.py')
  assert said['w256'][:3] == pytest.approx(planned[:3], rel=0.2)
  assert said['w256'][3] == said['w128'][3]


def test_docstrings_of_configs_have_a_row_for_each_network():
  assert {name: list(said_costs(f'configs/{name}.py')) for name in ('paper', 'fast')} == {
    'paper': ['w128', 'w256'],
    'fast': ['w128'],
  }


@pytest.mark.parametrize(
  ('config', 'network', 'batch', 'steps'),
  [('paper', 'w128', 256, 250), ('paper', 'w256', 128, 250), ('fast', 'w128', 256, 25)],
)
def test_what_docstrings_say_was_measured_was_measured(config, network, batch, steps):
  """60,000 images of so many steps, by benchmarks/results."""
  text = pathlib.Path(f'configs/{config}.py').read_text()
  said = dict(zip(('w128', 'w256'), re.findall(r'([\d.]+) h and ([\d.]+) GiB', text), strict=False))
  measured = json.loads(pathlib.Path('benchmarks/results/nvidia-h200.json').read_text())
  row = find_key(measured, f'{network} guided ancestral batch {batch}')
  hours, memory = (float(value) for value in said[network])
  assert hours == pytest.approx(60_000 * steps / row['image_steps_per_s'] / 3600, abs=0.06)
  assert memory == pytest.approx(row['memory']['total'] / 2**30, abs=0.06)


def find_key(tree, key):
  """The value of a key somewhere in nested dicts; None if it is nowhere."""
  if not isinstance(tree, dict):
    return None
  found = (find_key(value, key) for value in tree.values())
  return tree.get(key) or next((value for value in found if value), None)


def test_under_the_papers_protocol_all_but_the_test_images_train(config, made, monkeypatch):
  monkeypatch.setattr(machines, 'measure_peak', lambda dtype: 1e11)
  monkeypatch.setattr(stages, 'make', lambda config, images: made.stages)
  monkeypatch.setattr(plan, '_column', lambda stages, device: made.columns[0])
  paper = config.copy_and_resolve_references()
  paper.classify.protocol = 'paper'
  found = plan.make(paper)
  assert (found.images.train, found.images.validation, found.images.test) == (192, 0, 48)
  assert '\n192 train, none for validation, 48 test.\n' in page.text(found)


@pytest.mark.parametrize(
  ('stage', 'arguments', 'said'),
  [
    (
      'sample',
      ['--config=c.py', '--stage=sample', '--workdir=my runs'],
      "--config=c.py '--workdir=my runs' --stage=classify",
    ),
    ('prepare', ['--stage', 'prepare', '--config=c.py'], '--config=c.py --stage=diffusion'),
  ],
)
def test_the_next_command(stage, arguments, said):
  assert main._next_command(arguments, stage) == f'python -m fetal_jax.main {said}'
  assert main._next_command(arguments, 'report') == ''
  assert main._next_command(arguments, 'all') == ''
  assert main._next_command(arguments, 'sweep') == ''


def test_plan_is_among_the_stages_that_help_names(command):
  said = command('--help').stdout
  for stage in (*main.STAGES, 'plan'):
    assert f'\n  {stage} ' in said
