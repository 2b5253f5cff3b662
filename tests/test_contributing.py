"""CONTRIBUTING.md's worked examples work, and name every place that such an addition has to touch."""

import dataclasses
import importlib
import pathlib
import re
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fetal_jax import main, models, networks
from fetal_jax.config import checks, settings
from fetal_jax.data import prepare, prepared, sources
from fetal_jax.diffusion import gaussian, samplers, schedule
from fetal_jax.runtime.devices import make_mesh, put_batch
from fetal_jax.train import classify_step

ROOT = pathlib.Path(__file__).resolve().parent.parent
TEXT = (ROOT / 'CONTRIBUTING.md').read_text(encoding='utf-8')
SMOKE = [f'--config={ROOT / "configs" / "smoke.py"}', '--workdir=unused']
# `# the/file.py` and the code that goes into it.
EXAMPLES = dict(re.findall(r'```python\n# (\S+)\n(.*?)```', TEXT, re.DOTALL))


def section(title):
  """The text under a heading."""
  return re.split(r'^## ', TEXT.partition(f'## {title}\n')[2], flags=re.MULTILINE)[0]


@pytest.mark.parametrize('title', ['Follow one image', 'Follow one setting', 'Follow one verdict'])
def test_a_walk_has_at_most_eight_steps(title):
  """Each begins with a file and what to read in it; tests/test_docs.py checks that these exist."""
  walk = re.split(r'^##', TEXT.partition(f'### {title}\n')[2], flags=re.MULTILINE)[0]
  steps = re.findall(r'^\d\. (.+)$', walk, re.MULTILINE)
  assert 3 <= len(steps) <= 8
  assert all(re.match(r'`fetal_jax/[\w/]+\.py`: `\w+`', step) for step in steps)


@pytest.mark.parametrize('file', EXAMPLES)
def test_examples_are_short(file):
  lines = [
    line for line in EXAMPLES[file].splitlines() if line.strip() and not line.startswith(('import', 'from'))
  ]
  assert 1 < len(lines) < 30


@pytest.mark.parametrize(
  ('title', 'neighbour'),
  [('Add a classifier', 'densenet169'), ('Add a sampler', 'dpmpp_2m'), ('Add a data set', 'fetal_phantom')],
)
def test_every_place_is_named(title, neighbour):
  """Wherever the code has the name of what is there already, the page says what to do."""
  for path in sorted((ROOT / 'fetal_jax').rglob('*.py')):
    code = re.sub(r'""".*?"""', '', path.read_text(encoding='utf-8'), flags=re.DOTALL)
    if re.search(rf"(?<!_refuse\()'{neighbour}'|\b{neighbour}=_d\(", code):
      name = path.relative_to(ROOT).as_posix()
      assert name in section(title) or f'{path.parent.relative_to(ROOT).as_posix()}/`' in section(title), name


def test_the_classifier_learns(monkeypatch):
  """Bright against dark, through the project's own training step."""
  scope = {'__name__': 'plain_cnn'}
  exec(EXAMPLES['fetal_jax/models/plain_cnn.py'], scope)
  monkeypatch.setitem(models.MODELS, 'plain_cnn', scope['PlainCNN'])
  config = main.parse(SMOKE)[1]
  with config.unlocked():
    config.classify.model_args.plain_cnn = {'width': 4}
  config.classify.models = ('plain_cnn',)
  main.check(config)

  mesh = make_mesh()
  net = networks.make_classifier(config, 'plain_cnn', 2)
  task = classify_step.make_task(
    'plain_cnn',
    net,
    (16, 16, 1),
    mesh,
    learning_rate=0.02,
    mean=0.449,
    std=0.226,
    rotation_degrees=30.0,
    flips=True,
  )
  labels = np.arange(8, dtype=np.int32) % 2
  images = np.random.default_rng(0).integers(0, 100, (8, 16, 16, 1)) + 150 * labels[:, None, None, None]
  batch = {'images': images.astype(np.uint8)[None], 'labels': labels[None], 'real': np.ones((1, 8), bool)}
  state, losses = task.init(jax.random.key(0)), []
  for _ in range(20):
    state, sums = task.update(state, put_batch(mesh, batch, axis=1), jax.random.key(1))
    losses.append(float(sums['loss'][0]))
  assert losses[-1] < 0.5 * losses[0]
  assert (np.asarray(task.probabilities(state.variables, batch['images'][0])).argmax(1) == labels).all()


def test_the_sampler_finds_the_image():
  """A model that knows the noise leads to its image, whatever the noise of the steps."""
  scope = dict(vars(samplers))
  exec(EXAMPLES['fetal_jax/diffusion/samplers.py'], scope)
  process = schedule.make_process('linear', 1000, 20)
  image = jnp.linspace(-0.9, 0.9, 2 * 16).reshape(2, 4, 4, 1)
  index = {int(t): i for i, t in enumerate(process.timesteps)}

  def model(x, t):
    at = jnp.asarray([index.get(i, 0) for i in range(1000)])[t]
    return gaussian.predict_eps_from_x0(process, x, at, image)

  def noise(i):
    return jax.random.normal(jax.random.fold_in(jax.random.key(0), i), image.shape)

  def renoise(**settings):
    return scope['renoise'](samplers.Reverse(process, model, noise, **settings), noise(99))

  found = renoise()
  np.testing.assert_allclose(found, image, atol=1e-4)
  pushed = renoise(guidance=lambda x, t: jnp.ones_like(x), guidance_scale=2.0)
  assert (np.asarray(pushed) > np.asarray(found)).all()


def test_the_data_set_is_prepared(tmp_path, monkeypatch):
  """From the .npz file to the cache that the later stages read."""
  package = tmp_path / 'contributed'
  package.mkdir()
  (package / '__init__.py').touch()
  (package / 'arrays.py').write_text(EXAMPLES['fetal_jax/data/arrays.py'], encoding='utf-8')
  monkeypatch.syspath_prepend(tmp_path)
  monkeypatch.setitem(sys.modules, 'fetal_jax.data.arrays', importlib.import_module('contributed.arrays'))
  monkeypatch.setattr(sources, 'SOURCES', dict(sources.SOURCES))
  exec(
    EXAMPLES['fetal_jax/data/sources/__init__.py'], vars(sources) | (scope := {'SOURCES': sources.SOURCES})
  )
  # The table of settings as the text says to change it.
  rows = {row.name: row for row in settings.SETTINGS}
  rows['data.source'] = dataclasses.replace(
    rows['data.source'], allowed=settings.one_of('fetal_phantom', 'arrays')
  )
  rows['data.path'] = dataclasses.replace(rows['data.path'], only={'data.source': ('arrays',)})
  for module in (settings, checks):
    monkeypatch.setattr(module, 'SETTINGS', tuple(rows.values()))
  assert scope['SOURCES']['arrays']

  images = np.random.default_rng(0).integers(0, 256, (40, 16, 16), np.uint8)
  labels, patients = np.arange(40) % 2, np.arange(40) // 4
  np.savez(
    tmp_path / 'mine.npz', images=images, labels=labels, patients=patients, class_names=['left', 'right']
  )
  config = main.parse(SMOKE)[1]
  config.data.update(source='arrays', path=str(tmp_path / 'mine.npz'), split='patient')
  prepare.run(config, tmp_path / 'run')
  data = prepared.load(tmp_path / 'run')
  np.testing.assert_array_equal(data.images[..., 0], images)
  assert data.records.class_names == ('left', 'right')
  assert data.records.patients.tolist() == [str(p) for p in patients]
  assert data.info.shared_patients == 0
