"""The drawn data set: who is in it, what the images look like, and that TFDS gives them back."""

import collections
import hashlib
import io
import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import RidgeClassifier
from sklearn.metrics import balanced_accuracy_score

from fetal_jax.data.sources.fetal_phantom import CLASS_NAMES, beam, cohort, draw, phantom_records
from fetal_jax.data.sources.fetal_phantom.canvas import Canvas, Fan, Frame, stretch
from fetal_jax.data.sources.fetal_phantom.draw import MACHINES
from fetal_jax.data.sources.fetal_phantom.records import draw_record
from fetal_jax.runtime.errors import UserError


def digests(images: int, seed: int = 0) -> list[str]:
  return [hashlib.sha256(record.image.tobytes()).hexdigest() for record in phantom_records(images, seed)]


# The cohort.


def test_class_counts_are_those_of_table_1():
  labels = cohort.labels_in_order(12_400)
  assert np.bincount(labels).tolist() == [711, 3092, 1040, 1718, 1626, 4213]
  assert np.bincount(labels[:1240]).tolist() == [71, 309, 104, 172, 163, 421]


@pytest.mark.parametrize('images', [1, 5, 6, 24, 60, 333])
def test_small_sets_have_every_class(images):
  counts = np.bincount(cohort.labels_in_order(images), minlength=6)
  assert counts.sum() == images
  assert counts.min() >= min(images // 6, 4)


def test_larger_plan_begins_with_the_smaller():
  assert cohort.plan(200, seed=3) == cohort.plan(900, seed=3)[:200]
  assert cohort.plan(50, seed=3) != cohort.plan(50, seed=4)


def test_patients_are_like_those_of_the_real_data():
  plan = cohort.plan(6000)
  of_patient = np.array(list(collections.Counter(plane.patient.number for plane in plan).values()))
  assert 6 < of_patient.mean() < 8  # the real ones: 6.9
  assert 3 <= np.median(of_patient) <= 5  # 4
  assert of_patient.max() > 30  # 88
  assert len({plane.name for plane in plan}) == len(plan)
  classes = collections.defaultdict(set)
  for plane in plan:
    classes[plane.patient.number].add(plane.label)
  assert {len(labels) for labels in classes.values()} >= {1, 2, 3, 4}
  machines = collections.Counter(plane.patient.machine for plane in plan)
  for machine, share in {'Voluson E6': 0.473, 'Aloka': 0.412, 'Voluson S10': 0.087, 'Other': 0.028}.items():
    assert abs(machines[machine] / len(plan) - share) < 0.05
  brains = [plane.brain_plane for plane in plan if CLASS_NAMES[plane.label] == 'brain']
  assert set(brains) == set(cohort.BRAIN_PLANES)
  assert all(plane.brain_plane == '' for plane in plan if CLASS_NAMES[plane.label] != 'brain')


@pytest.mark.parametrize('seed', [0, 1, 2])
def test_official_split_is_by_patient_with_the_real_share(seed):
  plan = cohort.plan(1240, seed)
  train = {plane.patient.number for plane in plan if plane.patient.official_train}
  test = {plane.patient.number for plane in plan if not plane.patient.official_train}
  assert not train & test
  assert 0.47 < np.mean([plane.patient.official_train for plane in plan]) < 0.67  # the real one: 0.575
  assert not any(plane.patient.official_train for plane in plan if plane.patient.machine == 'Voluson S10')


def test_traits_belong_to_the_patient():
  plan = cohort.plan(600, seed=1)
  by_number = {plane.patient.number: plane.patient for plane in plan}
  assert all(plane.patient == by_number[plane.patient.number] for plane in plan)
  assert all(patient == cohort.draw_patient(1, number) for number, patient in by_number.items())
  assert cohort.draw_patient(1, 17) != cohort.draw_patient(2, 17)


# The images.


def test_image_does_not_depend_on_what_was_drawn_before():
  shorter = digests(12)
  assert digests(30)[:12] == shorter
  record = draw_record(cohort.plan(40)[9])
  assert hashlib.sha256(record.image.tobytes()).hexdigest() == shorter[9]


def test_another_process_draws_the_same():
  program = (
    'import hashlib, json\n'
    'from fetal_jax.data.sources.fetal_phantom import phantom_records\n'
    'print(json.dumps([hashlib.sha256(r.image.tobytes()).hexdigest() for r in phantom_records(8, 5)]))'
  )
  out = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True, check=True)
  assert json.loads(out.stdout) == digests(8, 5)


@pytest.mark.parametrize('machine', list(MACHINES))
@pytest.mark.parametrize('label', CLASS_NAMES)
def test_every_class_on_every_machine(machine, label):
  patient = next(p for p in (cohort.draw_patient(0, n) for n in range(1, 400)) if p.machine == machine)
  image = draw(label, patient, np.random.default_rng(1), brain_plane='Trans-thalamic', size=160)
  assert image.dtype == np.uint8
  assert image.shape == (round(160 * MACHINES[machine].aspect), 160)
  assert 5 < image.mean() < 130
  assert image.max() > 100


