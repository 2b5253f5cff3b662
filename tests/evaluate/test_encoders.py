"""Encoders: equal to what they claim to be, for any number of images."""

import json
import pathlib

import jax.numpy as jnp
import numpy as np
import pytest
from golden.golden_param import golden_param
from PIL import Image

from fetal_jax.evaluate import encoders
from fetal_jax.runtime.errors import UserError

GOLDEN = pathlib.Path(__file__).resolve().parent.parent / 'golden'


def random_images(n, *shape, seed=0):
  return np.random.default_rng(seed).integers(0, 256, (n, *shape), np.uint8)


def brightness(batch_size=4, image_shape=(6, 6, 1)):
  """An encoder whose two features are an image's mean and its first pixel times a weight of 3."""

  def apply(weight, images):
    x = images.astype(jnp.float32)
    return jnp.stack([x.mean((1, 2, 3)), weight * x[:, 0, 0, 0]], axis=1)

  return encoders.Encoder(
    'brightness', 'mean and a pixel', 2, apply, jnp.float32(3), image_shape, batch_size=batch_size
  )


@pytest.mark.parametrize('n', [0, 1, 4, 9])
def test_batches_are_padded_and_put_together_in_order(n, tmp_path):
  images = random_images(n, 6, 6, 1)
  np.save(tmp_path / 'images.npy', images)
  found = brightness()(np.load(tmp_path / 'images.npy', mmap_mode='r' if n else None))
  assert (found.shape, found.dtype) == ((n, 2), np.float32)
  np.testing.assert_allclose(found[:, 0], images.reshape(n, -1).mean(1) if n else [], rtol=1e-6)
  np.testing.assert_array_equal(found[:, 1], 3.0 * images[:, 0, 0, 0])
  # Another batch size is another program, whose mean may be summed in another order.
  np.testing.assert_allclose(found, brightness(batch_size=100)(images), rtol=1e-6)


def test_one_program_serves_all_batches():
  encoder, traced = brightness(), []
  apply = lambda variables, images: (traced.append(images.shape), encoder.apply(variables, images))[1]  # noqa: E731
  encoders.Encoder('counted', '', 2, apply, encoder.variables, batch_size=4)(random_images(11, 6, 6, 1))
  assert len(traced) == 1


@pytest.mark.parametrize(
  ('image_shape', 'images', 'said'),
  [
    ((6, 6, 1), random_images(2, 8, 8, 1), '8 x 8 x 1.* 6 x 6 x 1'),
    ((6, 6, 1), np.zeros((2, 6, 6, 1), np.float32), 'float32'),
    (None, random_images(2, 6, 6, 2), 'with 1 or 3 channels'),
    (None, random_images(2, 6, 3), 'uint8 6 x 3'),
  ],
)
def test_other_images_are_refused(image_shape, images, said):
  with pytest.raises(UserError, match=said):
    brightness(image_shape=image_shape)(images)


# Encoders from files


def read_golden(name):
  """The golden file, and the state dict that it was made with."""
  golden = np.load(GOLDEN / name)
  names, shapes = (map(str, golden[key]) for key in ('param_names', 'param_shapes'))
  salt, gain = int(golden['salt']), float(golden.get('conv_gain', 1.0))
  shapes = {name: tuple(json.loads(shape)) for name, shape in zip(names, shapes, strict=True)}
  return golden, {name: golden_param(name, shape, salt, gain) for name, shape in shapes.items()}


@pytest.mark.slow
def test_inception_equals_the_fid_network(tmp_path):
  golden, state_dict = read_golden('inception.npz')
  write_safetensors(tmp_path / 'inception.safetensors', state_dict)
  encoder = encoders.inception_encoder(tmp_path / 'inception.safetensors', batch_size=2)
  assert encoder.split_hash is None
  found, expected = encoder(golden['images']), golden['features']
  assert found.shape == (2, encoder.dim) == (2, 2048)
  tolerance = 1e-5 * np.abs(expected).max()
  np.testing.assert_allclose(found, expected, atol=tolerance, rtol=0)
  # torchvision's own network is far off: the alterations are there.
  assert np.abs(golden['unaltered'] - expected).max() > 1000 * tolerance


