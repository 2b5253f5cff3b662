"""The evaluate stage: which images speak, and what the judge sees in them."""

import ml_collections
import numpy as np
import pytest
from helpers import fake_workdir
from helpers.prepared import CLASSES, six_images, unknown

from fetal_jax.evaluate import pixel_baselines, results
from fetal_jax.evaluate import stage as evaluate_stage


def test_agreement_counts_what_the_judge_sees_instead():
  labels, judged = np.array([0, 0, 0, 1]), np.array([0, 1, 0, 1])
  found = evaluate_stage.agreement(labels, judged, CLASSES)
  assert found.accuracy == 0.75
  assert found.per_class == {'a': pytest.approx(2 / 3), 'b': 1.0}
  assert found.confusion == [[2, 1], [0, 1]]


def test_without_rounds_raw_pixels_are_judged_all_the_same(tmp_path, caplog):
  fake_workdir.make(tmp_path, models=(), rounds=0, num_images=60, image_size=8)
  pixel_baselines.path(tmp_path).unlink()
  config = ml_collections.ConfigDict({'classify': {'protocol': 'honest'}, 'evaluate': {}})
  assert evaluate_stage.run(config, tmp_path)
  assert len(pixel_baselines.read(tmp_path).baselines) == 4
  assert not results.path(tmp_path).exists()
  assert 'no finished synthetic round to judge; run --stage=sample' in caplog.text
  assert not evaluate_stage.run(config, tmp_path)


def test_held_out_patients_that_the_generator_never_saw_speak_where_there_are_enough(monkeypatch):
  data = six_images('abccad', 'paper')  # test images 4 and 5, of a (seen in training) and of d
  images, unseen = evaluate_stage.unseen_side(data)
  assert (images.tolist(), unseen) == ([4, 5], False)
  monkeypatch.setattr(evaluate_stage, '_ENOUGH_UNSEEN', 1)
  images, unseen = evaluate_stage.unseen_side(data)
  assert (images.tolist(), unseen) == ([5], True)


def test_whom_the_generator_saw_is_not_known_where_a_patient_is_not():
  images, unseen = evaluate_stage.unseen_side(unknown(six_images('aabbcc'), 'image0'))
  assert (images.tolist(), unseen) == ([4, 5], None)