def test_images_of_one_plane_differ():
  patient = cohort.draw_patient(0, 3)
  first, second = (draw('abdomen', patient, np.random.default_rng(seed)).astype(float) for seed in (1, 2))
  assert np.abs(first - second).mean() > 5


def test_size_sets_the_width():
  patient = cohort.draw_patient(0, 1)
  assert draw('femur', patient, np.random.default_rng(0), size=64).shape[1] == 64


def test_brain_planes_differ():
  patient = cohort.draw_patient(0, 3)
  images = [
    draw('brain', patient, np.random.default_rng(7), brain_plane=plane) for plane in cohort.BRAIN_PLANES
  ]
  assert len({image.tobytes() for image in images}) == len(images)


def test_black_outside_the_fan():
  fan = Fan(radius=5.0, half_angle=0.5, near=0.0, far=10.0)
  image = beam.scan_convert(np.ones((64, 80), np.float32), fan, (-7.0, 7.0, -0.5, 10.0), (105, 141))
  y, x = np.mgrid[-0.5:10:105j, -7:7:141j]
  angle, depth = np.abs(np.arctan2(x, y + 5)), np.hypot(x, y + 5) - 5
  assert (image[(angle > 0.51) | (depth < -0.05) | (depth > 10.05)] == 0).all()
  assert (image[(angle < 0.49) & (depth > 0.05) & (depth < 9.95)] == 255).all()


# The physics that is imitated.


def tissue(fan: Fan, rng: np.random.Generator, level: float = -20.0) -> Canvas:
  canvas = Canvas(fan, rng, 112, 144)
  canvas.level[:] = level
  return canvas


def insonify(canvas: Canvas, rng: np.random.Generator) -> np.ndarray:
  still = {'haze': -200.0, 'noise': -200.0, 'attenuation': 0.0, 'contact': 0.0}
  return beam.echo(canvas, rng, axial=0.8, near=0.7, far=1.5, **still)


def test_even_tissue_gives_rayleigh_speckle_of_its_level():
  rng = np.random.default_rng(0)
  fan = Fan(5.0, 0.6, 0.0, 10.0)
  amplitude = np.concatenate([10 ** (insonify(tissue(fan, rng), rng) / 20) for _ in range(12)])
  # Mean over standard deviation of a Rayleigh variable: sqrt(pi / (4 - pi)) = 1.913.
  assert abs(amplitude.mean() / amplitude.std() - 1.913) < 0.04
  assert abs(10 * np.log10((amplitude**2).mean() / 2) - -20.0) < 0.3


def test_speckle_widens_with_depth_and_is_wider_across_than_along():
  rng = np.random.default_rng(1)
  fan, size = Fan(5.0, 0.5, 0.0, 10.0), 10.0

  def width(image: np.ndarray, axis: int) -> float:
    """Lag in pixels at which the autocorrelation has fallen to a half."""
    image = np.moveaxis(image - image.mean(), axis, 0)
    lags = np.arange(1, 12)
    correlation = [(image[lag:] * image[:-lag]).mean() / image.var() for lag in lags]
    assert min(correlation) < 0.5 < max(correlation)
    return np.interp(-0.5, -np.minimum.accumulate(correlation), lags)

  grey = beam.compress(insonify(tissue(fan, rng), rng), gain=0.0, dynamic_range=60.0, gamma=1.0)
  image = beam.scan_convert(grey, fan, (-2.0, 2.0, 0.0, size), (400, 160)).astype(float)  # 0.025 cm a pixel
  shallow, deep = image[20:120], image[280:380]
  assert width(deep, 1) > 1.5 * width(deep, 0)
  assert width(deep, 1) > 1.5 * width(shallow, 1)


def test_bone_throws_a_shadow_and_fluid_brightens():
  rng = np.random.default_rng(2)
  fan = Fan(5.0, 0.5, 0.0, 10.0)
  canvas = tissue(fan, rng)
  frame = Frame(canvas, 0.0, 4.0, 1.0, 0.0, bend=0.0)
  canvas.line(frame.segment((-0.8, 0), (0.8, 0)), 0.0, 0.1, shadow=20.0)
  middle, side = slice(52, 60), slice(0, 12)
  below = slice(90, 140)
  decibels = insonify(canvas, rng)
  assert decibels[middle, 55:60].max() > decibels[middle, 20:50].mean() + 10
  assert 14 < decibels[side, below].mean() - decibels[middle, below].mean() < 26

  canvas = tissue(fan, rng)
  frame = Frame(canvas, 0.0, 4.0, 1.5, 0.0, bend=0.0)
  canvas.fill(frame.ellipse(0, 0, 1, 1), -74.0, attenuation=-2.0)
  decibels = insonify(canvas, rng)
  assert decibels[middle, 50:65].mean() < decibels[side, 50:65].mean() - 30
  assert decibels[middle, below].mean() > decibels[side, below].mean() + 3


