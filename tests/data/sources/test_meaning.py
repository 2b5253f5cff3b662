"""What names mean to the owner of a folder."""

import pytest

from fetal_jax.data.sources import meaning


@pytest.mark.parametrize(
  'name',
  ['train', 'Training', 'training_set', 'trainset', 'test set', 'TestImages', 'val', 'validation-data', 'train_images',
   'testing2', 'Dev', 'train_dataset_1', 'my_test_set', 'TRAIN', 'eval', 'trainingData', 'train-val', 'fold_2'],
)  # fmt: skip
def test_names_of_sides(name):
  assert meaning.is_side(name)
  assert not meaning.is_masks(name)


def test_names_of_the_test_side():
  names = ['test', 'TestImages', 'my_test_set', 'holdout', 'eval', 'train', 'val', 'dev', 'fold_2', 'testis']
  assert [name for name in names if meaning.is_test_side(name)] == [
    'test', 'TestImages', 'my_test_set', 'holdout', 'eval'
  ]  # fmt: skip


@pytest.mark.parametrize(
  'name',
  ['masks', 'Mask', 'train_masks', 'Ground Truth', 'ground_truth', 'GroundTruth', 'labels', 'segmentations', 'GT',
   'test_labels', 'mask_images', 'annotations', 'MaskImages'],
)  # fmt: skip
def test_names_of_masks(name):
  assert meaning.is_masks(name)
  assert not meaning.is_side(name)


@pytest.mark.parametrize(
  'name',
  ['normal', 'brain', 'testis', 'trainer', 'label_1', 'label 2', 'class_0', 'test_positive', 'contrast', 'valve',
   'images', 'latest', 'unmasked', 'Maternal cervix', '1', 'data', 'developing brain', 'seg_2', 'протест', '試験'],
)  # fmt: skip
def test_names_of_classes(name):
  assert not meaning.is_side(name)
  assert not meaning.is_masks(name)


@pytest.mark.parametrize(
  ('names', 'masks'),
  [
    (
      ['benign (1)', 'benign (1)_mask', 'benign (1)_mask_1', 'benign (2)'],
      ['benign (1)_mask', 'benign (1)_mask_1'],
    ),
    (['000_HC', '000_HC_Annotation', '001_HC'], ['000_HC_Annotation']),
    (['img_1', 'mask_1', 'mask_2'], ['mask_1']),
    (['x_image', 'x_mask', 'y.seg', 'y'], ['x_mask', 'y.seg']),
    (['scanMask', 'scan', 'scan2'], ['scanMask']),
    (['seg_3', 'seg_4', 'label 1'], []),  # masks of nothing that is there
    (['a', 'b', 'masked_a', 'damask'], []),
    (['1', '1_GT', '11_gt'], ['1_GT']),
  ],
)
def test_masks_lie_beside_their_images(names, masks):
  assert meaning.masks_among(names) == set(masks)


@pytest.mark.parametrize(
  ('classes', 'sides'),
  [
    ({'train': [], 'test': []}, ['train', 'test']),
    ({'training_set': ['a', 'b'], 'test_set': ['a', 'b'], 'masks': []}, ['training_set', 'test_set']),
    ({'normal': [], 'lesion': [], 'test': ['Normal', 'lesion']}, ['test']),
    ({'normal': [], 'lesion': [], 'test': ['scan_7']}, []),
    ({'normal': ['a'], 'lesion': ['a']}, []),
  ],
)
def test_sides_of_a_split(classes, sides):
  assert meaning.sides_among(classes) == sides
