"""The guide's accuracy on held-out images, and previews, with functions that are easy to see through."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from fetal_jax.data.loader import Source
from fetal_jax.runtime import signals
from fetal_jax.runtime.devices import make_mesh
from fetal_jax.train import diffusion_actions


class Writer:
  def __init__(self):
    self.scalars, self.images = {}, {}

  def write_scalars(self, step, scalars):
    self.scalars[step] = dict(scalars)

  def write_images(self, step, images):
    self.images[step] = dict(images)


def test_accuracy_is_over_all_held_out_images(caplog):
  """Of five images in batches of two, those count whose label is 1: two of five, the padding left out."""
  labels = np.array([1, 0, 9, 0, 1, 0], np.int32)
  source = Source(np.zeros((6, 2, 2, 1), np.uint8), labels, np.array([0, 1, 3, 4, 5]))
  numbers = []

  def accuracy(params, batch, number):
    numbers.append(number)
    assert params == 'of the guide'
    mask = batch['mask'].astype(jnp.float32)
    pair = ((batch['labels'] == 1) @ mask, mask.sum())
    return {'guide/heldout_accuracy': pair} | {f'guide/heldout_accuracy_q{q}': pair for q in range(4)}

  writer = Writer()
  action = diffusion_actions.held_out_accuracy(accuracy, source, make_mesh(), writer, batch_size=2)
  with caplog.at_level('INFO', 'absl'):
    action(7, types.SimpleNamespace(params={'guide': 'of the guide'}))
  assert numbers == [0, 1, 2]
  np.testing.assert_allclose(writer.scalars[7]['guide/heldout_accuracy'], 0.4)
  assert 'step 7, held-out accuracy of the guide by quarter of t: 0.40 0.40 0.40 0.40' in caplog.text


def test_a_preview_has_a_row_a_class_of_the_averages(tmp_path):
  def sample(params, keys, labels):
    grey = params['unet'] + 50 * labels
    return jnp.broadcast_to(grey[:, None, None, None], (len(labels), 4, 4, 1)).astype(jnp.uint8)

  writer = Writer()
  draw = diffusion_actions.preview(
    sample,
    ('a', 'b', 'c'),
    make_mesh(),
    jax.random.key(0),
    writer,
    tmp_path / 'samples',
    per_class=2,
    guided=False,
  )
  draw(40, types.SimpleNamespace(ema=(jnp.asarray(20), jnp.asarray(0)), params={}))
  picture = Image.open(tmp_path / 'samples' / 'step_0000040.png')
  column = np.asarray(picture.convert('L'))[:, -3].tolist()  # through the last image of each class
  assert [grey for grey in dict.fromkeys(column) if grey in (20, 70, 120)] == [20, 70, 120]
  assert writer.images[40]['samples'].shape == (picture.height, picture.width, 3)


def test_the_guide_takes_part_where_previews_are_guided(tmp_path):
  seen = {}

  def sample(params, keys, labels):
    seen.update(dict.fromkeys(params))
    return jnp.zeros((len(labels), 4, 4, 1), jnp.uint8)

  arguments = (sample, ('a',), make_mesh(), jax.random.key(0), Writer(), tmp_path)
  draw = diffusion_actions.preview(*arguments, per_class=1, guided=True)
  draw(1, types.SimpleNamespace(ema=(jnp.zeros(()),), params={'guide': jnp.zeros(()), 'unet': jnp.zeros(())}))
  assert set(seen) == {'unet', 'guide'}


def test_previews_give_way_between_classes(monkeypatch, tmp_path):
  """Asked to stop within the second class, nothing is written and the third is not drawn; then all is drawn alike."""
  drawn = []

  def sample(params, keys, labels):
    jax.debug.callback(lambda labels: drawn.append(labels.tolist()), labels)
    noise = jax.vmap(lambda key: jax.random.uniform(key, (4, 4, 1)))(keys)
    return (255 * noise).astype(jnp.uint8)

  writer, state = Writer(), types.SimpleNamespace(ema=(jnp.zeros(()),), params={})
  draw = diffusion_actions.preview(
    sample, ('a', 'b', 'c'), make_mesh(), jax.random.key(0), writer, tmp_path, per_class=2, guided=False
  )
  draw(1, state)
  assert drawn == [[0, 0], [1, 1], [2, 2]]
  assert len(np.unique(writer.images[1]['samples'])) > 50  # no image is another's
  monkeypatch.setattr(signals, 'requested', lambda: len(drawn) == 5)
  with pytest.raises(signals.Stopped):
    draw(2, state)
  assert len(drawn) == 5
  assert [path.name for path in tmp_path.iterdir()] == ['step_0000001.png']
  assert list(writer.images) == [1]