def test_surface_across_the_beam_is_brighter_than_along():
  canvas = tissue(Fan(5.0, 0.5, 0.0, 10.0), np.random.default_rng(3), level=-80.0)
  frame = Frame(canvas, 0.0, 5.0, 2.0, 0.0, bend=0.0)
  canvas.line(frame.ellipse(0, 0, 1, 1), 0.0, 0.1, floor=0.1)
  top = (np.abs(canvas.x) < 0.2) & (np.abs(canvas.y - 3) < 0.2)
  flank = (np.abs(canvas.x - 2) < 0.2) & (np.abs(canvas.y - 5) < 0.2)
  assert canvas.reflector[top].max() > 3 * canvas.reflector[flank].max() > 0


def test_shapes_are_where_they_should_be():
  canvas = tissue(Fan(5.0, 0.5, 0.0, 10.0), np.random.default_rng(4))
  frame = Frame(canvas, 1.0, 5.0, 2.0, 0.3, bend=0.0)
  circle = frame.ellipse(0, 0, 0.5, 0.5)
  exact = np.hypot(canvas.x - 1, canvas.y - 5) - 1.0
  np.testing.assert_allclose(circle.distance, exact[circle.box], atol=1e-4)
  outside = np.ones(canvas.x.shape, bool)
  outside[circle.box] = False
  assert exact[outside].min() > 0.3  # nothing of it lies beyond its box


def test_stretch_is_linear_interpolation():
  coarse = np.array([[0, 3], [4, 3], [8, 3]], np.float32)
  np.testing.assert_allclose(stretch(coarse, 9), np.stack([np.arange(9), np.full(9, 3)], 1), atol=1e-6)


# What it is for.


def test_classes_can_be_told_apart_but_not_trivially():
  records = list(phantom_records(400, seed=0, size=64))
  pixels = np.array(
    [
      np.asarray(Image.fromarray(record.image).resize((16, 16), Image.Resampling.BOX)).ravel()
      for record in records
    ]
  )
  labels = np.array([record.plane.label for record in records])
  train = np.array([record.plane.patient.official_train for record in records])
  model = RidgeClassifier(alpha=30.0, class_weight='balanced').fit(pixels[train] / 64 - 1, labels[train])
  accuracy = balanced_accuracy_score(labels[~train], model.predict(pixels[~train] / 64 - 1))
  assert 1 / 6 + 0.2 < accuracy < 0.9


# The builder.


def test_builder_gives_back_the_drawings_without_tensorflow(tmp_path):
  program = f"""
import sys
from fetal_jax.data.sources.fetal_phantom.fetal_phantom_dataset_builder import FetalPhantom
builder = FetalPhantom(data_dir={str(tmp_path)!r}, images=10, seed=2, size=64)
builder.download_and_prepare()
assert len(builder.as_data_source(split='train')) == 10
assert not any(name.split('.')[0] == 'tensorflow' for name in sys.modules)
"""
  subprocess.run([sys.executable, '-c', program], check=True, capture_output=True)
  import tensorflow_datasets as tfds

  from fetal_jax.data.sources.fetal_phantom.fetal_phantom_dataset_builder import FetalPhantom

  builder = FetalPhantom(data_dir=tmp_path, images=10, seed=2, size=64)
  assert tuple(builder.info.features['label'].names) == CLASS_NAMES
  source = builder.as_data_source(split='train', decoders={'image': tfds.decode.SkipDecoding()})
  records = list(phantom_records(10, seed=2, size=64))
  for example, record in zip(source, records, strict=True):
    plane, patient = record.plane, record.plane.patient
    with Image.open(io.BytesIO(example['image'])) as image:
      assert image.mode == 'L'
      np.testing.assert_array_equal(np.asarray(image), record.image)
    assert (example['label'], example['name'].decode()) == (plane.label, plane.name)
    assert example['patient'].decode() == str(patient.number)
    assert example['brain_plane'].decode() == plane.brain_plane
    assert (example['operator'].decode(), example['machine'].decode()) == (patient.operator, patient.machine)
    assert example['official_train'] == patient.official_train


def test_settings_never_share_a_folder(tmp_path):
  from fetal_jax.data.sources.fetal_phantom.fetal_phantom_dataset_builder import FetalPhantom

  settings = ({}, {'images': 20}, {'seed': 1}, {'size': 96})
  assert len({FetalPhantom(data_dir=tmp_path, **setting).data_dir for setting in settings}) == 4


@pytest.mark.parametrize('setting', [{'images': 0}, {'seed': -1}, {'size': 8}])
def test_impossible_settings_are_refused(tmp_path, setting):
  from fetal_jax.data.sources.fetal_phantom.fetal_phantom_dataset_builder import FetalPhantom

  with pytest.raises(UserError, match=next(iter(setting))):
    FetalPhantom(data_dir=tmp_path, **setting)