def test_inception_sees_grey_images_repeated(monkeypatch):
  """Up to rounding: one channel and three are two programs, whose sums a compiler may order differently."""
  monkeypatch.setattr(encoders.inception.InceptionV3, 'apply', lambda self, variables, x: x)
  grey = random_images(1, 5, 7, 1)
  seen = encoders.inception_features({}, grey)
  assert seen.shape == (1, 299, 299, 3)
  repeated = encoders.inception_features({}, np.repeat(grey, 3, axis=-1))
  np.testing.assert_allclose(seen, repeated, rtol=0, atol=2e-6)  # of values within [-1, 1]
  assert seen[0, 0, 0, 0] == pytest.approx(grey[0, 0, 0, 0] / 127.5 - 1, abs=1e-6)


def test_dinov2_equals_the_reference(tmp_path):
  golden, state_dict = read_golden('dinov2.npz')
  state_dict['pos_embed'] *= np.float32(100)  # as tests/golden/make_dinov2.py does
  write_safetensors(tmp_path / 'dinov2.safetensors', state_dict)
  encoder = encoders.dinov2_encoder(tmp_path / 'dinov2.safetensors', batch_size=2)
  assert encoder.description.startswith('class token of DINOv2 (2 blocks of 128 channels)')
  found = encoder(golden['images'])
  assert found.shape == (2, encoder.dim) == (2, 128)
  np.testing.assert_allclose(found, golden['features'], atol=2e-5, rtol=0)
  assert np.abs(golden['features'][0] - golden['features'][1]).max() > 1e-2


@pytest.mark.parametrize('shape', [(40, 64, 3), (300, 250, 1)])
def test_dinov2_sees_images_as_pillow_resizes_them(shape):
  image = random_images(1, *shape)[0]
  seen = encoders.dinov2_images(jnp.asarray(image[None]))[0]
  grey_levels = (seen * np.array([0.229, 0.224, 0.225]) + np.array([0.485, 0.456, 0.406])) * 255
  # In two steps: which one Pillow itself takes first depends on its version and on the sizes.
  narrow = Image.fromarray(image.squeeze()).resize((224, shape[0]), Image.Resampling.BICUBIC)
  expected = np.asarray(narrow.resize((224, 224), Image.Resampling.BICUBIC))
  difference = np.abs(grey_levels - expected.reshape(224, 224, -1))
  assert difference.max() < 2.5
  assert (difference > 0.5).mean() < 0.01


def test_files_with_other_weights_are_named(tmp_path):
  path = tmp_path / 'weights.safetensors'
  write_safetensors(path, {'conv1.weight': np.zeros((2, 3), np.float32)})
  with pytest.raises(UserError, match=r'^\S+weights.safetensors: PyTorch weights do not fit'):
    encoders.inception_encoder(path)
  with pytest.raises(UserError, match=r'^\S+weights.safetensors: not the weights of a DINOv2'):
    encoders.dinov2_encoder(path)
  with pytest.raises(UserError, match='nowhere'):
    encoders.inception_encoder(tmp_path / 'nowhere.pth')


def write_safetensors(path, arrays):
  """float32 arrays by name, as https://huggingface.co/docs/safetensors describes the format."""
  header, end = {}, 0
  for name, array in arrays.items():
    header[name] = {'dtype': 'F32', 'shape': array.shape, 'data_offsets': [end, end := end + array.nbytes]}
  text = json.dumps(header).encode()
  with open(path, 'wb') as f:
    f.write(len(text).to_bytes(8, 'little') + text)
    for array in arrays.values():
      f.write(array.astype('<f4').tobytes())
