"""Order and contents of batches."""

import json

import numpy as np

from fetal_jax.data.loader import Source, evaluation_batches, gather, training_batches


def sources() -> list[Source]:
  images = np.arange(100, dtype=np.uint8).reshape(100, 1, 1, 1)
  labels = np.arange(100, dtype=np.int32)
  return [Source(images, labels, np.arange(10)), Source(images, labels, np.arange(50, 70), real=False)]


def test_every_image_comes_once_an_epoch_and_epochs_differ():
  batches = training_batches(sources(), batch_size=5, steps_per_call=2, seed=3)
  epochs = [np.concatenate([next(batches)['labels'].ravel() for _ in range(3)]) for _ in range(2)]
  expected = [*range(10), *range(50, 70)]
  assert sorted(epochs[0]) == expected
  assert sorted(epochs[1]) == expected
  assert (epochs[0] != epochs[1]).any()


def test_images_labels_and_real_belong_together():
  batch = next(training_batches(sources(), batch_size=6, steps_per_call=2, seed=0))
  assert batch['images'].shape == (2, 6, 1, 1, 1)
  np.testing.assert_array_equal(batch['images'][..., 0, 0, 0], batch['labels'])
  np.testing.assert_array_equal(batch['real'], batch['labels'] < 10)


def test_the_order_depends_on_the_seed_alone():
  first = [
    next(training_batches(sources(), batch_size=4, steps_per_call=1, seed=s))['labels'] for s in (1, 1, 2)
  ]
  np.testing.assert_array_equal(first[0], first[1])
  assert (first[0] != first[2]).any()


def test_the_position_goes_through_json():
  batches = training_batches(sources(), batch_size=4, steps_per_call=2, seed=3)
  for _ in range(9):  # beyond the first epoch
    next(batches)
  state = json.loads(json.dumps(batches.get_state()))
  expected = next(batches)
  again = training_batches(sources(), batch_size=4, steps_per_call=2, seed=3)
  again.set_state(state)
  np.testing.assert_array_equal(next(again)['labels'], expected['labels'])


def test_evaluation_sees_every_image_once_and_masks_the_padding():
  batches = evaluation_batches(sources()[1], batch_size=8)
  seen = np.concatenate([b['labels'][b['mask']] for b in batches])
  np.testing.assert_array_equal(seen, np.arange(50, 70))
  assert [len(b['labels']) for b in batches] == [8, 8, 8]


def test_gather_takes_any_shape_of_positions():
  batch = gather(sources(), np.array([[0, 10], [29, 9]]))
  np.testing.assert_array_equal(batch['labels'], [[0, 50], [69, 9]])
