"""What the names in a folder mean to its owner: a class, a side of a split, or masks that are drawn over the images.

Names are guessed at only to refuse, to count or to ask; an image is never moved to another class by its name.
"""

import re
from collections.abc import Collection, Iterable, Mapping

_SIDES = {'train', 'training', 'val', 'valid', 'validation', 'dev', 'development', 'test', 'testing', 'eval', 'evaluation', 'holdout', 'fold'}  # fmt: skip
_MASKS = {'mask', 'masks', 'seg', 'segmentation', 'segmentations', 'annotation', 'annotations', 'annotated', 'annot', 'groundtruth', 'gt', 'label', 'labels', 'overlay', 'overlays', 'contour', 'contours', 'bbox', 'heatmap', 'heatmaps'}  # fmt: skip
# Say nothing beside such a word.
_FILLERS = {'set', 'sets', 'data', 'dataset', 'datasets', 'image', 'images', 'img', 'imgs', 'pic', 'pics', 'picture', 'pictures', 'folder', 'split', 'splits', 'sample', 'samples', 'ground', 'truth', 'the', 'my', 'us', 'raw', 'file', 'files', 'new', 'final'}  # fmt: skip


def _parts(name: str) -> list[str]:
  """Returns the words and the numbers of a name, in order and in lower case."""
  return re.findall(r'[^\W\d_]+|\d+', re.sub(r'(?<=[a-z])(?=[A-Z])', ' ', name).lower())


_JOINED = re.compile(rf'({"|".join(_SIDES | _MASKS)})({"|".join(_FILLERS)})')  # `trainset`


def _words(name: str) -> list[str]:
  """Returns the words of a name without its numbers: `Training_Set2`, `trainingSet` and `trainingset`: training, set."""
  found: list[str] = []
  for word in (part for part in _parts(name) if not part.isdecimal()):
    joined = _JOINED.fullmatch(word)
    found += joined.groups() if joined else [word]
  return ['groundtruth'] if found == ['ground', 'truth'] else found


def is_side(name: str) -> bool:
  """Returns whether a folder's name is that of a side of a split: `train`, `training_set`, `TestImages`, `val-2`."""
  words = _words(name)
  return any(word in _SIDES for word in words) and all(word in _SIDES | _FILLERS for word in words)


def is_test_side(name: str) -> bool:
  """Returns whether a folder's name is that of the test side: `test`, `TestImages`, `holdout`; no `val`, `dev` or `fold`."""
  return is_side(name) and not {'test', 'testing', 'eval', 'evaluation', 'holdout'}.isdisjoint(_words(name))


def is_masks(name: str) -> bool:
  """Returns whether a folder's name is that of masks: `masks`, `train_masks`, `Ground Truth`; no `label_1`, a class."""
  words = _words(name)
  known = _MASKS | _SIDES | _FILLERS
  return (
    any(word in _MASKS for word in words)
    and all(word in known for word in words)
    and not re.search(r'\d', name)
  )


def masks_among(names: Collection[str]) -> set[str]:
  """Returns those file names, without extension, of one folder that are masks of another image there.

  `x_mask`, `x_mask_1`, `mask-x`, `x.Segmentation` and the like are masks of `x`, of `x_image` or of `image_x`.
  """
  keys: set[tuple[str, ...]] = set()
  masks: list[tuple[tuple[str, ...], str]] = []
  for name in names:
    parts = _parts(name)
    plain = tuple(part for part in parts if part not in _FILLERS)
    if any(part in _MASKS for part in parts):
      masks.append((tuple(part for part in plain if part not in _MASKS), name))
    else:
      keys.add(plain)
  # A number after the mask's word counts the masks of one image.
  return {name for key, name in masks if key in keys or (key and key[-1].isdecimal() and key[:-1] in keys)}


def sides_among(classes: Mapping[str, Iterable[str]]) -> list[str]:
  """Returns the class folders that must be sides of a split.

  Args:
    classes: name of a class folder -> names of the folders in it.

  Returns:
    All that are called so, if there are two; one alone only where it has two folders that are called like its
    neighbours, since `test` may be a class.
  """
  sides = [name for name in classes if is_side(name)]
  if len(sides) > 1:
    return sides
  neighbours = {name.lower() for name in classes if name not in sides}
  return [side for side in sides if len(neighbours & {inner.lower() for inner in classes[side]}) > 1]
